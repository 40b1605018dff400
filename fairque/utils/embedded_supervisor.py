"""Watches over one embedded server: starts it, and ends it when its last owner is gone.

`fairque.utils.embedded` runs this file as a program of its own, by its path: it imports nothing but the
standard library, so it starts in a few milliseconds and stays small. What the processes have to agree on
stands here too. Four locks lie in `<folder>/.fairque`; the kernel frees them when their holder dies, in
whatever way, so nothing has to be guessed from process ids or left-over files:

    start       held by a process while it opens or closes, so that this happens one at a time
    owners      shared by all that use the server; the supervisor waits to have it for itself, and then
                keeps it: from that moment on the server is ending and cannot be joined
    supervisor  held by the supervisor while it lives
    server      inherited by the server, held until it has really ended, even without its supervisor
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 10.0  # seconds: for a server to start, to answer, to end
SHUTDOWN = b"SHUTDOWN NOSAVE\r\n"  # flushes the AOF all the same, and is obeyed while a script runs


@dataclasses.dataclass(frozen=True)
class Running:
    """What `<folder>/.fairque/server.json` says of the server."""

    pid: int
    supervisor: int
    socket: str
    appendfsync: str


def control_folder(folder: Path) -> Path:
    return folder / ".fairque"


def read_running(control: Path) -> Running | None:
    try:
        return Running(**json.loads((control / "server.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # a crashed machine may leave an empty file
        return None


def lock(path: Path, operation: int) -> int:
    """Take a lock and return the descriptor that holds it; waits, unless LOCK_NB says to raise instead."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, operation)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    descriptor = lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def is_free(path: Path, operation: int = fcntl.LOCK_EX) -> bool:
    try:
        os.close(lock(path, operation | fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def ask(socket_path: str, command: bytes) -> bytes:
    """Send one inline command and return the reply, or nothing if no server answers within a second."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(socket_path)
            connection.sendall(command)
            return connection.recv(512)
        except OSError:
            return b""


class _StartError(Exception):
    pass


def _await_predecessor(control: Path) -> int:
    """Take the server lock. Only a server whose supervisor was killed still holds it: that one ends first."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            return lock(control / "server", fcntl.LOCK_EX | fcntl.LOCK_NB)
        if before := read_running(control):
            ask(before.socket, SHUTDOWN)
        time.sleep(0.01)
    raise _StartError(f"an earlier server still uses {control.parent} and does not end")


def _remove_stale_socket(control: Path) -> None:
    if before := read_running(control):
        with contextlib.suppress(OSError):
            path = Path(before.socket)
            if path.is_socket():
                path.unlink()
            path.parent.rmdir()
    (control / "server.json").unlink(missing_ok=True)


def _die_with_parent() -> Callable[[], None] | None:
    """Make the kernel end the server when this process is killed; where it cannot, the next open() does."""
    if sys.platform != "linux":
        return None
    import ctypes  # noqa: PLC0415 — must be loaded before the fork, and only here

    prctl, parent, set_parent_death_signal = ctypes.CDLL(None).prctl, os.getpid(), 1

    def in_child() -> None:
        prctl(set_parent_death_signal, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


def _start(folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
    control = control_folder(folder)
    held = _await_predecessor(control)
    _remove_stale_socket(control)
    with (control / "server.log").open("wb") as log:
        server = subprocess.Popen(  # noqa: S603 — the command comes from embedded.py
            command,
            cwd=folder,
            # Redis refuses to start with a locale that the machine lacks.
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(held,),
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 — no thread runs yet
        )
    os.close(held)
    return server


def _stop(server: subprocess.Popen[bytes], socket_path: str) -> None:
    ask(socket_path, SHUTDOWN)  # obeyed at once; the signal only at the server's next tick, 0.1 s later
    server.terminate()
    killer = threading.Timer(DEADLINE, server.kill)
    killer.daemon = True
    killer.start()


def _stop_when_unowned(owners: Path, server: subprocess.Popen[bytes], socket_path: str) -> None:
    lock(owners, fcntl.LOCK_EX)
    _stop(server, socket_path)


def _await_ready(server: subprocess.Popen[bytes], socket_path: str, log: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and server.poll() is None:
        reply = ask(socket_path, b"PING\r\n")
        if reply.startswith(b"+PONG"):
            return
        if reply.startswith(b"-LOADING"):  # a large AOF may take its time
            deadline = time.monotonic() + DEADLINE
        time.sleep(0.005)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    raise _StartError(f"the embedded server did not start; the end of its log:\n{tail}")


def _supervise(folder: Path, socket_path: str, appendfsync: str, command: list[str]) -> None:
    control = control_folder(folder)
    server = _start(folder, command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop(server, socket_path))
    watch = (control / "owners", server, socket_path)
    threading.Thread(target=_stop_when_unowned, args=watch, daemon=True).start()
    try:
        _await_ready(server, socket_path, control / "server.log")
        running = Running(server.pid, os.getpid(), socket_path, appendfsync)
        report = json.dumps(dataclasses.asdict(running))
        (control / "server.json.new").write_text(report)
        (control / "server.json.new").replace(control / "server.json")
        _answer(report)
    except BaseException:
        server.kill()
        raise
    finally:
        server.wait()
        (control / "server.json").unlink(missing_ok=True)


def _answer(report: str) -> None:
    """Tell the process that waits for us, and let it go on: it reads until these descriptors are closed."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, report.encode())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)


def main(folder: Path, socket_path: str, appendfsync: str, command: list[str]) -> None:
    if os.fork():
        os._exit(0)  # so that init is the one to reap the supervisor, not the owner that happened to start it
    lock(control_folder(folder) / "supervisor", fcntl.LOCK_EX)
    try:
        _supervise(folder, socket_path, appendfsync, command)
    except _StartError as error:
        _answer(json.dumps({"error": str(error)}))
    except OSError as error:
        _answer(json.dumps({"error": f"the embedded server did not start: {error}"}))
    finally:
        # Made for this server alone; without a data folder it is all there was.
        shutil.rmtree(Path(socket_path).parent, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
