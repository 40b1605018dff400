"""The demo's workers: processes of their own, as in production. Run as a module it is one of them."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

from fairque.core.exceptions import FairQueueError

if TYPE_CHECKING:
    from types import TracebackType

    from fairque.core.config import FairQueueConfig

LONGEST_GOODBYE = 10.0  # seconds, for a worker that was asked to stop
MOST_PROCESSES = 4


class WorkerDiedError(FairQueueError):
    """A worker process ended before the work did."""


def demo_config(socket_path: str) -> FairQueueConfig:
    """Made in code, so that settings meant for a real queue (environment, fairque.yaml) change nothing."""
    from fairque.core.config import FairQueueConfig, RedisConfig  # noqa: PLC0415 - loads when it is used
    from fairque.queue.connect import TRUSTED  # noqa: PLC0415

    return FairQueueConfig(redis=RedisConfig(unix_socket_path=socket_path, **TRUSTED))


def process_count() -> int:
    """One for each core, within reason."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores, 2), MOST_PROCESSES)


class WorkerProcesses:
    """So many worker processes, from entering to leaving the block.

    Each holds the end of a pipe and stops when the other end is closed: by us, or by the kernel if we are
    killed. They are in process groups of their own, so Ctrl-C in a terminal reaches only us.

    Args:
        socket_path: The server's unix socket.
        count: How many processes.
        slots: Tasks each runs at once.
    """

    def __init__(self, socket_path: str, count: int, slots: int) -> None:
        # Some of the standard library's files make the compiler warn; that is not the demo's business.
        command = [sys.executable, "-W", "ignore", "-m", __name__, socket_path, str(slots)]
        self._command = command
        self.count = count
        self.slots = slots
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(self.count):
                process = subprocess.Popen(  # noqa: S603 - our own module
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
                )
                self._processes.append(process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [process.pid for process in self._processes]

    def check(self) -> None:
        """Make sure that all are there.

        Raises:
            WorkerDiedError: One is not.
        """
        for process in self._processes:
            code = process.poll()
            if code is not None:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                raise WorkerDiedError(
                    f"worker process {process.pid} {how} before the work was done: run the demo again"
                )

    def cpu_seconds(self) -> float:
        """How much processor time all of them have used so far."""
        total = 0.0
        for process in self._processes:
            assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - for the type checker
            try:
                process.stdin.write(b"?")
                process.stdin.flush()
                total += float(process.stdout.readline())
            except (OSError, ValueError):
                process.wait(LONGEST_GOODBYE)
                self.check()
                raise
        return total

    def _stop(self) -> None:
        for process in self._processes:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # it is gone, and was still to be asked something
                    process.stdin.close()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LONGEST_GOODBYE)
            if process.returncode is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def main(socket_path: str, slots: str) -> None:
    """Work until standard input ends; answer each byte of it with the processor time used so far."""
    from fairque.demo import tasks  # noqa: F401, PLC0415 - importing registers the task
    from fairque.worker.worker import Worker  # noqa: PLC0415 - only the child needs it

    logging.basicConfig(level=logging.ERROR)  # a warning (a task is retried) would land in the live display
    worker = Worker(demo_config(socket_path), concurrency=int(slots), graceful_shutdown_timeout=2.0)

    def listen() -> None:
        while os.read(0, 1):  # any byte asks for the processor time
            os.write(1, f"{time.process_time()}\n".encode())
        worker.stop()

    threading.Thread(target=listen, name="demo-input", daemon=True).start()
    worker.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
