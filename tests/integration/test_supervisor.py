"""`fairque worker --processes`: worker processes that are started, replaced and ended together."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairque import FairQueueConfig, TaskQueue, TaskState, Worker
from tests.support import worker_tasks as tasks
from tests.support.processes import START, Start, is_alive
from tests.support.waiting import until


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


def begun(journal: Path) -> int:
    return sum(line.startswith("start") for line in tasks.lines(journal))


def pids(journal: Path) -> set[int]:
    return {int(line.split()[3]) for line in tasks.lines(journal)}


def push_many(queue: TaskQueue, journal: Path, count: int, seconds: float) -> list[Any]:
    made = [tasks.journaled(str(journal), number, seconds) for number in range(count)]
    return queue.push_batch(made, user_id="acme")


def each_ran_once(journal: Path, count: int) -> bool:
    found = sorted(line.split()[:2] for line in tasks.lines(journal))
    return found == sorted([word, str(number)] for word in ("start", "done") for number in range(count))


def test_children_share_the_work_under_ids_of_their_own_and_end_together(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    supervisor = command("--processes", "3", id="billing", concurrency=1)
    handles = push_many(queue, journal, 3, 1.0)
    asked = [queue.push(tasks.whoami(), user_id="acme") for _ in range(3)]
    until(lambda: begun(journal) == 3, "each child runs a task", within=START)
    assert pids(journal) == set(supervisor.started)
    for handle in handles:
        handle.result(timeout=10)
    names = {handle.result(timeout=10)[3] for handle in asked}
    assert names <= {"billing-1", "billing-2", "billing-3"}
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ends(within=10) == 0
    assert not any(map(is_alive, supervisor.started))


@pytest.mark.slow
def test_a_child_that_is_killed_is_replaced_and_what_it_ran_is_done(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    supervisor = command("--processes", "2", "--concurrency", "1", lease_seconds=1.5)
    handle = queue.push(tasks.hang_at_first(str(journal), 1), user_id="acme")
    until(lambda: tasks.lines(journal), "it is running", within=START)
    until(lambda: len(supervisor.started) == 2, "both have been started", within=START)
    holder = queue.get("acme", handle.task_id)
    assert holder is not None
    number = {"w-1": 0, "w-2": 1}[str(holder.worker_id)]
    os.kill(supervisor.started[number], signal.SIGKILL)
    assert handle.result(timeout=15) == 1
    until(lambda: len(supervisor.started) == 3, "another one is started", within=START)
    assert "ended: signal SIGKILL; it is replaced in" in supervisor.log
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ends(within=10) == 0  # the last of its place ended well


def test_how_a_child_ended_in_the_end_shows_in_the_exit_code(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    supervisor = command("--processes", "2", "--concurrency", "1")
    push_many(queue, journal, 2, 60.0)
    until(lambda: begun(journal) == 2, "both are running", within=START)
    supervisor.signal(signal.SIGTERM)
    until(lambda: supervisor.log.count("is asked to end") == 2, "both drain")
    os.kill(supervisor.started[0], signal.SIGKILL)
    os.kill(supervisor.started[1], signal.SIGQUIT)
    assert supervisor.ends(within=10) == 1
    queue.reclaim()


@pytest.mark.slow
def test_children_are_recycled_between_tasks_and_none_is_lost_or_interrupted(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    handles = push_many(queue, journal, 24, 0.05)
    supervisor = command("--processes", "2", "--concurrency", "2", "--max-tasks", "5", "--burst")
    assert supervisor.ends(within=60) == 0
    assert each_ran_once(journal, 24)
    assert [handle.info().attempt for handle in handles] == [1] * 24
    assert len(pids(journal)) >= 4
    assert "it has run 5 tasks (max_tasks)" in supervisor.log


def test_a_child_that_grew_too_large_is_replaced(queue: TaskQueue, command: Start, journal: Path) -> None:
    supervisor = command("--processes", "1", max_memory_mb=250, concurrency=1)
    queue.push(tasks.keep(200), user_id="acme").result(timeout=START)
    handle = queue.push(tasks.journaled(str(journal), 1, 0.0), user_id="acme")
    handle.result(timeout=START)
    assert pids(journal) == {supervisor.started[1]}
    assert "MiB and may have 250 (max_memory_mb)" in supervisor.log
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ends(within=10) == 0


def test_a_memory_limit_that_no_process_could_keep_is_refused(command: Start) -> None:
    supervisor = command("--processes", "2", max_memory_mb=1)
    assert supervisor.ends(within=START) == 2
    assert "max_memory_mb 1: before its first task" in supervisor.log


def test_ctrl_c_is_one_signal_though_the_terminal_tells_the_whole_group(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    supervisor = command("--processes", "2", "--concurrency", "1")
    handles = push_many(queue, journal, 2, 1.5)
    until(lambda: begun(journal) == 2, "both are running", within=START)
    os.killpg(supervisor.process.pid, signal.SIGINT)
    assert supervisor.ends(within=10) == 0
    assert [handle.state() for handle in handles] == [TaskState.FINISHED] * 2


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGQUIT,)])
def test_a_second_signal_hands_back_at_once_what_all_children_run(
    queue: TaskQueue, command: Start, journal: Path, numbers: tuple[signal.Signals, ...]
) -> None:
    supervisor = command("--processes", "2", graceful_shutdown_timeout=60, concurrency=1)
    handles = push_many(queue, journal, 2, 60.0)
    until(lambda: begun(journal) == 2, "both are running", within=START)
    for number in numbers[:-1]:
        supervisor.signal(number)
        until(lambda: supervisor.log.count("is asked to end") == 2, "both drain")
    assert supervisor.process.poll() is None
    supervisor.signal(numbers[-1])
    assert supervisor.ends(within=5) == 0
    assert [handle.info().crashes for handle in handles] == [0, 0]
    assert [handle.state() for handle in handles] == [TaskState.QUEUED] * 2


@pytest.mark.slow
def test_a_hangup_replaces_one_child_after_the_other_while_tasks_go_on(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    supervisor = command("--processes", "2", "--concurrency", "1")
    handles = push_many(queue, journal, 2, 2.0)
    until(lambda: begun(journal) == 2, "both are running", within=START)
    old = supervisor.started
    supervisor.signal(signal.SIGHUP)
    until(lambda: not any(map(is_alive, old)), "both old ones are gone", within=START)
    assert [is_alive(pid) for pid in supervisor.started] == [False, False, True, True]
    assert [handle.result(timeout=1) for handle in handles] == [0, 1]
    assert [handle.info().attempt for handle in handles] == [1, 1]
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ends(within=10) == 0


@pytest.mark.slow
def test_a_rolling_restart_into_broken_code_leaves_the_old_children_at_work(
    queue: TaskQueue, command: Start, tmp_path: Path
) -> None:
    code = tmp_path / "deployed_tasks.py"
    code.write_text("from tests.support.worker_tasks import *\n")
    supervisor = command("--processes", "2", module="deployed_tasks")
    until(lambda: supervisor.log.count("serves queue") == 2, "both are at work", within=START)
    code.write_text("import no_such_module\n")
    supervisor.signal(signal.SIGHUP)
    until(lambda: "the rolling restart is over" in supervisor.log, "it is given up", within=START)
    assert queue.push(tasks.add(2, 2), user_id="acme").result(timeout=5) == 4
    assert [is_alive(pid) for pid in supervisor.started] == [True, True, False]
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ends(within=10) == 0


def test_children_of_a_supervisor_that_is_killed_drain_and_end(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    supervisor = command("--processes", "2", "--concurrency", "1")
    handles = push_many(queue, journal, 2, 2.0)
    more = push_many(queue, journal, 1, 0.0)
    until(lambda: begun(journal) == 2, "both are running", within=START)
    supervisor.signal(signal.SIGKILL)
    until(lambda: not any(map(is_alive, supervisor.started)), "no child is left", within=10)
    states = [handle.state() for handle in (*handles, *more)]
    assert states == [TaskState.FINISHED, TaskState.FINISHED, TaskState.QUEUED]


@pytest.mark.parametrize(
    ("module", "complaint"),
    [("no_such_tasks", "there is no module 'no_such_tasks'"), ("exiting_tasks", "SystemExit: not today")],
)
def test_children_that_all_refuse_their_settings_are_not_started_again(
    command: Start, tmp_path: Path, module: str, complaint: str
) -> None:
    (tmp_path / "exiting_tasks.py").write_text("import sys\nsys.exit('not today')\n")
    supervisor = command("--processes", "2", module=module)
    assert supervisor.ends(within=START) == 2
    assert complaint in supervisor.log
    assert "no worker process could start" in supervisor.log


@pytest.mark.slow
def test_a_child_that_keeps_dying_is_started_with_growing_pauses(command: Start, tmp_path: Path) -> None:
    (tmp_path / "dying_tasks.py").write_text("import os\nos._exit(7)\n")
    supervisor = command("--processes", "1", module="dying_tasks")
    until(lambda: supervisor.log.count("exit code 7; it is replaced in") >= 4, "it died", within=START)
    pauses = [
        float(line.split(" in ")[1].split()[0]) for line in supervisor.log.splitlines() if " in " in line
    ]
    assert pauses[3] > pauses[0]
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ends(within=10) == 1


def test_a_throwaway_server_for_each_process_is_refused(command: Start) -> None:
    supervisor = command("--processes", "2", "--url", "embedded://")
    assert supervisor.ends(within=START) == 2
    assert "name a folder, as in embedded:///var/tmp/fq" in supervisor.log


def test_a_worker_without_a_supervisor_says_by_its_exit_code_that_it_wants_to_be_started_again(
    queue: TaskQueue, command: Start, journal: Path
) -> None:
    handles = push_many(queue, journal, 3, 0.0)
    assert command("--concurrency", "1", "--max-tasks", "2").ends(within=START) == 3
    assert sorted(handle.state().name for handle in handles) == ["FINISHED", "FINISHED", "QUEUED"]


def test_run_returns_after_so_many_tasks_and_may_be_called_again(queue: TaskQueue) -> None:
    queue.push_batch([tasks.add(number, 1) for number in range(5)], user_id="acme")
    worker = Worker(queue, concurrency=1, max_tasks=2)
    worker.run()
    assert queue.stats().queued == 3
    worker.run()
    assert queue.stats().queued == 1


def test_a_worker_over_its_memory_ends_when_its_running_tasks_have(queue: TaskQueue, journal: Path) -> None:
    worker = Worker(queue, concurrency=2, max_memory_mb=1)
    push_many(queue, journal, 2, 0.2)
    queue.push(tasks.add(1, 1), user_id="acme", delay=3600)
    began = time.monotonic()
    worker.run()
    assert time.monotonic() - began < 10
    assert each_ran_once(journal, 2)
