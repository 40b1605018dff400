"""A user's limit of tasks at once, held across twenty worker processes of which some are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairque import FairQueueConfig, TaskQueue, UserPolicy
from tests.support import worker_tasks as tasks
from tests.support.waiting import until

ROOT = Path(__file__).parent.parent.parent
LEASE = 2.0
# The interpreter is started and the package imported once; twenty forks of it are twenty workers.
SCRIPT = """
import os, sys
from fairque import FairQueueConfig, QueueConfig, RedisConfig, Worker
import tests.support.worker_tasks
socket, prefix, lease = sys.argv[1:]
config = FairQueueConfig(redis=RedisConfig(unix_socket_path=socket), queue=QueueConfig(prefix=prefix))
workers = []
for _ in range(20):
    process = os.fork()
    if process == 0:
        Worker(config, concurrency=4, lease=float(lease), graceful_shutdown_timeout=0.1).run()
        os._exit(0)
    workers.append(process)
print(*workers, flush=True)
for process in workers:
    os.waitpid(process, 0)
"""


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


@pytest.fixture
def workers(config: FairQueueConfig) -> Iterator[list[int]]:
    """The process ids of twenty workers."""
    where = (str(config.redis.unix_socket_path), config.queue.prefix, str(LEASE))
    launcher = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *where], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdout is not None
    running = [int(number) for number in launcher.stdout.readline().split()]
    yield running
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    launcher.communicate(timeout=20)


def most_at_once(journal: Path, killed: set[int], killed_at: float, since: float) -> int:
    """How many tasks ran at once, at most, from a moment on; what a killed process ran ended with it."""
    changes = []
    for line in tasks.lines(journal):
        what, when, who = line.split()
        changes.append((float(when), 1 if what == "began" else -1, int(who)))
    running = dict.fromkeys((process for _, _, process in changes), 0)
    most = 0
    for moment, change, process in sorted(changes):
        running[process] += change
        alive = (n for p, n in running.items() if p not in killed or moment < killed_at)
        if moment >= since:
            most = max(most, sum(alive))
    return most


def holders(queue: TaskQueue) -> Iterator[int]:
    """The processes that hold leases."""
    root, client = queue.commands.shards[0].keys.root, queue.manager.client
    for member in client.zrange(f"{root}:leases", 0, -1):
        worker = client.hget(f"{root}:run:{member.decode()}", "worker")
        yield int(worker.decode().split("-")[-2])


@pytest.mark.slow
def test_three_at_once_is_never_four_across_twenty_workers_of_which_some_are_killed(
    queue: TaskQueue, workers: list[int], tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    queue.set_policy("limited", UserPolicy(max_concurrency=3))
    queue.push_batch([tasks.note_and_sleep(str(journal), 0.4) for _ in range(400)], user_id="limited")
    until(lambda: len(tasks.lines(journal)) >= 30, "tasks are running", within=20)

    victims = set(holders(queue)) | set(workers[:5])
    for process in victims:
        os.kill(process, signal.SIGKILL)
    killed_at = time.monotonic()

    def three_run_again() -> bool:
        assert queue.stats().started <= 3
        return most_at_once(journal, victims, killed_at, since=killed_at + 0.1) == 3

    until(three_run_again, "three run at once again", within=LEASE + 2)
    back_after = time.monotonic() - killed_at
    while time.monotonic() - killed_at < LEASE + 4:
        assert queue.stats().started <= 3
        time.sleep(0.01)
    assert most_at_once(journal, victims, killed_at, since=0) == 3
    print(f"never more than 3 at once; back to 3 within {back_after:.2f} s of a kill, the lease is {LEASE} s")
