"""`embedded://`: a real Valkey or Redis server of one's own, for trying out, development and tests.

    embedded://                               a throwaway server: memory only, gone when it is closed
    embedded:///var/tmp/fq                    keeps its data in that folder (AOF, synced every second)
    embedded:///var/tmp/fq?appendfsync=always the same, synced at every write

Whoever opens a folder first starts its server; others, in any process of the same user, join it; it ends
when the last of them has closed or died. It listens on nothing but a unix socket that only this user can
reach. How the processes agree on this is told in `embedded_supervisor`, which watches over the server.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from fairque.core.exceptions import EmbeddedServerError
from fairque.utils import embedded_supervisor
from fairque.utils.embedded_binary import find_server_binary
from fairque.utils.embedded_supervisor import (
    DEADLINE,
    SHUTDOWN,
    Running,
    ask,
    control_folder,
    is_free,
    lock,
    locked,
)

if TYPE_CHECKING:
    from types import TracebackType

_APPENDFSYNC = ("always", "everysec", "no")
_MAX_SOCKET_PATH = 100  # the kernel's limit is 103 bytes on macOS, 107 on Linux


class _Address(NamedTuple):
    folder: Path | None
    appendfsync: str | None


class EmbeddedServer:
    """One hold on an embedded server, which runs at least until this is closed.

    A hold that is never closed is closed when the process exits. A forked child shares its parent's hold: the
    server runs until both have closed it or exited.
    """

    def __init__(self, folder: Path, running: Running, hold: int) -> None:
        self._folder = folder
        self._running = running
        self._hold: int | None = hold
        atexit.register(self.close)

    @classmethod
    def open(cls, url: str) -> Self:
        """Join the server of the folder that `url` names, or start it; without a folder, start a new one.

        Raises:
            EmbeddedServerError: The URL or the folder is unusable, there is no server to run, or it did not
                start.
        """
        address = _parse(url)
        try:
            with contextlib.ExitStack() as undo:
                runtime: Path | None = None
                if address.folder is None:
                    folder = runtime = _make_runtime_folder()
                    undo.callback(shutil.rmtree, runtime, ignore_errors=True)
                else:
                    address.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    folder = address.folder.resolve()
                control_folder(folder).mkdir(mode=0o700, exist_ok=True)
                running, hold = _join_or_start(folder, runtime, address)
                undo.pop_all()
        except OSError as error:
            raise EmbeddedServerError(
                f"cannot keep an embedded server in {address.folder or tempfile.gettempdir()}: {error}; name "
                "a folder in which this user may write"
            ) from error
        return cls(folder, running, hold)

    @property
    def socket_path(self) -> str:
        return self._running.socket

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running.pid

    def close(self) -> None:
        """Let go. If nobody else holds the server, return when it has ended and its data is on disk."""
        hold, self._hold = self._hold, None
        if hold is None:
            return
        atexit.unregister(self.close)
        os.close(hold)
        control = control_folder(self._folder)
        try:
            with locked(control / "start"):
                if _is_owned(control):
                    return
                with locked(control / "supervisor"):
                    # It has done all this, unless it was killed.
                    ask(self.socket_path, SHUTDOWN)
                    shutil.rmtree(Path(self.socket_path).parent, ignore_errors=True)
        except FileNotFoundError:
            return  # the folder is gone already, and with it the server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_owned(control: Path) -> bool:
    """If nobody holds the server, its supervisor has the lock for itself, or is just about to."""
    owners = control / "owners"
    return not is_free(owners) and is_free(owners, fcntl.LOCK_SH)


def _parse(url: str) -> _Address:
    parts = urlsplit(url)
    if parts.scheme != "embedded" or not url.startswith("embedded://"):
        raise EmbeddedServerError(f"{url!r} is no embedded server: write embedded:// or embedded:///folder")
    if parts.netloc or parts.path == "/" or parts.fragment:
        raise EmbeddedServerError(
            f"{url!r} names no absolute folder: write three slashes, as in embedded:///var/tmp/fq, and %23 "
            "or %3F for a # or ? in its name"
        )
    options = parse_qsl(parts.query, keep_blank_values=True)
    for name, value in options:
        if name != "appendfsync" or value not in _APPENDFSYNC or not parts.path or len(options) > 1:
            raise EmbeddedServerError(
                f"{url!r} has the parameter {name}={value}: there is only appendfsync, which may be "
                f"{', '.join(_APPENDFSYNC)}, once, and only with a folder"
            )
    return _Address(Path(unquote(parts.path)) if parts.path else None, dict(options).get("appendfsync"))


def _make_runtime_folder() -> Path:
    """A new private folder for the socket: the path of a data folder may be too long for one."""
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) > _MAX_SOCKET_PATH - len("/fairque-12345678/server.sock"):
        base = "/tmp"  # noqa: S108 — mkdtemp makes a private folder with an unguessable name
    return Path(tempfile.mkdtemp(prefix="fairque-", dir=base))


def _join_or_start(folder: Path, runtime: Path | None, address: _Address) -> tuple[Running, int]:
    control = control_folder(folder)
    with locked(control / "start"):
        hold = lock(control / "owners", fcntl.LOCK_SH)  # waits while a supervisor ends its server
        try:
            return _join(control, address) or _start(folder, runtime, address), hold
        except BaseException:
            os.close(hold)
            raise


def _join(control: Path, address: _Address) -> Running | None:
    deadline = time.monotonic() + DEADLINE
    # Several rounds only if the server has just died, or the process that was starting it.
    while not is_free(control / "supervisor"):
        running = embedded_supervisor.read_running(control)
        if running and ask(running.socket, b"PING\r\n"):
            _check_joined(running, control, address)
            return running
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"the server of {control.parent} does not answer; see {control / 'server.log'}"
            )
        time.sleep(0.01)
    return None


def _check_joined(running: Running, control: Path, address: _Address) -> None:
    if Path(running.socket).stat().st_uid != os.geteuid():
        raise EmbeddedServerError(
            f"the server of {control.parent} belongs to another user: name another folder"
        )
    if address.appendfsync not in {None, running.appendfsync}:
        raise EmbeddedServerError(
            f"the server of {control.parent} has appendfsync={running.appendfsync}: ask for the same, or "
            "close it everywhere first"
        )


def _start(folder: Path, runtime: Path | None, address: _Address) -> Running:
    binary = find_server_binary()
    appendonly = "no" if address.folder is None else "yes"
    appendfsync = address.appendfsync or "everysec"
    socket_path = str((runtime or _make_runtime_folder()) / "server.sock")
    server = [binary, "--port", "0", "--unixsocket", socket_path, "--unixsocketperm", "700"]
    server += ["--daemonize", "no", "--save", "", "--appendonly", appendonly, "--appendfsync", appendfsync]
    server += ["--maxmemory-policy", "noeviction"]
    # -I and -S: neither the user's environment nor site-packages have a say in the supervisor.
    python = [sys.executable, "-I", "-S", embedded_supervisor.__file__]
    done = subprocess.run(  # noqa: S603 — our own file and the server's binary
        [*python, str(folder), socket_path, appendfsync, *server],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        start_new_session=True,  # or Ctrl-C in a terminal would end the server before its owners are done
    )
    answer = json.loads(done.stdout or "{}")
    if "pid" not in answer:
        raise EmbeddedServerError(
            answer.get("error") or f"the supervisor of the embedded server failed: {done.stderr.decode()}"
        )
    return Running(**answer)
