"""A queue of several shards behaves as one of one shard does, and its users get the same shares."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from fairque import (
    ConfigurationError,
    FairQueueConfig,
    QueueFullError,
    Task,
    TaskHandler,
    TaskQueue,
    TaskState,
    UserPolicy,
    Worker,
)
from fairque.queue.shards import shard_of
from fairque.simulator.jain import index_of
from tests.integration.conftest import OpenQueue
from tests.support import worker_tasks as tasks
from tests.support.waiting import until

SHARDS = 4


def users_in(shard: int, count: int) -> list[str]:
    """Users of one shard."""
    names = (f"user-{number}" for number in range(10_000))
    found = [name for name in names if shard_of(name, SHARDS) == shard]
    return found[:count]


ONE_OF_EACH = [users_in(shard, 1)[0] for shard in range(SHARDS)]


@pytest.fixture
def queue(open_queue: OpenQueue) -> TaskQueue:
    return open_queue(shards=SHARDS)


@pytest.fixture
def config(make_config: Callable[..., FairQueueConfig]) -> FairQueueConfig:
    return make_config(shards=SHARDS)


@pytest.fixture
def blocking(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


def test_the_shard_of_a_user_is_the_same_in_every_version() -> None:
    assert [shard_of(user, 16) for user in ("acme", "globex", "日本", "a:b", "\ud800")] == [14, 10, 12, 8, 8]
    assert Counter(shard_of(f"user-{n}", 4) for n in range(4_000)).most_common()[0][1] < 1_100


def test_all_of_a_user_is_in_one_shard_and_users_are_in_all_of_them(
    queue: TaskQueue, raw: Redis, prefix: str
) -> None:
    for user in ONE_OF_EACH:
        for n in range(3):
            queue.push(Task.create(task_id=str(n)), user_id=user)
    for shard, user in enumerate(ONE_OF_EACH):
        keys: Any = raw.keys(f"{prefix}:*:task:*")
        of_user = {key.decode().partition("}")[0] for key in keys if f":task:{user}:".encode() in key}
        assert of_user == {f"{prefix}:{{default:{shard}"}
        assert queue.get(user, "2") is not None


def test_a_batch_of_users_of_all_shards_comes_back_in_its_order(queue: TaskQueue) -> None:
    batch = [Task.create(user_id=ONE_OF_EACH[n % SHARDS], task_id=str(n)) for n in range(1_000)]
    first = queue.push_batch(batch[::3])
    assert all(handle.created for handle in first)
    handles = queue.push_batch(batch)
    assert [(handle.user_id, handle.task_id) for handle in handles] == [
        (task.user_id, task.task_id) for task in batch
    ]
    assert [handle.created for handle in handles] == [n % 3 != 0 for n in range(1_000)]
    assert queue.stats().queued == 1_000


def test_a_batch_for_which_one_shard_has_no_room_is_refused_as_a_whole(open_queue: OpenQueue) -> None:
    queue = open_queue(shards=SHARDS, max_queued=40)  # ten for each shard
    crowded = [Task.create(user_id=ONE_OF_EACH[2]) for _ in range(11)]
    others = [Task.create(user_id=user) for user in ONE_OF_EACH for _ in range(2)]
    with pytest.raises(QueueFullError):
        queue.push_batch(others + crowded)
    assert queue.stats().queued == 0
    queue.push_batch(others + crowded[:8])
    assert queue.stats().queued == 16


def test_graphs_of_several_users_in_one_batch_arrive_and_run_in_order(
    queue: TaskQueue, blocking: TaskQueue
) -> None:
    batch = []
    for user in ONE_OF_EACH:
        first = tasks.number(3).with_options(user_id=user)
        second = tasks.double(first.output).with_options(user_id=user)
        batch += [second, first]
    handles = queue.push_batch(batch)
    Worker(blocking, concurrency=4, burst=True).run()
    assert [handle.result(timeout=5) for handle in handles] == [6, 3] * SHARDS


def test_pops_go_round_the_shards_and_find_what_is_left(queue: TaskQueue) -> None:
    for user in ONE_OF_EACH:
        queue.push_batch([Task.create() for _ in range(5)], user_id=user)
    order = [queue.pop("w") for _ in range(20)]
    assert all(task is not None for task in order)
    users = [task.user_id for task in order if task]
    for pops in range(1, 17):
        served = [users[:pops].count(user) for user in ONE_OF_EACH]
        assert max(served) - min(served) <= 2
    assert queue.pop("w") is None
    queue.release([task for task in order if task][:10])
    queue.finish_batch([task for task in order if task][10:])
    assert (queue.stats().finished, queue.stats().queued) == (10, 10)


def test_a_pop_that_waits_is_woken_from_any_shard(queue: TaskQueue) -> None:
    for user in ONE_OF_EACH:
        timer = threading.Timer(0.1, queue.push, args=(Task.create(),), kwargs={"user_id": user})
        began = time.monotonic()
        timer.start()
        popped = queue.pop("w", block=5)
        assert popped is not None
        assert popped.user_id == user
        assert time.monotonic() - began < 1.5  # far less than the two seconds of a look without a wake-up
        queue.finish(popped)
        timer.join()


def test_pops_among_named_users_look_into_their_shards_only(queue: TaskQueue) -> None:
    queue.push_batch([Task.create(user_id=user) for user in ONE_OF_EACH])
    popped = queue.pop_batch("w", 10, users=[ONE_OF_EACH[3]])
    assert [task.user_id for task in popped] == [ONE_OF_EACH[3]]
    assert queue.pop("w", users=[ONE_OF_EACH[3]]) is None


def test_the_whole_queue_is_looked_at_paused_and_kept_in_order(open_queue: OpenQueue) -> None:
    queue = open_queue(
        shards=SHARDS, retention={"finished": 0, "failed": 60, "canceled": 60}, push_retry_window=0
    )
    users = [user for shard in range(SHARDS) for user in users_in(shard, 3)]
    queue.push_batch([Task.create(user_id=user, task_id="t", max_retries=0) for user in users])
    stats = queue.stats()
    assert (stats.queued, stats.users, stats.ready_users) == (12, 12, 12)
    pages = [queue.users(5, offset) for offset in (0, 5, 10, 15)]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    assert sorted(user.user_id for page in pages for user in page) == sorted(users)
    queue.pause()
    assert queue.pop("w") is None
    queue.resume()
    for _ in range(12):
        popped = queue.pop("w", lease=0.01)
        assert popped is not None
        if popped.user_id in users_in(1, 3):
            queue.fail(popped, "broken")
        elif popped.user_id in users_in(2, 3):
            queue.finish(popped)
    until(lambda: len(queue.reclaim(100)) == 0 and queue.stats().started == 0, "leases run out")
    stats = queue.stats()
    assert (stats.queued, stats.failed, stats.finished) == (6, 3, 3)
    latest = [task.user_id for task in queue.failed_tasks(limit=2)]
    assert latest == [task.user_id for task in queue.failed_tasks()][:2]
    assert len(queue.failed_tasks(offset=2)) == 1
    until(lambda: queue.cleanup_expired_tasks(2) == 0, "what has finished is removed")
    assert queue.stats().finished == 0
    assert queue.health().server


def test_policies_of_a_configuration_reach_the_shard_of_each_user(
    make_config: Callable[..., FairQueueConfig],
) -> None:
    policies = {"default": UserPolicy(weight=2.0), ONE_OF_EACH[3]: UserPolicy(weight=5.0)}
    with TaskQueue(make_config(policies, shards=SHARDS)) as queue:
        assert [queue.get_policy(user).weight for user in ONE_OF_EACH] == [2.0, 2.0, 2.0, 5.0]
        queue.pause_user(ONE_OF_EACH[1])
        queue.push_batch([Task.create(user_id=user) for user in ONE_OF_EACH])
        popped = [queue.pop("w") for _ in range(4)]
        assert {task.user_id for task in popped if task} == set(ONE_OF_EACH) - {ONE_OF_EACH[1]}


def test_a_client_with_another_number_of_shards_is_refused(
    queue: TaskQueue, open_queue: OpenQueue, make_config: Callable[..., FairQueueConfig]
) -> None:
    queue.push(Task.create(), user_id=ONE_OF_EACH[3])
    for other in (1, 2, 8):
        stranger = open_queue(shards=other)
        with pytest.raises(
            ConfigurationError, match=f"queue.shards is {other}, and the queue was used with 4"
        ):
            stranger.push(Task.create(), user_id="u")
        with pytest.raises(ConfigurationError, match="let the queue drain"):
            Worker(make_config(shards=other), burst=True).run()
    assert queue.stats().queued == 1


def test_tasks_of_a_single_shard_are_not_left_behind_by_a_client_with_several(open_queue: OpenQueue) -> None:
    single = open_queue(shards=1)
    handle = single.push(Task.create(), user_id="u")
    with pytest.raises(ConfigurationError, match=r"queue\.shards is 4, and the queue was used with 1"):
        open_queue(shards=4).stats()
    task = single.pop("w")
    assert task is not None
    single.finish(task)
    open_queue(shards=4).push(Task.create(), user_id="u")
    assert handle.task_id == task.task_id


# --- workers ------------------------------------------------------------------------------------------


def test_users_of_full_and_empty_shards_get_equal_shares(blocking: TaskQueue) -> None:
    """Jain's index of what users were served, two workers, shards of 12, 4, 2 and 1 users: at least 0.98."""
    users = [user for shard, count in enumerate((12, 4, 2, 1)) for user in users_in(shard, count)]
    blocking.push_batch([tasks.add(n, n) for n in range(60)], user_id=users[0])
    blocking.push_batch([tasks.add(n, n).with_options(user_id=user) for user in users[1:] for n in range(60)])
    workers = [Worker(blocking.config, concurrency=4) for _ in range(2)]
    for worker in workers:
        worker.start()
    until(lambda: blocking.stats().finished >= 500, "the first 500 tasks", within=30)
    for worker in workers:
        worker.stop()
    served = [0 if stats is None else stats.served for stats in map(blocking.user_stats, users)]
    print(f"Jain's index {index_of(served):.4f}, served {served}")
    assert index_of(served) >= 0.98


