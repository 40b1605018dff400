"""A full server (R14): it takes no new work, and everything that brings work to its end goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis

from fairque import (
    FairQueueConfig,
    ServerOutOfMemoryError,
    Task,
    TaskFailedError,
    TaskQueue,
    TaskState,
    UserPolicy,
    Worker,
    task,
)
from tests.support.actions import drain, make, popped, push, sleep_past
from tests.support.faces import FACES, open_face
from tests.support.invariants import check_invariants
from tests.support.servers import OwnServer, own_server
from tests.support.waiting import until

ROOT = "fq:{default:0}"
USED_BY_AN_EMPTY_SERVER = "1mb"  # and more


@task(name="tests.oom.share", auto_xcom=True, max_retries=0)
def share(number: int) -> str:
    return str(number) * 100


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with own_server("--maxmemory-policy", "noeviction") as server:
        yield server


@pytest.fixture(params=FACES)
def queue(request: pytest.FixtureRequest, server: OwnServer) -> Iterator[TaskQueue]:
    queue = open_face(request.param, server.config())
    yield queue
    queue.close()


@pytest.fixture
def raw(server: OwnServer) -> Iterator[Redis]:
    with server.client() as raw:
        yield raw
        raw.config_set("maxmemory", "0")
        check_invariants(raw, ROOT)
        raw.flushall()


@contextmanager
def full(raw: Redis) -> Iterator[None]:
    raw.config_set("maxmemory", USED_BY_AN_EMPTY_SERVER)
    yield
    raw.config_set("maxmemory", "0")


def state(queue: TaskQueue, name: str) -> TaskState:
    return queue.handle("u", name).state()


def test_what_adds_work_or_data_is_refused_and_nothing_is_written(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "dead", max_retries=0)
    queue.fail(popped(queue), "no luck")
    push(queue, "u", "a", "b")
    before = sorted(raw.keys("*"))
    with full(raw):
        for refused in (
            lambda: queue.push(make("u", "new")),
            lambda: queue.push_batch([make("u", "x"), make("u", "y")]),
            lambda: queue.push(make("u", "late", depends_on=["a"])),
            lambda: queue.add_dependency("u", "b", "a"),
            lambda: queue.requeue("u", "dead"),
            lambda: queue.xcom("u").push("key", 1),
        ):
            with pytest.raises(ServerOutOfMemoryError, match="let workers drain the queue, or give it more"):
                refused()
        assert sorted(raw.keys("*")) == before
    assert queue.push(make("u", "new")).created  # as soon as there is room


def test_finish_stores_the_result_and_releases_the_dependents(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "first")
    queue.push(make("u", "second", depends_on=["first"]))
    with full(raw):
        queue.finish(popped(queue), "r" * 10_000)
        assert queue.handle("u", "first").result(timeout=5) == "r" * 10_000
        queue.finish(popped(queue))
        assert state(queue, "second") is TaskState.FINISHED


def test_fail_retries_or_gives_up(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "retried", max_retries=1)
    push(queue, "u", "dead", max_retries=0)
    with full(raw):
        assert queue.fail(popped(queue), "no luck") is TaskState.SCHEDULED
        assert queue.fail(popped(queue), "no luck") is TaskState.FAILED
        with pytest.raises(TaskFailedError, match="no luck"):
            queue.handle("u", "dead").result(timeout=5)


def test_a_task_of_an_unknown_function_is_put_off(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "t")
    with full(raw):
        assert queue.fail(popped(queue), "who?", failure_type="unknown") is TaskState.SCHEDULED


def test_claim_heartbeat_and_release(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "t")
    queue.push(make("u", "due", delay=0.001))
    with full(raw):
        running = popped(queue, lease=60)
        queue.heartbeat([running], lease=600)
        queue.release([running])
        assert state(queue, "t") is TaskState.QUEUED
        assert {task.task_id for task in drain(queue)} | {"due"} == {"t", "due"}
        until(lambda: drain(queue) or state(queue, "due") is TaskState.FINISHED, "what is due is promoted")


def test_reclaim_and_what_it_poisons(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "t")
    with full(raw):
        for crashes in range(1, 4):
            task = popped(queue, lease=0.001)
            sleep_past(raw, task.run.lease_expires_at or 0)
            assert queue.reclaim() == [("u", "t")]
            assert state(queue, "t") is (TaskState.FAILED if crashes == 3 else TaskState.QUEUED)


def test_cancel_with_all_that_is_downstream(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "first")
    queue.push(make("u", "second", depends_on=["first"]))
    with full(raw):
        assert queue.cancel("u", "first", cascade=True)
        assert state(queue, "second") is TaskState.CANCELED


def test_cleanup_gives_memory_back(server: OwnServer, raw: Redis) -> None:
    config = server.config(retention={"finished": 0.001}, push_retry_window=0)
    with TaskQueue(config) as queue:
        push(queue, "u", "t")
        with full(raw):
            queue.finish(popped(queue), "result")
            until(lambda: queue.cleanup_expired_tasks() == 1, "its retention is over")
            assert queue.get("u", "t") is None


def test_what_an_operator_says_and_asks(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "t")
    queue.xcom("u").push("key", 1)
    with full(raw):
        queue.pause()
        queue.resume()
        queue.pause_user("u")
        queue.resume_user("u")
        queue.set_policy("u", UserPolicy(weight=2.0))
        assert queue.get_policy("u").weight == 2.0
        queue.clear_policy("u")
        assert (queue.stats().queued, [user.user_id for user in queue.users()]) == (1, ["u"])
        assert queue.explain("u", "t").state == "QUEUED"
        assert queue.health().version
        assert queue.get("u", "t") is not None
        assert queue.failed_tasks() == []
        assert queue.xcom("u").pull("key") == 1
        assert queue.xcom("u").delete("key")
        assert queue.xcom("u").clear() == 0


def test_a_worker_starts_publishes_its_policies_and_drains_the_backlog(server: OwnServer, raw: Redis) -> None:
    users = {"default": UserPolicy(max_concurrency=8), "u1": UserPolicy(weight=2.0)}
    config = FairQueueConfig(redis=server.config().redis, users=users)
    with TaskQueue(server.config()) as queue:
        queue.push_batch([share(number).with_options(user_id=f"u{number % 3}") for number in range(300)])
        raw.script_flush()  # it has to load its scripts, too
        with full(raw):
            with Worker(config, concurrency=10):
                until(lambda: _live(queue) == 0, "the backlog is drained", within=30)
            with pytest.raises(ServerOutOfMemoryError):
                queue.push(make("u", "new"))
        stats = queue.stats()
        assert (stats.finished, stats.failed, stats.totals.get("retried", 0)) == (300, 0, 0)
        assert queue.get_policy("u1") == UserPolicy(weight=2.0, max_concurrency=8)
        assert queue.push(make("u", "new")).created


def _live(queue: TaskQueue) -> int:
    stats = queue.stats()
    return stats.queued + stats.started + stats.scheduled + stats.deferred


def test_a_running_attempt_may_share_data_and_nobody_else(server: OwnServer, raw: Redis) -> None:
    with TaskQueue(server.config()) as queue:
        push(queue, "u", "t")
        running: Task[Any] = popped(queue)
        with full(raw):
            queue.run(queue.commands.shards[0].xcom("u", attempt=running).push("key", "value"))
            assert queue.xcom("u").pull("key") == "value"
            with pytest.raises(ServerOutOfMemoryError):
                queue.xcom("u").push("key", "another")
        queue.finish(running)
