"""Servers of a test's own: with other settings than the shared one, to be filled, stopped and restarted."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from fairque.core.config import FairQueueConfig, QueueConfig, RedisConfig
from fairque.utils.embedded_binary import find_server_binary


class OwnServer:
    """A server process on a unix socket in a folder of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.socket_path = str(folder / "s.sock")
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [find_server_binary(), "--port", "0", "--unixsocket", self.socket_path, "--save", ""]
        command += ["--dir", str(self._folder), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with Redis(unix_socket_path=self.socket_path) as client:
            while not _answers(client):
                assert self._process.poll() is None, "the server did not start"
                time.sleep(0.005)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> Redis:
        return Redis(unix_socket_path=self.socket_path)

    def config(self, **settings: Any) -> FairQueueConfig:
        redis = RedisConfig(unix_socket_path=self.socket_path)
        return FairQueueConfig(redis=redis, queue=QueueConfig(**settings))


def _answers(client: Redis) -> bool:
    try:
        client.ping()
    except RedisError:
        return False
    return True


@contextmanager
def own_server(*options: str) -> Iterator[OwnServer]:
    # A short path: that of a socket may have some hundred bytes.
    with tempfile.TemporaryDirectory(prefix="fq-") as folder:
        server = OwnServer(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
