"""Everything works under the ACL rule that `fairque acl` prints, and what it leaves out is a clear error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from fairque import (
    AsyncTaskQueue,
    AsyncWorker,
    FairQueueConfig,
    QueueConfig,
    ServerPermissionError,
    Task,
    TaskQueue,
    TaskScheduler,
    TaskState,
    UserPolicy,
    Worker,
    sequential,
    task,
)
from fairque.queue.acl import acl_rule
from tests.support import worker_tasks as tasks
from tests.support.actions import make, popped, push, sleep_past
from tests.support.faces import FACES, open_face, open_scheduler
from tests.support.servers import OwnServer, own_server
from tests.support.waiting import until

PREFIX = "acl"


@task(name="tests.acl.share", auto_xcom=True)
def share(number: int) -> int:
    return number


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with own_server("--appendonly", "no") as server:
        yield server


@pytest.fixture
def raw(server: OwnServer) -> Iterator[Redis]:
    with server.client() as raw:
        raw.flushall()
        raw.acl_log_reset()
        yield raw


def limited(server: OwnServer, raw: Redis, without: str | None = None, **queue: Any) -> FairQueueConfig:
    """A configuration that logs in with the least rights; `without` one of them for a test."""
    made = server.config(prefix=PREFIX)
    rule = acl_rule(made, "least").replace(">PASSWORD", ">secret")
    raw.execute_command(*(word for word in rule.split(" ") if word != without))  # type: ignore[no-untyped-call]
    redis = made.redis.model_copy(update={"username": "least", "password": None})
    redis = type(redis)(**{**redis.model_dump(exclude_unset=True), "password": "secret"})
    users = {"default": UserPolicy(weight=2.0)}
    return FairQueueConfig(redis=redis, queue=QueueConfig(**{"prefix": PREFIX, **queue}), users=users)


@pytest.fixture
def config(server: OwnServer, raw: Redis) -> FairQueueConfig:
    return limited(server, raw)


def denied(raw: Redis) -> list[str]:
    """What the server had to refuse. That a client may not say which library it uses is no loss."""
    entries: list[dict[str, Any]] = raw.acl_log()
    return [entry["object"] for entry in entries if entry["object"] != "client|setinfo"]


@pytest.mark.parametrize("face", FACES)
def test_every_operation_works(face: str, config: FairQueueConfig, raw: Redis) -> None:
    queue = open_face(face, config)
    try:
        _attempts(queue, raw)
        _graphs(queue)
        _operators(queue)
        _schedules(open_scheduler(queue))
    finally:
        queue.close()
    assert denied(raw) == []


def _attempts(queue: TaskQueue, raw: Redis) -> None:
    assert queue.push(make("u", "one", group="g", delay=0.001)).created
    push(queue, "u", *map(str, range(20)), max_retries=0)
    running = queue.pop_batch("w", 5, block=1)
    queue.heartbeat(running)
    queue.finish_batch((task, "result") for task in running[:2])
    assert queue.handle("u", running[0].task_id).result(timeout=5) == "result"
    assert queue.fail(running[2], "no luck") is TaskState.FAILED
    assert queue.fail(running[3], "who?", failure_type="unknown") is TaskState.SCHEDULED
    queue.release(running[4:])
    assert queue.steal("thief", users=["u"]) is not None
    assert queue.requeue("u", running[2].task_id)
    late = popped(queue, lease=0.001)
    sleep_past(raw, late.run.lease_expires_at or 0)
    until(lambda: len(queue.reclaim()) == 1, "its lease has run out")
    assert queue.cancel("u", late.task_id)
    queue.cleanup_expired_tasks()


def _graphs(queue: TaskQueue) -> None:
    queue.push_batch([make("u", "up"), make("u", "down", depends_on=["up"]), make("u", "other")])
    queue.add_dependency("u", "down", "other")
    assert queue.graph("u", "down").nodes
    assert queue.push(sequential(tasks.add(1, 2), tasks.add(3, 4)), user_id="p").state()
    assert queue.cancel("u", "up", cascade=True)
    xcom = queue.xcom("u")
    xcom.push("key", {"a": 1}, ttl=60)
    assert (xcom.pull("key"), xcom.pull_all()) == ({"a": 1}, {"key": {"a": 1}})
    assert xcom.delete("key")
    assert xcom.clear() == 0


def _operators(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(rate=1000.0, max_concurrency=50, max_queued=1000))
    assert queue.update_policy("u", weight=3.0).weight == 3.0
    queue.clear_policy("u")
    queue.pause_user("u")
    queue.resume_user("u")
    queue.pause()
    queue.resume()
    assert queue.get("u", "other") is not None
    assert queue.explain("u", "other").state == "QUEUED"
    assert queue.failed_tasks("u") is not None
    assert queue.users()
    assert queue.user_stats("u") is not None
    assert queue.stats().users >= 1
    assert queue.health().version


def _schedules(schedules: TaskScheduler) -> None:
    schedules.add_schedule("0 9 * * *", Task.create(), user_id="u", schedule_id="daily")
    assert schedules.update_schedule("u", "daily", jitter=5).jitter
    assert schedules.pause("u", "daily").next_fire_time is None
    assert schedules.resume("u", "daily").next_fire_time is not None
    assert schedules.trigger_now("u", "daily").created
    assert [one.schedule_id for one in schedules.list_schedules(user_id="u")] == ["daily"]
    assert schedules.remove_schedule("u", "daily")


def test_a_scheduler_fires_and_is_woken(config: FairQueueConfig, raw: Redis) -> None:
    with TaskQueue(config) as queue, TaskScheduler(queue) as schedules:
        schedules.start()
        schedules.add_schedule(task=share(1), every=0.1, user_id="acme")
        until(lambda: queue.stats().queued, "a task")
    assert denied(raw) == []


def test_a_worker_works_and_waiters_are_woken(config: FairQueueConfig, raw: Redis) -> None:
    timed = config.model_copy(update={"queue": config.queue.model_copy(update={"cost": "time"})})
    with TaskQueue(config) as queue, Worker(timed, concurrency=4, lease=1):
        handles = queue.push_batch([share(number) for number in range(20)], user_id="acme")
        assert [handle.result(timeout=10) for handle in handles] == list(range(20))
        assert queue.push(tasks.succeed_on(2), user_id="acme").result(timeout=10) == 2
        whole = queue.push(sequential(tasks.add(1, 2), tasks.add(3, 4)), user_id="acme")
        assert whole.result(timeout=10) == 7
        assert queue.stats().workers == 1
    assert denied(raw) == []


async def test_the_asyncio_worker_too(config: FairQueueConfig, raw: Redis) -> None:
    async with AsyncTaskQueue(config) as queue:
        worker = AsyncWorker(queue, concurrency=2)
        running = asyncio.create_task(worker.run())
        handle = await queue.push(tasks.async_add(1, 2), user_id="acme")
        assert await handle.result(timeout=10) == 3
        worker.stop()
        await running
    assert denied(raw) == []


@pytest.mark.parametrize("face", FACES)
def test_another_queues_keys_are_refused_with_an_error_that_says_what_to_do(
    face: str, config: FairQueueConfig
) -> None:
    for other in (QueueConfig(prefix="other"), QueueConfig(prefix=PREFIX, name="other")):
        queue = open_face(face, FairQueueConfig(redis=config.redis, queue=other))
        try:
            with pytest.raises(ServerPermissionError, match="`fairque acl` prints"):
                queue.push(make("u", "t"))
        finally:
            queue.close()


@pytest.mark.parametrize("face", FACES)
def test_a_command_that_the_rule_lacks_is_named_where_the_server_names_it(
    face: str, server: OwnServer, raw: Redis
) -> None:
    queue = open_face(face, limited(server, raw, without="+hincrby"))
    try:
        with pytest.raises(
            ServerPermissionError, match=r"(?s)in script: .*hincrby|script can't run"
        ) as caught:
            queue.push(make("u", "t"))
        assert "the rule that `fairque acl` prints" in str(caught.value)
    finally:
        queue.close()
        raw.flushall()  # no rollback: the script stopped half way


@pytest.mark.parametrize("face", FACES)
def test_a_wrong_password_is_an_error_of_its_own(face: str, config: FairQueueConfig) -> None:
    redis = type(config.redis)(**{**config.redis.model_dump(exclude_unset=True), "password": "wrong"})
    queue = open_face(face, FairQueueConfig(redis=redis, queue=config.queue))
    try:
        with pytest.raises(ServerPermissionError, match=r"check redis\.username and redis\.password"):
            queue.stats()
    finally:
        queue.close()


def test_without_the_right_to_ask_the_server_how_it_is_set_up_it_is_used(
    server: OwnServer, raw: Redis
) -> None:
    with TaskQueue(limited(server, raw, without="+info")) as queue:
        assert queue.push(make("u", "t")).created
