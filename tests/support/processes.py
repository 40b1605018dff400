"""Workers as processes of their own, which tests kill."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from fairque import FairQueueConfig
from tests.support.prepared import Prepared

Start: TypeAlias = "Callable[..., Command]"

START = 30.0  # seconds for processes to start, on a machine that does much else


def fork_prepared(main: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """A process of its own that runs `main`. Those of one module begin within a moment.

    It is forked from a server process that has imported the module; a new interpreter would spend most of
    a second on that, and scenarios start dozens.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", main.__module__])
    process = context.Process(target=main, args=arguments, daemon=True)
    process.start()
    return process


class Command:
    """`python -m MODULE` as a process of its own, with its log in a file.

    Args:
        prepared: What it is forked from.
        log: The file.
        arguments: Of the command.
        module: Which one it is.
        modules: Where tasks are found besides the project's folder.
    """

    def __init__(
        self,
        prepared: Prepared,
        log: Path,
        *arguments: str,
        module: str = "fairque",
        modules: Path | str = "",
    ) -> None:
        self._log = log
        with log.open("w") as stderr:
            self.process = prepared.start(
                module, *arguments, stderr=stderr, environment={"PYTHONPATH": str(modules)}
            )

    @property
    def log(self) -> str:
        """What it has logged so far, and its children."""
        return self._log.read_text()

    @property
    def started(self) -> list[int]:
        """The ids of all processes that a supervisor has started so far."""
        return [int(pid) for pid in re.findall(r"\(pid (\d+)\) starts", self.log)]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self, within: float) -> int:
        """Its exit code."""
        return self.process.wait(timeout=within)

    def end(self) -> None:
        """Kill whatever is left of it."""
        for pid in (self.process.pid, *self.started):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def spawn_worker(
    prepared: Prepared, log: Path, config: FairQueueConfig, *, concurrency: int, lease: float, grace: float
) -> Command:
    where = (str(config.redis.unix_socket_path), config.queue.prefix, str(config.queue.max_crashes))
    options = (str(concurrency), str(lease), str(grace))
    return Command(prepared, log, *where, *options, module="tests.support.spawned_worker")
