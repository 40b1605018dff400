"""What the server can do at most: FairQueue's own scripts, called raw.

Arguments are encoded beforehand, batches are full, no worker runs: two connections take turns, so that the
server has the next script before it has answered the last one. Nothing is left of FairQueue but its scripts.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import hiredis

from benchmarks.own_tasks import nothing
from fairque import TaskQueue

if TYPE_CHECKING:
    from fairque.core.calls import Call

BATCH = 100
WARM_UP = 200  # round trips


def _packed(*parts: Any) -> bytes:
    packed: bytes = hiredis.pack_command(parts)
    return packed


class RawConnection:
    """A socket to the server and a parser; nothing else stands between."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname or "127.0.0.1", address.port or 6379))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def send(self, command: bytes) -> None:
        """Send a packed command."""
        self._socket.sendall(command)

    def reply(self) -> Any:
        """The next reply.

        Raises:
            RuntimeError: The server has refused the command.
        """
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 20))
        if isinstance(reply, Exception):
            raise RuntimeError(str(reply))  # noqa: TRY004 — an error reply, not a wrong argument
        return reply

    def close(self) -> None:
        """Close it."""
        self._socket.close()


@dataclass(frozen=True)
class Scripts:
    """The commands of a queue, packed."""

    queue: TaskQueue
    users: int

    def packed(self, call: Call[Any]) -> bytes:
        """A call as it goes over the wire."""
        manager: Any = self.queue.manager
        return _packed(*manager._arguments(call))  # noqa: SLF001 - the wire is what is measured

    def pushes(self, count: int) -> list[bytes]:
        """Full batches that push `count` tasks with a 100-byte argument."""
        commands: Any = self.queue.commands.shards[0]
        tasks = [nothing("x" * 100).with_options(user_id=f"user{n % self.users}") for n in range(count)]
        return [
            self.packed(call)
            for start in range(0, count, BATCH)
            for call in _calls(commands, tasks[start : start + BATCH])
        ]

    def claim(self, size: int = BATCH) -> bytes:
        """A claim of a batch, which may not be repeated."""
        return self.packed(self.queue.commands.shards[0].claim("floor", size))

    def finish(self, claimed: list[Any]) -> bytes:
        """Finish what a claim's reply holds, each with `null`."""
        empty = self.queue.commands.shards[0].finish_call([])
        parts: list[Any] = []
        for place in range(5, len(claimed), 5):
            parts += [claimed[place], claimed[place + 1], claimed[place + 2], b"null"]
        manager: Any = self.queue.manager
        return _packed(*manager._arguments(empty), *parts)  # noqa: SLF001


def _calls(commands: Any, tasks: list[Any]) -> list[Call[Any]]:
    prepared, records = commands.ready(tasks, None)
    calls: list[Call[Any]] = commands.batch(prepared, records, None).calls
    return calls


def measure(url: str, count: int, *, users: int = 1) -> dict[str, float]:
    """Tasks a second that the scripts push and drain in full batches, and round trips of a bare script."""
    with TaskQueue(url) as queue:
        queue.stats()  # the server knows who is there
        scripts = Scripts(queue, users)
        lines = [RawConnection(url), RawConnection(url)]
        try:
            _load(queue, scripts, lines[0])
            pushing = _push(lines, scripts.pushes(count))
            draining = _drain(lines, scripts, count)
            bare = _bare(lines[0])
        finally:
            for line in lines:
                line.close()
    return {"push": count / pushing, "drain": count / draining, "bare": bare}


def _load(queue: TaskQueue, scripts: Scripts, line: RawConnection) -> None:
    """Have the server know the scripts: one task goes all the way by the usual calls."""
    queue.push(nothing("x"), user_id="user0")
    for claimed in queue.pop_batch("floor", 1):
        queue.finish(claimed)
    line.send(scripts.claim())
    line.reply()


def _push(lines: list[RawConnection], batches: list[bytes]) -> float:
    began = time.perf_counter()
    for number, batch in enumerate(batches):
        line = lines[number % 2]
        if number > 1:
            line.reply()
        line.send(batch)
    for line in lines[: len(batches)]:
        line.reply()
    return time.perf_counter() - began


def _drain(lines: list[RawConnection], scripts: Scripts, count: int) -> float:
    """Each connection finishes what it was given and claims again, in one trip; in turn."""
    claim = scripts.claim()
    finished, trips = 0, [1, 1]
    began = time.perf_counter()
    for line in lines:
        line.send(claim)
    while finished < count:
        for number, line in enumerate(lines):
            replies = [line.reply() for _ in range(trips[number])]
            claimed, trips[number] = replies[-1], 2
            finished += (len(claimed) - 5) // 5
            line.send(scripts.finish(claimed) + claim)
    for line, trip in zip(lines, trips, strict=True):
        for _ in range(trip):
            line.reply()
    return time.perf_counter() - began


def _bare(line: RawConnection) -> float:
    """Round trips a second of a script that does nothing."""
    line.send(_packed("SCRIPT", "LOAD", "#!lua\nreturn 1"))
    command = _packed("EVALSHA", line.reply(), 1, "key", "argument")
    began = 0.0
    for number in range(WARM_UP + 5000):
        if number == WARM_UP:
            began = time.perf_counter()
        line.send(command)
        line.reply()
    return 5000 / (time.perf_counter() - began)
