from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from fairque import (
    AsyncTaskHandler,
    AsyncTaskQueue,
    AsyncWorker,
    FairQueueConfig,
    Task,
    TaskCanceledError,
    TaskFailedError,
    TaskHandler,
    TaskQueue,
    TaskState,
    TaskValidationError,
    Worker,
)
from fairque.core.calls import Call, Wait, single
from fairque.core.header import Header
from fairque.queue.replies import Claim
from tests.integration.conftest import StartWorker
from tests.support import worker_tasks as tasks
from tests.support.waiting import until


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


# --- running ------------------------------------------------------------------------------------------


def test_plain_and_async_functions_run_and_return_their_results(queue: TaskQueue, start: StartWorker) -> None:
    start()
    plain = queue.push(tasks.add(1, 2), user_id="acme")
    on_loop = queue.push(tasks.async_add(3, 4), user_id="globex")
    assert (plain.result(timeout=5), on_loop.result(timeout=5)) == (3, 7)


async def test_the_asyncio_worker_serves_an_asyncio_queue_on_one_loop(config: FairQueueConfig) -> None:
    async with AsyncTaskQueue(config) as queue:
        worker = AsyncWorker(queue, concurrency=4)
        running = asyncio.create_task(worker.run())
        handles = await queue.push_batch([tasks.async_add(i, i) for i in range(50)], user_id="acme")
        assert [await handle.result(timeout=5) for handle in handles] == [2 * i for i in range(50)]
        worker.stop()
        await running


def test_a_task_knows_its_user_its_id_its_attempt_and_its_worker(
    queue: TaskQueue, start: StartWorker
) -> None:
    worker = start(worker_id="w 1")
    handle = queue.push(tasks.whoami(), user_id="a:b", task_id="c:d")
    assert handle.result(timeout=5) == ["a:b", "c:d", "1", "w 1"]
    assert worker.worker_id == "w 1"


def test_a_failing_task_is_retried_until_it_succeeds(queue: TaskQueue, start: StartWorker) -> None:
    start()
    handle = queue.push(tasks.succeed_on(3), user_id="acme")
    assert handle.result(timeout=10) == 3
    info = handle.info()
    assert (info.failures, info.crashes, info.attempt) == (2, 0, 3)
    assert [(entry.attempt, entry.type) for entry in info.history] == [(1, "failed"), (2, "failed")]
    assert info.history[0].error == "ValueError: attempt 1 is too early"
    assert "is too early" in info.history[0].traceback


def test_a_task_may_ask_for_a_retry_after_a_delay_of_its_choice(queue: TaskQueue, start: StartWorker) -> None:
    start()
    handle = queue.push(tasks.ask_for_retry(), user_id="acme")
    assert handle.result(timeout=5) == 2
    assert handle.info().history[0].error == "Retry: not yet"


def test_a_task_whose_retries_are_used_up_fails_for_good(queue: TaskQueue, start: StartWorker) -> None:
    start()
    handle = queue.push(tasks.succeed_on(9), user_id="acme", max_retries=1)
    with pytest.raises(TaskFailedError, match="attempt 2 is too early") as caught:
        handle.result(timeout=5)
    assert caught.value.failure_type == "failed"
    assert [task.task_id for task in queue.failed_tasks("acme")] == [handle.task_id]


def test_no_more_tasks_run_at_once_than_there_are_slots_and_none_is_claimed_ahead(
    queue: TaskQueue, start: StartWorker
) -> None:
    handles = queue.push_batch([tasks.sleep(0.05) for _ in range(12)], user_id="acme")
    start(concurrency=3)
    most = 0
    while any(handle.state() is not TaskState.FINISHED for handle in handles):
        most = max(most, queue.stats().started)
    assert most == 3


def test_finishes_are_acknowledged_in_batches(queue: TaskQueue, start: StartWorker, raw: Redis) -> None:
    queue.push_batch([tasks.async_add(i, 1) for i in range(2_000)], user_id="acme")
    raw.config_resetstat()
    start(concurrency=100)
    until(lambda: queue.stats().totals.get("finished") == 2_000, "all finished", within=20)
    scripts = raw.info("commandstats")["cmdstat_evalsha"]["calls"]
    # 20 claims and 20 finishes at the least; one of each a task would be 4,000 (and some are our own looks).
    assert scripts < 1_000


# --- ends of all kinds --------------------------------------------------------------------------------


