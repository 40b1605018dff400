"""The asyncio driver of calls and flows."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio.cluster import PipelineCommand

from fairque.core.calls import Call, Flow, Listen, Step, Wait
from fairque.core.exceptions import DurabilityError, FairQueueError, ForkedLoopError, ServerError
from fairque.core.forks import renew_in_children
from fairque.utils.listener import AsyncListener, Ear
from fairque.utils.lua_manager import (
    CLIENT_ERRORS,
    NOT_SENT,
    PAUSE_AFTER_REFUSAL,
    _BaseLuaScriptManager,
    _said,
)
from fairque.utils.meanings import meaning_of
from fairque.utils.patience import Patience, is_passing_refusal
from fairque.utils.wire import AsyncWire

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from fairque.core.config import RedisConfig
    from fairque.utils.lua_manager import Opening

T = TypeVar("T")


class AsyncLuaScriptManager(_BaseLuaScriptManager):
    """The asyncio driver: `LuaScriptManager` with `await`. Belongs to one event loop."""

    def __init__(self, config: RedisConfig, *, opening: Opening | None = None) -> None:
        super().__init__(config, opening=opening)
        self._begin()
        renew_in_children(self)

    def _begin(self) -> None:
        client: Any = self._config.create_async_redis_client()
        self.client = client
        self._wire: AsyncWire | None = None  # not in a cluster
        if not self._config.cluster:
            self._wire = AsyncWire(client.connection_pool, keeps=self._keeps_connections)
        self._slots = asyncio.Semaphore(self.CONNECTIONS)
        self._opener = asyncio.Lock()
        self._opening_task: asyncio.Task[Any] | None = None
        self._blocking: Any = None
        self._blocking_wire: AsyncWire | None = None
        self._listener: AsyncListener | None = None

    def renew_after_fork(self) -> None:
        """In the child: take nothing over of locks and connections, which the parent's loop uses."""
        self._begin()

    async def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its end and return its value."""
        async with AsyncExitStack() as ears:
            heard: dict[str, Ear] = {}
            try:
                step = next(flow)
                while True:
                    try:
                        reply = await _noticing(self._perform(step, heard, ears))
                    except FairQueueError as error:
                        step = flow.throw(error)
                    else:
                        step = flow.send(reply)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]

    async def _perform(self, step: Step, heard: dict[str, Ear], ears: AsyncExitStack) -> Any:
        match step:
            case Call():
                return await self.execute(step)
            case Listen(topic):
                heard[topic] = await ears.enter_async_context(self._listening().on(topic))
            case Wait(seconds, keys=(_, *_) as keys):
                return await self._await_keys(keys, seconds)
            case Wait(seconds, topic=str(topic)):
                await heard[topic].async_wait(seconds)
            case Wait(seconds):
                await asyncio.sleep(seconds)
        return None

    async def execute(self, call: Call[T]) -> T:
        """Run one call; repeat it if its reply was lost and it is idempotent.

        Raises:
            ServerError: The server refused or could not be reached.
            FairQueueError: What the script's error code means.
        """
        if self._opening is not None:
            await self._open(self._opening)
        patience: Patience | None = None
        while True:
            try:
                return call.read(await _noticing(self._evaluate(call)))
            except Exception as error:
                patience = patience or self._patience(call)
                meaning = self._meaning(error, call.script)
                pause = patience.pause_after(error, meaning)
                await self._distrust(error)
                if meaning is error:
                    raise
                if pause is None:
                    raise meaning from error
            await asyncio.sleep(pause)

    async def open(self) -> None:
        """Say what is to be said to the server before anything else, if it has not been said.

        Raises:
            ServerError: The server refused or could not be reached.
            UnsafeServerError: It may drop tasks.
        """
        if self._opening is not None:
            await self._open(self._opening)

    async def _open(self, opening: Opening) -> None:
        """Run the opening; other tasks wait for it, its own calls do not."""
        if self._opening_task is _current_task():
            return
        known = self._opening_error
        async with self._opener:
            if self._opening is None:
                return
            self._fail_as_it_did(known)
            self._opening_task = _current_task()
            try:
                await self.run(opening())
                self._opening = None
            except ServerError as error:
                self._opening_error = error
                raise
            finally:
                self._opening_task = None

    async def _evaluate(self, call: Call[Any]) -> Any:
        self._check_open()
        async with self._slots:
            try:
                return await self._send(call, self._arguments(call))
            except redis_errors.NoScriptError:
                return await self._send(call, self._full_arguments(call))
            finally:
                if self._closed:  # meanwhile, perhaps before its connection was there
                    await self.client.aclose()

    async def _send(self, call: Call[Any], command: tuple[Any, ...]) -> Any:
        """The reply of a script; if that is asked for, once what it wrote is confirmed."""
        confirm = call.confirm
        if confirm is not None:
            return _said(confirm, await self._on_one_node(call.root, command, confirm.command))
        if self._wire is None:
            return await self.client.execute_command(*command)
        reply = (await self._wire.exchange((command,)))[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _on_one_node(self, root: str, *commands: tuple[Any, ...]) -> list[Any]:
        """The replies to commands that go to the node of a shard on one connection, errors among them."""
        if self._wire is not None:
            return await self._wire.exchange(commands)
        await self.client.exists(root)  # so that the client learns of a shard that has moved
        sent = [PipelineCommand(place, *command) for place, command in enumerate(commands)]
        await self.client.get_node_from_key(root).execute_pipeline(sent)
        return [command.result for command in sent]

    async def execute_together(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """Run several calls in one round trip, in order; not one transaction, and not repeated.

        Returns:
            Each call's value, or in its place the error it raised.
        """
        replies = await self.exchange(calls)
        return [
            reply if isinstance(reply, Exception) else call.read(reply)
            for call, reply in zip(calls, replies, strict=True)
        ]

    async def exchange(
        self, calls: Sequence[Call[Any]], *, when_sent: Callable[[], None] | None = None
    ) -> list[Any]:
        """As `execute_together`, but each reply is as it came, for the call to read.

        `when_sent` is called while the server works on them; not in a cluster, nor if nothing could be sent.
        """
        self._check_open()
        if self._opening is not None:
            try:
                await self._open(self._opening)
            except ServerError as error:
                return [error] * len(calls)
        if self._wire is None or any(call.confirm for call in calls):
            return await _noticing(self._by_root(calls))
        try:
            commands = [self._arguments(call) for call in calls]
            replies = await _noticing(self._wire.exchange(commands, partly=True, when_sent=when_sent))
            if replies and isinstance(replies[-1], Exception):
                await self._distrust(replies[-1])  # it may have ended the connection
        except Exception as error:
            self._check_open()  # while a queue is being closed redis-py may raise anything
            if not isinstance(error, CLIENT_ERRORS):
                raise
            await self._distrust(error)
            return [meaning_of(error, call.script) for call in calls]
        return [await self._reply(call, reply) for call, reply in zip(calls, replies, strict=True)]

    async def _reply(self, call: Call[Any], reply: Any) -> Any:
        """A reply that is not an error stays; a script that the server did not know is run now."""
        if isinstance(reply, redis_errors.NoScriptError):
            return await self._outcome(call)
        return meaning_of(reply, call.script) if isinstance(reply, Exception) else reply

    async def _by_root(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """The outcomes of calls: those of one root in order, roots beside each other."""
        places: dict[str, list[int]] = {}
        for place, call in enumerate(calls):
            places.setdefault(call.root, []).append(place)
        outcomes: list[Any] = [None] * len(calls)

        async def run_in_order(own: list[int]) -> None:
            for place in own:
                outcomes[place] = await self._outcome(calls[place])

        if len(places) == 1:
            await run_in_order(*places.values())
            return outcomes
        running = [asyncio.ensure_future(run_in_order(own)) for own in places.values()]
        try:
            await asyncio.wait(running)
        finally:
            for task in running:  # canceled: none may outlive this, and use connections that are closed next
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        for task in running:
            task.result()
        return outcomes

    async def execute_woken(self, wait: Wait, call: Call[Any]) -> tuple[bool | Exception, Any]:
        """Wait for a wake-up on the keys, and run a call right after, in one round trip.

        Both are sent at once: when the wait is over, the server goes on to the script by itself.

        Returns:
            Whether a wake-up came, or why it could not be waited for; and the call's value, or its error.
        """
        wire = self._waiting_wire()
        if wire is None:
            return await self._await_keys(wait.keys, wait.seconds), (await self.execute_together([call]))[0]
        wake_up = ("BLPOP", *wait.keys, self._block_for(wait.seconds))
        try:
            woken, reply = await _noticing(wire.exchange([wake_up, self._arguments(call)]))
        except Exception as error:
            meaning = self._meaning(error, "wake")
            if meaning is error:
                raise
            await self._distrust(error)
            return meaning, meaning
        is_woken = self._meaning(woken, "wake") if isinstance(woken, Exception) else woken is not None
        reply = await self._reply(call, reply)
        return is_woken, reply if isinstance(reply, Exception) else call.read(reply)

    def _waiting_wire(self) -> AsyncWire | None:
        """Connections that may block; None in a cluster."""
        self._check_open()
        if self._blocking is None:
            self._blocking = self._waiting_config().create_async_redis_client()
            if self._wire is not None:
                self._blocking_wire = AsyncWire(self._blocking.connection_pool, keeps=self._keeps_connections)
        return self._blocking_wire

    async def execute_all(self, calls: Sequence[Call[T]]) -> list[T]:
        """As the blocking one; in a cluster several are under way at once, too."""
        values: list[T] = []
        all_went_well = True
        for start in range(0, len(calls), self.IN_FLIGHT):
            window = calls[start : start + self.IN_FLIGHT]
            outcomes = await self.execute_together(window) if all_went_well else [NOT_SENT] * len(window)
            for call, outcome in zip(window, outcomes, strict=True):
                if isinstance(outcome, DurabilityError):
                    raise outcome
                is_error = isinstance(outcome, Exception)
                all_went_well = all_went_well and not is_error
                values.append(await self.execute(call) if is_error else outcome)
        return values

    async def _outcome(self, call: Call[Any]) -> Any:
        """The reply to a call, or the error it raised."""
        try:
            return await self._evaluate(call)
        except Exception as error:
            self._check_open()
            if isinstance(error, DurabilityError):
                return error
            if not isinstance(error, CLIENT_ERRORS):
                raise
            await self._distrust(error)
            return meaning_of(error, call.script)

    async def _await_keys(self, keys: tuple[str, ...], seconds: float) -> bool:
        """Whether a wake-up came within `seconds`."""
        keys, seconds = self._within_reach(keys, seconds)
        self._waiting_wire()
        try:
            return await self._blocking.blpop(list(keys), timeout=self._block_for(seconds)) is not None
        except Exception as error:
            meaning = self._meaning(error, "wake")
            await self._distrust(error)
            if is_passing_refusal(error, meaning):  # the list is elsewhere now: a claim will find it
                await asyncio.sleep(PAUSE_AFTER_REFUSAL)
                return False
            if meaning is error:
                raise
            raise meaning from error

    async def _distrust(self, error: Exception) -> None:
        if self._is_silent_master(error):
            if self._wire is not None:
                await self._wire.forget()
            await self.client.connection_pool.disconnect(inuse_connections=False)

    def _listening(self) -> AsyncListener:
        self._check_open()
        if self._listener is None:
            self._listener = AsyncListener(self._waiting_config())
        return self._listener

    async def close(self) -> None:
        """Close every connection. Who waits for a result is told; closing twice is harmless."""
        self._closed = True
        listener, self._listener = self._listener, None
        blocking, self._blocking = self._blocking, None
        if listener is not None:
            await listener.close()
        if blocking is not None:
            await blocking.aclose()
        await self.client.aclose()


async def _noticing(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and be canceled if a cancellation came meanwhile.

    redis-py sends with asyncio.wait_for, which before Python 3.12 swallows a cancellation that comes just as
    it is done; whoever waits next would go on waiting.
    """
    try:
        task = _current_task()
    except ForkedLoopError:
        work.close()
        raise
    before = 0 if task is None else task.cancelling()
    value = await work
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return value


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # a coroutine, and no loop that runs: the process has forked meanwhile
        raise ForkedLoopError from None
