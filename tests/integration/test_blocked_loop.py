"""A worker whose event loop a task blocks, or in which a task forks, ends as it is asked to all the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairque import FairQueueConfig, TaskQueue, TaskState, Worker
from tests.support import worker_tasks as tasks
from tests.support.processes import START, Start, is_alive
from tests.support.waiting import until


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


def test_the_grace_ends_though_a_task_blocks_the_loop_and_another_worker_has_its_tasks_within_a_second(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    worker = command(graceful_shutdown_timeout=1.0, concurrency=2)
    beside = queue.push(tasks.hang_at_first(str(journal), 1), user_id="acme")
    until(lambda: tasks.lines(journal), "a thread is running", within=START)
    blocking = queue.push(tasks.block_the_loop_at_first(str(journal), 60.0), user_id="acme")
    until(lambda: len(tasks.lines(journal)) == 2, "the loop is blocked")
    with Worker(queue, worker_id="second", concurrency=5):
        began = time.monotonic()
        worker.signal(signal.SIGTERM)
        until(lambda: len(tasks.lines(journal)) == 4, "both run elsewhere", within=1.0 + 1.0 + 1.0)
        assert time.monotonic() - began > 1.0  # not before the grace is over
        assert worker.ends(within=5) == 0
        assert blocking.result(timeout=5) == 2
        assert beside.result(timeout=5) == 1
    assert [handle.info().crashes for handle in (beside, blocking)] == [0, 0]
    assert "a task blocks the event loop and the time is up" in worker.log


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
def test_a_second_signal_ends_a_worker_whose_loop_is_blocked(
    queue: TaskQueue, command: Start, journal: Path, numbers: tuple[signal.Signals, signal.Signals]
) -> None:
    worker = command(graceful_shutdown_timeout=60)
    handle = queue.push(tasks.block_the_loop_at_first(str(journal), 60.0), user_id="acme")
    until(lambda: tasks.lines(journal), "the loop is blocked", within=START)
    worker.signal(numbers[0])
    until(lambda: "is asked to end" in worker.log, "the first one is heard")
    began = time.monotonic()
    worker.signal(numbers[1])
    assert worker.ends(within=5) == 0
    assert time.monotonic() - began < 3.0
    assert (handle.state(), handle.info().crashes) == (TaskState.QUEUED, 0)


def test_what_a_blocked_worker_has_claimed_and_not_begun_is_handed_back_too(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    blocking = tasks.block_the_loop_at_first(str(journal), 60.0)
    handles = queue.push_batch([blocking, *(tasks.async_sleep(60) for _ in range(63))], user_id="acme")
    worker = command(graceful_shutdown_timeout=1.0, concurrency=64)
    until(lambda: tasks.lines(journal), "the loop is blocked", within=START)
    assert queue.stats().started == 64
    worker.signal(signal.SIGTERM)
    assert worker.ends(within=10) == 0
    assert {(handle.state(), handle.info().crashes) for handle in handles} == {(TaskState.QUEUED, 0)}


def test_a_loop_that_turns_again_within_the_grace_ends_as_usual(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    worker = command(graceful_shutdown_timeout=20)
    handle = queue.push(tasks.block_the_loop_at_first(str(journal), 2.0), user_id="acme")
    until(lambda: tasks.lines(journal), "the loop is blocked", within=START)
    worker.signal(signal.SIGTERM)
    assert worker.ends(within=10) == 0
    assert handle.result(timeout=1) == 1


def test_a_blocked_child_of_a_supervisor_is_ended_the_same_way(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    supervisor = command("--processes", "2", graceful_shutdown_timeout=1.0)
    handle = queue.push(tasks.block_the_loop_at_first(str(journal), 60.0), user_id="acme")
    until(lambda: tasks.lines(journal), "the loop is blocked", within=START)
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ends(within=10) == 0
    assert (handle.state(), handle.info().crashes) == (TaskState.QUEUED, 0)


def test_a_signal_before_the_worker_works_ends_it_at_once(command: Start, tmp_path: Path) -> None:
    (tmp_path / "slow_tasks.py").write_text(
        f"import time, pathlib\npathlib.Path({str(tmp_path / 'importing')!r}).touch()\ntime.sleep(60)\n"
    )
    worker = command(module="slow_tasks")
    until((tmp_path / "importing").exists, "it imports", within=START)
    worker.signal(signal.SIGTERM)
    assert worker.ends(within=5) == 0


def test_a_hangup_is_taken_as_a_stop(queue: TaskQueue, command: Start, journal: Path) -> None:
    worker = command(graceful_shutdown_timeout=20)
    handle = queue.push(tasks.journaled(str(journal), 1, 1.0), user_id="acme")
    until(lambda: tasks.lines(journal), "it is running", within=START)
    worker.signal(signal.SIGHUP)
    assert worker.ends(within=10) == 0
    assert handle.state() is TaskState.FINISHED


def test_the_child_of_a_fork_in_a_task_keeps_no_lease_of_a_worker_that_dies(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    worker = command(lease_seconds=1.0, concurrency=2)
    hanging = queue.push(tasks.hang_at_first(str(journal), 1), user_id="acme")
    child = queue.push(tasks.fork(str(journal), 60.0), user_id="acme").result(timeout=START)
    try:
        until(lambda: len(tasks.lines(journal)) == 2, "the other one hangs")
        worker.signal(signal.SIGKILL)
        worker.process.wait()
        with Worker(queue):
            assert hanging.result(timeout=10) == 1
        assert is_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_signal_for_the_child_of_a_fork_does_not_reach_its_worker(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    worker = command()
    handle = queue.push(tasks.end_a_process(str(journal)), user_id="acme")
    assert handle.result(timeout=START) == -signal.SIGTERM
    assert queue.push(tasks.add(1, 1), user_id="acme").result(timeout=5) == 2
    assert "is asked to end" not in worker.log
    worker.signal(signal.SIGTERM)
    assert worker.ends(within=10) == 0


def test_a_child_that_returns_into_the_workers_loop_takes_no_part_in_its_work(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    worker = command(concurrency=1)
    handle = queue.push(tasks.fork_and_return(str(journal)), user_id="acme")
    child = handle.result(timeout=START)
    assert child > 0
    assert not is_alive(child)
    assert "the child has returned to it: the child is ended" in worker.log
    assert [queue.push(tasks.add(n, 1), user_id="acme").result(timeout=5) for n in range(20)] == [
        n + 1 for n in range(20)
    ]
    worker.signal(signal.SIGTERM)
    assert worker.ends(within=10) == 0
