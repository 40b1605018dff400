"""Stops this process at an exact point of what it says to the server, by wrapping redis-py's connections.

A point is `<script>:<moment>[:<occurrence>]`. The moments are `before` (nothing was sent), `sent` (the server
has the command, nobody has read its reply) and `answered` (the reply was read, nothing came of it yet). Tasks
of the suite tell of `run:started`, `run:worked` and `run:done` in the same way.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Any

import redis.asyncio.connection
import redis.connection

from fairque.utils.script_loader import ScriptLoader
from tests.chaos.journal import Journal
from tests.chaos.work import Here

AsyncConnection: Any = redis.asyncio.connection.AbstractConnection
BlockingConnection: Any = redis.connection.AbstractConnection


class Fault:
    """Sends this process a signal, once, when it comes to a point."""

    def __init__(self, point: str, number: signal.Signals, journal: Journal, worker: str) -> None:
        name, _, occurrence = point.rpartition(":") if point.count(":") > 1 else (point, "", "1")
        self._name, self._left = name, int(occurrence)
        self._number, self._journal, self._worker = number, journal, worker
        script = ScriptLoader().load(name.partition(":")[0]) if not name.startswith("run:") else None
        self._marks = (script.sha.encode(), script.source.encode()) if script else ()

    def arm(self) -> None:
        Here.on_moment = self.reach
        if self._marks:
            _wrap_async(self)
            _wrap_blocking(self)

    def reach(self, name: str) -> None:
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            self._journal.write("stopped", [(name, 0)], self._worker)
            os.kill(os.getpid(), self._number)

    def is_in(self, command: str | bytes | Iterable[bytes]) -> bool:
        if isinstance(command, str):
            return False
        data = command if isinstance(command, bytes) else b"".join(command)
        return any(mark in data for mark in self._marks)

    def at(self, moment: str) -> None:
        self.reach(f"{self._name.partition(':')[0]}:{moment}")


def _listed(command: Any) -> Any:
    return command if isinstance(command, (bytes, str)) else list(command)


def _wrap_async(fault: Fault) -> None:
    send, read = AsyncConnection.send_packed_command, AsyncConnection.read_response

    async def send_packed_command(connection: Any, command: Any, *rest: Any, **options: Any) -> None:
        command = _listed(command)
        is_meant = fault.is_in(command)
        if is_meant:
            fault.at("before")
        await send(connection, command, *rest, **options)  # may connect, which sends and reads, too
        connection.awaits_fault = is_meant
        if is_meant:
            fault.at("sent")

    async def read_response(connection: Any, *rest: Any, **options: Any) -> Any:
        reply = await read(connection, *rest, **options)
        _answered(fault, connection)
        return reply

    AsyncConnection.send_packed_command, AsyncConnection.read_response = send_packed_command, read_response


def _wrap_blocking(fault: Fault) -> None:
    send, read = BlockingConnection.send_packed_command, BlockingConnection.read_response

    def send_packed_command(connection: Any, command: Any, *rest: Any, **options: Any) -> None:
        command = _listed(command)
        is_meant = fault.is_in(command)
        if is_meant:
            fault.at("before")
        send(connection, command, *rest, **options)
        connection.awaits_fault = is_meant
        if is_meant:
            fault.at("sent")

    def read_response(connection: Any, *rest: Any, **options: Any) -> Any:
        reply = read(connection, *rest, **options)
        _answered(fault, connection)
        return reply

    BlockingConnection.send_packed_command = send_packed_command
    BlockingConnection.read_response = read_response


def _answered(fault: Fault, connection: Any) -> None:
    if getattr(connection, "awaits_fault", False):
        connection.awaits_fault = False
        fault.at("answered")
