"""The two faces of cross-task data. What each method does is said once, in `XComManager`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from fairque.core.keys import check_id
from fairque.core.xcom_defaults import DEFAULT_NAMESPACE, MISSING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import TracebackType

    from fairque.core.calls import Flow
    from fairque.core.config import FairQueueConfig
    from fairque.core.units import Seconds
    from fairque.queue.async_queue import AsyncTaskQueue
    from fairque.queue.queue import TaskQueue
    from fairque.queue.xcom_commands import XComCommands

T = TypeVar("T")


class _Manager:
    """What both managers share."""

    _commands: XComCommands

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of user {self.user_id!r}, namespace {self.namespace!r}>"

    @property
    def user_id(self) -> str:
        """Whose data."""
        return self._commands.user_id

    @property
    def namespace(self) -> str:
        """Where calls go that name none."""
        return self._commands.namespace


class XComManager(_Manager):
    """The cross-task data (XCom) of one user: values by namespace and key, each with a time to live.

    No user sees another's. Values are carried like results (`queue.codec`), and come back plain, as JSON has
    them. Safe to use from several threads. A call whose reply is lost is repeated by itself.

    Args:
        source: A queue, which stays open when the manager is closed; or what a queue is made from (a URL, a
            `FairQueueConfig`, None), and then the manager has one of its own to close.
        user_id: Whose data.
        namespace: Where calls go that name none.

    Raises:
        TaskValidationError: The user id or the namespace cannot be one.
        ConfigurationError: The source cannot be used; the message says why.
    """

    def __init__(
        self,
        source: TaskQueue | FairQueueConfig | str | None,
        user_id: str,
        *,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> None:
        from fairque.queue.queue import TaskQueue  # noqa: PLC0415 - the queue makes managers itself

        check_id(user_id, "user_id")
        check_id(namespace, "namespace")
        self._owned: TaskQueue | None = None
        if not isinstance(source, TaskQueue):
            self._owned = source = TaskQueue(source)
        self._use(source.commands.of(user_id).xcom(user_id, namespace=namespace), source.run)

    def _use(self, commands: XComCommands, run: Callable[[Flow[Any]], Any]) -> None:
        self._commands = commands
        self._run = run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the queue that the manager opened; one that it was given stays open."""
        if self._owned is not None:
            self._owned.close()

    def push(self, key: str, value: Any, *, ttl: Seconds | None = None, namespace: str | None = None) -> None:
        """Store a value, in place of the one before.

        Args:
            key: 1 to 256 characters.
            value: What `queue.codec` can carry.
            ttl: Seconds or timedelta until it expires, by the server's clock; `queue.xcom_ttl` if not given.
            namespace: 1 to 256 characters; the manager's own if not given.

        Raises:
            TaskValidationError: A key, namespace or ttl is out of its range, or the value cannot be carried.
            PayloadTooLargeError: The encoded value has more than `queue.max_xcom_bytes`.
            LeaseLostError: A task pushes, and its attempt no longer holds the lease; nothing was written.
            ServerError: The server refused or could not be reached.
        """
        self._run(self._commands.push(key, value, ttl=ttl, namespace=namespace))

    def pull(self, key: str, *, default: Any = MISSING, namespace: str | None = None) -> Any:
        """A value.

        Args:
            key: Under which it was pushed.
            default: What to return where there is none.
            namespace: Where it was pushed; the manager's own if not given.

        Raises:
            XComKeyError: There is none, and no default was given.
            DecodeError: It was pushed with another codec than this process may read.
        """
        return self._run(self._commands.pull(key, default=default, namespace=namespace))

    def pull_many(self, keys: Iterable[str], *, namespace: str | None = None) -> dict[str, Any]:
        """The values of several keys, in one round trip up to 100 keys or 1 MiB; those that are there."""
        return self._run(self._commands.pull_many(keys, namespace=namespace))  # type: ignore[no-any-return]

    def pull_all(self, namespace: str | None = None) -> dict[str, Any]:
        """All values of a namespace, sorted by key. A large one is read in pages.

        What is there from the first page to the last is in it. What is pushed, removed or expires between
        two pages may be in it or not; each value is one that was there at some instant of the call. Should
        the server be replaced between two pages (a failover, a restart), keys may be missing.
        """
        return self._run(self._commands.pull_all(namespace))  # type: ignore[no-any-return]

    def delete(self, key: str, *, namespace: str | None = None) -> bool:
        """Remove a value.

        Returns:
            Whether it was there. False also where the reply to the removal was lost and it was repeated.

        Raises:
            LeaseLostError: A task deletes, and its attempt no longer holds the lease; nothing was removed.
        """
        return self._run(self._commands.delete(key, namespace=namespace))  # type: ignore[no-any-return]

    def clear(self, namespace: str | None = None) -> int:
        """Remove all values of a namespace, 500 in a round trip.

        What others push to it meanwhile may be removed as well.

        Returns:
            How many values there were.

        Raises:
            LeaseLostError: A task clears, and its attempt no longer holds the lease; what it removed before
                is gone.
        """
        return self._run(self._commands.clear(namespace))  # type: ignore[no-any-return]


class AsyncXComManager(_Manager):
    """`XComManager` for asyncio: the same operations with `await`. Belongs to one event loop.

    Args:
        source: A queue, which stays open when the manager is closed; or what a queue is made from (a URL, a
            `FairQueueConfig`, None), and then the manager has one of its own to close.
        user_id: Whose data.
        namespace: Where calls go that name none.

    Raises:
        TaskValidationError: The user id or the namespace cannot be one.
        ConfigurationError: The source cannot be used; the message says why.
    """

    def __init__(
        self,
        source: AsyncTaskQueue | FairQueueConfig | str | None,
        user_id: str,
        *,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> None:
        from fairque.queue.async_queue import AsyncTaskQueue  # noqa: PLC0415 - the queue makes managers itself

        check_id(user_id, "user_id")
        check_id(namespace, "namespace")
        self._owned: AsyncTaskQueue | None = None
        if not isinstance(source, AsyncTaskQueue):
            self._owned = source = AsyncTaskQueue(source)
        self._use(source.commands.of(user_id).xcom(user_id, namespace=namespace), source.run)

    def _use(self, commands: XComCommands, run: Callable[[Flow[Any]], Awaitable[Any]]) -> None:
        self._commands = commands
        self._run = run

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._owned is not None:
            await self._owned.close()

    async def push(
        self, key: str, value: Any, *, ttl: Seconds | None = None, namespace: str | None = None
    ) -> None:
        await self._run(self._commands.push(key, value, ttl=ttl, namespace=namespace))

    async def pull(self, key: str, *, default: Any = MISSING, namespace: str | None = None) -> Any:
        return await self._run(self._commands.pull(key, default=default, namespace=namespace))

    async def pull_many(self, keys: Iterable[str], *, namespace: str | None = None) -> dict[str, Any]:
        return await self._run(self._commands.pull_many(keys, namespace=namespace))  # type: ignore[no-any-return]

    async def pull_all(self, namespace: str | None = None) -> dict[str, Any]:
        return await self._run(self._commands.pull_all(namespace))  # type: ignore[no-any-return]

    async def delete(self, key: str, *, namespace: str | None = None) -> bool:
        return await self._run(self._commands.delete(key, namespace=namespace))  # type: ignore[no-any-return]

    async def clear(self, namespace: str | None = None) -> int:
        return await self._run(self._commands.clear(namespace))  # type: ignore[no-any-return]
