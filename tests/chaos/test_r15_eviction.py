"""R15: a server that drops keys when it is full is refused at the start, by producers and by workers."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairque import FairQueueConfig, ServerUnavailableError, TaskState, UnsafeServerError, Worker
from fairque.queue import fitness
from tests.support import worker_tasks as tasks
from tests.support.actions import make
from tests.support.faces import FACES, Background, open_face
from tests.support.servers import OwnServer, own_server
from tests.support.waiting import until

ADVICE = "CONFIG SET maxmemory-policy noeviction"
ROOT = Path(__file__).parent.parent.parent


def allowing(config: FairQueueConfig, **settings: bool) -> FairQueueConfig:
    return config.model_copy(update={"redis": config.redis.model_copy(update=settings)})


@pytest.fixture(scope="module")
def evicting() -> Iterator[OwnServer]:
    with own_server("--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb") as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_is_written(evicting: OwnServer) -> Iterator[None]:
    yield
    with evicting.client() as raw:
        left = raw.keys("*")
        raw.flushall()
    assert not left, f"a refused server was written to: {left}"


@pytest.mark.parametrize("face", FACES)
def test_the_first_use_by_a_producer_is_refused_and_nothing_is_written(
    face: str, evicting: OwnServer
) -> None:
    queue = open_face(face, evicting.config())
    try:
        for _ in range(2):  # and every other one, until the server is set right
            with pytest.raises(UnsafeServerError, match="allkeys-lru") as caught:
                queue.push(make("u", "t"))
            assert caught.value.policy == "allkeys-lru"
            for words in (ADVICE, "`maxmemory-policy noeviction`", "redis.allow_eviction: true"):
                assert words in str(caught.value)
        with evicting.client() as raw:
            raw.config_set("maxmemory-policy", "noeviction")
            try:
                assert queue.push(make("u", "t")).created
            finally:
                raw.config_set("maxmemory-policy", "allkeys-lru")
                raw.flushall()
    finally:
        queue.close()


@pytest.mark.parametrize("policy", ["allkeys-random", "allkeys-lfu", "volatile-lru", "volatile-ttl"])
@pytest.mark.parametrize("memory", ["0", "100mb"])
def test_no_policy_that_drops_keys_is_taken_whether_there_is_a_limit_or_not(policy: str, memory: str) -> None:
    with own_server("--maxmemory-policy", policy, "--maxmemory", memory) as server:
        queue = open_face("blocking", server.config())
        with pytest.raises(UnsafeServerError, match=policy):
            queue.push(make("u", "t"))
        queue.close()


@pytest.mark.parametrize("face", FACES)
def test_it_can_be_allowed_knowingly(face: str, evicting: OwnServer) -> None:
    queue = open_face(face, allowing(evicting.config(), allow_eviction=True))
    try:
        assert queue.push(make("u", "t")).created
        assert ADVICE in queue.health().problems[0]
    finally:
        queue.close()
    with evicting.client() as raw:
        raw.flushall()


def test_a_worker_refuses_to_start(evicting: OwnServer) -> None:
    with pytest.raises(UnsafeServerError, match=ADVICE):
        Worker(evicting.config()).run()


def test_the_commands_of_a_worker_and_of_who_looks(evicting: OwnServer) -> None:
    url = f"unix://{evicting.socket_path}"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fairque", *arguments, "--url", url]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, env=environment
        )

    done = run("worker", "tests.support.worker_tasks", "--burst")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("fairque: the server's maxmemory-policy is allkeys-lru")
    assert ADVICE in line
    # An operator may look at it, without a word of complaint.
    looked = run("stats")
    assert (looked.returncode, looked.stderr) == (0, "")


def test_a_server_that_is_away_is_no_refusal_and_a_worker_refuses_it_once_it_is_there(
    evicting: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="fairque")
    with own_server("--maxmemory-policy", "allkeys-lru") as server:
        server.stop()
        queue = open_face("blocking", server.config())
        with pytest.raises(ServerUnavailableError):
            queue.push(make("u", "t"))
        queue.close()
        worker = Background(Worker(server.config()).run)
        until(lambda: "cannot use the server" in caplog.text, "the worker waits for it")
        server.start()
        with pytest.raises(UnsafeServerError):
            worker.value()
        with server.client() as raw:
            raw.config_set("maxmemory-policy", "noeviction")
    assert "Traceback" not in caplog.text


def test_a_worker_waits_for_a_server_that_is_away_and_works_when_it_is_safe(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with own_server() as server:
        server.stop()
        with Worker(server.config()):
            until(lambda: "cannot use the server" in caplog.text, "the worker waits for it")
            server.start()
            queue = open_face("blocking", server.config())
            assert queue.push(tasks.add(1, 2), user_id="u").result(timeout=20) == 3
            queue.close()


def test_a_server_that_becomes_unsafe_is_an_error_in_the_log_and_is_served_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with own_server() as server, server.client() as raw:
        queue = open_face("blocking", server.config())
        check = queue.commands.shards[0].server
        queue.run(check.again())
        assert not caplog.records
        raw.config_set("maxmemory-policy", "volatile-lru")  # as after a failover to another configuration
        for _ in range(3):
            queue.run(check.again())
        (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert "volatile-lru" in told.getMessage()
        handle = queue.push(make("u", "t"))
        assert handle.state() is TaskState.QUEUED
        queue.close()


@pytest.mark.parametrize(("append", "warnings"), [("no", 1), ("yes", 0)])
def test_no_persistence_is_a_warning_once_in_a_process(
    append: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    fitness._warn_once.cache_clear()
    with own_server("--appendonly", append) as server:
        for _ in range(2):
            queue = open_face("blocking", server.config())
            queue.push(make("u", "t"))
            queue.close()
        quiet = open_face("blocking", allowing(server.config(), allow_no_persistence=True))
        quiet.push(make("u", "t"))
        quiet.close()
    told = [record for record in caplog.records if "CONFIG SET appendonly yes" in record.getMessage()]
    assert len(told) == warnings


def test_what_a_client_asks_at_its_first_use_is_one_round_trip() -> None:
    with own_server() as server, server.client() as raw:
        queue = open_face("blocking", server.config())
        queue.push(make("u", "first"))
        before = raw.info("commandstats")
        for number in range(5):
            queue.push(make("u", str(number)))
        other = open_face("blocking", server.config())
        other.push(make("u", "6"))
        after = raw.info("commandstats")
        calls = after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"]
        assert calls == 6 + 1
        queue.close()
        other.close()
