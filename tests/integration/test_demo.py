"""The demo on a small part of its input, with its real server and worker processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from fairque.demo import run_demo
from fairque.demo.workers import WorkerDiedError, WorkerProcesses
from fairque.utils.embedded import EmbeddedServer
from tests.support.processes import is_alive
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = 160
DEMO = "from fairque.demo import run_demo; raise SystemExit(run_demo({}))"


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    pairs = [line.split() for line in listed.splitlines()]
    return [int(child) for child, parent in pairs if int(parent) == pid]


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    """A demo of all files, under way: it takes so long that there is time to disturb it."""
    process = subprocess.Popen(
        [sys.executable, "-c", DEMO.format("")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "users have results" in line:
            break
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def outcome() -> dict[str, Any]:
    command = (
        f"from fairque.demo import run_demo; raise SystemExit(run_demo(json_output=True, limit={FILES}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


def test_every_file_is_measured_in_both_runs(outcome: dict[str, Any]) -> None:
    assert outcome["files"] == FILES
    assert outcome["users"] > 10
    assert outcome["tasks_finished"] == 2 * FILES
    assert outcome["tasks_failed"] == 0
    assert outcome["lines"] > outcome["functions"] > FILES


def test_small_users_wait_less_when_the_order_is_fair(outcome: dict[str, Any]) -> None:
    fifo, fair = outcome["fifo"], outcome["fair"]
    assert fair["small_users_wait_p50_ms"] <= fair["small_users_wait_p99_ms"]
    assert fair["small_users_wait_p99_ms"] < fifo["small_users_wait_p99_ms"]
    assert fair["small_users_wait_p50_ms"] < fifo["small_users_wait_p50_ms"] / 2


def test_users_are_served_evenly_when_the_order_is_fair(outcome: dict[str, Any]) -> None:
    assert outcome["fair"]["jain_index"] > 0.95
    assert outcome["fifo"]["jain_index"] < 0.6


def test_the_most_complex_functions_are_named(outcome: dict[str, Any]) -> None:
    complexities = [function["complexity"] for function in outcome["most_complex"]]
    assert complexities == sorted(complexities, reverse=True)
    assert complexities[0] > 20
    assert set(outcome["most_complex"][0]) == {"function", "file", "line", "complexity"}


def test_without_a_terminal_it_prints_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(limit=40) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "\x1b" not in printed.out
    assert "small users' wait, p99" in printed.out
    assert max(map(len, printed.out.splitlines())) <= 80


def test_ctrl_c_ends_the_demo_and_all_that_it_started(demo: subprocess.Popen[str]) -> None:
    started = children_of(demo.pid)
    assert started
    demo.send_signal(signal.SIGINT)
    _, errors = demo.communicate(timeout=20)
    assert demo.returncode == 130
    assert errors.splitlines() == ["fairque demo: interrupted; the workers and the server have ended"]
    assert not any(map(is_alive, started))


def test_a_killed_demo_takes_its_workers_with_it(demo: subprocess.Popen[str]) -> None:
    started = children_of(demo.pid)
    assert started
    demo.kill()
    until(lambda: not any(map(is_alive, started)), "all have ended", within=20)


def test_a_worker_that_dies_ends_the_demo_with_a_clear_message(demo: subprocess.Popen[str]) -> None:
    victim = children_of(demo.pid)[0]
    os.kill(victim, signal.SIGKILL)
    _, errors = demo.communicate(timeout=20)
    assert demo.returncode == 1
    assert re.fullmatch(rf"fairque demo: worker process {victim} was killed by signal 9 .*\n", errors)


@pytest.mark.parametrize("is_over", [False, True])
def test_workers_report_their_processor_time_until_one_is_gone(*, is_over: bool) -> None:
    with EmbeddedServer.open("embedded://") as server, WorkerProcesses(server.socket_path, 2, 1) as workers:
        assert workers.cpu_seconds() > 0
        os.kill(workers.pids[0], signal.SIGKILL)
        if is_over:
            os.waitid(os.P_PID, workers.pids[0], os.WEXITED | os.WNOWAIT)
        with pytest.raises(WorkerDiedError, match="killed by signal 9"):
            workers.cpu_seconds()
