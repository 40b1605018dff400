"""However a task ends, and however its worker ends: nothing stays leased to nobody."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from redis import Redis

from fairque import (
    AsyncTaskQueue,
    AsyncWorker,
    ConfigurationError,
    FairQueueConfig,
    QueueClosedError,
    TaskFailedError,
    TaskQueue,
    TaskState,
    Worker,
)
from fairque.core.header import Header
from fairque.core.models import Task
from tests.support import worker_tasks as tasks
from tests.support.waiting import until

MakeConfig: TypeAlias = Callable[..., FairQueueConfig]


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


async def started(queue: AsyncTaskQueue, count: int) -> None:
    while (await queue.stats()).started < count:  # noqa: ASYNC110 - it is the server that changes
        await asyncio.sleep(0.01)


def hearts() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fairque-heart"]


def bad_picky() -> Task[Any]:
    return Task(task_id="picky", header=Header(function="tests.take_picky"), arguments=(({"number": 2},), {}))


# --- tasks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "failure_type", "message"),
    [
        (tasks.return_lazy_model, "invalid", "lazy column"),
        (bad_picky, "invalid", "no number 2"),
        (lambda: tasks.raise_named("GeneratorExit"), "failed", "GeneratorExit"),
        (lambda: tasks.async_raise_named("GeneratorExit"), "failed", "GeneratorExit"),
        (lambda: tasks.raise_named("OwnRetry"), "failed", "OwnRetry"),
        (lambda: tasks.async_raise_named("OwnRetry"), "failed", "OwnRetry"),
        (lambda: tasks.raise_named("CancelledError"), "failed", "CancelledError"),
        (lambda: tasks.async_raise_named("CancelledError"), "failed", "CancelledError"),
        (lambda: tasks.return_text(2_000_000), "invalid", "the encoded result has 2,000,002 bytes"),
    ],
)
def test_whatever_is_raised_around_a_task_is_its_failure_and_the_worker_goes_on(
    queue: TaskQueue, task: Callable[[], Task[Any]], failure_type: str, message: str
) -> None:
    with Worker(queue, concurrency=2):
        handle = queue.push(task(), user_id="acme")
        with pytest.raises(TaskFailedError, match=message) as caught:
            handle.result(timeout=5)
        assert caught.value.failure_type == failure_type
        assert queue.push(tasks.add(1, 1), user_id="globex").result(timeout=5) == 2


def test_a_plain_function_around_an_async_one_is_awaited(queue: TaskQueue) -> None:
    with Worker(queue):
        assert queue.push(tasks.plain_around_async(3), user_id="acme").result(timeout=5) == ["acme", 3]


def test_a_record_that_cannot_be_read_fails_its_task_and_nobody_else_s(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    queue.push(tasks.add(1, 1), user_id="acme", task_id="bad")
    raw.set(f"{root}:task:acme:bad", b'{"timeout":"soon"}\n[]')
    with Worker(queue):
        assert queue.push(tasks.add(1, 1), user_id="globex").result(timeout=5) == 2
        with pytest.raises(TaskFailedError, match="cannot be read"):
            queue.handle("acme", "bad").result(timeout=5)
    found = queue.get("acme", "bad")
    assert found is not None
    assert found.failure_type == "invalid"


def test_a_user_whose_whole_backlog_has_expired_holds_up_nobody(queue: TaskQueue) -> None:
    queue.push_batch(
        [tasks.add(n, 0).with_options(expires_at=time.time() + 0.05) for n in range(1_000)], user_id="a"
    )
    time.sleep(0.1)
    queue.push(tasks.add(0, 0), user_id="b", task_id="b")
    queue.push(tasks.add(0, 0), user_id="a", task_id="a")
    first, second = queue.pop("w"), queue.pop("w")
    assert first is not None
    assert second is not None
    assert (first.user_id, first.task_id) == ("b", "b")
    assert (second.user_id, second.task_id) == ("a", "a")
    assert queue.stats().totals["expired"] == 1_000


def test_cleaning_up_keeps_up_with_the_work(make_config: MakeConfig) -> None:
    config = make_config(retention={"finished": 0.0}, push_retry_window=0.01)
    with TaskQueue(config) as queue:
        queue.push_batch([tasks.add(n, 0) for n in range(1_500)], user_id="acme")
        while claimed := queue.pop_batch("w", 200):
            queue.finish_batch(claimed)
        time.sleep(0.02)
        with Worker(queue):
            until(lambda: queue.stats().finished == 0, "all are cleaned up", within=5)


# --- workers ------------------------------------------------------------------------------------------


async def test_a_worker_that_is_canceled_again_and_again_leaves_nothing_behind(
    config: FairQueueConfig,
) -> None:
    async with AsyncTaskQueue(config) as queue:
        worker = AsyncWorker(queue, concurrency=2, lease=0.5)
        running = asyncio.create_task(worker.run())
        handles = await queue.push_batch([tasks.sleep(1.0), tasks.async_sleep(1.0)], user_id="acme")
        await started(queue, 2)
        while not running.done():  # as anyio's cancel scopes do
            running.cancel()
            await asyncio.sleep(0)
        assert running.cancelled()
        assert [await handle.state() for handle in handles] == [TaskState.QUEUED] * 2
        await asyncio.sleep(0.1)
        assert hearts() == []


@pytest.mark.parametrize("way", ["stop", "no grace", "cancel"])
async def test_however_and_whenever_a_worker_ends_nothing_stays_leased_to_it(
    config: FairQueueConfig, way: str
) -> None:
    async with AsyncTaskQueue(config) as queue:
        for _ in range(12):
            mixed = [(tasks.async_sleep if n % 2 else tasks.sleep)(random.random() / 100) for n in range(60)]
            await queue.push_batch(mixed, user_id="acme")
            worker = AsyncWorker(
                queue, concurrency=10, graceful_shutdown_timeout=0 if way == "no grace" else 5, lease=60
            )
            running = asyncio.create_task(worker.run())
            await asyncio.sleep(random.random() / 10)
            if way == "cancel":
                running.cancel()
            else:
                worker.stop()
            await asyncio.wait({running}, timeout=10)
            assert running.done()
            stats = await queue.stats()
            assert (stats.started, stats.workers) == (0, 0)
        assert stats.failed == 0
        assert stats.totals.get("reclaimed", 0) == 0


def test_a_loop_that_is_torn_down_hands_its_tasks_back(queue: TaskQueue, config: FairQueueConfig) -> None:
    handle = queue.push(tasks.async_sleep(30), user_id="acme")

    async def main() -> None:
        worker = asyncio.create_task(AsyncWorker(config).run())
        async with AsyncTaskQueue(config) as watch:
            await started(watch, 1)
        assert not worker.done()

    asyncio.run(main())
    info = handle.info()
    assert (info.state, info.crashes, info.failures) == (TaskState.QUEUED, 0, 0)


def test_a_worker_can_run_again(queue: TaskQueue) -> None:
    worker = Worker(queue, burst=True)
    for number in range(3):
        handle = queue.push(tasks.add(number, 1), user_id="acme")
        worker.run()
        assert handle.result(timeout=0) == number + 1
    worker = Worker(queue)
    for number in range(3):
        worker.start()
        assert queue.push(tasks.add(number, 1), user_id="acme").result(timeout=5) == number + 1
        worker.stop()
    worker.stop()


async def test_a_worker_runs_once_at_a_time(config: FairQueueConfig) -> None:
    worker = AsyncWorker(config)
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="works already"):
        await worker.run()
    worker.stop()
    await running


async def test_a_stop_before_the_run_is_remembered(config: FairQueueConfig) -> None:
    worker = AsyncWorker(config)
    worker.stop()
    await asyncio.wait_for(worker.run(), 5)


def test_starting_and_stopping_at_once_takes_no_time(config: FairQueueConfig) -> None:
    began = time.monotonic()
    for _ in range(20):
        worker = Worker(config)
        worker.start()
        time.sleep(random.random() / 250)
        worker.stop()
    assert time.monotonic() - began < 4
    until(lambda: hearts() == [], "no heart is left")


def test_one_string_is_not_a_list_of_users(config: FairQueueConfig) -> None:
    with pytest.raises(ConfigurationError, match="must be a list of user ids"):
        Worker(config, assigned_users="acme")


def test_expired_tasks_change_nothing_of_the_fair_order(queue: TaskQueue) -> None:
    def refill() -> None:
        queue.push_batch(
            [tasks.add(0, 0).with_options(user_id="a", expires_at=time.time() - 1)]
            + [tasks.add(n, 0).with_options(user_id=user) for n in range(3) for user in ("b", "c", "d")]
        )

    orders = []
    for batch in (1, 2, 3, 4, 20):
        refill()
        order = []
        while claimed := queue.pop_batch("w", batch):
            order += [task.user_id for task in claimed]
            queue.finish_batch(claimed)
        orders.append(order)
    assert orders == [["b", "c", "d"] * 3] * 5


def test_a_picky_pop_or_burst_finds_what_is_behind_many_expired_tasks(queue: TaskQueue) -> None:
    for number in range(2):
        expired = [tasks.add(n, 0).with_options(expires_at=time.time() - 1) for n in range(500)]
        queue.push_batch(expired, user_id="a")
        good = queue.push(tasks.add(number, 0), user_id="a")
        if number == 0:
            popped = queue.pop("w", users=["a"])
            assert popped is not None
            assert popped.task_id == good.task_id
            queue.finish(popped)
        else:
            Worker(queue, burst=True, assigned_users=["a"]).run()
            assert good.state() is TaskState.FINISHED


async def test_a_worker_whose_queue_is_closed_ends_and_says_so(config: FairQueueConfig) -> None:
    for pause in (0.0, 0.002, 0.05, 0.3):
        queue = AsyncTaskQueue(config)
        running = asyncio.create_task(AsyncWorker(queue, graceful_shutdown_timeout=1).run())
        await asyncio.sleep(pause)
        await queue.close()
        await asyncio.wait({running}, timeout=8)
        assert running.done()
        assert isinstance(running.exception(), QueueClosedError)


def test_a_worker_that_has_ended_by_itself_can_be_stopped_and_run_again(queue: TaskQueue) -> None:
    with Worker(queue, burst=True, concurrency=2) as worker:
        assert worker.join(5)
    handles = queue.push_batch([tasks.add(n, 0) for n in range(20)], user_id="acme")
    worker.run()
    assert {handle.state() for handle in handles} == {TaskState.FINISHED}
