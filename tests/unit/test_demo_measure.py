"""What the demo measures: a file's functions, and from the tasks' times the waits and the fairness."""

from __future__ import annotations

import textwrap

import pytest

from fairque.demo.tasks import FunctionMeasure, measure

SNIPPET = textwrap.dedent(
    """
    import os

    if os.name == "posix":
        SEP = "/"

    def straight():
        return 1

    class Box:
        def branches(self, x):
            if x and self.a or self.b:      # 1 if, 2 operands
                return 1
            elif x > 2:                     # 1
                return 2 if x else 3        # 1
            else:
                for item in x:              # 1
                    while item:             # 1
                        item -= 1
            return None

        async def handles(self):
            try:
                async for line in self:     # 1
                    yield line
            except OSError:                 # 1
                pass
            except ValueError:              # 1
                pass
            finally:
                def inner(y):
                    return [z for z in y if z if y]     # 1 loop, 2 conditions
                key = lambda v: v or 0      # 1

    def matches(value):
        match value:
            case 1 | 2:                     # 1
                return 1
            case [x] if x:                  # 1
                return 2
            case other if other:            # 1
                return 3
            case _:
                return 4
    """
).encode()


def test_the_complexity_of_functions_is_one_more_than_their_decisions():
    measured = measure("snippet.py", SNIPPET)
    assert measured.error is None
    assert measured.lines == SNIPPET.count(b"\n")
    assert {function.name: function.complexity for function in measured.functions} == {
        "straight": 1,
        "Box.branches": 8,
        "Box.handles": 5,
        "Box.handles.inner": 4,
        "matches": 4,
    }


def test_functions_come_in_the_order_of_the_text():
    measured = measure("two.py", b"def a(): pass\ndef b(): pass")
    assert measured.functions == (FunctionMeasure("a", 1, 1), FunctionMeasure("b", 2, 1))
    assert measured.lines == 2


@pytest.mark.parametrize(
    "source", [b"print 'two'", b"def f(:", b"# coding: no-such\n", b"x = '\xff'", b"a\0b"]
)
def test_what_is_no_python_is_a_finding_not_a_failure(source):
    measured = measure("bad.py", source)
    assert measured.error
    assert measured.functions == ()


def test_an_empty_file_has_no_lines():
    assert measure("empty.py", b"").lines == 0
