"""A claim costs the same however many users there are, ready or held back. Times are compared in one run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from fairque import Task, TaskQueue, UserPolicy
from tests.performance.conftest import OpenQueue

CLAIMS = 1000


def processor_time(raw: Redis) -> float:
    """Microseconds that the server's thread has run: what else the machine does is not in it."""
    cpu = raw.info("cpu")
    return float(cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"]) * 1e6


def claim_once(queue: TaskQueue, raw: Redis) -> float:
    """What one claim costs the server, and the question for it; the task is finished, another one pushed."""
    before = processor_time(raw)
    task = queue.pop("w")
    used = processor_time(raw) - before
    assert task is not None
    assert task.user_id is not None
    queue.finish(task)
    queue.push(Task.create(user_id=task.user_id))
    return used


def question(raw: Redis) -> float:
    """What asking for the time costs by itself."""
    costs = [-(processor_time(raw) - processor_time(raw)) for _ in range(200)]
    return sorted(costs)[100]


def compare(few: TaskQueue, many: TaskQueue, raw: Redis, what: str) -> float:
    """The ratio of the 99th percentiles, claims of both taken in turn."""
    times: dict[TaskQueue, list[float]] = {few: [], many: []}
    for queue in times:
        queue.finish(task) if (task := queue.pop("w")) else None  # the scripts are loaded now
    for _ in range(CLAIMS):
        for queue, used in times.items():
            used.append(claim_once(queue, raw))
        # The server collects Lua's garbage with every fiftieth script. Seven in a round let that fall on
        # everyone alike; with six it would always be the same claims.
        few.stats()
    asking = question(raw)
    p50, p99 = (
        [sorted(times[queue])[CLAIMS * part // 100] - asking for queue in (few, many)] for part in (50, 99)
    )
    print(f"{what}: claim p50 {p50[0]:.0f} and {p50[1]:.0f} µs, p99 {p99[0]:.0f} and {p99[1]:.0f} µs")
    return p99[1] / p99[0]


def push_one_each(queue: TaskQueue, users: int) -> None:
    queue.push_batch([Task.create(user_id=f"u{number}") for number in range(users)])


def hold_back(queue: TaskQueue, users: int) -> None:
    """All but the first: paused, throttled, at their cap, or with nothing but future work."""
    cap, rate = UserPolicy(max_concurrency=1), UserPolicy(rate=1e-6, burst=1)
    names = [f"u{number}" for number in range(1, users)]
    capped, throttled, paused = names[0::4], names[1::4], names[2::4]
    for held, policy in ((capped, cap), (throttled, rate), (paused, UserPolicy(paused=True))):
        for user in held:
            queue.set_policy(user, policy)
    queue.push_batch([Task.create(user_id=user) for user in capped + throttled])
    while queue.pop_batch("holder", 1000, lease=3600):  # a slot each, or the only token
        pass
    queue.push_batch([Task.create(user_id=user) for user in capped + throttled + paused])
    queue.push_batch([Task.create(user_id=user, delay=3600) for user in names[3::4]])
    queue.push_batch([Task.create(user_id="u0") for _ in range(10)])
    assert queue.stats().ready_users == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "users", "what"),
    [
        (push_one_each, 100_000, "10 ready users and 100,000"),
        (hold_back, 10_000, "9 of 10 users held back, and 9,999 of 10,000"),
    ],
)
def test_a_claim_costs_the_same_with_many_users(
    prepare: Callable[[TaskQueue, int], None], users: int, what: str, open_queue: OpenQueue, raw: Redis
) -> None:
    few, many = open_queue(name="few"), open_queue(name="many")
    prepare(few, 10)
    prepare(many, users)
    ratio = compare(few, many, raw, what)
    print(f"{what}: p99 of the many is {ratio:.2f} of that of the few")
    assert ratio <= 2
