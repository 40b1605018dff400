"""What type checkers see: mypy --strict runs over this file, and `assert_type` fails there, not here."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import assert_type

from fairque import AsyncTaskHandle, AsyncTaskQueue, Task, TaskContext, TaskHandle, TaskQueue, task


@task(name="typing.plain", timeout=3)
def plain(image: str, width: int = 1) -> str:
    return image * width


@task(name="typing.on_loop")
async def on_loop(image: str) -> int:
    return len(image)


@task(name="typing.with_context")
def with_context(context: TaskContext, number: int) -> float:
    return number / context.attempt


def test_arguments_and_results_stay_typed_from_the_function_to_the_task() -> None:
    assert_type(plain("a", width=2), Task[str])
    assert_type(on_loop("a"), Task[int])
    assert_type(with_context(1), Task[float])
    assert_type(plain.call("a", 2), str)
    assert plain.call("a", 2) == "aa"


def test_the_type_reaches_the_handle_and_its_result() -> None:
    def blocking(queue: TaskQueue) -> None:
        assert_type(queue.push(plain("a"), user_id="u"), TaskHandle[str])
        assert_type(queue.push(plain("a"), user_id="u").result(), str)
        assert_type(queue.push_batch([on_loop("a")]), list[TaskHandle[int]])

    async def on_asyncio(queue: AsyncTaskQueue) -> None:
        assert_type(await queue.push(plain("a"), user_id="u"), AsyncTaskHandle[str])
        assert_type(await (await queue.push(with_context(1), user_id="u")).result(), float)
        assert_type(on_loop.call("a"), Awaitable[int])

    assert callable(blocking)
    assert callable(on_asyncio)


def test_wrong_arguments_are_errors_to_the_type_checker() -> None:
    def never_called() -> None:
        plain(1)  # type: ignore[arg-type]
        plain("a", height=3)  # type: ignore[call-arg]
        with_context("one")  # type: ignore[arg-type]

    assert callable(never_called)


@task(name="typing.untyped_first")
def untyped_first(payload: object, number: int) -> str:
    return f"{payload}{number}"


def test_a_first_parameter_that_takes_anything_is_not_mistaken_for_the_context() -> None:
    assert_type(untyped_first({"a": 1}, 2), Task[str])
    assert_type(untyped_first(payload=1, number=2), Task[str])
    assert untyped_first.call(1, 2) == "12"
