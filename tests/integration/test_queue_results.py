"""Results: typed, waited for without polling, and their errors."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel
from redis import Redis

from fairque.core.config import FairQueueConfig
from fairque.core.exceptions import (
    DecodeError,
    FairQueueError,
    ResultExpiredError,
    ResultTimeoutError,
    TaskCanceledError,
    TaskFailedError,
    TaskNotFoundError,
)
from fairque.core.models import Task, TaskState
from fairque.decorator import task
from fairque.queue.async_queue import AsyncTaskQueue
from fairque.queue.handle import TaskHandle
from fairque.queue.queue import TaskQueue
from tests.integration.conftest import OpenQueue
from tests.support.actions import drain, eventually, make, popped, push, server_ms, sleep_past
from tests.support.faces import Background


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    when: datetime


class Box(msgspec.Struct):
    points: list[Point]
    colour: Colour | None = None


class Person(BaseModel):
    name: str
    born: date
    ids: list[UUID]


@task(name="results:moment")
def moment() -> datetime: ...  # type: ignore[empty-body]


@task(name="results:uuid")
def uuid() -> UUID: ...  # type: ignore[empty-body]


@task(name="results:decimal")
def decimal() -> Decimal: ...  # type: ignore[empty-body]


@task(name="results:colour")
def colour() -> Colour: ...  # type: ignore[empty-body]


@task(name="results:point")
def point() -> Point: ...  # type: ignore[empty-body]


@task(name="results:box")
def box() -> Box: ...  # type: ignore[empty-body]


@task(name="results:person")
def person() -> Person: ...  # type: ignore[empty-body]


@task(name="results:table")
def table() -> dict[str, list[tuple[int, Decimal]]]: ...  # type: ignore[empty-body]


@task(name="results:maybe")
def maybe() -> Point | None: ...


@task(name="results:span")
def span() -> timedelta: ...  # type: ignore[empty-body]


@task(name="results:raw")
def data() -> bytes: ...  # type: ignore[empty-body]


@task(name="results:nothing")
def nothing() -> None: ...


@task(name="results:async")
async def later() -> set[int]: ...  # type: ignore[empty-body]


@task(name="results:untyped")
def untyped():  # type: ignore[no-untyped-def]
    ...


NOON = datetime(2026, 5, 17, 12, 30, 15, 123456, UTC)
UUIDS = UUID("12345678-1234-5678-1234-567812345678")

RESULTS: list[tuple[Callable[[], Task[Any]], Any]] = [
    (moment, NOON),
    (uuid, UUIDS),
    (decimal, Decimal("12.3400")),
    (colour, Colour.BLUE),
    (point, Point(3, NOON)),
    (box, Box([Point(1, NOON), Point(2, NOON)], Colour.RED)),
    (person, Person(name="Ada", born=date(1815, 12, 10), ids=[UUIDS])),
    (table, {"a": [(1, Decimal("0.1")), (2, Decimal("1E+2"))]}),
    (maybe, Point(1, NOON)),
    (maybe, None),
    (span, timedelta(seconds=90)),
    (data, b"\x00\xff"),
    (nothing, None),
    (later, {1, 2, 3}),
    (untyped, {"any": ["thing", 1.5, None]}),
]


@pytest.mark.parametrize(("function", "value"), RESULTS)
@pytest.mark.parametrize("codec", ["json", "msgpack", "pickle"])
def test_a_result_comes_back_as_the_annotation_has_it(
    open_queue: OpenQueue, function: Callable[[], Task[Any]], value: Any, codec: str
) -> None:
    queue = open_queue(codec=codec)
    handle = queue.push(function(), user_id="u")
    queue.finish(popped(queue), value)
    result = handle.result(0)
    assert result == value
    assert type(result) is type(value)


def test_a_result_that_does_not_fit_the_annotation_says_so(queue: TaskQueue) -> None:
    handle = queue.push(moment(), user_id="u")
    queue.finish(popped(queue), "no time at all")
    with pytest.raises(DecodeError, match="the result does not fit its annotation"):
        handle.result(0)


def test_a_handle_made_elsewhere_gives_plain_values(queue: TaskQueue) -> None:
    queue.push(point(), user_id="u", task_id="t")
    queue.finish(popped(queue), Point(1, NOON))
    assert queue.handle("u", "t").result(0) == {"x": 1, "when": "2026-05-17T12:30:15.123456Z"}


def test_a_pickled_result_is_not_read_where_pickle_is_not_opted_in(open_queue: OpenQueue) -> None:
    writer, reader = open_queue(codec="pickle"), open_queue(codec="json")
    push(writer, "u", "t")
    writer.finish(popped(writer), [1])
    with pytest.raises(DecodeError, match=r"queue\.codec is not set to pickle here"):
        reader.handle("u", "t").result(0)


def test_readers_and_writers_may_use_json_and_messagepack_side_by_side(open_queue: OpenQueue) -> None:
    left, right = open_queue(codec="json"), open_queue(codec="msgpack")
    push(left, "u", "t")
    taken = popped(right)
    assert taken.payload == "t"
    right.finish(taken, {"a": 1})
    assert left.handle("u", "t").result(0) == {"a": 1}


# --- waiting ---


def test_a_result_arrives_within_milliseconds_of_its_finish(queue: TaskQueue) -> None:
    delays = []
    for number in range(10):
        handle = queue.push(make("u", str(number)))
        taken = popped(queue)
        waiter = Background(_timed_result, handle)
        time.sleep(0.02)  # let it wait; were it not waiting yet, it would only be faster
        finished = time.perf_counter()
        queue.finish(taken, number)
        value, came = waiter.value()
        assert value == number
        delays.append(came - finished)
    assert statistics.median(delays) < 0.02, delays


def _timed_result(handle: TaskHandle[Any]) -> tuple[Any, float]:
    return handle.result(20), time.perf_counter()


@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_a_waiter_learns_of_every_kind_of_end_at_once(queue: TaskQueue, end: str) -> None:
    handle = queue.push(make("u", "t", max_retries=0))
    taken = popped(queue)
    waiter = Background(lambda: handle.result(20))
    time.sleep(0.05)
    start = time.monotonic()
    if end == "fail":
        queue.fail(taken, "no")
    else:
        queue.cancel("u", "t")
    with pytest.raises(TaskFailedError if end == "fail" else TaskCanceledError):
        waiter.value()
    assert time.monotonic() - start < 1


def test_a_waiter_learns_of_poison_and_expiry(open_queue: OpenQueue, raw: Redis) -> None:
    queue = open_queue(max_crashes=1)
    poison = queue.push(make("u", "poison"))
    taken = popped(queue, lease=0.001)
    expired = queue.push(make("u", "expired", expires_at=server_ms(raw) / 1000 + 0.02))
    waiters = [Background(handle.result, 20) for handle in (poison, expired)]
    time.sleep(0.05)
    start = time.monotonic()
    queue.reclaim()
    assert queue.pop("w") is None
    for waiter, failure_type in zip(waiters, ("poisoned", "expired"), strict=True):
        with pytest.raises(TaskFailedError) as caught:
            waiter.value()
        assert caught.value.failure_type == failure_type
    assert time.monotonic() - start < 1
    assert taken.task_id == "poison"


def test_many_waiters_may_wait_for_one_task(queue: TaskQueue) -> None:
    handle = queue.push(make("u", "t"))
    waiters = [Background(lambda: handle.result(20)) for _ in range(20)]
    waiters += [Background(lambda: queue.handle("u", "t").result(20)) for _ in range(20)]
    time.sleep(0.05)
    queue.finish(popped(queue), "for all")
    assert [waiter.value() for waiter in waiters] == ["for all"] * 40


def test_a_waiter_outlives_a_lost_connection(queue: TaskQueue, raw: Redis) -> None:
    handle = queue.push(make("u", "t"))
    waiter = Background(lambda: handle.result(20))
    eventually(lambda: raw.pubsub_numsub(queue.commands.shards[0].keys.done("u", "t"))[0][1] == 1)
    raw.client_kill_filter(_type="pubsub")
    start = time.monotonic()
    queue.finish(popped(queue), "still")
    assert waiter.value() == "still"
    assert time.monotonic() - start < 2


def subscriptions(raw: Redis) -> list[Any]:
    return [topic for topic in raw.pubsub_channels() if topic != b"fairque:listening"]


def test_waiting_leaves_no_subscription_behind(queue: TaskQueue, raw: Redis) -> None:
    handle = queue.push(make("u", "t"))
    with pytest.raises(ResultTimeoutError):
        handle.result(0.02)
    eventually(lambda: subscriptions(raw) == [])
    waiter = Background(lambda: handle.result(20))
    eventually(lambda: len(subscriptions(raw)) == 1)
    queue.finish(popped(queue))
    waiter.value()
    eventually(lambda: subscriptions(raw) == [])


async def test_a_waiter_that_is_cancelled_leaves_no_subscription_behind(
    config: FairQueueConfig, raw: Redis
) -> None:
    async with AsyncTaskQueue(config) as queue:
        handle = await queue.push(make("u", "t"))
        for _ in range(100):
            for pause in (0, 0, 0, 0.0005, 0.001, 0.002):
                waiter = asyncio.create_task(handle.result(20))
                await asyncio.sleep(pause)
                waiter.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiter
        assert await asyncio.to_thread(_settled, raw)
        assert queue.manager._listening()._ears == {}


def _settled(raw: Redis) -> bool:
    eventually(lambda: subscriptions(raw) == [])
    return True


def pubsub_connections(raw: Redis) -> int:
    return sum(int(client["sub"]) > 0 for client in raw.client_list())


def test_two_hundred_waiting_threads_share_one_connection(config: FairQueueConfig, raw: Redis) -> None:
    before = len(raw.client_list())
    with TaskQueue(config) as queue:
        handles = queue.push_batch([make("u", str(i)) for i in range(200)])
        waiters = [Background(handle.result, 30) for handle in handles]
        eventually(lambda: len(subscriptions(raw)) == 200)
        assert pubsub_connections(raw) == 1
        assert len(raw.client_list()) - before <= 20
        for taken in queue.pop_batch("w", 200):
            queue.finish(taken, taken.payload)
        assert [waiter.value() for waiter in waiters] == [str(i) for i in range(200)]
    eventually(lambda: pubsub_connections(raw) == 0)


async def test_a_thousand_waiting_coroutines_share_one_connection(
    config: FairQueueConfig, raw: Redis
) -> None:
    before = len(raw.client_list())
    async with AsyncTaskQueue(config) as queue:
        handles = await queue.push_batch([make("u", str(i)) for i in range(1000)])
        waiters = [asyncio.create_task(handle.result(30)) for handle in handles]
        await asyncio.to_thread(eventually, lambda: len(subscriptions(raw)) == 1000)
        assert pubsub_connections(raw) == 1
        assert len(raw.client_list()) - before <= 20
        # Each looks once more after it began to listen; then nobody asks the server anything.
        await asyncio.to_thread(eventually, lambda: _is_quiet(raw))
        tasks = await queue.pop_batch("w", 1000)
        await queue.finish_batch((taken, taken.payload) for taken in tasks)
        assert await asyncio.gather(*waiters) == [str(i) for i in range(1000)]
    await asyncio.to_thread(eventually, lambda: pubsub_connections(raw) == 0)


def commands(raw: Redis) -> int:
    return int(raw.info("stats")["total_commands_processed"])


def _is_quiet(raw: Redis) -> bool:
    before = commands(raw)
    time.sleep(0.2)
    return commands(raw) - before < 10


async def test_the_async_batch_keeps_several_chunks_in_flight(config: FairQueueConfig, raw: Redis) -> None:
    """All chunks of a batch arrive at the server before the first reply could have been answered."""
    arrived: list[tuple[float, str]] = []
    async with AsyncTaskQueue(config) as queue:
        await queue.push(make("warm", "up"))
        with raw.monitor() as monitor:  # type: ignore[no-untyped-call]
            watcher = threading.Thread(target=_watch, args=(monitor, arrived, 5))
            watcher.start()
            start = time.monotonic()
            handles = await queue.push_batch([make("u", str(i)) for i in range(1000)])
            await asyncio.to_thread(watcher.join, 10)
            assert time.monotonic() - start < 5
        assert all(handle.created for handle in handles)
        # One connection, one burst: a pipeline, not five exchanges over five connections.
        assert len({address for _, address in arrived}) == 1
        assert len(arrived) == 5


def _watch(monitor: Any, arrived: list[tuple[float, str]], count: int) -> None:
    for command in monitor.listen():
        if command["command"].startswith("EVALSHA") and command["client_type"] != "lua":
            arrived.append((command["time"], command["client_port"] or command["client_address"]))
            if len(arrived) == count:
                return


# --- errors ---


def test_a_result_not_in_time_is_a_timeout_and_the_task_goes_on(queue: TaskQueue) -> None:
    handle = queue.push(make("u", "t"))
    start = time.monotonic()
    with pytest.raises(
        TimeoutError, match=r"task 't' of user 'u' has not ended within 0\.1 s; it goes on"
    ) as caught:
        handle.result(timeout=0.1)
    assert 0.1 <= time.monotonic() - start < 1
    assert isinstance(caught.value, ResultTimeoutError)
    assert isinstance(caught.value, FairQueueError)
    assert caught.value.seconds == 0.1
    queue.finish(popped(queue), "later")
    assert handle.result(timeout=timedelta(seconds=1)) == "later"


def test_a_failed_task_raises_its_error(queue: TaskQueue) -> None:
    handle = queue.push(make("u", "t", max_retries=0))
    queue.fail(popped(queue), KeyError("width"), failure_type="timeout")
    with pytest.raises(TaskFailedError, match=r"failed \(timeout\): KeyError: 'width' — requeue") as caught:
        handle.result()
    assert (caught.value.failure_type, caught.value.error) == ("timeout", "KeyError: 'width'")


def test_a_canceled_task_raises_that_it_was(queue: TaskQueue) -> None:
    handle = queue.push(make("u", "t"))
    handle.cancel()
    with pytest.raises(TaskCanceledError, match="was canceled"):
        handle.result()


def test_an_expired_result_raises_its_own_error(open_queue: OpenQueue, raw: Redis) -> None:
    queue = open_queue(push_retry_window=60, retention={"finished": 0.02, "failed": 1, "canceled": 1})
    handle = queue.push(make("u", "t"))
    queue.finish(popped(queue), "soon gone")
    ended = server_ms(raw)
    assert handle.result(0) == "soon gone"
    sleep_past(raw, ended + 21)
    with pytest.raises(ResultExpiredError, match=r"raise queue\.retention\.finished"):
        handle.result(0)
    assert handle.state() is TaskState.FINISHED
    assert issubclass(ResultExpiredError, TaskNotFoundError)


def test_a_result_that_is_not_kept_at_all_raises_the_same(open_queue: OpenQueue) -> None:
    queue = open_queue(retention={"finished": 0, "failed": 1, "canceled": 1})
    handle = queue.push(make("u", "t"))
    queue.finish(popped(queue), "never kept")
    with pytest.raises(ResultExpiredError):
        handle.result(0)


def test_a_task_that_was_cleaned_up_while_waited_for_raises_the_same(
    open_queue: OpenQueue, raw: Redis
) -> None:
    queue = open_queue(push_retry_window=0, retention={"finished": 0, "failed": 0, "canceled": 0})
    handle = queue.push(make("u", "t"))
    drain(queue)
    sleep_past(raw, server_ms(raw) + 1)
    assert queue.cleanup_expired_tasks() == 1
    with pytest.raises(ResultExpiredError):
        handle.result(1)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
def test_a_bad_timeout_is_refused(queue: TaskQueue, timeout: Any) -> None:
    handle = queue.push(make("u", "t"))
    with pytest.raises(ValueError, match="timeout"):
        handle.result(timeout)
