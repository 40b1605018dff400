"""When a worker has done enough for one process: after so many tasks, or over so much memory."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

LOOK_SECONDS = 0.25  # between looks at the memory: tasks may be short
MEBIBYTE = 2**20
_STATM = Path("/proc/self/statm")


def resident_mb() -> float:
    """The memory that this process occupies, in MiB. Where there is no /proc: the most it ever occupied."""
    try:
        return int(_STATM.read_bytes().split()[1]) * resource.getpagesize() / MEBIBYTE
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (MEBIBYTE if sys.platform == "darwin" else 1024)


class Limits:
    """Counts the tasks that have ended, and says when the process should be replaced by a fresh one.

    Args:
        max_tasks: How many it may run; None for no limit.
        max_memory_mb: MiB it may occupy; None for no limit.
    """

    def __init__(self, max_tasks: int | None, max_memory_mb: int | None) -> None:
        self._max_tasks = max_tasks
        self._max_memory_mb = max_memory_mb
        self._ended = 0
        self._next_look = 0.0

    def passed(self) -> str | None:
        """To be asked at the end of each task: the limit that is passed, in words, or None."""
        self._ended += 1
        if self._max_tasks is not None and self._ended >= self._max_tasks:
            return f"it has run {self._ended} tasks (max_tasks)"
        now = time.monotonic()
        if self._max_memory_mb is None or now < self._next_look:
            return None
        self._next_look = now + LOOK_SECONDS
        used = resident_mb()
        if used <= self._max_memory_mb:
            return None
        return f"it occupies {used:.0f} MiB and may have {self._max_memory_mb} (max_memory_mb)"
