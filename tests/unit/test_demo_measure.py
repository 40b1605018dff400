"""What the demo measures: a file's functions, and from the tasks' times the waits and the fairness."""

from __future__ import annotations

import textwrap
from collections import Counter
from itertools import groupby

import pytest

from fairque.demo.files import find_files
from fairque.demo.progress import progress
from fairque.demo.report import TaskTimes, jain_index, percentile, report, small_users
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


def test_the_complexity_of_functions_is_one_more_than_their_decisions() -> None:
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


def test_functions_come_in_the_order_of_the_text() -> None:
    measured = measure("two.py", b"def a(): pass\ndef b(): pass")
    assert measured.functions == (FunctionMeasure("a", 1, 1), FunctionMeasure("b", 2, 1))
    assert measured.lines == 2


@pytest.mark.parametrize(
    "source", [b"print 'two'", b"def f(:", b"# coding: no-such\n", b"x = '\xff'", b"a\0b"]
)
def test_what_is_no_python_is_a_finding_not_a_failure(source: bytes) -> None:
    measured = measure("bad.py", source)
    assert measured.error
    assert measured.functions == ()


def test_an_empty_file_has_no_lines() -> None:
    assert measure("empty.py", b"").lines == 0


def times(owner: str, *starts: int) -> list[TaskTimes]:
    return [TaskTimes(owner, queued_at=0, started_at=start, finished_at=start + 1) for start in starts]


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentile(range(1, 101), 50) == 50
    assert percentile(range(1, 101), 99) == 99
    assert percentile([7], 99) == 7
    assert percentile([1, 9], 99) == 9


def test_small_users_have_no_more_than_the_median() -> None:
    assert small_users({"a": 100, "b": 5, "c": 5, "d": 2}) == {"b", "c", "d"}


def test_round_robin_is_even_and_fifo_serves_one_of_n() -> None:
    sizes = {"a": 40, "b": 20, "c": 10, "tiny": 1}
    turns = [*times("a", *range(0, 120, 3)), *times("b", *range(1, 61, 3)), *times("c", *range(2, 32, 3))]
    assert jain_index([*turns, *times("tiny", 1)], sizes) == pytest.approx(1)
    one_by_one = [*times("a", *range(40)), *times("b", *range(40, 60)), *times("c", *range(60, 70))]
    assert jain_index(one_by_one, sizes) == pytest.approx(1 / 3)


def test_a_report_counts_waits_of_small_users_and_the_whole_time() -> None:
    ended = [*times("big", *range(0, 1000, 100)), *times("small", 300, 500), *times("other", 700)]
    done = report(ended, {"big": 10, "small": 2, "other": 1}, cpu_seconds=3.0, task_seconds=2.0)
    assert (done.small_users_wait_p50_ms, done.small_users_wait_p99_ms) == (500, 700)
    assert done.seconds == pytest.approx(0.901)
    assert done.queueing_seconds == pytest.approx(1.0)
    assert done.longest_waits_ms == {"big": 900, "small": 500, "other": 700}
    assert (done.finished, done.errors) == (13, [])


def test_progress_counts_who_waits_and_who_has_started() -> None:
    now = progress([*times("a", 0, 10), TaskTimes("b", 0, 40, None)], {"a": 2, "b": 1, "c": 3})
    assert now.done == 2
    assert [(user.done, user.waiting, user.longest_wait) for user in now.users] == [
        (2, 0, 0.01),
        (0, 0, 0.04),
        (0, 3, 0.04),
    ]
    assert [round(user.share, 2) for user in now.users] == [0.67, 0.33, 0]


def test_files_come_by_user_the_biggest_first_and_none_twice() -> None:
    files = find_files()
    sizes = Counter(file.user for file in files)
    assert [user for user, _ in groupby(file.user for file in files)] == sorted(
        sizes, key=lambda user: (-sizes[user], user)
    )
    assert len({file.path for file in files}) == len(files) > 300
    assert not any("site-packages" in file.path for file in files)


def test_a_limit_takes_files_of_all_parts() -> None:
    assert len(find_files(50)) == 50
    assert len({file.user for file in find_files(50)}) > 5