def test_an_async_task_past_its_timeout_is_canceled_and_fails_as_timeout(
    queue: TaskQueue, start: StartWorker
) -> None:
    start()
    handle = queue.push(tasks.async_sleep(30), user_id="acme", timeout=0.05)
    with pytest.raises(TaskFailedError, match=r"ran longer than its timeout of 0\.05 s") as caught:
        handle.result(timeout=5)
    assert caught.value.failure_type == "timeout"


def test_a_thread_past_its_timeout_fails_as_timeout_and_its_late_result_is_dropped(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    start(concurrency=1)
    journal = tmp_path / "journal"
    handle = queue.push(tasks.outlive_timeout(str(journal)), user_id="acme")
    with pytest.raises(TaskFailedError, match="timeout"):
        handle.result(timeout=5)
    # Its slot is free again though the thread still runs.
    assert queue.push(tasks.add(1, 1), user_id="acme").result(timeout=5) == 2
    until(lambda: tasks.lines(journal) == ["outlived"], "the thread ended")
    assert handle.state() is TaskState.FAILED


@pytest.mark.parametrize("function", [tasks.raise_system_exit, tasks.async_raise_system_exit])
def test_a_task_that_raises_system_exit_fails_and_the_worker_goes_on(
    queue: TaskQueue, start: StartWorker, function: Any
) -> None:
    start()
    with pytest.raises(TaskFailedError, match="SystemExit"):
        queue.push(function(), user_id="acme").result(timeout=5)
    assert queue.push(tasks.add(1, 1), user_id="acme").result(timeout=5) == 2


def test_what_another_attempt_cannot_mend_is_invalid_and_not_retried(
    queue: TaskQueue, start: StartWorker, make_config: Callable[..., FairQueueConfig]
) -> None:
    start(make_config(unknown_task_grace=0))
    add, nowhere = tasks.add(1, 2).header, Header(function="nowhere:nothing")
    bad: list[Task[Any]] = [
        Task(task_id="bad-type", header=add, arguments=(("one", 2), {})),
        Task(task_id="missing", header=add, arguments=((1,), {})),
        Task(task_id="garbled", header=add, body=b"\xff{"),
        Task(task_id="unknown", header=nowhere, arguments=((), {})),
        Task.create(task_id="unhandled", payload={"a": 1}),
        tasks.return_unencodable().with_options(task_id="unencodable"),
    ]
    queue.push_batch(bad, user_id="acme")
    expected = {
        "bad-type": "argument 'a' of tests.add does not fit",
        "missing": "the arguments do not fit tests.add",
        "garbled": "cannot be decoded",
        "unknown": "no function named 'nowhere:nothing' is registered here",
        "unhandled": "give the worker a handler",
        "unencodable": "cannot be carried as json",
    }
    for task_id, message in expected.items():
        with pytest.raises(TaskFailedError, match=message) as caught:
            queue.handle("acme", task_id).result(timeout=5)
        assert caught.value.failure_type == "invalid"


@pytest.mark.parametrize("function", [tasks.wait_until_canceled, tasks.async_wait_until_canceled])
def test_a_running_task_learns_at_the_next_heartbeat_that_it_was_canceled(
    queue: TaskQueue, start: StartWorker, tmp_path: Path, function: Any
) -> None:
    start(lease=0.6)
    journal = tmp_path / "journal"
    handle = queue.push(function(str(journal)), user_id="acme")
    until(lambda: tasks.lines(journal) == ["started 1"], "it started")
    assert handle.cancel()
    took = until(lambda: tasks.lines(journal)[1:] == ["canceled 1"], "it was told")
    assert took < 1.0  # a heartbeat is 0.2 s
    with pytest.raises(TaskCanceledError):
        handle.result(timeout=5)
    assert queue.push(tasks.add(1, 1), user_id="acme").result(timeout=5) == 2


# --- leases -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [tasks.block_the_loop, tasks.sleep])
def test_a_blocked_loop_or_a_busy_thread_does_not_lose_its_lease(
    queue: TaskQueue, start: StartWorker, function: Any
) -> None:
    start(lease=0.3)
    start(lease=0.3)  # would reclaim it
    handle = queue.push(function(1.5), user_id="acme")
    handle.result(timeout=10)
    assert (handle.info().attempt, handle.info().crashes) == (1, 0)


@pytest.mark.slow
def test_the_lease_of_a_hung_task_runs_out_after_its_timeout_and_a_grace(
    queue: TaskQueue, start: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairque.worker.heart.GRACE_SECONDS", 0.5)
    start(lease=0.3)
    handle = queue.push(tasks.block_the_loop(3.0), user_id="acme", timeout=0.2)
    until(lambda: handle.info().attempt == 1, "it started")
    until(lambda: queue.reclaim() == [("acme", handle.task_id)], "its lease ran out", within=2.5)


def test_a_claim_that_was_not_answered_gives_the_same_tasks_when_it_is_repeated(
    queue: TaskQueue, config: FairQueueConfig
) -> None:
    handles = queue.push_batch([tasks.add(n, 0) for n in range(4)], user_id="acme")

    def claim(claim_id: int, claimant: str = "c") -> list[tuple[str, int]]:
        claimed = queue.run(
            single(queue.commands.shards[0].claim("w", 2, claimant=claimant, claim_id=claim_id))
        )
        return [(task.task_id, task.attempt) for task in claimed.tasks]

    first = claim(1)
    assert first == [(handle.task_id, 1) for handle in handles[:2]]
    assert claim(1) == first
    assert queue.stats().started == 2
    # What the worker no longer holds is not given again; what is new is claimed under a new id.
    queue.cancel("acme", handles[0].task_id)
    assert claim(1) == first[1:]
    assert claim(2) == [(handle.task_id, 1) for handle in handles[2:]]
    assert claim(2, claimant="another") == []
    # One that was given up on and repeated may still arrive, when the worker has gone on to the next.
    late = queue.push(tasks.add(4, 0), user_id="acme")
    assert claim(1) == []
    assert claim(3) == [(late.task_id, 1)]
    assert all(handle.info().crashes == 0 for handle in handles)


# --- waking -------------------------------------------------------------------------------------------


def test_an_idle_worker_starts_a_pushed_task_within_milliseconds(
    queue: TaskQueue, start: StartWorker
) -> None:
    start()
    queue.push(tasks.async_add(0, 0), user_id="acme").result(timeout=5)
    waits = []
    for number in range(30):
        time.sleep(0.01)  # let it fall asleep
        handle = queue.push(tasks.async_add(number, 0), user_id="acme")
        handle.result(timeout=5)
        info = handle.info()
        assert info.started_at is not None
        assert info.queued_at is not None
        waits.append((info.started_at - info.queued_at).total_seconds())
    assert sorted(waits)[15] < 0.02  # about 1 ms; a poll would show as its interval


async def test_a_claim_that_waits_for_its_wake_up_runs_as_soon_as_it_comes(
    queue: TaskQueue, config: FairQueueConfig
) -> None:
    async with AsyncTaskQueue(config) as waiting:
        commands = waiting.commands.shards[0]
        wait = Wait(1.0, keys=(commands.keys.wake,))

        def claim(claim_id: int) -> Call[Claim]:
            return commands.claim("w", 1, claimant="c", claim_id=claim_id)

        assert not (await waiting.manager.execute(claim(0))).tasks  # the server knows the script now
        sleeping = asyncio.create_task(waiting.manager.execute_woken(wait, claim(1)))
        await asyncio.sleep(0.1)
        handle = await asyncio.to_thread(queue.push, tasks.add(1, 2), user_id="acme")
        woken, given = await sleeping
        assert woken is True
        assert [task.task_id for task in given.tasks] == [handle.task_id]
        in_vain, nothing = await waiting.manager.execute_woken(wait, claim(2))
        assert in_vain is False
        assert nothing.tasks == ()


def test_a_task_that_is_pushed_as_an_idle_worker_stops_is_run_or_handed_back(
    queue: TaskQueue, start: StartWorker
) -> None:
    for number in range(20):
        worker = start(concurrency=2)
        until(lambda: queue.stats().workers == 1, "it is there")
        time.sleep(0.05)  # it is asleep
        stopping = threading.Thread(target=worker.stop)
        stopping.start()
        time.sleep(number * 0.0002)
        handle = queue.push(tasks.async_add(number, 1), user_id="acme")
        stopping.join()
        assert handle.state() in {TaskState.QUEUED, TaskState.FINISHED}
        assert handle.info().crashes == 0


def test_one_wake_up_brings_as_many_workers_as_there_is_work(queue: TaskQueue, start: StartWorker) -> None:
    for _ in range(5):
        start(concurrency=1)
    until(lambda: queue.stats().workers == 5, "all are there")
    began = time.monotonic()
    handles = queue.push_batch([tasks.sleep(0.5) for _ in range(5)], user_id="acme")
    assert [handle.result(timeout=5) for handle in handles] == ["slept"] * 5
    assert time.monotonic() - began < 1.0  # one after the other would be 2.5 s


def test_a_delayed_task_starts_when_it_is_due_on_an_idle_worker(queue: TaskQueue, start: StartWorker) -> None:
    start()
    time.sleep(0.05)
    handle = queue.push(tasks.async_add(1, 1), user_id="acme", delay=0.3)
    handle.result(timeout=5)
    info = handle.info()
    assert info.started_at is not None
    assert info.queued_at is not None
    assert 0 <= (info.started_at - info.queued_at).total_seconds() < 0.1


# --- whose tasks --------------------------------------------------------------------------------------


def test_assigned_users_come_first_and_others_are_stolen_from_only_when_they_have_nothing(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    for number in range(3):
        queue.push(tasks.journaled(str(journal), 10 + number, 0.0), user_id="other")
    for number in range(3):
        queue.push(tasks.journaled(str(journal), number, 0.0), user_id="mine")
    start(concurrency=1, assigned_users=["mine"], steal_targets="*")
    until(lambda: queue.stats().totals.get("finished") == 6, "all are done")
    order = [int(line.split()[1]) for line in tasks.lines(journal) if line.startswith("done")]
    assert order == [0, 1, 2, 10, 11, 12]
    assert queue.stats().totals["stolen"] == 3


def test_nothing_is_stolen_while_assigned_users_have_a_task_behind_many_expired_ones(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    queue.push(tasks.journaled(str(journal), 10, 0.0), user_id="other")
    queue.push_batch(
        [tasks.add(n, 0).with_options(expires_at=time.time() - 1) for n in range(120)], user_id="mine"
    )
    queue.push(tasks.journaled(str(journal), 0, 0.0), user_id="mine")
    start(concurrency=1, assigned_users=["mine"], steal_targets="*")
    until(lambda: queue.stats().totals.get("finished") == 2, "both are done")
    order = [int(line.split()[1]) for line in tasks.lines(journal) if line.startswith("done")]
    assert order == [0, 10]


def test_a_worker_with_assigned_users_alone_leaves_the_others_to_the_others(
    queue: TaskQueue, start: StartWorker
) -> None:
    start(assigned_users=["mine"])
    other = queue.push(tasks.add(1, 1), user_id="other")
    for _ in range(5):
        assert queue.push(tasks.add(1, 1), user_id="mine").result(timeout=5) == 2
    assert other.state() is TaskState.QUEUED
    start(assigned_users=["other"])
    assert other.result(timeout=5) == 2


# --- handlers -----------------------------------------------------------------------------------------


class PlainHandler(TaskHandler):
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def process_task(self, task: Task[Any]) -> Any:
        match task.payload["do"]:
            case "sleep":
                time.sleep(0.3)
            case "fail":
                raise ValueError("no")
        return {"thread": threading.current_thread().name, "payload": task.payload}

    def on_task_success(self, task: Task[Any], duration: float) -> None:
        self.told.append(("success", task.task_id, duration >= 0))
        raise RuntimeError("a hook that raises changes nothing")

    def on_task_failure(self, task: Task[Any], error: BaseException, duration: float) -> None:
        self.told.append(("failure", task.task_id, str(error)))

    def on_task_timeout(self, task: Task[Any], duration: float) -> None:
        self.told.append(("timeout", task.task_id, duration > 0.09))  # uvloop counts from its step on


class LoopHandler(AsyncTaskHandler):
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    async def process_task(self, task: Task[Any]) -> Any:
        match task.payload["do"]:
            case "sleep":
                await asyncio.sleep(0.3)
            case "fail":
                raise ValueError("no")
        return {"thread": threading.current_thread().name, "payload": task.payload}

    async def on_task_success(self, task: Task[Any], duration: float) -> None:
        self.told.append(("success", task.task_id, duration >= 0))
        raise RuntimeError("a hook that raises changes nothing")

    async def on_task_failure(self, task: Task[Any], error: BaseException, duration: float) -> None:
        self.told.append(("failure", task.task_id, str(error)))

    async def on_task_timeout(self, task: Task[Any], duration: float) -> None:
        self.told.append(("timeout", task.task_id, duration > 0.09))  # uvloop counts from its step on


@pytest.mark.parametrize(
    ("handler", "thread"), [(PlainHandler(), "fairque-task"), (LoopHandler(), "fairque-worker")]
)
def test_a_handler_runs_tasks_without_a_function_and_is_told_how_they_ended(
    queue: TaskQueue, start: StartWorker, handler: Any, thread: str
) -> None:
    start(handler=handler)
    good = queue.push(Task.create(task_id="good", payload={"do": "it", "n": [1, "é"]}), user_id="acme")
    bad = queue.push(Task.create(task_id="bad", payload={"do": "fail"}, max_retries=0), user_id="acme")
    late = queue.push(
        Task.create(task_id="late", payload={"do": "sleep"}, max_retries=0, timeout=0.1), user_id="acme"
    )
    assert good.result(timeout=5) == {"thread": thread, "payload": {"do": "it", "n": [1, "é"]}}
    with pytest.raises(TaskFailedError, match="ValueError: no"):
        bad.result(timeout=5)
    with pytest.raises(TaskFailedError, match="timeout"):
        late.result(timeout=5)
    assert sorted(handler.told) == [
        ("failure", "bad", "no"),
        ("success", "good", True),
        ("timeout", "late", True),
    ]


# --- starting and stopping ----------------------------------------------------------------------------


def test_a_burst_ends_when_nothing_is_left_retries_included(queue: TaskQueue) -> None:
    handles = queue.push_batch([tasks.add(i, 1) for i in range(300)], user_id="acme")
    flaky = queue.push(tasks.succeed_on(3), user_id="globex")
    soon = queue.push(tasks.add(1, 1), user_id="globex", delay=0.2)
    tomorrow = queue.push(tasks.add(1, 1), user_id="globex", delay=86_400)
    Worker(queue, burst=True, concurrency=20).run()
    assert {handle.state() for handle in [*handles, flaky, soon]} == {TaskState.FINISHED}
    assert tomorrow.state() is TaskState.SCHEDULED
    assert queue.stats().workers == 0


def test_a_burst_runs_what_its_first_finish_releases_on_a_server_that_knows_no_scripts(
    queue: TaskQueue, raw: Redis
) -> None:
    first = queue.push(tasks.add(1, 1), user_id="acme")
    then = queue.push(tasks.add(2, 2), user_id="acme", depends_on=[first.task_id])
    raw.script_flush()  # so the finish is sent anew, after the claim that had followed it
    Worker(queue, concurrency=1, burst=True).run()
    assert then.state() is TaskState.FINISHED


def test_a_burst_on_an_empty_queue_ends_at_once(config: FairQueueConfig) -> None:
    began = time.monotonic()
    Worker(config, burst=True).run()
    assert time.monotonic() - began < 1.0


def test_stopping_lets_running_tasks_end(queue: TaskQueue, start: StartWorker) -> None:
    worker = start(concurrency=2)
    handles = queue.push_batch([tasks.sleep(0.3) for _ in range(4)], user_id="acme")
    until(lambda: queue.stats().started == 2, "two started")
    worker.stop()
    assert sorted(handle.state() for handle in handles) == ["FINISHED", "FINISHED", "QUEUED", "QUEUED"]
    assert queue.stats().workers == 0


@pytest.mark.parametrize("function", [tasks.sleep, tasks.async_sleep])
def test_what_is_not_done_within_the_grace_is_handed_back_at_once_and_counts_as_no_crash(
    queue: TaskQueue, start: StartWorker, function: Any
) -> None:
    worker = start(graceful_shutdown_timeout=0.1, lease=30)
    handle = queue.push(function(2.0), user_id="acme")
    until(lambda: handle.state() is TaskState.STARTED, "it started")
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 1.5
    info = handle.info()
    assert (info.state, info.attempt, info.crashes) == (TaskState.QUEUED, 1, 0)
    assert queue.stats().totals["released"] == 1


def test_a_worker_cannot_be_started_twice_and_stopping_twice_is_harmless(
    queue: TaskQueue, start: StartWorker
) -> None:
    worker = start()
    with pytest.raises(RuntimeError, match="works already"):
        worker.start()
    worker.stop()
    worker.stop()


def test_bad_settings_are_refused_before_anything_starts(config: FairQueueConfig) -> None:
    with pytest.raises(Exception, match="concurrency"):
        Worker(config, concurrency=0)
    with pytest.raises(Exception, match="assigned_users and steal_targets both list 'a'"):
        Worker(config, assigned_users=["a"], steal_targets=["a"])
    with pytest.raises(TaskValidationError, match="graceful_shutdown_timeout must not be negative"):
        Worker(config, graceful_shutdown_timeout=-1)
    with pytest.raises(TaskValidationError, match="lease must not be negative"):
        Worker(config, lease=-1)
