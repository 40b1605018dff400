"""The line between a supervisor and one of its workers: JSON objects, one a line, in both directions.

The kernel closes it with either end: a worker that reads its end knows that nobody supervises it any more.
"""

from __future__ import annotations

import json
import socket
from typing import Any, Self

SEND_SECONDS = 0.5  # a supervisor that is stopped must not stop its workers


class Link:
    """One end.

    Args:
        end: The socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.settimeout(SEND_SECONDS)
        self._rest = b""

    @classmethod
    def inherited(cls, descriptor: int) -> Self:
        """The end that the supervisor has left open for this process. No process of its own gets it."""
        end = socket.socket(fileno=descriptor)
        end.set_inheritable(False)
        return cls(end)

    def fileno(self) -> int:
        """For selectors."""
        return self._end.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Tell the other end, if it is there and listens."""
        try:
            self._end.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return

    def receive(self) -> list[dict[str, Any]] | None:
        """What was said; None if the other end is gone. To be called when there is something to read."""
        try:
            data = self._end.recv(65536)
        except OSError:
            return None
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [message for message in map(_read, lines) if message is not None]

    def close(self) -> None:
        """Hang up."""
        self._end.close()


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:  # the end of a message whose beginning could not be sent
        return None
    return message if isinstance(message, dict) else None
