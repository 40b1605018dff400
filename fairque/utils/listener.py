"""Hears the announcements of ended tasks: any number of waiters in a process share one connection.

There is one listener, an asyncio one. The blocking face runs it on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from concurrent.futures import Future

    from fairque.core.config import RedisConfig

T = TypeVar("T")

CONFIRM_SECONDS = 2.0  # how long a waiter waits for its subscription before it goes on without
CANCEL_SECONDS = 0.05
RECONNECT_SECONDS = 0.2
SILENCE_SECONDS = 3.0  # after so much silence the server is asked whether it is there
ANSWER_SECONDS = 2.0  # and has so long to answer
# What a connection can end with. redis-py looks a slot up in a dictionary, where it may be missing.
LOST = (RedisError, RedisClusterException, OSError, LookupError)
# A subscription that is always there, so that the connection stays in its listening state.
IDLE_CHANNEL = "fairque:listening"


class Ear:
    """One waiter's ear on a topic. Set while something was said that it has not noticed yet."""

    def __init__(self, event: asyncio.Event | threading.Event, notify: Callable[[], None]) -> None:
        self._event = event
        self.notify = notify

    def wait(self, seconds: float) -> None:
        """Block until something is said or the time is up (threads)."""
        assert isinstance(self._event, threading.Event)  # noqa: S101 - for the type checker
        self._event.wait(seconds)
        self._event.clear()

    async def async_wait(self, seconds: float) -> None:
        """Wait until something is said or the time is up (asyncio)."""
        assert isinstance(self._event, asyncio.Event)  # noqa: S101 - for the type checker
        # Not wait_for: before Python 3.12 it swallows a cancellation that meets the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


class AsyncListener:
    """Subscribes to topics while somebody has an ear on them. Belongs to one event loop."""

    def __init__(self, config: RedisConfig) -> None:
        self._config = config
        self._ears: dict[str, set[Ear]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        self._pubsub: Any = None
        self._reader: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def on(self, topic: str) -> AsyncIterator[Ear]:
        """An ear on the topic; what is said once this is entered is not missed."""
        event = asyncio.Event()
        ear = Ear(event, event.set)
        try:
            await self.add(topic, ear)  # may be cancelled while it waits for the server's confirmation
            yield ear
        finally:
            await self.remove(topic, ear)

    async def add(self, topic: str, ear: Ear) -> None:
        """Let an ear hear a topic. Returns once the server has confirmed, or cannot in due time."""
        self._ears.setdefault(topic, set()).add(ear)
        if topic not in self._confirmed:
            self._confirmed[topic] = asyncio.Event()
            await self._tell("subscribe", topic)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM_SECONDS):
                await self._confirmed[topic].wait()

    @property
    def has_ears(self) -> bool:
        """Whether anybody listens."""
        return bool(self._ears)

    async def remove(self, topic: str, ear: Ear) -> None:
        """Take an ear away; the last one ends the subscription."""
        ears = self._ears[topic]
        ears.discard(ear)
        if not ears:
            del self._ears[topic], self._confirmed[topic]
            await self._tell("unsubscribe", topic)

    async def _tell(self, command: str, topic: str) -> None:
        """Send a command on the reader's connection, if there is one; a new one begins with all topics."""
        if self._pubsub is not None and self._pubsub.connection.is_connected:
            # The reader sees it too, and starts anew. A transport that dies just now makes redis-py raise
            # AttributeError or TypeError.
            with contextlib.suppress(Exception):
                await getattr(self._pubsub, command)(topic)

    async def _read(self) -> None:
        """Listen for as long as the listener lives, through lost connections."""
        client = self._config.create_async_redis_client()
        try:
            while True:
                with contextlib.suppress(*LOST):
                    await self._read_connection(client)
                await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            await client.aclose()

    async def _read_connection(self, client: Any) -> None:
        if self._config.cluster:
            await client.aclose()  # what it knew of the cluster may be why the last connection was lost
            await client.initialize()
        async with client.pubsub() as pubsub:
            try:
                await pubsub.subscribe(IDLE_CHANNEL)
                # On an error redis-py would connect again in whichever coroutine sees it, and lose one of
                # two connections. Only this coroutine connects.
                pubsub.connection.retry = Retry(NoBackoff(), 0, supported_errors=())
                # From here on `add` subscribes by itself. Nothing may come between this and the next line: an
                # ear that is added while the connection is made would be in neither.
                self._pubsub = pubsub
                if self._ears:
                    await pubsub.subscribe(*self._ears)
                # What was said while there was no connection is lost: let everyone look again.
                self._notify(*self._ears)
                await self._hear(pubsub)
            finally:
                self._pubsub = None

    async def _hear(self, pubsub: Any) -> None:
        """Pass on what is said, until the connection ends or gives no answer."""
        asked = False
        while True:
            message = await pubsub.get_message(timeout=ANSWER_SECONDS if asked else SILENCE_SECONDS)
            if message is None:
                if asked:
                    raise ConnectionError("the server does not answer any more")
                await pubsub.ping()
            elif message["type"] != "pong":
                self._dispatch(message["type"], message["channel"].decode())
            asked = message is None

    def _dispatch(self, kind: str, topic: str) -> None:
        if kind == "message":
            self._notify(topic)
        elif kind == "subscribe" and topic in self._confirmed:
            self._confirmed[topic].set()

    def _notify(self, *topics: str) -> None:
        for topic in topics:
            for ear in self._ears.get(topic, ()):
                ear.notify()

    async def close(self) -> None:
        """End the connection; who waits looks once more, and finds the queue closed."""
        if self._reader is not None:
            deadline = time.monotonic() + CONFIRM_SECONDS
            # Said again: redis-py swallows a cancellation that comes while it connects.
            while not self._reader.done() and time.monotonic() < deadline:
                self._reader.cancel()
                await asyncio.wait({self._reader}, timeout=CANCEL_SECONDS)
            self._reader = None
        self._notify(*self._ears)


class ThreadListener:
    """The blocking face of `AsyncListener`, which it runs in a thread that starts at the first use."""

    def __init__(self, config: RedisConfig) -> None:
        self._loop = asyncio.new_event_loop()
        self._listener = AsyncListener(config)
        self._thread = threading.Thread(target=self._loop.run_forever, name="fairque-listener", daemon=True)
        self._thread.start()

    @contextmanager
    def on(self, topic: str) -> Iterator[Ear]:
        """An ear on the topic; what is said once this is entered is not missed."""
        event = threading.Event()
        ear = Ear(event, event.set)
        try:
            self._run(self._listener.add(topic, ear))
            yield ear
        finally:
            self._begin(self._listener.remove(topic, ear))  # nobody has to wait for that

    def close(self) -> None:
        """End the connection and the thread."""
        self._run(self._listener.close())
        deadline = time.monotonic() + CONFIRM_SECONDS
        while self._listener.has_ears and time.monotonic() < deadline:
            time.sleep(0.002)  # those who wait are told, and take their ears away
        with contextlib.suppress(RuntimeError):  # closed already
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the listener's loop to its end; nothing if the listener is closed."""
        done = self._begin(work)
        while done is not None:
            try:
                done.result(0.1)
            except TimeoutError:
                if self._thread.is_alive():
                    continue
                work.close()  # the loop ended before it came to this
            break

    def _begin(self, work: Coroutine[Any, Any, None]) -> Future[None] | None:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            return None
