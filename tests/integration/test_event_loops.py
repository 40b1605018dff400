"""Workers and schedulers on asyncio's event loop and on uvloop's."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairque import (
    AsyncTaskQueue,
    AsyncWorker,
    ConfigurationError,
    FairQueueConfig,
    TaskQueue,
    TaskScheduler,
    TaskState,
    Worker,
)
from fairque.utils.loops import VARIABLE, name_of, new_event_loop
from tests.support import worker_tasks as tasks
from tests.support.loops import EarlyLoop
from tests.support.processes import START, Start
from tests.support.waiting import until

LOOPS = ["asyncio", "uvloop"]
pytest.importorskip("uvloop")


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv(VARIABLE, name)
    return name


def test_a_worker_says_which_loop_it_runs_on_and_drains_when_it_is_asked_to(
    queue: TaskQueue, command: Start, journal: Path, loop: str
) -> None:
    worker = command(graceful_shutdown_timeout=20)
    assert queue.push(tasks.async_add(1, 1), user_id="acme").result(timeout=START) == 2
    first = next(line for line in worker.log.splitlines() if "INFO fairque.worker" in line)
    assert first.endswith(f"at once, on {loop}")
    running = queue.push(tasks.journaled(str(journal), 1, 1.0), user_id="acme")
    until(lambda: tasks.lines(journal), "it is running")
    worker.signal(signal.SIGTERM)
    assert worker.ends(within=10) == 0
    assert running.state() is TaskState.FINISHED


def test_processes_of_tasks_work_and_end_on_each_loop(
    queue: TaskQueue, command: Start, journal: Path, loop: str
) -> None:
    worker = command("--executor", "process", graceful_shutdown_timeout=1.0)
    assert queue.push(tasks.add(1, 1), user_id="acme").result(timeout=START) == 2
    running = queue.push(tasks.journaled(str(journal), 1, 60.0), user_id="acme")
    until(lambda: tasks.lines(journal), "it is running", within=START)
    worker.signal(signal.SIGTERM)
    assert worker.ends(within=10) == 0
    assert (running.state(), running.info().crashes) == (TaskState.QUEUED, 0)


def test_a_blocked_loop_of_each_kind_does_not_keep_the_process(
    queue: TaskQueue, command: Start, journal: Path, loop: str
) -> None:
    worker = command(graceful_shutdown_timeout=1.0)
    handle = queue.push(tasks.block_the_loop_at_first(str(journal), 60.0), user_id="acme")
    until(lambda: tasks.lines(journal), "the loop is blocked", within=START)
    worker.signal(signal.SIGTERM)
    assert worker.ends(within=5) == 0
    assert (handle.state(), handle.info().crashes) == (TaskState.QUEUED, 0)
    assert "a task blocks the event loop and the time is up" in worker.log


def test_handlers_that_the_program_sets_are_called_while_the_loop_waits(
    queue: TaskQueue, command: Start, journal: Path, loop: str
) -> None:
    worker = command()
    queue.push(tasks.note_signals(str(journal), signal.SIGUSR1), user_id="acme").result(timeout=START)
    time.sleep(0.2)  # until it waits
    worker.signal(signal.SIGUSR1)
    until(lambda: tasks.lines(journal) == ["heard"], "it is called", within=1.0)
    worker.signal(signal.SIGTERM)
    assert worker.ends(within=10) == 0


def test_handlers_that_a_task_gives_to_the_loop_take_no_signal_from_the_worker(
    queue: TaskQueue, command: Start, journal: Path, loop: str
) -> None:
    worker = command(graceful_shutdown_timeout=20)
    task = tasks.note_signals_on_the_loop(str(journal), signal.SIGUSR1)
    queue.push(task, user_id="acme").result(timeout=START)
    running = queue.push(tasks.journaled(str(journal), 1, 1.0), user_id="acme")
    until(lambda: tasks.lines(journal), "it is running")
    worker.signal(signal.SIGUSR1)
    until(lambda: "heard" in tasks.lines(journal), "it is called", within=1.0)
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGUSR1)
    until(lambda: tasks.lines(journal).count("heard") == 2, "it is called again", within=1.0)
    assert worker.ends(within=10) == 0
    assert running.state() is TaskState.FINISHED


def test_children_that_return_to_the_loop_take_nothing_from_the_tasks_beside_them(
    queue: TaskQueue, command: Start, journal: Path, loop: str
) -> None:
    command(concurrency=20)
    queue.push(tasks.async_add(1, 1), user_id="acme").result(timeout=START)
    began = time.monotonic()
    forking = [queue.push(tasks.fork_and_return(str(journal)), user_id="forks") for _ in range(20)]
    beside = [queue.push(tasks.async_add(number, 1), user_id="acme") for number in range(60)]
    assert [handle.result(timeout=20) for handle in beside] == [number + 1 for number in range(60)]
    assert all(handle.result(timeout=20) > 0 for handle in forking)
    assert time.monotonic() - began < 4.0  # no reply was lost: one costs the socket's timeout
    assert queue.stats().totals["started"] == 81


def test_a_value_that_names_no_loop_is_refused(
    queue: TaskQueue, command: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "trio")
    said = "FAIRQUE_EVENT_LOOP is 'trio': must be asyncio or uvloop"
    with pytest.raises(ConfigurationError, match=said):
        Worker(queue).run()
    with pytest.raises(ConfigurationError, match=said):
        Worker(queue).start()
    with TaskScheduler(queue) as scheduler, pytest.raises(ConfigurationError, match=said):
        scheduler.start()
    worker = command()
    assert worker.ends(within=START) == 2
    assert said in worker.log


def test_where_uvloop_is_missing_asyncio_does_unless_uvloop_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for there, expected in ((True, "uvloop"), (False, "asyncio")):
        if not there:
            monkeypatch.setitem(sys.modules, "uvloop", None)
        loop = new_event_loop()
        loop.close()
        assert name_of(loop) == expected
    monkeypatch.setenv(VARIABLE, "uvloop")
    with pytest.raises(ConfigurationError, match=r"cannot be imported .*pip install 'fairque\[fast\]'"):
        new_event_loop()


def test_short_tasks_do_not_wait_for_long_ones_where_timers_ring_early(config: FairQueueConfig) -> None:
    async def main() -> set[TaskState]:
        async with AsyncTaskQueue(config) as queue:
            worker = AsyncWorker(queue, concurrency=5)
            running = asyncio.create_task(worker.run())
            await queue.push_batch([tasks.async_sleep(2.0) for _ in range(3)], user_id="long")
            short = await queue.push_batch([tasks.async_add(i, i) for i in range(200)], user_id="short")
            await asyncio.sleep(1.0)
            states = {await handle.state() for handle in short}
            worker.stop()
            await running
            return states

    with asyncio.Runner(loop_factory=EarlyLoop) as runner:
        assert runner.run(main()) == {TaskState.FINISHED}
