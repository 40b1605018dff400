"""100,000 schedules: what is due is found as fast as among 1,000. And how late they fire."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from redis import Redis

from fairque import Schedule, Task, TaskQueue, TaskScheduler
from tests.performance.conftest import OpenQueue
from tests.performance.test_many_users import processor_time, question
from tests.support.actions import server_ms
from tests.support.scheduling import GRACE, Steps, go_back, pushed
from tests.support.waiting import until

FEW, MANY = 1_000, 100_000
DUE = 10
ROUNDS = 100


def schedules_of(number: int) -> list[Schedule]:
    """Of a hundred users, each once a day, at any second of it that is hours away: none is due by itself."""
    rng, first_hour = random.Random(number), datetime.now(UTC).hour + 2
    return [
        Schedule.create(
            f"{rng.randrange(60)} {rng.randrange(60)} {(first_hour + rng.randrange(20)) % 24} * * *",
            Task.create(payload=n),
            user_id=f"u{n % 100}",
            schedule_id=f"s{n}",
        )
        for n in range(number)
    ]


def add(queue: TaskQueue, number: int) -> TaskScheduler:
    schedules = TaskScheduler(queue)
    given = schedules_of(number)
    began = time.perf_counter()
    schedules.add_schedules(given)
    seconds = time.perf_counter() - began
    print(f"{number:,} schedules were added in {seconds:.1f} s, {seconds / number * 1e6:.0f} µs each")
    return schedules


@pytest.mark.slow
def test_100_000_schedules_are_added_listed_and_fired_like_1_000(open_queue: OpenQueue, raw: Redis) -> None:
    few, many = open_queue(name="few"), open_queue(name="many")
    both = {few: add(few, FEW), many: add(many, MANY)}
    began = time.perf_counter()
    assert len(both[many].list_schedules()) == MANY
    print(f"{MANY:,} were listed in {time.perf_counter() - began:.1f} s")
    assert len(both[many].list_schedules(user_id="u7")) == MANY // 100
    used: dict[str, dict[TaskQueue, list[float]]] = {
        what: {few: [], many: []} for what in ("nothing is due", "reading", "firing", "changing")
    }

    def measure(what: str, queue: TaskQueue, work: Callable[[], object]) -> None:
        before = processor_time(raw)
        work()
        used[what][queue].append(processor_time(raw) - before)

    for round_ in range(ROUNDS):
        for queue, schedules in both.items():
            root = queue.commands.shards[0].keys.root
            commands = queue.commands.shards[0].schedules
            measure("nothing is due", queue, lambda: queue.run(commands.fire_due(GRACE)))  # noqa: B023
            for number in range(DUE):
                one = schedules.get_schedule(f"u{number}", f"s{number + 100 * (round_ % 10)}")
                go_back(raw, root, one, 86_400)
            steps = Steps(queue, commands.fire_due(GRACE))
            measure("reading", queue, steps.step)
            measure("firing", queue, steps.step)
            assert pushed(steps.value[0]) <= DUE
            changed = {"metadata": {"round": round_}}
            measure("changing", queue, lambda: schedules.update_schedule("u5", "s5", **changed))  # noqa: B023
    asking = question(raw)
    for what, times in used.items():
        small, large = (sorted(times[queue])[ROUNDS // 2] - asking for queue in (few, many))
        print(f"{what}: {small:.0f} µs with {FEW:,}, {large:.0f} µs with {MANY:,}, {large / small:.2f} times")
        assert large / small < 2, what


@pytest.mark.slow
def test_schedules_fire_within_50_ms_of_their_time(open_queue: OpenQueue, raw: Redis) -> None:
    """500 a second, at any millisecond."""
    queue = open_queue()
    schedules = TaskScheduler(queue)
    rng = random.Random(3)
    begin = server_ms(raw) / 1000 + 2
    schedules.add_schedules(
        Schedule.create(
            None,
            Task.create(payload=number),
            every=2,
            start=datetime.fromtimestamp(begin + rng.uniform(0, 2), UTC),
            user_id=f"u{number % 10}",
            schedule_id=f"s{number}",
        )
        for number in range(1000)
    )
    schedules.start()
    until(lambda: queue.stats().queued >= 3000, "they fire", within=30, every=0.1)
    schedules.stop()
    late: list[float] = []
    while tasks := queue.pop_batch("w", 1000):
        late += [
            (one.queued_at - one.fire_time).total_seconds() * 1000
            for one in tasks
            if one.queued_at is not None and one.fire_time is not None
        ]
    late.sort()
    p50, p99 = late[len(late) // 2], late[len(late) * 99 // 100]
    print(
        f"{len(late):,} tasks: late by {p50:.1f} ms (p50), {p99:.1f} ms (p99), {late[-1]:.1f} ms at the most"
    )
    assert late[0] >= 0
    assert p99 < 50
