"""The decorator, the registry, and how stored arguments fit a function again."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from pydantic import BaseModel

from fairque.core.context import TaskContext, current_task, enter
from fairque.core.exceptions import (
    DecodeError,
    FunctionConflictError,
    TaskValidationError,
    UnknownFunctionError,
)
from fairque.core.function import AsyncTaskFunction, TaskFunction
from fairque.core.models import Priority, Task
from fairque.core.registry import registry
from fairque.decorator import task

if TYPE_CHECKING:
    from somewhere_else import Mystery  # type: ignore[import-not-found]


@dataclass
class Point:
    x: int
    y: int


@task
def plain(a: int, b: str = "x") -> str:
    """What it does."""
    return f"{a}{b}"


@task(
    name="functions:options",
    priority=Priority.HIGH,
    max_retries=7,
    timeout=2.5,
    retry_delay=2,
    max_retry_delay=9,
)
def with_options() -> None: ...


@task(name="functions:coroutine")
async def coroutine(a: int) -> int:
    await asyncio.sleep(0)
    return a + 1


def run(function: TaskFunction[..., Any], *args: Any, **kwargs: Any) -> Any:
    """As a worker does it: with arguments that came over the wire."""
    bound = function.fit(list(args), kwargs)
    return function.invoke(bound, TaskContext(user_id="u", task_id="t", attempt=3))


# --- the decorator ---


def test_calling_a_task_function_builds_a_task_and_runs_nothing() -> None:
    built = plain(1, b="y")
    assert isinstance(built, Task)
    assert built.function == f"{__name__}:plain"
    assert built.payload == {"args": [1], "kwargs": {"b": "y"}}
    assert built.user_id is None
    assert plain(1).task_id != built.task_id


def test_call_runs_the_body_here_and_now() -> None:
    assert plain.call(1) == "1x"
    assert asyncio.run(coroutine.call(1)) == 2  # type: ignore[arg-type]


def test_arguments_that_do_not_fit_the_signature_fail_where_they_are_given() -> None:
    with pytest.raises(TypeError):
        plain()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        plain(1, "b", "c")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        plain(1, c=2)  # type: ignore[call-arg]


def test_a_task_function_still_looks_like_its_function() -> None:
    assert plain.function.__name__ == "plain"
    assert plain.__doc__ == "What it does."
    assert repr(plain) == f"<task function {__name__}:plain>"
    assert type(plain) is TaskFunction
    assert isinstance(coroutine, AsyncTaskFunction)
    assert (plain.is_async, coroutine.is_async) == (False, True)


def test_options_go_to_every_task_and_to_the_retry_policy() -> None:
    built = with_options()
    assert (built.priority, built.max_retries, built.timeout) == (Priority.HIGH, 7, 2.5)
    assert (with_options.retry.base_delay, with_options.retry.max_delay) == (2.0, 9.0)
    assert built.with_options(priority=1).priority is Priority.VERY_LOW


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": 7}, "priority must be one of"),
        ({"priority": "HIGH"}, "priority must be one of"),
        ({"max_retries": -1}, "max_retries must be a whole number"),
        ({"timeout": 0}, "timeout must be longer than 0"),
        ({"timeout": float("nan")}, "timeout must be a finite number"),
        ({"retry_delay": -1}, "retry_delay must not be negative"),
        ({"max_retry_delay": "1"}, "max_retry_delay must be seconds"),
        ({"retry_on": ValueError()}, "retry_on takes exception classes, not ValueError"),
        ({"no_retry_on": (KeyError, "x")}, "no_retry_on takes exception classes, not 'x'"),
        ({"retry_on": int}, "retry_on takes exception classes"),
    ],
)
def test_a_bad_option_is_refused_at_decoration(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskValidationError, match=message):
        task(**options)(lambda: None)


def test_a_function_is_decorated_once() -> None:
    with pytest.raises(TaskValidationError, match="is a task function already"):
        task(plain)


def test_only_functions_are_decorated() -> None:
    with pytest.raises(TaskValidationError, match="@task decorates functions, not 5; options go by keyword"):
        task(5)  # type: ignore[call-overload]


def test_exception_classes_may_be_given_alone() -> None:
    decorated = task(name="functions:alone", retry_on=OSError, no_retry_on=(KeyError, ValueError))(
        lambda: None
    )
    assert decorated.retry.retry_on == (OSError,)
    assert decorated.retry.no_retry_on == (KeyError, ValueError)


# --- the registry ---


def test_a_name_means_one_function() -> None:
    @task(name="functions:taken")
    def first() -> None: ...

    with pytest.raises(
        FunctionConflictError, match=r"'functions:taken' means .*first .* and now .*second .* too"
    ) as e:

        @task(name="functions:taken")
        def second() -> None: ...

    assert "@task(name=…)" in str(e.value)
    assert registry.get("functions:taken") is first


def test_an_unknown_name_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(
        UnknownFunctionError, match="no function named 'os:system' is registered here: import the"
    ):
        registry.get("os:system")
    with pytest.raises(UnknownFunctionError, match="this task names no function: give the worker a handler"):
        registry.get(None)
    assert "os:system" not in registry


def _load(file: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def test_a_reloaded_module_takes_the_old_ones_place(tmp_path: Path) -> None:
    file = tmp_path / "reloaded_tasks.py"
    file.write_text("from fairque.decorator import task\n\n@task\ndef work() -> int:\n    return 1\n")
    first = _load(file, "reloaded_tasks")
    second = _load(file, "reloaded_tasks")
    assert registry.get("reloaded_tasks:work") is second.work
    assert second.work is not first.work


def test_two_modules_with_one_name_for_their_tasks_conflict(tmp_path: Path) -> None:
    source = 'from fairque.decorator import task\n\n@task(name="functions:shared")\ndef work() -> None: ...\n'
    for name in ("one_module", "other_module"):
        (tmp_path / f"{name}.py").write_text(source)
    _load(tmp_path / "one_module.py", "one_module")
    with pytest.raises(FunctionConflictError, match=r"one_module\.py:3.* and now .*other_module\.py:3"):
        _load(tmp_path / "other_module.py", "other_module")


# --- arguments fit the annotations ---


@task(name="functions:typed")
def typed(when: datetime, *points: Point, colour: str = "red", **more: Point) -> Any:
    return when, points, colour, more


def test_arguments_are_converted_to_the_annotations() -> None:
    result = run(
        typed,
        "2026-05-17T12:00:00Z",
        {"x": 1, "y": 2},
        {"x": 3, "y": 4},
        colour="blue",
        last={"x": 5, "y": 6},
    )
    assert result == (
        datetime(2026, 5, 17, 12, tzinfo=UTC),
        (Point(1, 2), Point(3, 4)),
        "blue",
        {"last": Point(5, 6)},
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (["noon"], {}, "argument 'when' of functions:typed does not fit its annotation"),
        (["2026-05-17T12:00:00Z", 5], {}, "argument 'points' of functions:typed"),
        (["2026-05-17T12:00:00Z"], {"colour": 5}, "argument 'colour' of functions:typed"),
        (["2026-05-17T12:00:00Z"], {"x": 5}, "argument 'more' of functions:typed"),
        ([], {}, "the arguments do not fit functions:typed: missing a required argument: 'when'"),
        (["2026-05-17T12:00:00Z"], {"when": 1}, "the arguments do not fit functions:typed: multiple values"),
    ],
)
def test_arguments_that_do_not_fit_are_named(args: list[Any], kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        typed.fit(args, kwargs)


def test_defaults_stay_as_they_are() -> None:
    @task(name="functions:default")
    def function(a: int, b: Point = Point(0, 0), *, c: Callable[[], int] = lambda: 7) -> Any:  # noqa: B008
        return a, b, c()

    assert run(function, 1) == (1, Point(0, 0), 7)


def test_an_annotation_that_cannot_be_resolved_leaves_its_value_and_no_other(recwarn: Any) -> None:
    @task(name="functions:mystery")
    def function(a: Mystery, when: datetime, b: list[Mystery]) -> Mystery:
        return a, when, b

    assert run(function, {"any": 1}, "2026-05-17T12:00:00Z", [1]) == (
        {"any": 1},
        datetime(2026, 5, 17, 12, tzinfo=UTC),
        [1],
    )
    assert function.returns is Any


T = TypeVar("T")


def test_annotations_without_a_conversion_leave_the_value() -> None:
    @task(name="functions:odd")
    def function(a: T, b: Callable[[], int] | None, c, d: 5 = None) -> T:  # type: ignore[no-untyped-def, valid-type]
        return (a, b, c, d)  # type: ignore[return-value]

    assert run(function, [1], None, {"x": 1}, "d") == ([1], None, {"x": 1}, "d")


def test_annotations_may_name_what_is_defined_later() -> None:
    @task(name="functions:forward")
    def function(a: Later) -> Later:
        return a

    assert run(function, {"z": 1}) == Later(1)


@dataclass
class Later:
    z: int


# --- the context ---


@task(name="functions:first")
def context_first(context: TaskContext, a: int) -> Any:
    return context.user_id, context.attempt, a


@task(name="functions:last")
def context_last(a: int, context: TaskContext) -> Any:
    return context.user_id, context.attempt, a


@task(name="functions:keyword")
def context_keyword(a: int, *, context: TaskContext | None = None, b: int = 2) -> Any:
    return context and context.user_id, context and context.attempt, a, b


@task(name="functions:middle")
def context_middle(a: int, context: TaskContext, b: int, *rest: int, c: int = 3) -> Any:
    return context.user_id, context.attempt, a, b, rest, c


@task(name="functions:nowhere")
def context_nowhere() -> TaskContext:
    return current_task()


def test_a_parameter_annotated_with_it_gets_the_context_wherever_it_stands() -> None:
    assert run(context_first, 1) == ("u", 3, 1)
    assert run(context_last, 1) == ("u", 3, 1)
    assert run(context_keyword, 1, b=5) == ("u", 3, 1, 5)
    assert run(context_middle, 1, 2) == ("u", 3, 1, 2, (), 3)
    assert run(context_middle, 1, 2, 8, 9, c=4) == ("u", 3, 1, 2, (8, 9), 4)
    assert run(context_middle, 1, b=2) == ("u", 3, 1, 2, (), 3)


def test_the_caller_does_not_give_the_context() -> None:
    assert context_first(1).payload["args"] == [1]
    assert context_middle(1, 2).payload["args"] == [1, 2]


def test_a_local_call_has_a_context_of_its_own() -> None:
    assert context_first.call(1) == ("local", 1, 1)
    assert context_last.call(1) == ("local", 1, 1)
    assert context_middle.call(1, 2) == ("local", 1, 1, 2, (), 3)
    mine = TaskContext(user_id="me", task_id="t")
    assert context_first.call(mine, 1) == ("me", 1, 1)
    assert context_last.call(1, context=mine) == ("me", 1, 1)


def test_there_is_one_context_at_most() -> None:
    @task(name="functions:two")
    def function(a: TaskContext, b: TaskContext) -> None: ...

    with pytest.raises(TaskValidationError, match=r"more than one TaskContext parameter: \['a', 'b'\]"):
        function()  # type: ignore[call-arg]


def test_outside_a_task_there_is_no_current_one() -> None:
    with pytest.raises(
        LookupError, match=r"no task is running here: current_task\(\) works inside a task only"
    ):
        current_task()


def test_within_a_context_it_is_the_current_one_and_the_one_before_is_after_it() -> None:
    outer, inner = TaskContext("u", "1"), TaskContext("u", "2")
    with outer:
        with inner, outer:
            assert current_task() is outer
        with pytest.raises(ValueError, match="on purpose"), inner:
            raise ValueError("on purpose")
        assert current_task() is outer
    with pytest.raises(LookupError):
        current_task()


def test_the_current_task_belongs_to_its_asyncio_task() -> None:
    async def one(name: str) -> str:
        enter(TaskContext(user_id=name, task_id="t"))
        await asyncio.sleep(0.001)
        return current_task().user_id

    async def both() -> list[str]:
        return list(await asyncio.gather(one("a"), one("b")))

    assert asyncio.run(both()) == ["a", "b"]


def test_partial_functions_and_callables_can_be_named_tasks() -> None:
    decorated = task(name="functions:partial")(functools.partial(lambda a, b: a + b, 1))
    assert run(decorated, 2) == 3


# --- unions with classes that msgspec does not know ---


class Cat(BaseModel):
    lives: int


class Dog(BaseModel):
    tricks: list[str]


@task(name="functions:either")
def either(pet: Cat | Dog, count: int | Cat | None = None) -> Any:
    return pet, count


@pytest.mark.parametrize(
    ("pet", "count", "expected"),
    [
        ({"lives": 9}, 3, (Cat(lives=9), 3)),
        ({"tricks": ["sit"]}, None, (Dog(tricks=["sit"]), None)),
        ({"lives": 1}, {"lives": 2}, (Cat(lives=1), Cat(lives=2))),
    ],
)
def test_a_union_with_models_becomes_the_member_that_fits(pet: Any, count: Any, expected: Any) -> None:
    assert run(either, pet, count) == expected


def test_what_fits_no_member_of_a_union_is_refused_by_name() -> None:
    with pytest.raises(DecodeError, match="argument 'pet' of functions:either does not fit"):
        run(either, {"wings": 2})
