"""A claim costs the same however many users there are, ready or held back. Times are compared in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from redis import Redis

from fairque import FairQueueConfig, QueueConfig, RedisConfig, Task, TaskQueue, UserPolicy
from fairque.utils.embedded import EmbeddedServer

Open: TypeAlias = Callable[[str], TaskQueue]

CLAIMS = 1000


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.open("embedded://") as server:
        yield server


@pytest.fixture
def raw(server: EmbeddedServer) -> Iterator[Redis]:
    with Redis(unix_socket_path=server.socket_path) as client:
        yield client
        client.flushall()


@pytest.fixture
def open_queue(server: EmbeddedServer, raw: Redis) -> Iterator[Open]:
    opened: list[TaskQueue] = []

    def open_one(name: str) -> TaskQueue:
        redis = RedisConfig(unix_socket_path=server.socket_path)
        opened.append(TaskQueue(FairQueueConfig(redis=redis, queue=QueueConfig(name=name))))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()


def claim_once(queue: TaskQueue, raw: Redis) -> int:
    """The microseconds that the server needs for one claim; the task is finished, and another one pushed."""
    raw.config_resetstat()
    task = queue.pop("w")
    used: int = raw.info("commandstats")["cmdstat_evalsha"]["usec"]
    assert task is not None
    assert task.user_id is not None
    queue.finish(task)
    queue.push(Task.create(user_id=task.user_id))
    return used


def compare(few: TaskQueue, many: TaskQueue, raw: Redis, what: str) -> float:
    """The ratio of the 99th percentiles, claims of both taken in turn."""
    times: dict[TaskQueue, list[int]] = {few: [], many: []}
    for queue in times:
        queue.finish(task) if (task := queue.pop("w")) else None  # the scripts are loaded now
    for _ in range(CLAIMS):
        for queue, used in times.items():
            used.append(claim_once(queue, raw))
    p50, p99 = ([sorted(times[queue])[CLAIMS * part // 100] for queue in (few, many)] for part in (50, 99))
    print(f"{what}: claim p50 {p50[0]} and {p50[1]} µs, p99 {p99[0]} and {p99[1]} µs")
    return p99[1] / p99[0]


def push_one_each(queue: TaskQueue, users: int) -> None:
    queue.push_batch([Task.create(user_id=f"u{number}") for number in range(users)])


@pytest.mark.slow
def test_a_claim_among_a_hundred_thousand_ready_users_costs_what_it_costs_among_ten(
    open_queue: Open, raw: Redis
) -> None:
    few, many = open_queue("few"), open_queue("many")
    push_one_each(few, 10)
    push_one_each(many, 100_000)
    ratio = compare(few, many, raw, "10 ready users and 100,000")
    print(f"p99 at 100,000 ready users is {ratio:.2f} of that at 10")
    assert ratio <= 2


@pytest.mark.slow
def test_users_who_are_held_back_cost_a_claim_nothing(open_queue: Open, raw: Redis) -> None:
    few, many = open_queue("few"), open_queue("many")
    hold_back(few, 10)
    hold_back(many, 10_000)
    ratio = compare(few, many, raw, "9 of 10 users held back, and 9,999 of 10,000")
    print(f"p99 with 9,999 of 10,000 users held back is {ratio:.2f} of that with 9 of 10")
    assert ratio <= 2


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
