"""The server that all peers use: real, on loopback TCP, without persistence."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import RedisError

from fairque.utils.embedded_binary import find_server_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTING = 10.0  # seconds at most


class Server:
    """What the benchmark asks the server, on one connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = Redis.from_url(url)

    def empty(self) -> None:
        """Delete everything."""
        self.client.flushall()
        self.client.script_flush("SYNC")

    def memory(self) -> int:
        """Bytes it uses."""
        return int(self.info("memory")["used_memory"])

    def cpu(self) -> float:
        """Seconds of CPU time since it started."""
        used = self.info("cpu")
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])

    def version(self) -> str:
        """Name and version."""
        said = self.info("server")
        valkey = said.get("valkey_version")
        return f"Valkey {valkey}" if valkey else f"Redis {said['redis_version']}"

    def info(self, section: str) -> dict[str, Any]:
        """A section of INFO."""
        return self.client.info(section)


@contextmanager
def own_server() -> Iterator[Server]:
    """A fresh server, ended with the block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="fairque-benchmark-") as folder:
        command = [find_server_binary(), "--bind", "127.0.0.1", "--port", str(port), "--dir", folder]
        command += ["--save", "", "--appendonly", "no", "--lazyfree-lazy-user-flush", "no"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 — our own binary
            try:
                yield _answering(Server(f"redis://127.0.0.1:{port}/0"))
            finally:
                process.kill()


def _answering(server: Server) -> Server:
    end = time.monotonic() + STARTING
    while True:
        try:
            server.client.ping()
        except RedisError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return server
