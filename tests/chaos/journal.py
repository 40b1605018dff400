"""What happened, written down outside the server: a line is on the disk before anything goes on.

A line is `<time> <kind> <task> <attempt> <worker>`, the time monotonic and the same for all processes:

- `trying`, `pushed`: a push begins; it has returned.
- `start`, `effect`, `raised`: an execution begins; what it does to the world is done; it fails on purpose.
- `accepted`, `refused`: the server's answer to a finish of this attempt.
- `kill`: a worker was killed, with so many (in the attempt's place) attempts in flight.
- `ready`, `stopped`: a worker is about to work; it has come to the point where it stops itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

NOBODY = "-"


class Entry(NamedTuple):
    at: float
    kind: str
    task: str
    attempt: int = 0
    worker: str = NOBODY


class Journal:
    """An append-only file that any number of processes write to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: str, tasks: Iterable[tuple[str, int]], worker: str = NOBODY) -> None:
        """A line for each task and attempt, in one write, which lands whole."""
        at = time.monotonic()
        text = "".join(f"{at:.6f} {kind} {task} {attempt} {worker}\n" for task, attempt in tasks)
        os.write(self._descriptor, text.encode())
        os.fdatasync(self._descriptor)

    def entries(self, *kinds: str) -> list[Entry]:
        """All that was written so far; of these kinds, if any are given."""
        found = []
        for line in self.path.read_text().splitlines():
            at, kind, task, attempt, worker = line.split()
            if not kinds or kind in kinds:
                found.append(Entry(float(at), kind, task, int(attempt), worker))
        return found

    def close(self) -> None:
        os.close(self._descriptor)
