"""A graph of a thousand tasks, run by worker processes that are killed all the time."""

from __future__ import annotations

import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairque import FairQueueConfig, Task, TaskQueue, TaskState
from tests.support import worker_tasks as tasks
from tests.support.processes import Start

NODES, WORKERS, LEASE, KILL_EVERY = 1_000, 4, 1.0, 0.25


@pytest.fixture
def config(make_config: Callable[..., FairQueueConfig]) -> FairQueueConfig:
    """Nothing counts as poisoned: it is the test that kills."""
    return make_config(max_crashes=100)


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


def random_graph(seed: int, journal: Path) -> list[Task[int]]:
    """Each task depends on up to three of those before it; they are pushed in a random order."""
    chance = random.Random(seed)
    made: list[Task[int]] = []
    for number in range(NODES):
        before = made[-60:]
        depends_on = chance.sample(before, min(len(before), chance.choice([0, 1, 1, 2, 3])))
        task = tasks.journaled(str(journal), number, 0.02)
        made.append(task.with_options(task_id=str(number), depends_on=depends_on))
    chance.shuffle(made)
    return made


@pytest.mark.slow
def test_a_random_graph_survives_workers_killed_four_times_a_second(
    queue: TaskQueue, spawn: Start, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    graph = random_graph(7, journal)
    handles = queue.push_batch(graph, user_id="acme")
    workers = [spawn(concurrency=5, lease=LEASE) for _ in range(WORKERS)]
    kills, last_kill, deadline = 0, time.monotonic(), time.monotonic() + 120
    while queue.stats().finished < NODES:
        assert time.monotonic() < deadline, queue.stats()
        if time.monotonic() - last_kill > KILL_EVERY:
            workers.pop(0).signal(signal.SIGKILL)
            workers.append(spawn(concurrency=5, lease=LEASE))
            kills, last_kill = kills + 1, time.monotonic()
        time.sleep(0.05)
    starts: dict[str, list[str]] = defaultdict(list)
    first_start: dict[str, int] = {}
    first_done: dict[str, int] = {}
    for place, line in enumerate(tasks.lines(journal)):
        what, number, attempt, _ = line.split()
        if what == "start":
            starts[number].append(attempt)
            first_start.setdefault(number, place)
        else:
            first_done.setdefault(number, place)
    for task in graph:
        # In topological order: nothing starts before the effects of all that it depends on.
        for dependency in task.depends_on:
            assert first_done[dependency] < first_start[task.task_id]
        assert len(set(starts[task.task_id])) == len(starts[task.task_id]), "an attempt started twice"
    states = queue.run(queue.commands.shards[0].states("acme", [handle.task_id for handle in handles]))
    assert set(states) == {TaskState.FINISHED}
    extra = sum(map(len, starts.values())) - NODES
    print(f"\n{NODES} tasks, {kills} workers killed, {extra} attempts repeated")
    assert extra <= kills * 5  # at most what was in flight at the kills
    assert queue.stats().deferred == 0
