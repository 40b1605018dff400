"""A scene for each scenario: short, or by `--long` with the numbers of the table. `-rP` shows the figures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairque import TaskQueue
from tests.chaos.crew import Crew
from tests.chaos.journal import Journal
from tests.chaos.scene import Scene
from tests.support.servers import OwnServer, own_server

IN_MEMORY = Path("/dev/shm")
NEVER = 1_000_000  # crashes until a task counts as poisoned, where innocent ones are killed all the time


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


@pytest.fixture
def folder(long: bool, tmp_path: Path) -> Iterator[Path]:
    """For the journal: on the disk in the long form; in memory in the short one, where that is a folder."""
    if long or not IN_MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=IN_MEMORY, prefix="fq-chaos-") as name:
        yield Path(name)


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    journal = Journal(folder / "journal")
    yield journal
    journal.close()


@pytest.fixture
def server_options() -> tuple[str, ...]:
    """How the scenario's server is started; its file may say otherwise."""
    return ()


@pytest.fixture
def server(server_options: tuple[str, ...]) -> Iterator[OwnServer]:
    with own_server(*server_options) as server:
        yield server


@pytest.fixture
def crew(server: OwnServer, journal: Journal, tmp_path: Path) -> Iterator[Crew]:
    there = {"unix_socket_path": server.socket_path, "allow_no_persistence": True}
    crew = Crew(there, {"max_crashes": NEVER}, journal, tmp_path)
    yield crew
    crew.dismiss()


@pytest.fixture
def scene(server: OwnServer, journal: Journal, crew: Crew, long: bool) -> Iterator[Scene]:
    with server.client() as raw, TaskQueue(server.config(max_crashes=NEVER)) as queue:
        yield Scene(server, raw, queue, journal, crew, long)
