"""A server process on a port of its own, which tests kill, freeze and start again."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError

from fairque.utils.embedded_binary import find_server_binary

# Below the ports that the kernel gives to outgoing connections: one of these could take the port of a server
# that is down, and it could not start again.
_PORTS = range(10_000, 32_000)
_taken: set[int] = set()

# As in production: everything written is in a file, so that a restarted node has it; replicas follow at once.
PERSISTENT = ("--save", "", "--appendonly", "yes", "--repl-diskless-sync-delay", "0")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that this process was not given before."""
    while True:
        port = random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in _taken:
                _taken.add(port)
                return port


class Node:
    """One server, or one sentinel.

    Args:
        folder: Where it keeps its data; one that does not exist yet.
        options: Of its command line.
        settings: Of its configuration file, which a sentinel rewrites.
        binary: The server program; the embedded one by default.
    """

    def __init__(
        self, folder: Path, *options: str, settings: str | None = None, binary: str | None = None
    ) -> None:
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self._folder = folder
        folder.mkdir()
        self._command = [binary or find_server_binary()]
        if settings is not None:
            (folder / "server.conf").write_text(settings)
            self._command.append(str(folder / "server.conf"))
        self._command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--logfile", str(folder / "log"), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.is_frozen = False

    def __repr__(self) -> str:
        return f"<node {self.port}>"

    def launch(self) -> None:
        """Start the process without waiting for it."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.launch()
        self.await_answer()

    def await_answer(self) -> None:
        """Wait until it answers, be it that it still loads or asks for a password."""
        with self.client() as client:
            until_true(lambda: self._answers(client), f"{self} answers")

    def _answers(self, client: Redis) -> bool:
        assert self._process is not None, f"{self} was not started"
        assert self._process.poll() is None, f"{self} did not start:\n{self.log()[-2000:]}"
        return bool(client.ping())

    @property
    def is_running(self) -> bool:
        return self._process is not None and not self.is_frozen

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process, self.is_frozen = None, False

    def freeze(self) -> None:
        """SIGSTOP: its connections stay open, and it says nothing."""
        self._signal(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.is_frozen = False

    def _signal(self, number: int) -> None:
        assert self._process is not None, f"{self} does not run"
        self._process.send_signal(number)

    def restart(self) -> None:
        """`kill -9`, and start again with what it has on disk."""
        self.kill()
        self.start()

    def client(self, *, patience: float = 2.0) -> Redis:
        """A plain client of this node; close it."""
        return Redis(port=self.port, socket_timeout=patience)

    def log(self) -> str:
        """What it wrote into its log file."""
        file = self._folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""


def until_true(holds: Callable[[], object], what: str, *, within: float = 30.0) -> None:
    """Return once `holds()` is true; a server that does not answer counts as false."""
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(RedisError, OSError):
            if holds():
                return
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.02)


def bring_back(nodes: Iterable[Node]) -> None:
    """Start or thaw those that are down."""
    for node in nodes:
        if node.is_frozen:
            node.thaw()
        elif not node.is_running:
            node.start()


def role_of(node: Node) -> str:
    """What it believes to be: master or slave."""
    return str(_replication(node)["role"])


def online_replicas(node: Node) -> int:
    """How many replicas have all of a node's data, but for what is under way."""
    replicas = [value for name, value in _replication(node).items() if re.fullmatch(r"slave\d+", name)]
    return sum(replica["state"] == "online" for replica in replicas)


def _replication(node: Node) -> Mapping[str, Any]:
    with node.client() as client:
        return cast("Mapping[str, Any]", client.info("replication"))
