"""Processes that begin at once: each is forked from one that has imported what `fairque worker` needs.

A new interpreter spends about a second on that, and the tests start more than a hundred. In all else such a
process is `python -m MODULE`: its arguments, folder, environment, streams and signals are what it is given,
and the interpreter itself ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parent.parent.parent
NUMBER = struct.Struct("!i")
LONGEST_ORDER = 100_000


class Forked:
    """Such a process, used as a `subprocess.Popen`. It is in a process group of its own."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.pid = self._hear()
        self.returncode: int | None = None

    def _hear(self) -> int:
        (number,) = NUMBER.unpack(self._line.recv(NUMBER.size))
        return int(number)

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended: its exit code, or the negative number of a signal."""
        if self.returncode is None:
            self._line.settimeout(timeout)
            self.returncode = self._hear()
            self._line.close()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        with contextlib.suppress(BlockingIOError):
            self.wait(timeout=0)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Prepared:
    """The process that others are forked from. Close it."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )

    def start(
        self,
        module: str,
        *arguments: str,
        stderr: IO[Any],
        stdout: IO[Any] | None = None,
        cwd: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> Forked:
        """Begin `python -m module arguments`, with this beside our own environment."""
        order = {
            "module": module,
            "arguments": arguments,
            "cwd": str(cwd),
            "environment": {**os.environ, **(environment or {})},
        }
        ours, theirs = socket.socketpair()
        with theirs, Path(os.devnull).open("r+b") as nothing:
            streams = [nothing.fileno(), (stdout or nothing).fileno(), stderr.fileno()]
            socket.send_fds(self._orders, [json.dumps(order).encode()], [*streams, theirs.fileno()])
        return Forked(ours)

    def run(self, module: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """The same to its end: what it printed."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = self.start(module, *arguments, stdout=out, stderr=err, cwd=cwd)
            try:
                code = process.wait(timeout=60)
            finally:
                process.kill()
            for stream in (out, err):
                stream.seek(0)
            return subprocess.CompletedProcess([module, *arguments], code, out.read(), err.read())

    def close(self) -> None:
        self._orders.close()
        self._process.wait()


def _fork_as_ordered(orders: socket.socket) -> dict[str, Any]:
    """Returns in each process that is to begin, with what it is to be."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that report
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, LONGEST_ORDER, 4)
        if not message:
            sys.exit()
        if os.fork() == 0:
            orders.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _fork_and_report(descriptors[3], descriptors[:3])
            return dict(json.loads(message))
        for descriptor in descriptors:
            os.close(descriptor)


def _fork_and_report(line: int, streams: list[int]) -> None:
    """Returns in the child. Its parent says which it is, waits for it, and says how it ended."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.write(line, NUMBER.pack(os.getpid()))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for descriptor in (line, *streams):
            os.close(descriptor)
        return
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):  # nobody may want to know
        os.write(line, NUMBER.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _become(order: dict[str, Any]) -> None:
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    more = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:1] = [order["cwd"], *more]
    sys.argv[1:] = order["arguments"]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    import fairque.cli.working  # what a worker needs besides the command line: nearly all of the package
    import fairque.core.redis_clients  # noqa: F401

    _become(_fork_as_ordered(socket.socket(fileno=int(sys.argv[1]))))
