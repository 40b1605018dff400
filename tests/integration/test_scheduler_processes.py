"""Schedulers as processes: killed at each tick, stopped and continued, each fire time is pushed once."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from fairque import FairQueueConfig, Schedule, TaskQueue, TaskScheduler, task
from tests.support.actions import server_ms, sleep_past
from tests.support.invariants import check_invariants
from tests.support.scheduler_process import Crew
from tests.support.scheduling import ids_of, task_ids
from tests.support.waiting import until

EVERY = 100  # milliseconds, the shortest interval


@task(name="tests.scheduler_processes.tick")
def tick() -> None: ...


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


@pytest.fixture
def scheduler(queue: TaskQueue) -> TaskScheduler:
    return TaskScheduler(queue)


@pytest.fixture
def crew(config: FairQueueConfig) -> Iterator[Callable[[int], Crew]]:
    crews: list[Crew] = []

    def start(number: int) -> Crew:
        crews.append(Crew(config, number))
        return crews[-1]

    yield start
    for one in crews:
        one.kill()


def ticking(scheduler: TaskScheduler, raw: Redis, ticks: int) -> tuple[Schedule, list[int]]:
    """A schedule that fires so many times, and when."""
    start = int(server_ms(raw)) + 1000
    times = [start + EVERY * number for number in range(ticks)]
    added = scheduler.add_schedule(
        task=tick(),
        every=EVERY / 1000,
        user_id="u",
        schedule_id="s",
        catch_up="all",
        max_catch_up=ticks,
        start=datetime.fromtimestamp(start / 1000, UTC),
        end=datetime.fromtimestamp(times[-1] / 1000, UTC),
    )
    return added, times


def is_over(scheduler: TaskScheduler) -> bool:
    return scheduler.get_schedule("u", "s").next_fire_time is None


@pytest.mark.slow
def test_with_one_of_three_killed_at_each_of_200_ticks_there_are_exactly_200_tasks(
    queue: TaskQueue, scheduler: TaskScheduler, crew: Callable[[int], Crew], raw: Redis, root: str
) -> None:
    rng = random.Random(20)
    hands = crew(3)
    added, times = ticking(scheduler, raw, 200)
    for number, time in enumerate(times):
        sleep_past(raw, time + rng.uniform(-3, 12))  # before, while and after it fires
        hands.replace(number % 3)
    until(lambda: is_over(scheduler), "all have been pushed", every=0.05, within=20)
    assert task_ids(raw, root, "u") == ids_of(added, times)
    found = scheduler.get_schedule("u", "s")
    assert (found.fired, found.failures, found.progress.last_fire) == (200, 0, times[-1])
    pushed = [queue.handle("u", name).info() for name in ids_of(added, times)]
    late = [one.created_at - one.fire_time for one in pushed if one.created_at and one.fire_time]
    print(f"the latest was {max(late).total_seconds() * 1000:.0f} ms late")
    assert sum(one < timedelta(milliseconds=50) for one in late) > 100, "they fire while they are killed"
    check_invariants(raw, root)
    hands.end()


@pytest.mark.slow
def test_one_that_was_stopped_and_goes_on_fires_nothing_again(
    queue: TaskQueue, scheduler: TaskScheduler, crew: Callable[[int], Crew], raw: Redis
) -> None:
    rng = random.Random(21)
    hands = crew(2)
    added, times = ticking(scheduler, raw, 40)
    ran: list[str] = []
    for number, time in enumerate(times):
        sleep_past(raw, time + rng.uniform(-2, 6))
        hands.signal(0, signal.SIGCONT if number % 4 == 3 else signal.SIGSTOP)
        popped = queue.pop_batch("w", 100)
        queue.finish_batch((one, None) for one in popped)
        ran += [one.task_id for one in popped]
    hands.signal(0, signal.SIGCONT)
    until(lambda: is_over(scheduler), "all have been pushed", every=0.05, within=20)
    hands.end()
    ran += [one.task_id for one in queue.pop_batch("w", 100)]
    assert ran == ids_of(added, times)
