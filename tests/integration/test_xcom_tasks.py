"""XCom inside of tasks: under the attempt's fence, blocking in threads, awaited on a loop; decorators."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis

from fairque import (
    AsyncTaskHandler,
    AsyncXComManager,
    FairQueueConfig,
    LeaseLostError,
    QueueClosedError,
    Task,
    TaskContext,
    TaskFailedError,
    TaskHandler,
    TaskQueue,
    XComManager,
    XComUnavailableError,
    current_task,
    task,
    xcom_pull,
    xcom_push,
    xcom_task,
)
from tests.integration.conftest import StartWorker
from tests.support.waiting import until

# What tasks in threads leave for the test, and the test for them: they run in this process.
notes: dict[str, Any] = {}
go_on = threading.Event()


@dataclass
class Row:
    id: int
    at: datetime


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    notes.clear()
    go_on.clear()
    with TaskQueue(config) as queue:
        yield queue
    go_on.set()


# --- the context --------------------------------------------------------------------------------------


@task(name="xcom.plain", max_retries=0)
def plain(context: TaskContext) -> list[Any]:
    xcom: XComManager = context.xcom
    xcom.push("a", 1, ttl=60)
    xcom.push("b", 2)
    found = [xcom.pull("a"), xcom.pull_many(["a", "x"]), xcom.pull_all(), xcom.delete("a"), xcom.clear()]
    return [*found, xcom.user_id, xcom.namespace]


@task(name="xcom.on_loop", max_retries=0)
async def on_loop() -> list[Any]:
    xcom: AsyncXComManager = current_task().xcom
    await xcom.push("a", 1, ttl=60)
    await xcom.push("b", 2)
    found = [await xcom.pull("a"), await xcom.pull_many(["a", "x"]), await xcom.pull_all()]
    return [*found, await xcom.delete("a"), await xcom.clear(), xcom.user_id, xcom.namespace]


@pytest.mark.parametrize("function", [plain, on_loop], ids=["plain", "async"])
def test_a_task_reaches_the_data_of_its_user(
    queue: TaskQueue, start: StartWorker, function: Callable[[], Task[Any]]
) -> None:
    start()
    expected = [1, {"a": 1}, {"a": 1, "b": 2}, True, 1]
    for user in ("acme", "a:b"):
        assert queue.push(function(), user_id=user).result(timeout=5) == [*expected, user, "default"]


@task(name="xcom.from_a_helper_thread", max_retries=0)
async def from_a_helper_thread() -> Any:
    def helper() -> Any:
        xcom = current_task().xcom
        xcom.push("key", "from the helper")
        return xcom.pull("key")

    return await asyncio.to_thread(helper)


@task(name="xcom.plain_around_async", max_retries=0)
def plain_around_async() -> Any:
    async def later() -> Any:
        await current_task().xcom.push("key", "later")
        return await current_task().xcom.pull("key")

    return later()


@task(name="xcom.loop_of_its_own", max_retries=0)
def loop_of_its_own() -> Any:
    async def inner() -> Any:
        xcom = current_task().xcom
        xcom.push("key", "on a loop of its own")
        return xcom.pull("key")

    return asyncio.run(inner())


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (from_a_helper_thread, "from the helper"),
        (plain_around_async, "later"),
        (loop_of_its_own, "on a loop of its own"),
    ],
    ids=["a thread of an async def", "a coroutine of a plain function", "a loop in a thread"],
)
def test_the_place_decides_whether_it_blocks_or_is_awaited(
    queue: TaskQueue, start: StartWorker, function: Callable[[], Task[Any]], value: str
) -> None:
    start()
    assert queue.push(function(), user_id="u").result(timeout=5) == value


class Plain(TaskHandler):
    def process_task(self, task: Task[Any]) -> Any:
        current_task().xcom.push("key", task.payload)
        return current_task().xcom.pull("key")


class OnLoop(AsyncTaskHandler):
    async def process_task(self, task: Task[Any]) -> Any:
        await current_task().xcom.push("key", task.payload)
        return await current_task().xcom.pull("key")


@pytest.mark.parametrize("handler", [Plain, OnLoop])
def test_a_handler_reaches_it_through_the_current_task(
    queue: TaskQueue, start: StartWorker, handler: Callable[[], Any]
) -> None:
    start(handler=handler())
    handle = queue.push(Task.create(user_id="u", payload={"a": 1}))
    assert handle.result(timeout=5) == {"a": 1}
    assert queue.xcom("u").pull_all() == {"key": {"a": 1}}


@task(name="xcom.in_a_pipeline", max_retries=0)
def in_a_pipeline(run: str) -> Any:
    context = current_task()
    context.pipeline_id = run
    context.xcom.push("key", run)
    return [context.xcom.pull("key"), context.xcom.pull("key", default=None, namespace="default")]


def test_two_runs_of_a_pipeline_do_not_mix(queue: TaskQueue, start: StartWorker) -> None:
    start()
    handles = [queue.push(in_a_pipeline(run), user_id="u") for run in ("run 1", "run:2")]
    assert [handle.result(timeout=5) for handle in handles] == [["run 1", None], ["run:2", None]]
    assert queue.xcom("u").pull_all("run:2") == {"key": "run:2"}
    assert queue.xcom("u").pull_all() == {}


@task(name="xcom.errors", max_retries=0)
def errors() -> list[str]:
    xcom: XComManager = current_task().xcom
    found = []
    attempts: list[Callable[[], Any]] = [
        lambda: xcom.pull("none"),
        lambda: xcom.push("", 1),
        lambda: xcom.push("key", "x" * 300_000),
        lambda: xcom.push("key", object()),
    ]
    for attempt in attempts:
        try:
            attempt()
        except Exception as error:  # noqa: BLE001 - their kinds are what is tested
            found.append(type(error).__name__)
    return found


def test_errors_come_as_they_are_from_the_loop_to_the_thread(queue: TaskQueue, start: StartWorker) -> None:
    start()
    expected = ["XComKeyError", "TaskValidationError", "PayloadTooLargeError", "EncodeError"]
    assert queue.push(errors(), user_id="u").result(timeout=5) == expected


@task(name="xcom.sends_its_context", max_retries=0)
def sends_its_context() -> list[Any]:
    context = current_task()
    there = pickle.loads(pickle.dumps(context))
    return [
        there == context,
        there.open_xcom,
        copy.deepcopy(context) == context,
        copy.copy(context).xcom is None,
    ]


def test_a_context_still_travels_to_another_process(queue: TaskQueue, start: StartWorker) -> None:
    start()
    assert queue.push(sends_its_context(), user_id="u").result(timeout=5) == [True, None, True, False]


# --- the fence ----------------------------------------------------------------------------------------


@task(name="xcom.stale", max_retries=0)
def stale(value: str) -> None:
    context = current_task()
    context.xcom.push("before", value)
    notes["started"] = True
    go_on.wait(10)
    try:
        context.xcom.push("key", value)
    except LeaseLostError as error:
        notes["error"] = error
    else:
        notes["error"] = None


@task(name="xcom.async_stale", max_retries=0)
async def async_stale(value: str) -> None:
    context = current_task()
    await context.xcom.push("before", value)
    notes["started"] = True
    while not go_on.is_set():
        try:
            await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            continue  # to write all the same
    try:
        await context.xcom.push("key", value)
    except LeaseLostError as error:
        notes["error"] = error
    else:
        notes["error"] = None


@pytest.mark.parametrize("function", [stale, async_stale], ids=["plain", "async"])
def test_a_task_that_was_canceled_meanwhile_writes_nothing(
    queue: TaskQueue, start: StartWorker, function: Callable[[str], Task[Any]]
) -> None:
    start()
    handle = queue.push(function("stale"), user_id="u")
    until(lambda: notes.get("started"), "the task runs")
    assert handle.cancel()
    go_on.set()
    until(lambda: "error" in notes, "the task wrote")
    assert isinstance(notes["error"], LeaseLostError)
    assert queue.xcom("u").pull_all() == {"before": "stale"}


def test_a_task_whose_lease_holds_writes(queue: TaskQueue, start: StartWorker) -> None:
    start()
    handle = queue.push(stale("good"), user_id="u")
    until(lambda: notes.get("started"), "the task runs")
    go_on.set()
    handle.result(timeout=5)
    assert queue.xcom("u").pull_all() == {"before": "good", "key": "good"}


@task(name="xcom.write_and_fail", max_retries=2, retry_delay=0.01)
def write_and_fail() -> int:
    context = current_task()
    context.xcom.push("key", context.attempt)
    if context.attempt < 3:
        raise ValueError("not yet")
    return context.attempt


def test_a_retried_attempt_overwrites(queue: TaskQueue, start: StartWorker) -> None:
    start()
    assert queue.push(write_and_fail(), user_id="u").result(timeout=10) == 3
    assert queue.xcom("u").pull_all() == {"key": 3}


@task(name="xcom.outlive", interrupt=False, max_retries=0)
def outlive() -> None:
    xcom = current_task().xcom
    notes["started"] = True
    go_on.wait(10)
    try:
        xcom.push("key", 1)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test looks at it
        notes["error"] = error
    else:
        notes["error"] = None


def test_a_thread_that_outlives_its_worker_is_told(queue: TaskQueue, start: StartWorker) -> None:
    worker = start(graceful_shutdown_timeout=0.0)
    queue.push(outlive(), user_id="u")
    until(lambda: notes.get("started"), "the task runs")
    worker.stop()
    go_on.set()
    until(lambda: "error" in notes, "the task wrote")
    assert isinstance(notes["error"], QueueClosedError)
    assert queue.xcom("u").pull_all() == {}


def test_tasks_use_the_connections_that_the_worker_has(
    queue: TaskQueue, start: StartWorker, raw: Redis
) -> None:
    start(concurrency=1)
    assert queue.push(write_and_fail(), user_id="u").result(timeout=10) == 3  # every connection is open
    before = len(raw.client_list())
    for _ in range(5):
        assert queue.push(plain(), user_id="u").result(timeout=5)[0] == 1
    assert len(raw.client_list()) <= before + 1  # acknowledging and writing at one time


# --- decorators ---------------------------------------------------------------------------------------


@task(name="xcom.extract", max_retries=0)
@xcom_push("rows", ttl=60)
def extract(number: int) -> list[Row]:
    return [Row(i, datetime(2026, 1, i + 1, tzinfo=UTC)) for i in range(number)]


@task(name="xcom.async_extract", max_retries=0)
@xcom_push("rows")
async def async_extract(number: int) -> list[Row]:
    return [Row(i, datetime(2026, 1, i + 1, tzinfo=UTC)) for i in range(number)]


@task(name="xcom.load", max_retries=0)
@xcom_pull(rows="rows")
def load(rows: list[Row], factor: int) -> list[Any]:
    return [type(rows[0]).__name__, sum(row.id for row in rows) * factor, rows[-1].at.year]


@task(name="xcom.async_load", max_retries=0)
@xcom_pull(rows="rows")
async def async_load(rows: list[Row], factor: int) -> list[Any]:
    return [type(rows[0]).__name__, sum(row.id for row in rows) * factor, rows[-1].at.year]


@task(name="xcom.both", max_retries=0)
@xcom_task(pull={"rows": "rows", "bonus": "bonus"}, push="total", default=7)
def both(context: TaskContext, rows: list[Row], bonus: int) -> int:
    return sum(row.id for row in rows) + bonus + 0 * context.attempt


@task(name="xcom.async_both", max_retries=0)
@xcom_task(pull={"total": "total"}, push="doubled", namespace="default")
async def async_both(total: int) -> int:
    return 2 * total


def test_data_goes_from_task_to_task_and_is_of_the_annotated_types(
    queue: TaskQueue, start: StartWorker
) -> None:
    start()

    def result(built: Task[Any]) -> Any:
        return queue.push(built, user_id="u").result(timeout=5)

    assert len(result(extract(3))) == 3
    assert result(load(factor=10)) == ["Row", 30, 2026]
    assert result(load(10)) == ["Row", 30, 2026]
    assert len(result(async_extract(4))) == 4
    assert result(async_load(10)) == ["Row", 60, 2026]
    assert result(both()) == 13
    assert result(both(bonus=1)) == 7
    assert result(async_both()) == 14
    assert queue.xcom("u").pull_many(["total", "doubled"]) == {"total": 7, "doubled": 14}


def test_what_the_caller_gives_is_not_pulled(queue: TaskQueue, start: StartWorker) -> None:
    start()
    rows = [Row(5, datetime(2020, 1, 1, tzinfo=UTC))]
    handle = queue.push(async_load(2, rows=rows), user_id="nobody_pushed")
    assert handle.result(timeout=5) == ["Row", 10, 2020]


@pytest.mark.parametrize("function", [load, async_load], ids=["plain", "async"])
def test_a_value_that_is_missing_fails_the_task_with_its_name(
    queue: TaskQueue, start: StartWorker, function: Callable[..., Task[Any]]
) -> None:
    start()
    with pytest.raises(
        TaskFailedError, match="XComKeyError: user 'u' has no value 'rows' in namespace 'default'"
    ):
        queue.push(function(factor=1), user_id="u").result(timeout=5)


def test_a_value_that_does_not_fit_the_annotation_fails_the_task_with_its_name(
    queue: TaskQueue, start: StartWorker
) -> None:
    start()
    queue.xcom("u").push("rows", [{"id": "one"}])
    with pytest.raises(TaskFailedError, match="XCom value 'rows' for parameter 'rows' of load does not fit"):
        queue.push(load(factor=1), user_id="u").result(timeout=5)


@task(name="xcom.raises", max_retries=0)
@xcom_push("key")
def raises() -> None:
    raise ValueError("no")


@task(name="xcom.async_raises", max_retries=0)
@xcom_push("key")
async def async_raises() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("function", [raises, async_raises], ids=["plain", "async"])
def test_what_raises_publishes_nothing(
    queue: TaskQueue, start: StartWorker, function: Callable[[], Task[Any]]
) -> None:
    start()
    with pytest.raises(TaskFailedError, match="ValueError: no"):
        queue.push(function(), user_id="u").result(timeout=5)
    assert queue.xcom("u").pull_all() == {}


@task(name="xcom.push_later", max_retries=0)
@xcom_push("key")
def push_later(number: int) -> Any:
    async def later() -> int:
        await asyncio.sleep(0)
        return number + 1

    return later()


def test_a_plain_function_around_an_async_def_publishes_what_that_returns(
    queue: TaskQueue, start: StartWorker
) -> None:
    start()
    assert queue.push(push_later(1), user_id="u").result(timeout=5) == 2
    assert queue.xcom("u").pull("key") == 2


@xcom_push("key")
def plain_helper() -> int:
    return 1


@task(name="xcom.helper_on_the_loop", max_retries=0)
async def helper_on_the_loop() -> int:
    return await asyncio.to_thread(plain_helper) + plain_helper()


def test_a_plain_helper_on_the_loop_is_refused_instead_of_blocking_it_for_ever(
    queue: TaskQueue, start: StartWorker
) -> None:
    start()
    with pytest.raises(
        TaskFailedError, match=r"@xcom_push\(…\) of plain_helper .* cannot wait for it on the"
    ):
        queue.push(helper_on_the_loop(), user_id="u").result(timeout=5)
    assert queue.xcom("u").pull("key") == 1  # in a thread it could


def test_a_context_of_a_test_s_own_gives_the_decorators_their_data(queue: TaskQueue) -> None:
    @xcom_task(pull={"number": "number"}, push="double")
    def double(number: int) -> int:
        return 2 * number

    queue.xcom("u").push("number", 4)
    with TaskContext("u", "t", open_xcom=lambda context: queue.xcom(context.user_id)):
        assert double() == 8
    with pytest.raises(XComUnavailableError):
        double()
    assert queue.xcom("u").pull("double") == 8
