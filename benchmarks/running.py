"""A peer's processes: its producers, its worker, what they mark, and the CPU time they take."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchmarks.environments import CannotRunError
from benchmarks.tasks import MARKS, RESULT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.environments import Environment, Kind, Peer
    from benchmarks.server import Server

CONCURRENCY: dict[Kind, int] = {"async": 100, "plain": 10}
ROOT = Path(__file__).parent.parent
PRODUCING, STALLED, STOPPING = 60.0, 20.0, 2.0  # seconds at most
PRODUCED = 5_000  # tasks that a producer is given one more second for
LULL = 0.5  # seconds after the last task in which its worker may still write
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Bench:
    """One peer on the server, with a folder for its marks and logs.

    Attributes:
        counts: How many tasks of a kind it is given to drain; found by a probe.
        scale: By what the numbers of tasks are multiplied (less than 1 for a quick look).
    """

    peer: Peer
    environment: Environment
    server: Server
    folder: Path
    counts: dict[Kind, int]
    scale: float

    @property
    def marks(self) -> Path:
        """The file to which each task that runs appends its time."""
        return self.folder / "marks"

    def begin(self) -> None:
        """Empty the server and the file of marks."""
        self.server.empty()
        self.marks.write_bytes(b"")

    def scaled(self, count: int) -> int:
        """As many tasks, or fewer for a quick look."""
        return max(1, round(count * self.scale))

    def times(self) -> tuple[int, ...]:
        """When the tasks ran (CLOCK_MONOTONIC, ns), in order."""
        data = self.marks.read_bytes()
        return tuple(sorted(struct.unpack(f"{len(data) // 8}q", data)))

    def produce(
        self, action: str, *, kind: Kind, count: int, size: int = 100, chunk: int = 1000, **extra: Any
    ) -> dict[str, Any]:
        """Run a producer and return its answer (`benchmarks.harness.Pushing` says which there are).

        Raises:
            CannotRunError: It failed, or took too long.
        """
        order = {"action": action, "count": count, "size": size, "chunk": chunk, "seconds": 5.0, **extra}
        patience = PRODUCING + count / PRODUCED
        with tempfile.TemporaryFile(mode="w+") as log:
            process = self._start(order, kind, log)
            try:
                said, _ = process.communicate(timeout=patience)
            except subprocess.TimeoutExpired as error:
                raise CannotRunError(f"the producer took more than {patience:.0f} s") from error
            finally:
                end(process)
            if process.returncode:
                raise CannotRunError(f"the producer failed{_how(process.returncode)}: {last_line(log)}")
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer

    @contextmanager
    def worker(self, kind: Kind, *, results: str = "default", result_bytes: int = 0) -> Iterator[Work]:
        """A worker process, ended with the block."""
        order = {"action": "work", "results": results, "result_bytes": result_bytes}
        with tempfile.TemporaryFile(mode="w+") as log:
            process = self._start(order, kind, log)
            try:
                yield Work(self, process, log)
            finally:
                end(process)

    def _start(self, order: dict[str, Any], kind: Kind, log: IO[str]) -> subprocess.Popen[str]:
        options = {
            "url": self.server.url,
            "kind": kind,
            "concurrency": CONCURRENCY[kind],
            "results": order.pop("results", "default"),
            "users": order.pop("users", 1),
        }
        variables = {
            MARKS: str(self.marks),
            RESULT_BYTES: str(order.pop("result_bytes", 0)),
            "PYTHONPATH": str(ROOT),
            **self.environment.variables,
        }
        return subprocess.Popen(  # noqa: S603 — our own command
            [*self.environment.command, json.dumps({"peer": self.peer.name, "options": options, **order})],
            env={**os.environ, **variables},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if order["action"] != "work" else subprocess.DEVNULL,
            stderr=log,
            text=True,
            start_new_session=True,
        )


class Work:
    """A worker at work."""

    def __init__(self, bench: Bench, process: subprocess.Popen[str], log: IO[str]) -> None:
        self._bench = bench
        self._process = process
        self._log = log

    def cpu(self) -> float:
        """CPU seconds of the worker with its children, and of the server, since they started."""
        return sum(_cpu(stat) for _, stat in in_session(self._process.pid)) + self._bench.server.cpu()

    def wait(self, count: int, pause: float = 0.01) -> None:
        """Return when as many tasks have run.

        Raises:
            CannotRunError: The worker has ended, or no task has run for long.
        """
        seen, changed = -1, time.monotonic()
        while seen < count:
            now = self._bench.marks.stat().st_size // 8
            if now != seen:
                seen, changed = now, time.monotonic()
            elif self._process.poll() is not None:
                raise CannotRunError(f"the worker ended: {last_line(self._log)}")
            elif time.monotonic() - changed > STALLED:
                raise CannotRunError(f"{seen} of {count} tasks ran, then none for {STALLED:.0f} s")
            time.sleep(pause)


def _how(code: int) -> str:
    """What a process was ended by that did not end by itself."""
    return f" by {signal.Signals(-code).name}" if code < 0 else ""


def last_line(log: IO[str]) -> str:
    """The last line that names an error, or else the last that is not blank."""
    log.seek(0)
    lines = [line.strip() for line in log.read().splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line and not line.startswith("at ")]
    return (errors or lines or ["it said nothing"])[-1]


def end(process: subprocess.Popen[str]) -> None:
    """Stop a process with all its children, gently at first."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOPPING)
    for pid, _ in in_session(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def in_session(session: int) -> list[tuple[int, list[str]]]:
    """The processes of a session, each with the fields of its `stat` from the state on."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                found.append((int(path.parent.name), fields))
    return found


def _cpu(stat: list[str]) -> float:
    """User and system seconds of a process and of the children it has waited for."""
    return sum(int(field) for field in stat[11:15]) / TICKS
