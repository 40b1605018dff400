"""The decorators of XCom without a server: signatures, mistakes found at once, and where they refuse."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import fairque
from fairque import (
    PayloadTooLargeError,
    TaskContext,
    TaskValidationError,
    XComKeyError,
    XComUnavailableError,
    task,
    xcom_pull,
    xcom_push,
    xcom_task,
)
from fairque.core.context import enter
from fairque.core.exceptions import DecodeError
from fairque.core.xcom_defaults import MISSING, check_ttl

if TYPE_CHECKING:
    from somewhere_else import Mystery  # type: ignore[import-not-found]


class Local:
    """An XComManager's shape over a dictionary."""

    user_id, namespace = "u", "default"

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.calls: list[Any] = []

    def push(self, key: str, value: Any, **options: Any) -> None:
        self.calls.append(("push", key, options))
        self.values[key] = value

    def pull_many(self, keys: Any, *, namespace: str | None = None) -> dict[str, Any]:
        self.calls.append(("pull", sorted(keys), namespace))
        return {key: self.values[key] for key in keys if key in self.values}


class OnLoop(Local):
    async def push(self, key: str, value: Any, **options: Any) -> None:  # type: ignore[override]
        super().push(key, value, **options)

    async def pull_many(self, keys: Any, *, namespace: str | None = None) -> dict[str, Any]:  # type: ignore[override]
        return super().pull_many(keys, namespace=namespace)


def within(local: Any, work: Callable[[], Any]) -> Any:
    """Run `work` as a task whose XCom is `local`: in a thread, whose context is its own."""
    outcome: list[Any] = []

    def run() -> None:
        enter(TaskContext("u", "t", open_xcom=lambda _: local))
        try:
            outcome.append(work())
        except Exception as error:  # noqa: BLE001 - it is raised again here
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


# --- signatures ---------------------------------------------------------------------------------------


@xcom_pull(a="key")
def first(a: int, b: str, c: float = 1.0) -> str:
    """What it does."""
    return f"{a!r} {b!r} {c!r}"


@xcom_pull(b="key")
async def last(a: int, b: str = "own") -> str:
    """What it does."""
    return f"{a!r} {b!r}"


@xcom_pull({"a": "1", "d": "2"})
def of_all_kinds(a: int, /, b: int, *rest: int, c: int, d: int, **more: int) -> Any:
    return a, b, rest, c, d, more


def test_a_pulled_parameter_is_optional_in_the_signature() -> None:
    assert str(inspect.signature(last)) == "(a: 'int', b: 'str' = <from XCom 'key'>) -> 'str'"


def test_a_pulled_parameter_with_required_ones_behind_it_goes_by_keyword() -> None:
    expected = "(b: 'str', c: 'float' = 1.0, *, a: 'int' = <from XCom 'key'>) -> 'str'"
    assert str(inspect.signature(first)) == expected
    assert str(inspect.signature(of_all_kinds)) == (
        "(b: 'int', *rest: 'int', c: 'int', d: 'int' = <from XCom '2'>, a: 'int' = <from XCom '1'>, "
        "**more: 'int') -> 'Any'"
    )


def test_every_kind_of_parameter_gets_what_is_its_own() -> None:
    local = Local(**{"1": 10, "2": 20})
    call = partial(of_all_kinds, 2, 3, 4, c=5, e=6)
    assert within(local, call) == (10, 2, (3, 4), 5, 20, {"e": 6})
    assert of_all_kinds(2, 3, a=1, c=5, d=7) == (1, 2, (3,), 5, 7, {})
    assert local.calls == [("pull", ["1", "2"], None)]


@pytest.mark.parametrize(
    "decorator", [xcom_pull(a="k"), xcom_push("k"), xcom_task(pull={"a": "k"}, push="k")]
)
def test_what_is_decorated_stays_what_it_is(decorator: Any) -> None:
    def plain(a: int) -> int:
        """What it does."""
        return a

    async def on_loop(a: int) -> int:
        """What it does."""
        return a

    for function in (plain, on_loop):
        decorated = decorator(function)
        assert inspect.iscoroutinefunction(decorated) is (function is on_loop)
        assert (decorated.__name__, decorated.__doc__) == (function.__name__, "What it does.")
        assert decorated.__qualname__ == function.__qualname__
        assert inspect.unwrap(decorated) is function


def test_a_push_leaves_the_signature_as_it_is() -> None:
    @xcom_push("key")
    def function(a: int, *, b: str = "x") -> str:
        return b * a

    assert str(inspect.signature(function)) == "(a: 'int', *, b: 'str' = 'x') -> 'str'"


