"""One embedded server for all tests; each test has its own prefix, and must leave it consistent."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from redis import Redis

from fairque.cli import main
from fairque.core.config import FairQueueConfig, QueueConfig, RedisConfig, UserPolicy
from fairque.queue.queue import TaskQueue
from fairque.utils.embedded import EmbeddedServer
from fairque.worker.worker import Worker
from tests.support.command_line import Done, Run
from tests.support.faces import FACES, open_face
from tests.support.invariants import violations
from tests.support.prepared import Prepared
from tests.support.processes import Command, Start, spawn_worker

OpenQueue: TypeAlias = Callable[..., TaskQueue]
StartWorker: TypeAlias = Callable[..., Worker]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.open("embedded://") as server:
        yield server


@pytest.fixture(scope="session")
def raw(server: EmbeddedServer) -> Iterator[Redis]:
    """A plain client, to look below the queue."""
    with Redis(unix_socket_path=server.socket_path) as client:
        yield client


@pytest.fixture
def prefix() -> str:
    return f"test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def root(prefix: str) -> str:
    return f"{prefix}:{{default:0}}"


@pytest.fixture
def make_config(server: EmbeddedServer, prefix: str) -> Callable[..., FairQueueConfig]:
    """The test's configuration, with changed settings of the queue."""

    def make(users: dict[str, UserPolicy] | None = None, **settings: Any) -> FairQueueConfig:
        queue, redis = (
            QueueConfig(prefix=prefix, **settings),
            RedisConfig(unix_socket_path=server.socket_path),
        )
        if users is None:
            return FairQueueConfig(redis=redis, queue=queue)
        return FairQueueConfig(redis=redis, queue=queue, users=users)

    return make


@pytest.fixture
def config(make_config: Callable[..., FairQueueConfig]) -> FairQueueConfig:
    return make_config()


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_queue(face: str, make_config: Callable[..., FairQueueConfig]) -> Iterator[OpenQueue]:
    """Opens the test's queue, on the face under test, with changed settings."""
    opened: list[TaskQueue] = []

    def open_one(**settings: Any) -> TaskQueue:
        opened.append(open_face(face, make_config(**settings)))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()


@pytest.fixture
def queue(open_queue: OpenQueue) -> TaskQueue:
    """The queue, once as `TaskQueue` and once as `AsyncTaskQueue`."""
    return open_queue()


@pytest.fixture(autouse=True)
def _leaves_no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves keys outside its prefix, or orphans under it; then clears the prefix."""
    if "prefix" not in request.fixturenames:
        yield
        return
    raw: Redis = request.getfixturevalue("raw")
    prefix: str = request.getfixturevalue("prefix")
    yield
    found: list[bytes] = raw.keys("*")  # type: ignore[assignment]
    roots = {key[: key.index(b"}") + 1].decode() for key in found if key.startswith(f"{prefix}:{{".encode())}
    strangers = [key for key in found if not key.startswith(f"{prefix}:{{".encode())]
    problems = [problem for root in sorted(roots) for problem in violations(raw, root)]
    if found:
        raw.delete(*found)
    assert not strangers, f"keys outside the test's prefix: {strangers[:10]}"
    assert not problems, "the test left an inconsistent shard:\n" + "\n".join(problems)


@pytest.fixture
def start(config: FairQueueConfig) -> Iterator[StartWorker]:
    """Starts workers in the background, and stops them after the test."""
    started: list[Worker] = []

    def start_one(source: Any = config, **options: Any) -> Worker:
        worker = Worker(source, **{"concurrency": 8, "graceful_shutdown_timeout": 5.0, **options})
        worker.start()
        started.append(worker)
        return worker

    yield start_one
    for worker in started:
        worker.stop()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The file in which tasks write down what they do."""
    return tmp_path / "journal"


@pytest.fixture
def config_file(server: EmbeddedServer, prefix: str, tmp_path: Path) -> Path:
    """A configuration file of the test's own prefix."""
    file = tmp_path / "fairque.yaml"
    file.write_text(f"redis:\n  unix_socket_path: {server.socket_path}\nqueue:\n  prefix: {prefix}\n")
    return file


@pytest.fixture
def run(config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, as its entry point does."""

    def run_it(*arguments: str) -> Done:
        given = list(arguments)
        if "--help" not in given:
            at = given.index("--") if "--" in given else len(given)
            given[at:at] = ["--config", str(config_file)]
        monkeypatch.setattr(sys, "argv", ["fairque", *given])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    return run_it


@pytest.fixture(scope="session")
def prepared() -> Iterator[Prepared]:
    prepared = Prepared()
    yield prepared
    prepared.close()


@pytest.fixture
def started() -> Iterator[list[Command]]:
    """The processes of a test; those that are left after it are killed."""
    started: list[Command] = []
    yield started
    for process in started:
        process.end()


@pytest.fixture
def spawn(config: FairQueueConfig, prepared: Prepared, started: list[Command], tmp_path: Path) -> Start:
    """Starts worker processes."""

    def spawn_one(
        settings: FairQueueConfig = config, *, concurrency: int = 10, lease: float = 30.0, grace: float = 10.0
    ) -> Command:
        log = tmp_path / f"log-{len(started)}"
        started.append(
            spawn_worker(prepared, log, settings, concurrency=concurrency, lease=lease, grace=grace)
        )
        return started[-1]

    return spawn_one


@pytest.fixture
def command(
    config_file: Path, prepared: Prepared, started: list[Command], tmp_path: Path
) -> Callable[..., Command]:
    """Starts `fairque worker` with the tests' tasks. Settings of its worker may be given by name."""
    base = config_file.read_text()

    def start(*arguments: str, module: str = "tests.support.worker_tasks", **worker: Any) -> Command:
        lease = worker.pop("lease_seconds", 30)
        text = f"{base}  lease_seconds: {lease}\nworkers: {{w: {json.dumps(worker)}}}\n"
        config_file.write_text(text)
        where = ("worker", module, "--config", str(config_file))
        log = tmp_path / f"log-{len(started)}"
        started.append(Command(prepared, log, *where, *arguments, modules=tmp_path))
        return started[-1]

    return start
