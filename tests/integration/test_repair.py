"""Repair: whatever happened to the keys, the shard is whole again, and no task is lost."""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from fairque import Retry, Schedule, Task, TaskHandler, TaskScheduler, Worker
from fairque.core.config import FairQueueConfig, UserPolicy
from fairque.core.keys import split_member
from fairque.core.records import RepairReport
from fairque.queue.queue import TaskQueue
from tests.support.command_line import Run, good
from tests.support.damage import damage, enrich, picture, records
from tests.support.faces import Background
from tests.support.invariants import check_invariants, violations
from tests.support.waiting import until

# Whatever takes long here is the server's work and the look at all of its keys.
LONG = os.environ.get("FAIRQUE_HYPOTHESIS") == "long"
RANDOM = settings(
    max_examples=5000 if LONG else 25,
    derandomize=not LONG,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
COUNTS = [
    name
    for name in RepairReport.__struct_fields__
    if name not in {"dry_run", "remaining", "problems", "tasks", "users"}
]


def counts(report: RepairReport) -> dict[str, int]:
    return {name: getattr(report, name) for name in COUNTS}


@pytest.fixture
def fresh(raw: Redis, make_config: Callable[..., FairQueueConfig]) -> Callable[[], FairQueueConfig]:
    """A configuration with a prefix that no example before has used."""
    numbers = itertools.count(1)

    def make() -> FairQueueConfig:
        config = make_config(max_crashes=2, push_retry_window=0)
        name = f"q{next(numbers)}"
        return config.model_copy(update={"queue": config.queue.model_copy(update={"name": name})})

    return make


@RANDOM
@given(seed=st.integers(0, 2**32), times=st.integers(1, 8))
def test_whatever_was_damaged_the_shard_is_whole_after_a_repair_and_every_task_ends(
    raw: Redis, fresh: Callable[[], FairQueueConfig], seed: int, times: int
) -> None:
    rng = random.Random(seed)
    with TaskQueue(fresh()) as queue:
        root = queue.commands.shards[0].keys.root
        enrich(queue, rng)
        check_invariants(raw, root)
        healthy = queue.repair()
        assert healthy.is_clean, healthy.problems
        done = damage(raw, root, rng, times)
        known, before = records(raw, root), picture(raw, root)

        looked = queue.repair(dry_run=True)
        assert picture(raw, root) == before, "a dry run has written"
        found = queue.repair()
        assert found.remaining == 0, (done, found)
        wrong = violations(raw, root)
        assert not wrong, (done, wrong)
        assert records(raw, root) >= known, (done, known - records(raw, root))
        if not looked.keys and not any("hides the rest" in problem for problem in looked.problems):
            assert counts(looked) == counts(found), (done, looked, found)

        whole = picture(raw, root)
        again = queue.repair()
        assert again.is_clean, (done, again)
        assert picture(raw, root) == whole
        drain(queue, raw, root)
        keys: list[bytes] = raw.keys(f"{root}*")  # type: ignore[assignment]
        raw.delete(*keys)


def drain(queue: TaskQueue, raw: Redis, root: str) -> None:
    """Let every task run that can, and then cancel what waits for what nobody knows."""
    for user in queue.users(1000):
        queue.set_policy(user.user_id, UserPolicy(paused=False))
    for _ in range(100):
        raw.zunionstore(f"{root}:scheduled", {f"{root}:scheduled": 0})
        raw.zunionstore(f"{root}:leases", {f"{root}:leases": 0})
        popped = queue.pop_batch("drain", 100)
        if popped:
            queue.finish_batch((task, None) for task in popped)
            continue
        if queue.reclaim(100):
            continue
        failed = [task for task in queue.failed_tasks(limit=1000) if task.defect is None]
        if not failed:
            break
        for task in failed:
            queue.requeue(task.user_id or "", task.task_id)
    check_invariants(raw, root)
    stats = queue.stats()
    assert (stats.queued, stats.scheduled, stats.started) == (0, 0, 0)
    # What is left waits for what was canceled, or never came.
    waiting: list[bytes] = raw.zrange(f"{root}:deferred", 0, -1)  # type: ignore[assignment]
    for user_id, task_id in map(split_member, waiting):
        queue.cancel(user_id, task_id)
    check_invariants(raw, root)
    assert sum(user.live for user in queue.users(1000)) == queue.stats().deferred == 0


# --- while the queue is at work ---


class Busy(TaskHandler):
    """Fails every third task once, writes XCom, and notes what succeeded."""

    def __init__(self, queue: TaskQueue) -> None:
        self.queue = queue
        self.done: Counter[tuple[str, str]] = Counter()
        self.attempts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def process_task(self, task: Task[Any]) -> Any:
        name = (task.user_id or "", task.task_id)
        with self._lock:
            self.attempts[name] += 1
        self.queue.xcom(name[0]).push(f"key {task.payload % 5}", task.payload, ttl=0.2)
        if task.payload % 3 == 0 and task.attempt == 1:
            raise Retry(delay=0.001 * task.payload)
        return None

    def on_task_success(self, task: Task[Any], duration: float) -> None:
        with self._lock:
            self.done[task.user_id or "", task.task_id] += 1


def busy_tasks(user: str, round_: int) -> list[Task[Any]]:
    def make(number: int, **options: Any) -> Task[Any]:
        return Task.create(user_id=user, task_id=f"{round_}.{number}", payload=number, **options)

    first = [make(number, priority=number % 6 + 1) for number in range(4)]
    grouped = [make(number, group=f"g{number % 3}") for number in range(4, 8)]
    later = [make(number, delay=0.01 * number) for number in range(8, 10)]
    then = [
        make(number, depends_on=[f"{round_}.{number - 9}", f"{round_}.{number - 1}"])
        for number in range(10, 13)
    ]
    return [*first, *(grouped if user in {"grouped", "both"} else []), *later, *then]


def test_repair_finds_nothing_and_disturbs_nothing_while_the_queue_is_at_work(
    config: FairQueueConfig, raw: Redis, root: str
) -> None:
    users = ["grouped", "both", "rated", "capped", *(f"user {number}" for number in range(8))]
    reports: list[RepairReport] = []
    pushed = 0
    with TaskQueue(config) as queue, TaskQueue(config) as mender:
        queue.set_policy("rated", UserPolicy(rate=200, burst=3))
        queue.set_policy("both", UserPolicy(rate=300))
        queue.set_policy("capped", UserPolicy(max_concurrency=1))
        handler = Busy(queue)
        workers = [Worker(config, worker_id=f"w{n}", concurrency=8, handler=handler) for n in range(2)]
        is_over = threading.Event()

        def repair_again_and_again() -> None:
            while not is_over.is_set():
                reports.append(mender.repair())

        for worker in workers:
            worker.start()
        repairing = Background(repair_again_and_again)
        try:
            for round_ in range(8):
                for user in users:
                    pushed += len(queue.push_batch(busy_tasks(user, round_)))
                queue.update_policy("capped", max_concurrency=round_ % 3 + 1)
            until(lambda: handler.done.total() >= pushed, "all tasks have succeeded", within=30)
        finally:
            is_over.set()
            repairing.value()
            for worker in workers:
                worker.stop()
        assert len(reports) > 3
        assert [report.problems for report in reports if not report.is_clean] == []
        assert set(handler.done.values()) == {1}
        assert len(handler.done) == pushed
        assert all(
            number == (2 if int(name.partition(".")[2]) % 3 == 0 else 1)
            for (_, name), number in handler.attempts.items()
        )
        totals = queue.stats().totals
        assert (totals["finished"], totals.get("reclaimed", 0), totals.get("lost", 0)) == (pushed, 0, 0)
    check_invariants(raw, root)


# --- schedules ---


def member_score(raw: Redis, root: str) -> tuple[float | None, float | None]:
    return raw.zscore(f"{root}:schedules", "u:s"), raw.zscore(f"{root}:schedule_index", "u:s")


@pytest.fixture
def scheduled(config: FairQueueConfig) -> Iterator[tuple[TaskQueue, TaskScheduler, Schedule]]:
    with TaskQueue(config) as queue:
        schedules = TaskScheduler(queue)
        added = schedules.add_schedule(task=Task.create(), every=3600, user_id="u", schedule_id="s")
        yield queue, schedules, added


SPOILT: dict[str, Callable[[Redis, str, int], Any]] = {
    "not listed": lambda raw, root, fire: raw.zrem(f"{root}:schedule_index", "u:s"),
    "listed elsewhere": lambda raw, root, fire: raw.zadd(f"{root}:schedule_index", {"u:s": 7}),
    "not due": lambda raw, root, fire: raw.zrem(f"{root}:schedules", "u:s"),
    "due before its time": lambda raw, root, fire: raw.zadd(f"{root}:schedules", {"u:s": 5}),
    "due at no time": lambda raw, root, fire: raw.zadd(f"{root}:schedules", {"u:s": "inf"}),
    "neither": lambda raw, root, fire: raw.delete(f"{root}:schedules", f"{root}:schedule_index"),
    "its fire time spoilt": lambda raw, root, fire: raw.hset(f"{root}:schedule:u:s", "fire", "soon"),
}


@pytest.mark.parametrize("damage", SPOILT)
def test_a_schedule_that_is_not_where_its_record_puts_it_is_put_there(
    scheduled: tuple[TaskQueue, TaskScheduler, Schedule], raw: Redis, root: str, damage: str
) -> None:
    queue, schedules, added = scheduled
    SPOILT[damage](raw, root, added.progress.fire or 0)
    assert queue.repair(dry_run=True).schedules == 1
    found = queue.repair()
    assert (found.schedules, found.remaining) == (1, 0)
    assert queue.repair().is_clean
    check_invariants(raw, root)
    assert member_score(raw, root) == (added.progress.fire, 0)
    assert [one.next_fire_time for one in schedules.list_schedules()] == [added.next_fire_time]


def test_a_schedule_whose_fire_time_and_due_time_are_lost_fires_no_more_until_it_is_resumed(
    scheduled: tuple[TaskQueue, TaskScheduler, Schedule], raw: Redis, root: str
) -> None:
    queue, schedules, added = scheduled
    raw.zrem(f"{root}:schedules", "u:s")
    raw.hset(f"{root}:schedule:u:s", "fire", "soon")
    assert queue.repair().remaining == 0
    assert queue.repair().is_clean
    assert schedules.get_schedule("u", "s").next_fire_time is None
    schedules.pause("u", "s")
    assert schedules.resume("u", "s").next_fire_time == added.next_fire_time


@pytest.mark.parametrize("field", ["revision", "definition", "task", "all"])
def test_without_a_whole_record_there_is_no_schedule(
    scheduled: tuple[TaskQueue, TaskScheduler, Schedule], raw: Redis, root: str, field: str
) -> None:
    queue, schedules, _ = scheduled
    if field == "all":
        raw.delete(f"{root}:schedule:u:s")
    else:
        raw.hdel(f"{root}:schedule:u:s", field)
    assert queue.repair().schedules == 1
    assert queue.repair().is_clean
    assert (schedules.list_schedules(), raw.keys(f"{root}:schedul*")) == ([], [])


def test_a_paused_schedule_that_is_among_those_due_is_taken_out(
    scheduled: tuple[TaskQueue, TaskScheduler, Schedule], raw: Redis, root: str
) -> None:
    queue, schedules, _ = scheduled
    schedules.pause("u", "s")
    raw.zadd(f"{root}:schedules", {"u:s": 5})
    assert queue.repair().schedules == 1
    assert (queue.repair().is_clean, member_score(raw, root)) == (True, (None, 0))


@pytest.mark.parametrize("key", ["schedules", "schedule_index", "schedule:u:s"])
def test_a_key_of_schedules_of_another_type_goes(
    scheduled: tuple[TaskQueue, TaskScheduler, Schedule], raw: Redis, root: str, key: str
) -> None:
    queue, schedules, added = scheduled
    raw.delete(f"{root}:{key}")
    raw.rpush(f"{root}:{key}", "x")
    assert queue.repair().remaining == 0
    assert queue.repair().is_clean
    left = [one.next_fire_time for one in schedules.list_schedules()]
    assert left == ([] if key == "schedule:u:s" else [added.next_fire_time])


# --- the command ---


def test_the_command_tells_what_is_wrong_and_mends_it(
    run: Run, config: FairQueueConfig, raw: Redis, root: str
) -> None:
    with TaskQueue(config) as queue:
        queue.push_batch([Task.create(user_id="a", task_id=str(number)) for number in range(3)])
        assert good(run("repair")).endswith("looked at 3 tasks of 1 user\nNothing is wrong.\n")
        raw.delete(f"{root}:lane:a", f"{root}:ring")

        looked = run("repair", "--dry-run")
        assert looked.code == 1
        assert "tasks in no place: 3" in looked.out
        assert "Nothing was changed" in looked.out
        told = json.loads(run("repair", "--dry-run", "--json").out)
        assert (told["homeless"], told["remaining"] > 0, told["is_clean"]) == (3, True, False)

        mended = good(run("repair"))
        assert "tasks in no place: 3" in mended
        assert mended.endswith("What can be mended is.\n")
        assert [task.task_id for task in queue.pop_batch("w", 5)] == ["0", "1", "2"]
        told = json.loads(good(run("repair", "--json")))
        assert (told["is_clean"], told["queue"], told["tasks"]) == (True, root, 3)
