"""Pipelines, used in ways that nobody meant: what goes wrong is told at once, and by its name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from redis import Redis

import fairque
from fairque import (
    AsyncXComManager,
    BatchError,
    EncodeError,
    FairQueueConfig,
    ResultExpiredError,
    ResultTimeoutError,
    ServerUnavailableError,
    Task,
    TaskCanceledError,
    TaskFailedError,
    TaskHandler,
    TaskQueue,
    TaskState,
    TaskValidationError,
    UnknownDependencyError,
    Worker,
    parallel,
)
from fairque.core.outputs import MARK
from tests.support import worker_tasks as tasks
from tests.support.actions import popped


@contextmanager
def working(queue: TaskQueue, concurrency: int = 5) -> Iterator[None]:
    """A worker beside the test."""
    worker = Worker(queue.config, concurrency=concurrency)
    worker.start()
    try:
        yield
    finally:
        worker.stop()


def push(queue: TaskQueue, pipeline: Any, **options: Any) -> Any:
    return queue.push(pipeline, user_id="u", **options)


def count_calls(queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scripts that the queue runs from here on."""
    run: list[str] = []
    execute = queue.manager.execute

    def counted(call: Any) -> Any:
        run.append(call.script)
        return execute(call)

    monkeypatch.setattr(queue.manager, "execute", counted)
    return run


# --- the end of a pipeline ---


def test_a_step_that_fails_beside_a_slow_one_ends_the_waiting_at_once(queue: TaskQueue) -> None:
    begin = time.monotonic()
    with working(queue):
        handle = push(queue, tasks.async_sleep(3) | tasks.broken(3))
        with pytest.raises(TaskFailedError, match="broken by 3"):
            handle.result(timeout=20)
        assert time.monotonic() - begin < 2.5
        handle.cancel()


def test_a_step_that_was_canceled_for_a_failed_one_names_that_failure(queue: TaskQueue) -> None:
    pipeline = tasks.number(1) >> tasks.broken(4) >> tasks.number(2) >> tasks.number(3)
    handle = push(queue, pipeline, on_upstream_failure="cancel")
    with working(queue), pytest.raises(TaskCanceledError) as caught:
        handle.result(timeout=10)
    cause = caught.value.__cause__
    assert isinstance(cause, TaskFailedError)
    assert (cause.task_id, cause.error) == (handle["broken"].task_id, "ValueError: broken by 4")
    assert handle.state() is TaskState.CANCELED


def test_a_canceled_pipeline_blames_no_step(queue: TaskQueue) -> None:
    handle = push(queue, tasks.number(1) >> tasks.number(2))
    handle.cancel()
    with pytest.raises(TaskCanceledError) as caught:
        handle.result(timeout=10)
    assert caught.value.__cause__ is None


def test_a_failed_last_step_counts_more_than_one_that_waits(queue: TaskQueue) -> None:
    outside = push(queue, tasks.number(9).with_options(delay=60))
    handle = push(queue, tasks.number(1).with_options(depends_on=[outside]) | tasks.broken())
    queue.fail(popped(queue), "broken", failure_type="invalid")
    assert handle.state() is TaskState.FAILED


