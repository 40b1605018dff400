"""A rolling deploy: tasks that some workers do not know wait for those that do."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from fairque import (
    FairQueueConfig,
    LeaseLostError,
    Task,
    TaskFailedError,
    TaskHandler,
    TaskQueue,
    TaskState,
    Worker,
)
from fairque.core.header import Header
from tests.integration.conftest import OpenQueue, StartWorker
from tests.support import worker_tasks as tasks
from tests.support.actions import make, popped, server_ms
from tests.support.prepared import ROOT
from tests.support.waiting import until

# A worker of the next release: it knows a function that this process does not.
NEXT_RELEASE = """
import sys
from fairque import FairQueueConfig, QueueConfig, RedisConfig, Worker, task

@task(name="next.release")
def new(number):
    return number + 1

socket, prefix = sys.argv[1:]
Worker(FairQueueConfig(redis=RedisConfig(unix_socket_path=socket), queue=QueueConfig(prefix=prefix))).run()
"""


def new(name: str, number: int = 1) -> Task[Any]:
    return Task(task_id=name, header=Header(function="next.release"), arguments=((number,), {}))


@pytest.fixture
def deploy(config: FairQueueConfig) -> Iterator[Callable[[], None]]:
    """Starts a worker of the next release."""
    started: list[subprocess.Popen[bytes]] = []

    def deploy_one() -> None:
        where = [str(config.redis.unix_socket_path), config.queue.prefix]
        started.append(subprocess.Popen([sys.executable, "-c", NEXT_RELEASE, *where], cwd=ROOT))

    yield deploy_one
    for process in started:
        process.terminate()
    for process in started:
        assert process.wait(20) == 0


class Doubler(TaskHandler):
    def process_task(self, task: Task[Any]) -> dict[str, int]:
        return {name: 2 * number for name, number in task.payload.items()}


def put_off(queue: TaskQueue) -> Task[Any]:
    """Pop the next task and hand it back, as a worker that does not know its function."""
    task = popped(queue)
    assert queue.fail(task, "who is that?", failure_type="unknown") is TaskState.SCHEDULED
    return task


def come(raw: Redis, root: str, member: str, ago: int = 0) -> None:
    """Let a scheduled task be due now, and let it have waited for so many milliseconds."""
    raw.zadd(f"{root}:scheduled", {member: (server_ms(raw) - 1) * 1000})
    raw.hset(f"{root}:run:{member}", "unknown_since", int(server_ms(raw)) - ago)


def delay_of(task: Task[Any] | None, raw: Redis) -> float:
    assert task is not None
    assert task.run.due_at is not None
    return (task.run.due_at - server_ms(raw)) / 1000


# --- workers ------------------------------------------------------------------------------------------


def test_tasks_that_one_worker_does_not_know_are_run_by_one_that_does(
    config: FairQueueConfig,
    raw: Redis,
    root: str,
    deploy: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="fairque")
    with TaskQueue(config) as queue:
        with Worker(config, concurrency=4):
            handles = queue.push_batch([new(str(number), number) for number in range(30)], user_id="acme")
            until(lambda: queue.stats().totals.get("unknown", 0) >= 30, "the old worker has met all of them")
            known = queue.push(tasks.add(1, 2), user_id="acme")
            assert known.result(timeout=5) == 3
            deploy()
            until(
                lambda: queue.stats().finished > 1,
                "both work, and the new one has met one of them",
                within=30,
            )
        for member, _ in raw.zscan_iter(f"{root}:scheduled"):
            raw.zadd(f"{root}:scheduled", {member: 0}, xx=True)  # no test has the time to wait for them
        assert [handle.result(timeout=20) for handle in handles] == list(range(1, 31))
        totals = queue.stats().totals
        assert totals["finished"] == 31
        assert {"failed", "retried", "reclaimed"}.isdisjoint(totals)
        for number in range(30):
            task = queue.get("acme", str(number))
            assert task is not None
            assert (task.failures, task.run.crashes, task.run.history) == (0, 0, ())
            assert task.attempt >= 2  # each handing out has its number
    told = [record.getMessage() for record in caplog.records if "next.release" in record.getMessage()]
    assert len(told) == 1  # once, not for each task
    assert "import the module that defines it before the worker starts" in told[0]
    assert "unknown_task_grace" in told[0]


def test_a_worker_without_a_handler_leaves_such_tasks_to_those_that_have_one(
    config: FairQueueConfig, start: StartWorker
) -> None:
    with TaskQueue(config) as queue:
        handle = queue.push(Task.create(user_id="acme", payload={"a": 1}))
        with Worker(config):
            until(lambda: handle.state() is TaskState.SCHEDULED, "it was handed back")
        start(handler=Doubler())
        assert handle.result(timeout=10) == {"a": 2}


def test_what_no_worker_knows_fails_as_invalid_after_the_grace(
    make_config: Callable[..., FairQueueConfig], start: StartWorker
) -> None:
    config = make_config(unknown_task_grace=1.2)
    with TaskQueue(config) as queue:
        start(config)
        handle = queue.push(new("t"), user_id="acme")
        after = queue.push(make("acme", "after", depends_on=["t"], on_upstream_failure="cancel"))
        with pytest.raises(TaskFailedError, match="no function named 'next") as caught:
            handle.result(timeout=10)
        assert caught.value.failure_type == "invalid"
        assert after.state() is TaskState.CANCELED
        task = queue.get("acme", "t")
        assert task is not None
        # Met at once, after a second, and when the grace ended.
        assert (task.attempt, [entry.type for entry in task.run.history]) == (3, ["invalid"])
        assert task.run.finished_at is not None


def test_a_burst_that_knows_nothing_ends_and_leaves_the_tasks_to_others(
    config: FairQueueConfig, raw: Redis, root: str
) -> None:
    with TaskQueue(config) as queue:
        handle = queue.push(new("t"), user_id="acme")
        put_off(queue)
        come(raw, root, "acme:t", ago=60_000)  # long enough for a delay that a burst does not wait for
        Worker(config, burst=True).run()
        assert handle.state() is TaskState.SCHEDULED


# --- the script ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waited", "delay"), [(0, 1), (900, 1), (3_000, 3), (10_000, 10), (100_000, 15), (595_000, 5)]
)
def test_the_delay_grows_with_the_wait_and_ends_with_the_grace(
    queue: TaskQueue, raw: Redis, root: str, waited: int, delay: float
) -> None:
    queue.push(new("t"), user_id="u")
    put_off(queue)
    assert 0.5 < delay_of(queue.get("u", "t"), raw) <= 1
    come(raw, root, "u:t", ago=waited)
    put_off(queue)
    assert delay - 0.5 < delay_of(queue.get("u", "t"), raw) <= delay + 0.2


def test_after_the_grace_it_is_in_the_dead_letter_queue_and_a_requeue_begins_anew(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    queue.push(new("t"), user_id="u")
    put_off(queue)
    come(raw, root, "u:t", ago=600_001)
    task = popped(queue)
    assert queue.fail(task, "who is that?", failure_type="unknown") is TaskState.FAILED
    assert queue.fail(task, "who is that?", failure_type="unknown") is TaskState.FAILED  # said twice
    (dead,) = queue.failed_tasks()
    assert (dead.run.failure_type, dead.run.error, dead.failures) == ("invalid", "who is that?", 0)
    queue.requeue("u", "t")
    put_off(queue)
    assert delay_of(queue.get("u", "t"), raw) <= 1


@pytest.mark.parametrize("between", ["fail", "release"])
def test_an_attempt_of_a_worker_that_knows_it_lets_the_grace_begin_anew(
    queue: TaskQueue, raw: Redis, root: str, between: str
) -> None:
    queue.push(new("t"), user_id="u")
    put_off(queue)
    come(raw, root, "u:t", ago=600_001)
    task = popped(queue)
    if between == "fail":
        queue.fail(task, "no luck")
        come(raw, root, "u:t", ago=600_001)
    else:
        queue.release(task)
    put_off(queue)
    assert delay_of(queue.get("u", "t"), raw) <= 1


def test_without_a_grace_it_fails_at_once(open_queue: OpenQueue) -> None:
    queue = open_queue(unknown_task_grace=0)
    queue.push(new("t"), user_id="u")
    assert queue.fail(popped(queue), "who?", failure_type="unknown") is TaskState.FAILED


def test_what_waits_for_a_worker_can_be_canceled_and_expires(queue: TaskQueue, raw: Redis, root: str) -> None:
    queue.push(new("a"), user_id="u")
    put_off(queue)
    assert queue.cancel("u", "a")
    queue.push(new("b"), user_id="u", expires_at=server_ms(raw) / 1000 + 0.9)
    put_off(queue)
    until(lambda: queue.pop("w") is None and queue.handle("u", "b").state() is TaskState.FAILED, "it expired")
    task = queue.get("u", "b")
    assert task is not None
    assert task.run.failure_type == "expired"


def test_said_twice_it_counts_once_and_a_lost_attempt_is_refused(queue: TaskQueue) -> None:
    queue.push(new("t"), user_id="u")
    task = put_off(queue)
    assert queue.fail(task, "who is that?", failure_type="unknown") is TaskState.SCHEDULED
    assert queue.stats().totals["unknown"] == 1
    queue.push(new("other"), user_id="u")
    lost = popped(queue)
    queue.cancel("u", "other")
    with pytest.raises(LeaseLostError):
        queue.fail(lost, "who is that?", failure_type="unknown")


def test_explain_says_that_it_waits_for_a_worker_that_knows_it(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    queue.push(new("t"), user_id="u")
    put_off(queue)
    found = queue.explain("u", "t")
    assert found.state == "SCHEDULED"
    assert found.reason.startswith("it waits for a worker that knows its function, since ")
    assert found.reason.endswith("it fails after queue.unknown_task_grace: who is that?")
    come(raw, root, "u:t")
    queue.fail(popped(queue), "no luck")
    assert "waits for its next attempt" in queue.explain("u", "t").reason
