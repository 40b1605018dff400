"""What users get: each of these prints its figure. Shares are counted, not timed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from redis import Redis

from fairque import AsyncWorker, Task, TaskQueue, UserPolicy, task
from tests.performance.conftest import OpenQueue


@pytest.fixture
def timed(open_queue: OpenQueue) -> TaskQueue:
    """A queue where tasks cost the time they run."""
    return open_queue(cost="time")


def push(queue: TaskQueue, user: str, count: int, **options: Any) -> None:
    queue.push_batch([Task.create(user_id=user, **options) for _ in range(count)])


def serve(queue: TaskQueue, count: int, batch: int = 100) -> Counter[str | None]:
    """Pop and finish so many tasks; how many each user had."""
    served: Counter[str | None] = Counter()
    while served.total() < count:
        tasks = queue.pop_batch("w", min(batch, count - served.total()))
        assert tasks, "the queue gave nothing"
        served.update(task.user_id for task in tasks)
        queue.finish_batch(tasks)
    return served


# --- shares ---


def test_weights_of_one_two_and_four_give_shares_of_one_two_and_four(queue: TaskQueue) -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 4.0}
    for user, weight in weights.items():
        queue.set_policy(user, UserPolicy(weight=weight))
        push(queue, user, int(30_000 * weight / 7) + 200)
    served = serve(queue, 30_000)
    off = {user: served[user] / (30_000 * weight / 7) - 1 for user, weight in weights.items()}
    print("weights 1:2:4, 30,000 dispatches, off by", {user: f"{part:+.3%}" for user, part in off.items()})
    assert all(abs(part) <= 0.02 for part in off.values())


def test_a_hundred_groups_of_one_user_against_one_of_another(queue: TaskQueue) -> None:
    for number in range(100):
        push(queue, "A", 60, group=f"g{number}")
    push(queue, "B", 4000, group="only")
    served = serve(queue, 6000, batch=50)
    print(f"100 groups of A against one of B: A had {served['A'] / 6000:.1%}")
    assert served["A"] / 6000 == pytest.approx(0.5, abs=0.015)


def test_users_that_drain_and_refill_at_once_take_nothing_from_one_with_a_backlog(queue: TaskQueue) -> None:
    quick = [f"q{number}" for number in range(5)]
    push(queue, "backlogged", 2000)
    for user in quick:
        push(queue, user, 1)
    served: Counter[str | None] = Counter()
    for _ in range(3000):
        popped = queue.pop("w")
        assert popped is not None
        served[popped.user_id] += 1
        queue.finish(popped)
        if popped.user_id in quick:
            queue.push(Task.create(user_id=popped.user_id))
    share = served["backlogged"] / (3000 / 6)
    print(f"five users that drain and refill beside a backlogged one: it had {share:.3f} of its fair share")
    assert share >= 0.9


def test_who_was_idle_for_an_hour_has_no_advantage(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "idler", 1)
    push(queue, "busy", 3000)
    serve(queue, 2000)
    # An hour has passed, and a cleanup has forgotten the idler.
    root = queue.commands.shards[0].keys.root
    raw.zincrby(f"{root}:users", -3_601_000, "idler")
    queue.cleanup_expired_tasks()
    assert raw.exists(f"{root}:user:idler") == 0
    push(queue, "idler", 1000)
    served = serve(queue, 400, batch=1)
    print(f"idle for an hour, then back: {served['idler'] - served['busy']:+d} tasks of 400")
    assert served["idler"] - served["busy"] <= 1


# --- time ---


@task
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


@task
async def surprise(seconds: float) -> None:
    await asyncio.sleep(seconds)


def used_seconds(queue: TaskQueue) -> dict[str, float]:
    """Of each user: what its ended attempts took, and what the running ones have so far."""
    root, now = queue.commands.shards[0].keys.root, time.time()
    used = {user.user_id: user.worker_seconds for user in queue.users()}
    for member in queue.manager.client.zrange(f"{root}:leases", 0, -1):
        started = queue.manager.client.hget(f"{root}:run:{member.decode()}", "started_at")
        used[member.decode().partition(":")[0]] += now - int(started) / 1000
    return used


async def work(queue: TaskQueue, seconds: float, slots: int = 8) -> dict[str, float]:
    """Run a worker for so long; what each user has used by then."""
    worker = AsyncWorker(queue.config, concurrency=slots, graceful_shutdown_timeout=0)
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(seconds)
    used = await asyncio.to_thread(used_seconds, queue)
    worker.stop()
    await running
    return used


@pytest.mark.slow
async def test_ten_milliseconds_against_a_second_share_the_workers_time(timed: TaskQueue) -> None:
    timed.push_batch([sleep(0.01) for _ in range(8000)], user_id="short")
    timed.push_batch([sleep(1.0) for _ in range(200)], user_id="long")
    used = await work(timed, 14)
    part = used["short"] / sum(used.values())
    print(f"10 ms against 1 s on 8 slots: {part:.1%} of the worker-seconds to the short ones")
    assert part == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
async def test_estimates_that_are_wrong_a_hundredfold_at_first_are_made_up_for(timed: TaskQueue) -> None:
    # Both have learned that the function takes 3 ms; from now on one user's takes 300.
    for user in ("wrong", "right"):
        timed.push_batch([surprise(0.003) for _ in range(30)], user_id=user)
    before = await work(timed, 1.5)
    timed.push_batch([surprise(0.3) for _ in range(300)], user_id="wrong")
    timed.push_batch([surprise(0.03) for _ in range(3000)], user_id="right")
    used = await work(timed, 5)
    attempts = next(user.served for user in timed.users() if user.user_id == "wrong") - 30
    gained = {user: used[user] - before[user] for user in used}
    off = gained["wrong"] / (sum(gained.values()) / 2) - 1
    print(f"estimates wrong 100-fold: off by {off:+.1%} of the fair share after {attempts} tasks")
    assert attempts >= 50
    assert abs(off) <= 0.1


# --- limits ---


@pytest.mark.slow
def test_a_rate_of_fifty_a_second_is_fifty_a_second(queue: TaskQueue) -> None:
    queue.set_policy("limited", UserPolicy(rate=50.0, burst=10))
    push(queue, "limited", 600)
    burst = queue.pop_batch("w", 100)
    began = burst[0].started_at
    assert began is not None
    after = 0
    while (popped := queue.pop("w", block=0.5)) is not None:
        assert popped.started_at is not None
        if (popped.started_at - began).total_seconds() > 10:
            break
        after += 1
        queue.finish(popped)
    rate = after / 10
    print(f"rate 50/s, burst 10, for 10 s: {rate:.2f}/s after a burst of {len(burst)}")
    assert len(burst) == 10
    assert rate == pytest.approx(50, rel=0.02)