def test_the_results_of_very_many_last_steps_come_in_a_few_calls(
    config: FairQueueConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TaskQueue(config) as queue:
        handle = push(queue, tasks.number.map(range(3000)))
        Worker(queue, concurrency=20, burst=True).run()
        run = count_calls(queue, monkeypatch)
        assert handle.result(timeout=10) == list(range(3000))
        assert len(run) < 20


def test_waiting_for_a_long_chain_does_not_walk_it(
    config: FairQueueConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = tasks.number(0) >> tasks.number(1)
    for number in range(2, 1000):
        chain = chain >> tasks.number(number)
    with TaskQueue(config) as queue:
        handle = push(queue, chain)
        run = count_calls(queue, monkeypatch)
        with pytest.raises(ResultTimeoutError):
            handle.result(timeout=0.1)
        assert len(run) < 20
        handle.cancel()


def test_a_pipeline_that_is_forgotten_or_kept_no_result_says_so_and_is_waited_for_no_more(
    open_queue: Any,
) -> None:
    queue = open_queue(retention={"finished": 0, "failed": 60, "canceled": 60}, push_retry_window=0)
    for last in (tasks.number(2), parallel(tasks.number(2), tasks.number(3))):
        handle = push(queue, tasks.number(1) >> last)
        Worker(queue.config, burst=True).run()
        with pytest.raises(ResultExpiredError, match=r"queue\.retention\.finished"):
            handle.result(timeout=10)
        time.sleep(0.01)
        queue.cleanup_expired_tasks()
        with pytest.raises(ResultExpiredError, match=r"queue\.retention\.finished"):
            handle.result(timeout=10)
        assert handle.progress().forgotten == len(handle.steps)


def test_a_pipeline_whose_first_steps_are_forgotten_has_begun(open_queue: Any) -> None:
    queue = open_queue(retention={"finished": 0, "failed": 60, "canceled": 60}, push_retry_window=0)
    handle = push(queue, tasks.number(1) | tasks.number(2).with_options(delay=60))
    queue.finish(popped(queue), 1)
    time.sleep(0.01)
    queue.cleanup_expired_tasks()
    progress = handle.progress()
    assert (progress.forgotten, progress.ready) == (1, 1)
    assert handle.state() is TaskState.STARTED


# --- pipelines and other pushes ---


def test_a_pipelines_handle_has_an_output_for_other_pushes(queue: TaskQueue) -> None:
    one = push(queue, tasks.number(1) >> tasks.number(20))
    many = push(queue, parallel(tasks.number(1), tasks.number(2)))
    with working(queue):
        assert push(queue, tasks.double(one.output)).result(timeout=10) == 40
        assert push(queue, tasks.total(many.output)).result(timeout=10) == 3


def test_a_task_may_depend_on_a_pushed_pipeline(queue: TaskQueue) -> None:
    before = push(queue, tasks.number(1) >> [tasks.number(2), tasks.number(3)])
    after = push(queue, tasks.number(4), depends_on=[before])
    assert after.state() is TaskState.DEFERRED
    assert set(queue.explain("u", after.task_id).waits_for) == set(before.result_ids)
    other = push(queue, tasks.number(5))
    assert queue.add_dependency("u", other.task_id, before) is TaskState.DEFERRED
    with working(queue):
        assert after.result(timeout=10) == 4
        assert other.result(timeout=10) == 5


def test_a_task_cannot_depend_on_a_pipeline_that_has_no_id(queue: TaskQueue) -> None:
    pipeline = tasks.number(1) >> tasks.number(2)
    with pytest.raises(TaskValidationError, match="push it first and give its handle"):
        push(queue, tasks.number(3), depends_on=[pipeline])
    with pytest.raises(TaskValidationError, match="must be a list"):
        push(queue, tasks.number(3), depends_on=push(queue, pipeline))


# --- the handle ---


def test_a_handle_tells_which_steps_there_are(config: FairQueueConfig) -> None:
    with TaskQueue(config) as queue:
        handle = push(queue, tasks.number(1) >> tasks.number(2) >> tasks.double(3))
        assert "double" in handle
        assert "dubble" not in handle
        with pytest.raises(KeyError, match="no step is named 'dubble'; there are 'number', 'double'"):
            handle["dubble"]
        with pytest.raises(KeyError, match=r"2 steps are named 'number': named\('number'\) gives them all"):
            handle["number"]
        with pytest.raises(TypeError, match="not iterable"):
            list(handle)
        many = [tasks.number(1).with_options(name=f"step {number}") for number in range(5000)]
        with pytest.raises(KeyError, match="and 4,990 more"):
            push(queue, parallel(*many))["step"]


def test_what_push_returns_can_be_imported_to_annotate_with() -> None:
    assert {"PipelineHandle", "AsyncPipelineHandle", "PipelineProgress"} <= set(fairque.__all__)


# --- results as arguments ---


@pytest.mark.parametrize("codec", ["json", "msgpack", "pickle"])
def test_arguments_that_look_like_outputs_stay_what_they_are(open_queue: Any, codec: str) -> None:
    queue = open_queue(codec=codec)
    first = tasks.number(7)
    hostile = [{MARK: "no task"}, {MARK: [5]}, {MARK: {MARK: None}}, {MARK: first.output}]
    with working(queue):
        found = push(queue, first >> tasks.same([first.output, *hostile])).result(timeout=10)
    assert found == [7, {MARK: "no task"}, {MARK: [5]}, {MARK: {MARK: None}}, {MARK: 7}]


def test_an_output_does_not_change_the_types_of_other_arguments(open_queue: Any) -> None:
    queue = open_queue(codec="pickle")
    first = tasks.number(1)
    pair = tasks.Pair(first.output, 2)
    with working(queue):
        found = push(queue, first >> tasks.same([pair, tasks.Pair(3, 4), (5, 6)])).result(timeout=10)
    assert [type(item) for item in found] == [tasks.Pair, tasks.Pair, tuple]
    assert found == [(1, 2), (3, 4), (5, 6)]


@pytest.mark.parametrize("codec", ["json", "msgpack", "pickle"])
def test_an_output_that_cannot_be_filled_in_is_refused(open_queue: Any, codec: str) -> None:
    queue = open_queue(codec=codec)
    first = tasks.number(1)
    for argument in (tasks.Box(first.output), {first.output}, {first.output: 1}):
        with pytest.raises(TaskValidationError, match="by itself or in a list or dict"):
            push(queue, first >> tasks.same(argument))


@pytest.mark.parametrize("codec", ["json", "msgpack", "pickle"])
def test_a_task_in_place_of_its_result_is_refused_wherever_it_hides(open_queue: Any, codec: str) -> None:
    queue = open_queue(codec=codec)
    task = Task.create(user_id="u", payload=1)
    for argument in ([task], {"rows": task}, [tasks.number(1) >> tasks.number(2)]):
        with pytest.raises(TaskValidationError, match=r"pass its \.output") as caught:
            push(queue, tasks.same(argument))
        assert "argument 'value'[" in str(caught.value)
    with pytest.raises(EncodeError, match=r"payload cannot be carried .* pass its \.output"):
        push(queue, Task.create(payload=task))


def test_a_handle_in_place_of_its_result_is_refused(config: FairQueueConfig) -> None:
    with TaskQueue(config) as queue:
        for handle in (push(queue, tasks.number(1)), push(queue, tasks.number(1) >> tasks.number(2))):
            with pytest.raises(EncodeError, match=r"argument 'value'\[0\] .* pass its \.output"):
                push(queue, tasks.same([handle]))


def test_arguments_without_an_end_are_refused_in_a_pipeline_too(queue: TaskQueue) -> None:
    endless: list[Any] = []
    endless.append(endless)
    first = tasks.number(1)
    for argument in (endless, [first.output, endless]):
        with pytest.raises(TaskValidationError, match="contains itself, or is nested too deep"):
            push(queue, first >> tasks.same(argument))


def test_what_cannot_be_pushed_says_how_it_can(queue: TaskQueue) -> None:
    with pytest.raises(BatchError, match="push a pipeline by itself"):
        queue.push_batch([cast("Any", tasks.number(1) >> tasks.number(2))], user_id="u")
    with pytest.raises(TaskValidationError, match="push_batch takes several"):
        push(queue, [tasks.number(1)])
    with pytest.raises(TaskValidationError, match="call the task function"):
        push(queue, tasks.number)


def test_a_step_outside_of_its_pipeline_is_asked_for_by_the_handle(queue: TaskQueue) -> None:
    first = tasks.number(3)
    handle = push(queue, first >> tasks.number(4))
    with pytest.raises(UnknownDependencyError, match="that of the pipeline's handle"):
        push(queue, tasks.double(first.output))
    later = push(queue, tasks.double(handle.steps[0].output))
    with working(queue):
        assert later.result(timeout=10) == 6


def test_a_result_that_cannot_be_read_names_the_task_that_it_is_of(
    make_config: Any, config: FairQueueConfig
) -> None:
    with TaskQueue(make_config(codec="pickle")) as other:
        first = other.push(tasks.number(1), user_id="u")
        Worker(other, burst=True).run()
        with TaskQueue(config) as queue:
            later = push(queue, tasks.double(first.output))
            Worker(queue, burst=True).run()
            message = f"the result of task '{first.task_id}' cannot be an argument: the data is a pickle"
            with pytest.raises(TaskFailedError, match=message) as caught:
                later.result(timeout=10)
    assert caught.value.failure_type == "invalid"


def test_an_input_that_the_server_cannot_give_fails_the_step_and_does_not_hang_it(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    first = push(queue, tasks.number(1))
    Worker(queue.config, burst=True).run()
    key = f"{root}:result:u:{first.task_id}"
    raw.delete(key)
    raw.rpush(key, "not a string")
    later = push(queue, tasks.double(first.output))
    with working(queue), pytest.raises(TaskFailedError, match="WRONGTYPE"):
        later.result(timeout=10)
    raw.delete(key)


class Noting(TaskHandler):
    """Notes what it is given in each of its methods."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def process_task(self, task: Task[Any]) -> None:
        self.seen.append(("process", task.payload))
        if "bad" in task.payload:
            raise ValueError("bad")

    def on_task_success(self, task: Task[Any], duration: float) -> None:
        self.seen.append(("success", task.payload))

    def on_task_failure(self, task: Task[Any], error: BaseException, duration: float) -> None:
        self.seen.append(("failure", task.payload))


def test_a_handler_sees_the_results_in_all_of_its_methods(queue: TaskQueue) -> None:
    first, handler = tasks.number(3), Noting()
    good = Task.create(payload={"good": first.output})
    push(queue, first >> good >> Task.create(payload={"bad": [first.output]}, max_retries=0))
    Worker(queue.config, handler=handler, burst=True).run()
    assert handler.seen == [
        ("process", {"good": 3}),
        ("success", {"good": 3}),
        ("process", {"bad": [3]}),
        ("failure", {"bad": [3]}),
    ]


# --- XCom ---


def test_an_output_is_no_value_for_xcom(queue: TaskQueue) -> None:
    for value in (tasks.number(1).output, [tasks.number(1).output], tasks.number(1)):
        with pytest.raises(EncodeError, match="XCom value 'key' cannot"):
            queue.xcom("u").push("key", value)


def test_a_result_too_large_for_xcom_is_not_made_again_and_again(open_queue: Any) -> None:
    queue = open_queue(max_xcom_bytes=1000)
    handle = push(queue, tasks.published_text(2000))
    with working(queue), pytest.raises(TaskFailedError, match="max_xcom_bytes") as caught:
        handle.result(timeout=10)
    assert (caught.value.failure_type, handle.info().attempt) == ("invalid", 1)


def test_publishing_waits_for_a_server_that_is_away(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, outages = AsyncXComManager.push, [ServerUnavailableError("away")] * 2

    async def flaky(self: AsyncXComManager, key: str, value: Any) -> None:
        if outages:
            raise outages.pop()
        await publish(self, key, value)

    monkeypatch.setattr(AsyncXComManager, "push", flaky)
    handle = push(queue, tasks.published(5))
    with working(queue):
        assert handle.result(timeout=10) == 5
    assert (handle.info().attempt, queue.xcom("u").pull("published")) == (1, 5)
