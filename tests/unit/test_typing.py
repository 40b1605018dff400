"""What type checkers see: mypy --strict runs over this file, and `assert_type` fails there, not here."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import assert_type

from fairque import (
    AsyncPipelineHandle,
    AsyncTaskHandle,
    AsyncTaskQueue,
    AsyncXComManager,
    Pipeline,
    PipelineHandle,
    Task,
    TaskContext,
    TaskHandle,
    TaskQueue,
    XComManager,
    parallel,
    sequential,
    task,
    xcom_pull,
    xcom_push,
    xcom_task,
)
from fairque.core.pipeline import Parallel


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


def test_a_pipeline_has_the_type_of_its_last_step() -> None:
    a, b, c = plain("a"), on_loop("b"), with_context(1)
    assert_type(a >> b, Pipeline[int])
    assert_type(a >> b >> c, Pipeline[float])
    assert_type(a << b, Pipeline[str])
    assert_type([a, a] >> b, Pipeline[int])
    assert_type([a, [b, c]] >> b, Pipeline[int])
    assert_type((a | b) >> c, Pipeline[float])
    assert_type(sequential(a, [a, b], c), Pipeline[float])
    assert_type((a >> c).output, float)
    assert_type((a >> c).with_options(priority=1), Pipeline[float])


def test_a_pipeline_with_a_parallel_end_has_a_list_of_their_types() -> None:
    a, b, c = plain("a"), on_loop("b"), with_context(1)
    assert_type(a | b, Parallel[str | int])
    assert_type(a | b | c, Parallel[str | int | float])
    assert_type(a | (b | c), Parallel[str | int | float])
    assert_type((a >> b) | c, Parallel[int | float])
    assert_type(a >> (b | c), Parallel[int | float])
    assert_type(c >> (b | b) >> (a | c), Parallel[str | float])
    assert_type(a >> [b, b], Parallel[int])
    assert_type([b, b] << a, Parallel[int])
    assert_type([b, b] | a, Parallel[int | str])
    assert_type(a | [b, b], Parallel[str | int])
    assert_type([a] >> (b | c), Parallel[int | float])
    assert_type((b | c) << a, Parallel[int | float])
    assert_type(parallel(b, b), Parallel[int])
    assert_type((a | b).output, list[str | int])
    assert_type((a | b).with_options(priority=1), Parallel[str | int])
    as_pipeline: Pipeline[list[str | int]] = a | b
    assert as_pipeline.ends_parallel


def test_a_list_of_steps_may_hold_results_of_several_types() -> None:
    a, b, c = plain("a"), on_loop("b"), with_context(1)
    assert_type(a >> [a, b] >> c, Pipeline[float])
    # A type checker takes what a list of two types has in common; `a | b` keeps both.
    assert_type([a, b] << c, Parallel[object])
    assert_type(a >> [a, b], Parallel[object])
    assert_type(c | [a, b], Parallel[object])
    assert_type([a, b] | c, Parallel[object])
    widened: Task[str | int] = a  # what gives a str gives a str or an int
    assert widened is a


def test_the_handles_of_a_pipeline_have_its_type() -> None:
    def blocking(queue: TaskQueue, pipeline: Pipeline[float]) -> None:
        handle = queue.push(pipeline, user_id="u")
        assert_type(handle, PipelineHandle[float])
        assert_type(handle.result(timeout=1), float)
        assert_type(handle.output, float)
        queue.push(plain("a"), user_id="u", depends_on=[handle, handle["with_context"], "id"])
        queue.add_dependency("u", "id", handle)

    async def on_asyncio(queue: AsyncTaskQueue, pipeline: Pipeline[float]) -> None:
        handle = await queue.push(pipeline, user_id="u")
        assert_type(handle, AsyncPipelineHandle[float])
        assert_type(await handle.result(), float)

    assert callable(blocking)
    assert callable(on_asyncio)


def test_map_keeps_the_type_of_its_function() -> None:
    mapped = plain.map(["a", "b"], width=2)
    assert_type(mapped, Parallel[str])
    assert_type(mapped.output, list[str])
    assert_type(mapped | on_loop("b"), Parallel[str | int])
    assert_type(mapped >> on_loop("b"), Pipeline[int])


@task(name="typing.lists")
def lists() -> list[int]:
    return [1]


def test_one_step_that_returns_a_list_is_not_a_parallel_end() -> None:
    assert_type(plain("a") >> lists(), Pipeline[list[int]])
    assert_type((plain("a") >> lists()) | plain("a"), Parallel[list[int] | str])


def test_what_is_no_step_is_an_error_to_the_type_checker() -> None:
    def never_called() -> None:
        plain("a") >> plain  # type: ignore[operator]
        plain >> plain("a")  # type: ignore[operator]
        plain("a") | 5  # type: ignore[operator]
        plain("a").with_options(colour="red")  # type: ignore[call-arg]
        (plain("a") >> lists()).with_options(name="etl")  # type: ignore[call-arg]

    assert callable(never_called)


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
