"""The engine on each topology: one server with an append-only file, a master behind sentinels, a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fairque import (
    FairQueueConfig,
    LeaseLostError,
    Task,
    TaskQueue,
    TaskScheduler,
    TaskState,
    UserPolicy,
    Worker,
    parallel,
)
from tests.support import worker_tasks as tasks
from tests.support.cluster import Cluster
from tests.support.faces import FACES, Background, open_face
from tests.support.waiting import until

MakeConfig = Callable[..., FairQueueConfig]


@pytest.fixture(params=FACES)
def queue(request: pytest.FixtureRequest, make_config: MakeConfig) -> Iterator[TaskQueue]:
    queue = open_face(str(request.param), make_config())
    yield queue
    queue.close()


def make(user: str, task: str, **options: Any) -> Task[Any]:
    return Task.create(user_id=user, task_id=task, payload={"n": 1}, **options)


def test_a_task_is_pushed_once_claimed_once_and_finished(queue: TaskQueue) -> None:
    handle = queue.push(make("u", "t"))
    assert handle.created
    assert not queue.push(make("u", "t")).created
    task = queue.pop("w")
    assert task is not None
    assert task.payload == {"n": 1}
    assert queue.pop("w") is None
    queue.heartbeat(task)
    queue.finish(task, {"done": True})
    assert handle.result(timeout=5) == {"done": True}


def test_a_failed_attempt_is_retried_and_an_old_one_is_refused(queue: TaskQueue) -> None:
    queue.push(make("u", "t", max_retries=0))
    first = queue.pop("w")
    assert first is not None
    queue.release(first)
    second = queue.pop("w")
    assert second is not None
    with pytest.raises(LeaseLostError):
        queue.finish(first)
    assert queue.fail(second, "no") is TaskState.FAILED
    assert [task.task_id for task in queue.failed_tasks()] == ["t"]
    queue.requeue("u", "t")
    third = queue.pop("w")
    assert third is not None
    queue.finish(third)


def test_a_large_batch_arrives_as_a_whole_and_in_fair_order(queue: TaskQueue) -> None:
    handles = queue.push_batch([make(f"u{n % 3}", str(n)) for n in range(1000)])
    assert sum(handle.created for handle in handles) == 1000
    users = [task.user_id for task in queue.pop_batch("w", 30)]
    assert [users.count(user) for user in ("u0", "u1", "u2")] == [10, 10, 10]


def test_a_waiter_is_woken_by_the_end_of_its_task(queue: TaskQueue) -> None:
    queue.push(make("u", "t"))
    task = queue.pop("w")
    assert task is not None
    waiter = Background(lambda: (queue.handle("u", "t").result(20), time.monotonic()))
    time.sleep(0.3)  # until it listens; if it does not yet, it looks and needs no waking
    finished = time.monotonic()
    queue.finish(task, "woken")
    result, heard = waiter.value()
    assert result == "woken"
    assert heard - finished < 1


def test_a_blocked_pop_is_woken_by_a_push(queue: TaskQueue) -> None:
    popper = Background(lambda: (queue.pop("w", block=10), time.monotonic()))
    time.sleep(0.3)
    pushed = time.monotonic()
    queue.push(make("u", "t"))
    task, heard = popper.value()
    assert task.task_id == "t"
    assert heard - pushed < 1


def test_what_a_task_depends_on_ends_before_it_starts(queue: TaskQueue) -> None:
    queue.push_batch([make("u", "last", depends_on=["a", "b"]), make("u", "a"), make("u", "b")])
    first = queue.pop_batch("w", 10)
    assert {task.task_id for task in first} == {"a", "b"}
    queue.finish_batch(first)
    assert [task.task_id for task in queue.pop_batch("w", 10)] == ["last"]


def test_policies_and_shared_data_are_where_the_tasks_are(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(max_concurrency=1))
    queue.push_batch([make("u", "a"), make("u", "b")])
    assert len(queue.pop_batch("w", 10)) == 1
    assert queue.get_policy("u").max_concurrency == 1
    xcom = queue.xcom("u")
    xcom.push("key", [1, 2])
    assert xcom.pull("key") == [1, 2]
    assert queue.stats().totals["pushed"] == 2
    assert queue.user_stats("u").started == 1  # type: ignore[union-attr]
    assert queue.explain("u", "b").reason


def test_workers_run_what_is_pushed_while_they_wait(make_config: MakeConfig) -> None:
    config = make_config()
    worker = Worker(config, concurrency=4)
    worker.start()
    try:
        with TaskQueue(config) as queue:
            handles = [queue.push(tasks.add(n, 1), user_id=f"u{n % 5}") for n in range(40)]
            assert [handle.result(timeout=10) for handle in handles] == [n + 1 for n in range(40)]
            both = queue.push(parallel(tasks.add(1, 1), tasks.add(2, 2)) >> tasks.add(3, 3), user_id="u")
            until(lambda: queue.stats().totals["finished"] == 43, "the pipeline ends")
            assert both.state() is TaskState.FINISHED
    finally:
        worker.stop()


def test_schedules_of_each_user_fire(make_config: MakeConfig) -> None:
    with TaskQueue(make_config()) as queue, TaskScheduler(queue) as schedules:
        schedules.start()
        for number in range(8):
            schedules.add_schedule(
                task=tasks.add(number, 1), every=0.2, user_id=f"u{number}", schedule_id="s"
            )
        until(lambda: all(one.fired for one in schedules.list_schedules()), "all have fired", every=0.05)
        assert schedules.pause("u1", "s").next_fire_time is None
        assert schedules.trigger_now("u1", "s").created


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
@pytest.mark.parametrize("face", FACES)
def test_shards_on_several_nodes_are_one_queue(face: str, cluster: Cluster, make_config: MakeConfig) -> None:
    config = make_config(shards=4)
    queue = open_face(face, config)
    worker = Worker(config, concurrency=8)
    worker.start()
    try:
        handles = queue.push_batch(
            [tasks.add(n, 1).with_options(user_id=f"u{n}") for n in range(60)], durable=True
        )
        roots = {queue.commands.of(f"u{n}").keys.root for n in range(60)}
        assert len({cluster.shard_node(root) for root in roots}) > 1
        assert [handle.result(timeout=10) for handle in handles] == [n + 1 for n in range(60)]
        until(lambda: queue.stats().totals["finished"] == 60, "all are counted")
    finally:
        worker.stop()
        queue.close()
