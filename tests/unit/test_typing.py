"""What type checkers see: mypy --strict runs over this file, and `assert_type` fails there, not here."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import assert_type

from fairque import (
    AsyncTaskHandle,
    AsyncTaskQueue,
    AsyncXComManager,
    Task,
    TaskContext,
    TaskHandle,
    TaskQueue,
    XComManager,
    task,
    xcom_pull,
    xcom_push,
    xcom_task,
)


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


@task(name="typing.pushing")
@xcom_push("key")
def pushing(image: str, width: int = 1) -> str:
    return image * width


@task(name="typing.async_pushing")
@xcom_push("key")
async def async_pushing(image: str) -> int:
    return len(image)


@task(name="typing.pulling")
@xcom_pull(image="key")
def pulling(image: str, width: int) -> str:
    return image * width


@task(name="typing.async_both")
@xcom_task(pull={"image": "key"}, push="length")
async def async_both(image: str) -> int:
    return len(image)


def test_decorators_of_xcom_keep_the_result_s_type_and_a_push_the_arguments_as_well() -> None:
    assert_type(pushing("a", width=2), Task[str])
    assert_type(async_pushing("a"), Task[int])
    assert_type(pulling(2), Task[str])
    assert_type(async_both(), Task[int])

    def never_called() -> None:
        pushing(1)  # type: ignore[arg-type]
        async_pushing("a", 2)  # type: ignore[call-arg]

    assert callable(never_called)


def test_the_xcom_of_a_context_takes_the_annotation_it_is_given() -> None:
    def plainly(context: TaskContext) -> None:
        xcom: XComManager = context.xcom
        assert_type(xcom.delete("key"), bool)

    async def on_asyncio(context: TaskContext, queue: AsyncTaskQueue) -> None:
        xcom: AsyncXComManager = context.xcom
        assert_type(await xcom.clear(), int)
        assert_type(queue.xcom("u"), AsyncXComManager)

    assert callable(plainly)
    assert callable(on_asyncio)
