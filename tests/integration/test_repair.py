"""Repair: whatever happened to the keys, the shard is whole again, and no task is lost whose record is there."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from fairque.core.config import FairQueueConfig, UserPolicy
from fairque.core.keys import split_member
from fairque.core.records import RepairReport
from fairque.queue.queue import TaskQueue
from tests.support.damage import damage, enrich, picture, records
from tests.support.invariants import check_invariants, violations

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
        root = queue.commands.keys.root
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
