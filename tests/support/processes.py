"""Workers as processes of their own, which tests kill."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from fairque import FairQueueConfig

ROOT = Path(__file__).parent.parent.parent
SCRIPT = """
import sys
from fairque import FairQueueConfig, QueueConfig, RedisConfig, Worker
import tests.support.worker_tasks
socket, prefix, max_crashes, concurrency, lease, grace = sys.argv[1:]
queue = QueueConfig(prefix=prefix, max_crashes=int(max_crashes))
config = FairQueueConfig(redis=RedisConfig(unix_socket_path=socket), queue=queue)
Worker(config, concurrency=int(concurrency), lease=float(lease), graceful_shutdown_timeout=float(grace)).run()
"""

Spawn: TypeAlias = "Callable[..., subprocess.Popen[str]]"


def spawn_worker(
    config: FairQueueConfig, *, concurrency: int, lease: float, grace: float
) -> subprocess.Popen[str]:
    where = (str(config.redis.unix_socket_path), config.queue.prefix, str(config.queue.max_crashes))
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *where, str(concurrency), str(lease), str(grace)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


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
    """A command that runs for long, as `fairque worker`, as a process of its own, with its log in a file.

    Args:
        log: The file.
        arguments: What follows the verb.
        modules: Where tasks are found besides the current folder.
        verb: Which command.
        cwd: The current folder.
    """

    def __init__(
        self,
        log: Path,
        *arguments: str,
        modules: Path | None = None,
        verb: str = "worker",
        cwd: Path = ROOT,
    ) -> None:
        self._log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fairque", verb, *arguments],
                cwd=cwd,
                env={**os.environ, "PYTHONPATH": str(modules or "")},
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                process_group=0,
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
