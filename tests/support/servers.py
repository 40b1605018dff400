"""A server of the test's own, that can be killed and started again at the same address."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from fairque.utils.embedded_binary import find_server_binary
from tests.support.waiting import until


class OwnServer:
    """Listens on a unix socket in `folder`, which also keeps its append-only file."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.socket_path = str(folder / "s")
        self._arguments = [
            find_server_binary(),
            *("--port", "0", "--unixsocket", self.socket_path, "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always", *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, "the server answers")

    def kill(self) -> None:
        """As a crash: no last word, no last write."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        with Redis(unix_socket_path=self.socket_path) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