def test_a_task_function_takes_pulled_parameters_as_optional() -> None:
    built = task(name="xcom.unit.first")(first)
    assert not built.is_async
    assert built("b").payload == {"args": ["b"], "kwargs": {}}
    assert built("b", a=1).payload == {"args": ["b"], "kwargs": {"a": 1}}
    with pytest.raises(TypeError, match="missing a required argument: 'b'"):
        built()
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        built("b", d=1)
    context = TaskContext("u", "t")
    fitted = built.fit(["b"], {"a": 1, "c": 2})
    assert (fitted.args, fitted.kwargs) == (("b", 2.0), {"a": 1})
    assert built.invoke(fitted, context) == "1 'b' 2.0"
    with pytest.raises(DecodeError, match=r"argument 'a' of xcom\.unit\.first does not fit"):
        built.fit(["b"], {"a": "one"})
    assert built.call("b", a=1) == "1 'b' 1.0"
    assert built.returns is str


def test_a_task_function_of_an_async_def_stays_async() -> None:
    assert task(name="xcom.unit.last")(last).is_async


def test_the_context_is_still_handed_in() -> None:
    @task(name="xcom.unit.context")
    @xcom_task(pull={"a": "key"}, push="key")
    def function(a: int, context: TaskContext, b: int) -> Any:
        return a, context.task_id, b

    assert function.parameters == ["b", "a"]
    context = TaskContext("u", "given")
    bound = function.fit([2], {})
    local = Local(key=1)
    assert within(local, lambda: function.invoke(bound, context)) == (1, "given", 2)
    assert local.values == {"key": (1, "given", 2)}


def test_two_decorated_functions_of_one_name_are_still_told_apart() -> None:
    source = "@xcom_push('key')\ndef function(): ...\n"
    for number in (1, 2):
        namespace: dict[str, Any] = {"xcom_push": xcom_push, "__name__": "somewhere"}
        exec(compile(source, f"file{number}.py", "exec"), namespace)
        if number == 1:
            task(name="xcom.unit.conflict")(namespace["function"])
        else:
            with pytest.raises(fairque.FunctionConflictError, match=r"file2\.py"):
                task(name="xcom.unit.conflict")(namespace["function"])


# --- what is pulled and pushed ------------------------------------------------------------------------


def test_pulled_values_become_the_annotated_types() -> None:
    assert within(Local(key=5), lambda: first("b")) == "5 'b' 1.0"
    with pytest.raises(DecodeError, match=r"XCom value 'key' for parameter 'a' of first does not fit .*int"):
        within(Local(key="five"), lambda: first("b"))


def test_an_annotation_that_cannot_be_resolved_leaves_the_value_as_it_is() -> None:
    @xcom_pull(a="key", b="key")
    def function(a: Mystery, b: float) -> Any:
        return a, b

    assert within(Local(key=5), function) == (5, 5.0)
    assert isinstance(within(Local(key=5), function)[1], float)


def test_a_missing_value_is_the_default_of_the_decorator_then_of_the_function_then_an_error() -> None:
    def function(a: int, b: str = "own") -> Any:
        return a, b

    decorated = xcom_pull(a="1", b="2", default=None)(function)
    assert within(Local(), decorated) == (None, None)
    assert within(Local(**{"1": 1}), xcom_pull(a="1", b="2")(function)) == (1, "own")
    with pytest.raises(XComKeyError, match="user 'u' has no value '1' in namespace 'default'"):
        within(Local(), xcom_pull(a="1", b="2")(function))
    with pytest.raises(XComKeyError, match="in namespace 'n'"):
        within(Local(), xcom_pull(a="1", namespace="n")(function))


def test_one_round_trip_pulls_all_and_none_where_the_caller_gives_all() -> None:
    local = Local(x=1, y=2)

    @xcom_pull({"default": "x", "namespace": "y"}, namespace="n")
    def function(default: int, namespace: int) -> int:
        return default * 10 + namespace

    assert within(local, function) == 12
    assert within(local, lambda: function(3, 4)) == 34
    assert within(local, lambda: function(3)) == 32
    assert local.calls == [("pull", ["x", "y"], "n"), ("pull", ["y"], "n")]


def test_decorators_of_one_kind_stack() -> None:
    @xcom_push("again")
    @xcom_push("once", ttl=5, namespace="n")
    @xcom_pull(a="1")
    @xcom_pull(b="2")
    def function(a: int, b: int, c: int) -> int:
        return a * 100 + b * 10 + c

    local = Local(**{"1": 1, "2": 2})
    assert within(local, lambda: function(3)) == 123
    assert local.values["once"] == local.values["again"] == 123
    assert [call for call in local.calls if call[0] == "push"] == [
        ("push", "once", {"ttl": 5, "namespace": "n"}),
        ("push", "again", {"ttl": None, "namespace": None}),
    ]


async def test_an_async_def_awaits_its_xcom() -> None:
    local = OnLoop(key="pulled")
    enter(TaskContext("u", "t", open_xcom=lambda _: local))

    @xcom_task(pull={"b": "key"}, push="result", ttl=5)
    async def function(a: int, b: str) -> str:
        return b * a

    assert await function(2) == "pulledpulled"
    assert local.values["result"] == "pulledpulled"


async def test_a_plain_function_is_refused_where_the_xcom_is_to_be_awaited() -> None:
    enter(TaskContext("u", "t", open_xcom=lambda _: OnLoop(key=1)))
    for decorated in (first, xcom_push("key")(len)):
        with pytest.raises(
            XComUnavailableError, match="a plain function cannot wait for it on the event loop"
        ):
            decorated("b")


