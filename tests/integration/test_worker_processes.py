"""Workers as processes of their own: killed, stopped by signals, and with a server that goes away."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairque import FairQueueConfig, LeaseLostError, TaskQueue, TaskState, Worker
from tests.support import worker_tasks as tasks
from tests.support.prepared import ROOT
from tests.support.processes import Start
from tests.support.servers import own_server
from tests.support.waiting import until


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


def test_what_a_killed_worker_was_running_another_one_finishes_after_the_lease(
    queue: TaskQueue, spawn: Start, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    victim = spawn(lease=1.0)
    handles = queue.push_batch([tasks.hang_at_first(str(journal), n) for n in range(10)], user_id="acme")
    until(lambda: len(tasks.lines(journal)) == 10, "ten tasks are running", within=20)
    stale = [handle.info() for handle in handles]
    victim.signal(signal.SIGKILL)
    killed = time.monotonic()
    queue.reclaim()
    assert queue.stats().started == 10  # their leases have not run out
    with Worker(queue, concurrency=10, lease=1.0):
        until(lambda: len(tasks.lines(journal)) == 20, "they run again", within=10)
        assert time.monotonic() - killed < 1.0 + 2.0  # lease + 2 s
        # The dead worker's outcome, arriving late, is refused, and disturbs nobody.
        for task in stale:
            with pytest.raises(LeaseLostError):
                queue.finish(task, "stale")
        assert [handle.result(timeout=5) for handle in handles] == list(range(10))
    for task in stale:
        with pytest.raises(LeaseLostError):
            queue.finish(task, "stale")
    assert [handle.result(timeout=5) for handle in handles] == list(range(10))
    assert [(task.attempt, task.crashes) for task in (h.info() for h in handles)] == [(2, 1)] * 10
    done = [line.split()[1:] for line in tasks.lines(journal) if line.startswith("done")]
    assert sorted(done) == [[str(number), "2"] for number in range(10)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_tasks_end_and_hands_back_the_rest(
    queue: TaskQueue, spawn: Start, tmp_path: Path, number: signal.Signals
) -> None:
    journal = tmp_path / "journal"
    worker = spawn(concurrency=2, grace=2.0)
    short = queue.push(tasks.journaled(str(journal), 1, 0.5), user_id="acme")
    long = queue.push(tasks.journaled(str(journal), 2, 60.0), user_id="acme")
    waiting = queue.push(tasks.journaled(str(journal), 3, 0.0), user_id="acme")
    until(lambda: len(tasks.lines(journal)) == 2, "two are running", within=20)
    began = time.monotonic()
    worker.signal(number)
    assert worker.ends(within=10) == 0
    assert 1.4 < time.monotonic() - began < 4.0
    assert (short.state(), waiting.state()) == (TaskState.FINISHED, TaskState.QUEUED)
    handed_back = long.info()
    assert (handed_back.state, handed_back.crashes) == (TaskState.QUEUED, 0)
    seen = sorted(line.split()[:2] for line in tasks.lines(journal))  # the two start side by side
    assert seen == [["done", "1"], ["start", "1"], ["start", "2"]]


def test_a_second_signal_does_not_wait(queue: TaskQueue, spawn: Start, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    worker = spawn(concurrency=1, grace=60.0)
    handle = queue.push(tasks.journaled(str(journal), 1, 60.0), user_id="acme")
    until(lambda: len(tasks.lines(journal)) == 1, "it is running", within=20)
    worker.signal(signal.SIGTERM)
    time.sleep(0.3)
    assert worker.process.poll() is None
    worker.signal(signal.SIGTERM)
    assert worker.ends(within=5) == 0
    assert handle.state() is TaskState.QUEUED


def test_a_worker_outlives_its_server_and_says_so_once(spawn: Start, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with own_server("--appendonly", "yes", "--appendfsync", "always") as server:
        config = server.config()
        worker = spawn(config, lease=5.0, grace=1.0)
        with TaskQueue(config) as queue:
            running = queue.push(tasks.journaled(str(journal), 1, 2.5), user_id="acme")
            until(lambda: len(tasks.lines(journal)) == 1, "it is running", within=20)
            server.stop()
            time.sleep(2.0)
            server.start()
            back = time.monotonic()
            # What ran during the outage is acknowledged, and new work is taken.
            assert queue.push(tasks.add(1, 1), user_id="acme").result(timeout=10) == 2
            assert running.result(timeout=10) == 1
            assert time.monotonic() - back < 6.0
            assert (running.info().attempt, running.info().crashes) == (1, 0)
        worker.signal(signal.SIGTERM)
        assert worker.ends(within=10) == 0
    assert worker.log.count("cannot use the server") == 1
    assert worker.log.count("can use the server again") == 1


@pytest.mark.parametrize("function", [tasks.swallow_cancellation, tasks.block_a_thread_of_the_loop])
def test_the_worker_command_ends_though_a_task_does_not(
    config: FairQueueConfig, queue: TaskQueue, tmp_path: Path, function: Any
) -> None:
    file, journal = tmp_path / "fairque.yaml", tmp_path / "journal"
    file.write_text(
        f"redis: {{unix_socket_path: {config.redis.unix_socket_path}}}\n"
        f"queue: {{prefix: {config.queue.prefix}}}\n"
        "workers: {w: {graceful_shutdown_timeout: 0.5}}\n"
    )
    handle = queue.push(function(str(journal)), user_id="acme")
    worker = subprocess.Popen(
        [sys.executable, "-m", "fairque", "worker", "tests.support.worker_tasks", "--config", str(file)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: tasks.lines(journal) == ["started"], "it is running", within=20)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=8) == 0
        assert (handle.state(), handle.info().crashes) == (TaskState.QUEUED, 0)
    finally:
        worker.kill()
        worker.wait()
