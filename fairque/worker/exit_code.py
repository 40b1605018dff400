"""What the exit code of `fairque worker` says."""

from __future__ import annotations

import signal
from enum import IntEnum


class ExitCode(IntEnum):
    """The codes of its own; minus n, as Python gives it, stands for the signal n."""

    DONE = 0  # stopped as asked, or a burst's end
    FAILED = 1  # something went wrong; with several processes: a child's last end was a bad one
    USAGE = 2  # a setting, a module or the server at the start: one line says which
    RECYCLED = 3  # max_tasks or max_memory_mb: to be started again


def told(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