# --- mistakes -----------------------------------------------------------------------------------------


def target(rows: list[int], *rest: int, **more: int) -> None: ...


@task(name="xcom.unit.decorated")
def decorated_already(rows: list[int]) -> None: ...


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "no such parameter": (
        lambda: xcom_pull(row="key")(target),
        "target has no parameter 'row' to pull into: its parameters are ['rows']",
    ),
    "open-ended": (lambda: xcom_pull(rest="key")(target), "target has no parameter 'rest' to pull into"),
    "in xcom_task": (lambda: xcom_task(pull={"row": "k"})(target), "target has no parameter 'row'"),
    "pulled twice": (
        lambda: xcom_pull(rows="a")(xcom_pull(rows="b")(target)),
        "target pulls its parameter 'rows' already: pull it once",
    ),
    "pull without keys": (xcom_pull, "xcom_pull names no parameter"),
    "push without a key": (
        lambda: xcom_push(target),  # type: ignore[arg-type]
        'xcom_push takes the key of the value: @xcom_push("key")',
    ),
    "bare pull": (lambda: xcom_pull(target), "xcom_pull takes keys by parameter"),  # type: ignore[arg-type]
    "an empty key": (lambda: xcom_push(""), "key is empty"),
    "an empty pull key": (lambda: xcom_pull(rows=""), "the key for parameter 'rows' is empty"),
    "a key's type": (lambda: xcom_pull({"rows": 5}), "the key for parameter 'rows' must be a string"),  # type: ignore[dict-item]
    "a namespace": (lambda: xcom_pull(rows="k", namespace="n" * 257), "namespace has 257 characters"),
    "a push namespace": (lambda: xcom_push("k", namespace=""), "namespace is empty"),
    "a ttl": (lambda: xcom_push("k", ttl=0), "ttl must be longer than 0 s, not 0"),
    "a negative ttl": (lambda: xcom_task(push="k", ttl=-1), "ttl must not be negative"),
    "above @task": (
        lambda: xcom_push("k")(decorated_already),
        "xcom.unit.decorated is a task function already: put @xcom_push(…) below @task",
    ),
    "a class": (lambda: xcom_pull(rows="k")(dict), "@xcom_pull(…) decorates functions, not <class 'dict'>"),
    "nothing to do": (xcom_task, "xcom_task has nothing to do"),
    "a ttl of nothing": (lambda: xcom_task(pull={"rows": "k"}, ttl=5), "ttl is for what is pushed"),
    "a default of nothing": (lambda: xcom_task(push="k", default=5), "default is for what is pulled"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_found_where_it_is_made(case: str) -> None:
    make, message = MISTAKES[case]
    with pytest.raises(TaskValidationError) as caught:
        make()
    assert str(caught.value).startswith(message)


# --- outside of a worker ------------------------------------------------------------------------------


def test_the_context_says_where_there_is_no_xcom() -> None:
    with pytest.raises(XComUnavailableError) as caught:
        _ = TaskContext("local", "local").xcom
    assert str(caught.value) == (
        "TaskContext.xcom needs the XCom of a running task, and no worker runs one here: elsewhere use "
        "XComManager(source, user_id), or call it within a TaskContext that has an open_xcom"
    )


def test_a_decorated_function_says_so_before_it_runs() -> None:
    ran = []

    @task(name="xcom.unit.alone")
    @xcom_push("key")
    def function() -> None:
        ran.append(1)

    with pytest.raises(XComUnavailableError, match=r"^@xcom_push\(…\) of .*function needs the XCom of a run"):
        function.call()
    with pytest.raises(XComUnavailableError, match=r"^@xcom_pull\(…\) of first needs"):
        first("b")
    assert ran == []
    assert first("b", a=1) == "1 'b' 1.0"


async def test_an_async_one_says_so_before_it_runs() -> None:
    @xcom_push("key")
    async def function() -> None:
        raise AssertionError

    with pytest.raises(XComUnavailableError):
        await function()
    with pytest.raises(XComUnavailableError):
        await last(1)


# --- details ------------------------------------------------------------------------------------------


def test_the_message_of_a_key_error_is_not_its_repr() -> None:
    error = XComKeyError("u", "n", 'a"b')
    assert str(error).startswith("user 'u' has no value 'a\"b' in namespace 'n': ")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert isinstance(error, KeyError)


def test_a_payload_s_refusal_still_names_its_own_setting() -> None:
    assert str(PayloadTooLargeError(3, 2)).endswith("or raise queue.max_payload_bytes")
    assert PayloadTooLargeError(3, 2).setting == "queue.max_payload_bytes"


def test_the_mark_of_a_missing_default_is_one_and_shows_as_such() -> None:
    assert repr(MISSING) == "MISSING"
    assert pickle.loads(pickle.dumps(MISSING)) is copy.deepcopy(MISSING) is MISSING


def test_a_ttl_is_seconds() -> None:
    assert check_ttl(1) == 1.0
