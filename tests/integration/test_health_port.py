"""`fairque worker --health-port`: what probes are told."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairque import ConfigurationError, FairQueueConfig, TaskQueue, Worker
from fairque.worker import vitals
from fairque.worker.health_port import HealthPort
from fairque.worker.vitals import Health
from tests.support import worker_tasks as tasks
from tests.support.processes import START, Command, Start
from tests.support.servers import own_server
from tests.support.waiting import until


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


def ask(address: str, path: str = "/live") -> tuple[int, dict[str, Any]]:
    """The status and the body."""
    try:
        with urllib.request.urlopen(address + path, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def address_of(command: Command) -> str:
    until(lambda: "probes are answered at" in command.log, "it listens", within=START)
    found = re.search(r"probes are answered at (\S+)", command.log)
    assert found is not None
    return found[1]


def is_ready(address: str) -> bool:
    return ask(address, "/ready")[0] == 200


def test_a_worker_is_live_from_the_start_ready_while_it_takes_tasks_and_not_while_it_drains(
    queue: TaskQueue, command: Start, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    worker = command("--health-port", "0", id="billing", graceful_shutdown_timeout=30)
    address = address_of(worker)
    assert address.startswith("http://127.0.0.1:")
    assert ask(address)[0] == 200
    until(lambda: is_ready(address), "it is ready", within=START)
    handle = queue.push(tasks.journaled(str(journal), 1, 1.5), user_id="acme")
    until(lambda: tasks.lines(journal), "it is running")
    status, body = ask(address, "/ready")
    assert (status, body["worker"], body["state"], body["running"]) == (200, "billing", "working", 1)
    assert body["last_contact"] >= body["since"][:10]
    worker.signal(signal.SIGTERM)
    until(lambda: not is_ready(address), "it drains")
    status, body = ask(address)
    assert (status, body["state"], body["running"]) == (200, "draining", 1)
    assert worker.ends(within=10) == 0
    assert handle.result(timeout=1) == 1


def test_what_imports_slowly_is_live_and_not_ready(command: Start, tmp_path: Path) -> None:
    (tmp_path / "slow_tasks.py").write_text("import time\ntime.sleep(60)\n")
    address = address_of(command("--health-port", "0", module="slow_tasks"))
    assert ask(address) == (200, ask(address)[1])
    assert (ask(address, "/ready")[0], ask(address, "/ready")[1]["state"]) == (503, "starting")


def test_a_worker_that_is_cut_off_is_live_and_not_ready_until_its_server_is_back(tmp_path: Path) -> None:
    with own_server() as server:
        config = server.config(lease_seconds=1.0)
        worker = Worker(config)
        health = worker.engine.vitals.health
        with worker:
            until(lambda: health().ready, "it is ready")
            server.stop()
            until(lambda: not health().ready, "it notices")
            assert (health().live, health().body["state"]) == (True, "disconnected")
            server.start()
            until(lambda: health().ready, "it is ready again", within=20)
    assert health().body["state"] == "ended"


@pytest.mark.slow
def test_a_loop_that_a_task_blocks_is_live_while_the_task_has_time_and_stuck_after_it(
    queue: TaskQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "STUCK_SECONDS", 0.3)
    journal = tmp_path / "journal"
    worker = Worker(queue, lease=3.0)
    health = worker.engine.vitals.health
    seen: list[tuple[bool, str]] = []

    def look() -> bool:
        found = health()
        seen.append((found.live, found.body["state"]))
        return not found.live

    with worker:
        until(lambda: health().ready, "it is ready")
        queue.push(tasks.outlive_on_the_loop(str(journal), 7.0), user_id="acme")
        until(lambda: tasks.lines(journal), "the loop is blocked")
        # The timeout is 0.2 s, and five more are what the heart grants before the lease may run out.
        assert until(look, "it is stuck", within=9) > 4.0
        assert set(seen[:-1]) == {(True, "working")}
        assert seen[-1] == (False, "stuck")
        until(lambda: health().live, "the loop turns again")


def test_a_supervisor_answers_for_its_children(queue: TaskQueue, command: Start) -> None:
    supervisor = command("--processes", "2", "--health-port", "0", id="w", graceful_shutdown_timeout=30)
    address = address_of(supervisor)
    assert ask(address)[0] == 200
    until(lambda: is_ready(address), "one child is ready", within=START)
    until(lambda: len(ready_ids(address)) == 2, "both are", within=START)
    assert ready_ids(address) == {"w-1", "w-2"}
    os.kill(supervisor.started[0], signal.SIGKILL)
    until(lambda: len(ready_ids(address)) == 1, "one is gone")
    assert is_ready(address)
    handle = queue.push(tasks.sleep(1.5), user_id="acme")
    until(lambda: ask(address)[1]["running"] == 1, "it is told that one runs")
    supervisor.signal(signal.SIGTERM)
    until(lambda: not is_ready(address), "they drain")
    assert (ask(address)[0], ask(address)[1]["state"]) == (200, "draining")
    assert supervisor.ends(within=15) in {0, 1}  # the one that was killed may not have been replaced yet
    assert handle.result(timeout=1) == "slept"


def ready_ids(address: str) -> set[str]:
    return {one["worker"] for one in ask(address)[1]["processes"] if one["state"] == "working"}


def test_a_port_that_is_taken_is_one_clear_line(command: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        worker = command("--health-port", str(taken.getsockname()[1]))
        assert worker.ends(within=START) == 2
    assert "cannot be used: Address already in use; choose another port" in worker.log
    assert "Traceback" not in worker.log


@pytest.mark.parametrize(
    ("host", "port", "complaint"),
    [
        ("127.0.0.1", 70000, "--health-port 70000: must be 1 to 65535"),
        ("127.0.0.1", -1, "--health-port -1: must be"),
        ("no such host", 0, "--health-host no such host --health-port 0 cannot be used"),
    ],
)
def test_an_address_that_cannot_be_is_refused(host: str, port: int, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        HealthPort(host, port, lambda: Health(live=True, ready=True, body={}))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_probes_of_all_kinds_are_answered_and_a_silent_one_holds_up_nobody(host: str) -> None:
    port = HealthPort(host, 0, lambda: Health(live=True, ready=False, body={"state": "starting"}))
    try:
        where = port.address.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(where[2]))):  # says nothing
            for path in ("/live", "/livez", "/healthz", "/live?verbose=1"):
                assert ask(port.address, path) == (200, {"state": "starting"})
            for path in ("/ready", "/readyz"):
                assert ask(port.address, path)[0] == 503
            assert ask(port.address, "/")[0] == 404
            head = urllib.request.Request(port.address + "/live", method="HEAD")
            with urllib.request.urlopen(head, timeout=5) as answer:
                assert (answer.status, answer.read()) == (200, b"")
    finally:
        port.close()
