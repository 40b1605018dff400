"""One worker process of a supervisor, and the place that it fills."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from fairque.worker.link import Link

LONGEST_PAUSE = 30.0  # seconds between a death and the restart
SHORTEST_PAUSE = 0.25
LONG_LIFE = 60.0  # seconds after which a death counts as the first one again
NOW_SECONDS = 5.0  # to hand back what runs
SLACK_SECONDS = 20.0  # beyond the grace; a worker needs less, even if the server is away


class Child:
    """A worker process, in a process group of its own: Ctrl-C reaches the supervisor alone.

    Args:
        command: What to run; the options that tie it to the supervisor are added.
        number: Tells its worker id from those of the other children.
    """

    def __init__(self, command: list[str], number: int) -> None:
        ours, theirs = socket.socketpair()
        self.number = number
        self.started = time.monotonic()
        self.link: Link | None = Link(ours)
        self.report: dict[str, Any] = {}
        self._kill_at: float | None = None
        with theirs:
            descriptor = theirs.fileno()
            self.process = subprocess.Popen(  # noqa: S603 - this very program
                [*command, "--number", str(number), "--supervisor-fd", str(descriptor)],
                stdin=subprocess.DEVNULL,
                pass_fds=(descriptor,),
                process_group=0,
            )

    def __str__(self) -> str:
        return f"worker process {self.number} (pid {self.process.pid})"

    @property
    def is_ready(self) -> bool:
        """Whether it takes tasks."""
        return bool(self.report.get("ready"))

    @property
    def is_live(self) -> bool:
        """Whether it may come to an end by itself."""
        return bool(self.report.get("live", True))

    @property
    def recycling(self) -> str | None:
        """Why it is about to end and to be replaced."""
        return self.report.get("recycling")

    @property
    def is_ending(self) -> bool:
        """Whether it was told to end."""
        return self._kill_at is not None

    def listen(self) -> None:
        """Take in what it says of itself; to be called when there is something."""
        if self.link is None:
            return
        said = self.link.receive()
        if said is None:
            self.link.close()
            self.link = None
        elif said:
            self.report = said[-1]

    def drain(self, grace: float) -> None:
        """Let it end with its running tasks; kill it if it does not end when it should."""
        self._order("drain", grace + SLACK_SECONDS)

    def hurry(self) -> None:
        """Let it hand back what it runs, and end."""
        self._order("now", NOW_SECONDS)

    def _order(self, order: str, patience: float) -> None:
        if self.link is not None:
            self.link.send({"order": order})
        self._kill_at = min(self._kill_at or float("inf"), time.monotonic() + patience)

    def kill_if_late(self) -> bool:
        """Kill it if it has not obeyed: whether that was so."""
        if self._kill_at is None or time.monotonic() < self._kill_at:
            return False
        self._kill_at = None
        self.process.kill()
        return True

    def hang_up(self) -> None:
        """After its end."""
        if self.link is not None:
            self.link.close()
            self.link = None

    def told(self) -> dict[str, Any]:
        """What it said of itself."""
        return {"pid": self.process.pid, **self.report.get("body", {"state": "starting", "running": 0})}


@dataclass(slots=True)
class Place:
    """What one child after the other fills."""

    child: Child | None = None
    failures: int = 0  # in a row, each after a short life
    restart_at: float | None = None
    last_code: int = 0
    is_done: bool = False  # in a burst

    def is_due(self) -> bool:
        """Whether a child should be started here now."""
        return self.restart_at is not None and time.monotonic() >= self.restart_at

    def pause(self, lived: float) -> float:
        """Wait before the next child, the longer the more have died young; for how many seconds."""
        if lived >= LONG_LIFE:
            self.failures = 0
        longest = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(self.failures, 10))
        seconds = longest * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
        self.failures += 1
        self.restart_at = time.monotonic() + seconds
        return seconds


def has_terminal() -> bool:
    """Whether a person watches: then SIGHUP says that the terminal was closed."""
    try:
        return os.isatty(0)
    except OSError:
        return False