def test_weights_count_across_shards(blocking: TaskQueue) -> None:
    heavy, light = ONE_OF_EACH[0], ONE_OF_EACH[1]
    blocking.set_policy(heavy, UserPolicy(weight=3.0))
    blocking.push_batch([tasks.add(n, n).with_options(user_id=u) for u in (heavy, light) for n in range(300)])
    worker = Worker(blocking.config, concurrency=4)
    worker.start()
    until(lambda: blocking.stats().finished >= 200, "the first 200 tasks", within=30)
    worker.stop()
    shares = [stats.served for stats in map(blocking.user_stats, (heavy, light)) if stats]
    print(f"served {shares}")
    assert 2.6 < shares[0] / shares[1] < 3.4


def test_an_idle_worker_starts_a_task_of_any_shard_at_once(blocking: TaskQueue) -> None:
    with Worker(blocking.config, concurrency=2):
        until(lambda: blocking.stats().workers == 1, "the worker lives")
        delays = []
        for user in ONE_OF_EACH * 5:
            began = time.monotonic()
            blocking.push(tasks.add(1, 2), user_id=user).result(timeout=5)
            delays.append(time.monotonic() - began)
    print(f"push to result: median {sorted(delays)[10] * 1000:.1f} ms")
    assert sorted(delays)[10] < 0.2


