"""Sends commands on connections that stay taken from their pool between calls.

redis-py's clients take a connection from the pool for each command and give it back, tell their metrics of
both, and look for what to do with the reply: half of what a script costs its caller. A script needs nothing
of that. What keeps a connection sound stays redis-py's: how it connects and authenticates, its health checks
and timeouts. For one server and for Sentinel; in a cluster the client finds the node of each command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiredis import pack_command
from redis.exceptions import RedisError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = tuple[Any, ...]


def _packed(commands: Sequence[Command]) -> list[bytes]:
    return [pack_command(command) for command in commands]


class Wire:
    """The blocking form, safe to use from several threads.

    Args:
        pool: Where connections come from.
        keeps: Whether to keep them; not where the pool has a limit, and others wait for them.
    """

    def __init__(self, pool: Any, *, keeps: bool) -> None:
        self._pool = pool
        self._keeps = keeps
        self._kept: list[Any] = []

    def exchange(self, commands: Sequence[Command], *, partly: bool = False) -> list[Any]:
        """One round trip: the replies, errors of the server among them.

        Args:
            commands: What to send.
            partly: Where some replies have come before the connection fails, whether these are returned, and
                the error for each of the others.

        Raises:
            RedisError: The connection failed.
        """
        packed = _packed(commands)
        replies: list[Any] = []
        connection = self._take()
        try:
            connection.send_packed_command(packed)
            for _ in commands:
                replies.append(_reply(connection))  # noqa: PERF401 - those before an error count
        except BaseException as error:
            connection.disconnect()  # a reply may be under way
            self._pool.release(connection)
            if partly and replies and isinstance(error, (RedisError, OSError)):
                return [*replies, *[error] * (len(commands) - len(replies))]
            raise
        if self._keeps:
            self._kept.append(connection)
        else:
            self._pool.release(connection)
        return replies

    def _take(self) -> Any:
        try:
            connection = self._kept.pop()
        except IndexError:
            return self._pool.get_connection()
        try:
            if not connection.can_read():
                return connection
        except (RedisError, OSError):
            pass  # the server has closed it
        connection.disconnect()
        self._pool.release(connection)
        return self._pool.get_connection()

    def forget(self) -> None:
        """Give the kept connections back."""
        while self._kept:
            self._pool.release(self._kept.pop())


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


class AsyncWire:
    """The same for asyncio; belongs to one event loop."""

    def __init__(self, pool: Any, *, keeps: bool) -> None:
        self._pool = pool
        self._keeps = keeps
        self._kept: list[Any] = []

    async def exchange(
        self,
        commands: Sequence[Command],
        *,
        partly: bool = False,
        when_sent: Callable[[], None] | None = None,
    ) -> list[Any]:
        """As the blocking form; `when_sent` is called once all is sent."""
        packed = b"".join(_packed(commands))
        replies: list[Any] = []
        connection = await self._take()
        try:
            await connection.send_packed_command(packed)
            if when_sent is not None:
                when_sent()
            for _ in commands:
                replies.append(await _async_reply(connection))  # noqa: PERF401 - those before an error count
        except BaseException as error:
            await connection.disconnect(nowait=True)  # a reply may be under way
            await self._pool.release(connection)
            if partly and replies and isinstance(error, (RedisError, OSError)):
                return [*replies, *[error] * (len(commands) - len(replies))]
            raise
        if self._keeps:
            self._kept.append(connection)
        else:
            await self._pool.release(connection)
        return replies

    async def _take(self) -> Any:
        if not self._kept:
            return await self._pool.get_connection()
        connection = self._kept.pop()
        try:
            if not await connection.can_read():
                return connection
        except (RedisError, OSError):
            pass  # the server has closed it
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)
        return await self._pool.get_connection()

    async def forget(self) -> None:
        """Give the kept connections back."""
        while self._kept:
            await self._pool.release(self._kept.pop())


async def _async_reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