def test_a_burst_ends_only_when_no_shard_has_anything_left(blocking: TaskQueue) -> None:
    """Tasks push others, into other shards, until the chain is done."""

    class Chain(TaskHandler):
        def process_task(self, task: Task[Any]) -> None:
            if task.payload:
                blocking.push(
                    Task.create(payload=task.payload - 1), user_id=ONE_OF_EACH[task.payload % SHARDS]
                )

    blocking.push(Task.create(payload=40), user_id=ONE_OF_EACH[0])
    Worker(blocking.config, concurrency=2, burst=True, handler=Chain()).run()
    assert (blocking.stats().finished, blocking.stats().queued) == (41, 0)


def test_assigned_users_of_one_shard_come_before_stolen_ones_of_another(blocking: TaskQueue) -> None:
    mine, others = ONE_OF_EACH[1], ONE_OF_EACH[2]
    blocking.push_batch([tasks.add(n, n).with_options(user_id=u) for u in (others, mine) for n in range(30)])
    worker = Worker(blocking.config, concurrency=1, assigned_users=[mine], steal_targets="*", burst=True)
    worker.run()
    stats = {user: blocking.user_stats(user) for user in (mine, others)}
    assert [(found.served, found.stolen) for found in stats.values() if found] == [(30, 0), (30, 30)]


def test_a_worker_serves_no_user_that_it_was_not_given(blocking: TaskQueue) -> None:
    blocking.push_batch([tasks.add(1, 1).with_options(user_id=user) for user in ONE_OF_EACH])
    Worker(blocking.config, concurrency=2, assigned_users=ONE_OF_EACH[:2], burst=True).run()
    assert (blocking.stats().finished, blocking.stats().queued) == (2, 2)


def test_a_stopped_worker_hands_back_what_runs_in_every_shard(blocking: TaskQueue) -> None:
    blocking.push_batch([tasks.async_sleep(60).with_options(user_id=user) for user in ONE_OF_EACH])
    worker = Worker(blocking.config, concurrency=8, graceful_shutdown_timeout=0)
    worker.start()
    until(lambda: blocking.stats().started == SHARDS, "all run")
    worker.stop()
    assert (blocking.stats().started, blocking.stats().queued) == (0, SHARDS)
    assert blocking.stats().workers == 0


def test_a_canceled_task_of_any_shard_is_interrupted(blocking: TaskQueue) -> None:
    with Worker(blocking.config, concurrency=8, lease=1.0):
        handles = [blocking.push(tasks.async_sleep(60), user_id=user) for user in ONE_OF_EACH]
        until(lambda: blocking.stats().started == SHARDS, "all run")
        assert all(handle.cancel() for handle in handles)
        assert {handle.state() for handle in handles} == {TaskState.CANCELED}
