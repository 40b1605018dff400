"""Runs calls and flows: the shared decisions, and the blocking driver."""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from redis import exceptions as redis_errors

from fairque.core.calls import Call, Confirm, Flow, Listen, Wait
from fairque.core.exceptions import FairQueueError, QueueClosedError, ServerError
from fairque.core.forks import renew_in_children
from fairque.utils.listener import Ear, ThreadListener
from fairque.utils.meanings import meaning_of
from fairque.utils.patience import Patience, is_passing_refusal
from fairque.utils.script_loader import ScriptLoader
from fairque.utils.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fairque.core.config import RedisConfig

T = TypeVar("T")
Opening: TypeAlias = "Callable[[], Flow[None]]"


# What redis-py may raise. A cluster client's own errors do not derive from RedisError.
CLIENT_ERRORS = (redis_errors.RedisError, redis_errors.RedisClusterException, OSError)

NOT_SENT = redis_errors.RedisError("it was not sent in company")

# Scripts are the same in every manager of a process: read and hashed once.
_shared_loader = ScriptLoader()


PAUSE_AFTER_REFUSAL = 0.1  # seconds, where a node would not wait for a wake-up
SHORT_BLOCK = 0.25  # seconds to wait for one of several wake-ups that are on different nodes
LONGEST_BLOCK = 2.0  # seconds that a connection blocks at a time; who waits longer waits again
# Seconds that the end of such a wait may be late. A server that says nothing then is likely lost; one that is
# only slow costs a new connection.
GRACE_OF_BLOCK = 2.0


class _BaseLuaScriptManager:
    """What both drivers share: which script a call means, what an error means, what is worth a repeat."""

    # Calls under way at once, each on a connection of its own. The server runs one script at a time, so more
    # would only be more connections: a thousand waiters that look at once would open a thousand.
    CONNECTIONS = 16
    IN_FLIGHT = 8  # calls sent before the first reply is awaited; bounds the memory of a large batch

    def __init__(self, config: RedisConfig, *, opening: Opening | None = None) -> None:
        self._config = config
        self.retry_window = config.window_of_retries()
        self._loader = _shared_loader
        self._closed = False
        self._opening = opening  # None once it has been run
        self._opening_error: ServerError | None = None  # of the last time that it failed

    def _waiting_config(self) -> RedisConfig:
        """For connections that block, but not for ever.

        A peer that vanished without a word would hold a wait without end until the kernel's keepalive.
        """
        patience = LONGEST_BLOCK + min(GRACE_OF_BLOCK, self._config.socket_timeout or GRACE_OF_BLOCK)
        return self._config.model_copy(update={"socket_timeout": patience})

    @property
    def _keeps_connections(self) -> bool:
        return self._config.max_connections is None

    @staticmethod
    def _block_for(seconds: float) -> float:
        return min(max(seconds, 0.001), LONGEST_BLOCK)  # 0 would be for ever

    def _within_reach(self, keys: tuple[str, ...], seconds: float) -> tuple[tuple[str, ...], float]:
        """Of the keys those that one command may wait for: in a cluster one, and for a moment."""
        if len(keys) == 1 or not self._config.cluster:
            return keys, seconds
        return (random.choice(keys),), min(seconds, SHORT_BLOCK)  # noqa: S311 - no secret

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosedError

    def _fail_as_it_did(self, known: ServerError | None) -> None:
        """Raise the error of an opening that failed while the caller waited for it.

        Callers who each tried for themselves would do so one after another, and the last one for minutes.
        """
        if self._opening_error is not None and self._opening_error is not known:
            raise self._opening_error.with_traceback(None)

    def _arguments(self, call: Call[Any]) -> tuple[Any, ...]:
        """The EVALSHA command of a call."""
        return ("EVALSHA", self._loader.load(call.script).sha, *_keys(call), *call.args)

    def _full_arguments(self, call: Call[Any]) -> tuple[Any, ...]:
        """The EVAL command that recovers from NOSCRIPT.

        It loads and runs in one step, so that scripts flushed again and again cannot come in between.
        """
        return ("EVAL", self._loader.load(call.script).source, *_keys(call), *call.args)

    def _meaning(self, error: Exception, script: str) -> Exception:
        """What an error means here. While a queue is being closed redis-py may raise anything."""
        return QueueClosedError() if self._closed else meaning_of(error, script)

    def _is_silent_master(self, error: Exception) -> bool:
        """Whether the sentinels should be asked again: the other connections go where this one went."""
        return self._config.sentinel is not None and isinstance(error, redis_errors.TimeoutError)

    def _patience(self, call: Call[Any]) -> Patience:
        return Patience(call, self.retry_window, others=self._config.has_other_nodes)


def _keys(call: Call[Any]) -> tuple[int, str, str]:
    """The keys that a script declares: the root, by which a cluster finds its node, and another. None exists.

    While a slot is moved key by key, the target would run a script that names one absent key, on what has
    come so far. One that names two neither node runs: the source sends it to the target (ASK), and the target
    says TRYAGAIN until the slot is its own.
    """
    return 2, call.root, f"{call.root}:absent"


def _said(confirm: Confirm, replies: list[Any]) -> Any:
    """The reply of a script that was confirmed.

    Raises:
        DurabilityError: It was not.
    """
    reply, confirmation = replies
    if isinstance(reply, Exception):
        raise reply
    problem = confirm.problem(confirmation)
    if problem is not None:
        raise problem
    return reply


class LuaScriptManager(_BaseLuaScriptManager):
    """The blocking driver. Safe to use from several threads.

    Scripts run on `client`; waits that block have connections of their own, so that an idle wait can
    never keep an acknowledgement from being sent.

    Args:
        config: Where the server is.
        opening: What to say to the server before anything else, once.
    """

    def __init__(self, config: RedisConfig, *, opening: Opening | None = None) -> None:
        super().__init__(config, opening=opening)
        self._begin()
        self._connect()
        renew_in_children(self)

    def _begin(self) -> None:
        self._client: Any = None
        self._wire: Wire | None = None  # not in a cluster
        self._slots: SimpleQueue[int] = SimpleQueue()  # a semaphore's work, in a tenth of its time
        for slot in range(self.CONNECTIONS):
            self._slots.put(slot)
        self._lock = threading.Lock()
        self._opener = threading.RLock()
        self._is_opening = False
        self._blocking: Any = None
        self._listener: ThreadListener | None = None

    def renew_after_fork(self) -> None:
        """In the child: take nothing over of locks and connections, which the parent's threads use."""
        self._begin()

    @property
    def client(self) -> Any:
        """The client that scripts run on; a child of a fork makes one of its own when it first needs it."""
        return self._connect() if self._client is None else self._client

    def _connect(self) -> Any:
        with self._lock:
            self._check_open()
            if self._client is None:
                try:
                    client: Any = self._config.create_redis_client()
                except redis_errors.RedisClusterException as error:  # a cluster's client connects at once
                    raise meaning_of(error, "connect") from error
                if not self._config.cluster:
                    self._wire = Wire(client.connection_pool, keeps=self._keeps_connections)
                self._client = client
            return self._client

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its end and return its value."""
        ears: ExitStack | None = None
        heard: dict[str, Ear] = {}
        try:
            step = next(flow)
            while True:
                try:
                    if isinstance(step, Call):
                        reply = self.execute(step)
                    else:
                        ears = ears or ExitStack()
                        reply = self._pause(step, heard, ears)
                except FairQueueError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            if ears is not None:
                ears.close()

    def _pause(self, step: Wait | Listen, heard: dict[str, Ear], ears: ExitStack) -> Any:
        match step:
            case Listen(topic):
                heard[topic] = ears.enter_context(self._listening().on(topic))
            case Wait(seconds, keys=(_, *_) as keys):
                return self._await_keys(keys, seconds)
            case Wait(seconds, topic=str(topic)):
                heard[topic].wait(seconds)
            case Wait(seconds):
                time.sleep(seconds)
        return None

    def execute(self, call: Call[T]) -> T:
        """Run one call; repeat it if its reply was lost and it is idempotent.

        Raises:
            ServerError: The server refused or could not be reached.
            FairQueueError: What the script's error code means.
        """
        if self._opening is not None:
            self._open(self._opening)
        patience: Patience | None = None
        while True:
            try:
                return call.read(self._evaluate(call))
            except Exception as error:
                patience = patience or self._patience(call)
                meaning = self._meaning(error, call.script)
                pause = patience.pause_after(error, meaning)
                self._distrust(error)
                if meaning is error:
                    raise
                if pause is None:
                    raise meaning from error
            time.sleep(pause)

    def execute_all(self, calls: Sequence[Call[T]]) -> list[T]:
        """Run idempotent calls in order, several under way at once on one connection; not in a cluster.

        One that fails is tried again alone, and has its error, or its repeats, there; some behind it may have
        run before. From then on each waits for the one before.

        Raises:
            FairQueueError: As `execute`, for the first that fails; earlier and later ones may have run.
        """
        values: list[T] = []
        all_went_well = True
        for start in range(0, len(calls), self.IN_FLIGHT):
            window = calls[start : start + self.IN_FLIGHT]
            replies = self._replies(window) if all_went_well else [NOT_SENT] * len(window)
            for call, reply in zip(window, replies, strict=True):
                is_error = isinstance(reply, Exception)
                all_went_well = all_went_well and not is_error
                values.append(self.execute(call) if is_error else call.read(reply))
        return values

    def _replies(self, calls: Sequence[Call[Any]]) -> Sequence[Any]:
        """The replies to calls that are sent together, with an error for each that has none."""
        wire, is_confirmed = self._wire, any(call.confirm for call in calls)
        if wire is None or is_confirmed or len(calls) == 1 or self._opening is not None:
            return [NOT_SENT] * len(calls)
        self._check_open()
        slots = self._slots
        slot = slots.get()
        try:
            return wire.exchange([self._arguments(call) for call in calls], partly=True)
        except Exception as error:
            self._check_open()  # while a queue is being closed redis-py may raise anything
            if not isinstance(error, CLIENT_ERRORS):
                raise
            self._distrust(error)
            return [error] * len(calls)
        finally:
            slots.put(slot)

    def _open(self, opening: Opening) -> None:
        """Run the opening; other threads wait for it, its own calls do not."""
        known = self._opening_error
        with self._opener:
            if self._opening is None or self._is_opening:
                return
            self._fail_as_it_did(known)
            self._is_opening = True
            try:
                self.run(opening())
                self._opening = None
            except ServerError as error:
                self._opening_error = error
                raise
            finally:
                self._is_opening = False

    def _evaluate(self, call: Call[Any]) -> Any:
        self._check_open()
        if self._client is None:
            self._connect()
        slots = self._slots
        slot = slots.get()
        try:
            return self._send(call, self._arguments(call))
        except redis_errors.NoScriptError:
            return self._send(call, self._full_arguments(call))
        finally:
            slots.put(slot)

    def _send(self, call: Call[Any], command: tuple[Any, ...]) -> Any:
        """The reply of a script; if that is asked for, once what it wrote is confirmed."""
        confirm = call.confirm
        if confirm is not None:
            return _said(confirm, self._on_one_node(call.root, command, confirm.command))
        if self._wire is None:
            return self.client.execute_command(*command)
        reply = self._wire.exchange((command,))[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _on_one_node(self, root: str, *commands: tuple[Any, ...]) -> list[Any]:
        """The replies to commands that go to the node of a shard on one connection, errors among them."""
        if self._wire is not None:
            return self._wire.exchange(commands)
        self.client.exists(root)  # so that the client learns of a shard that has moved
        node = self.client.get_redis_connection(self.client.get_node_from_key(root))
        with node.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
            return replies

    def _await_keys(self, keys: tuple[str, ...], seconds: float) -> bool:
        """Whether a wake-up came within `seconds`."""
        keys, seconds = self._within_reach(keys, seconds)
        with self._lock:
            self._check_open()
            if self._blocking is None:
                self._blocking = self._waiting_config().create_redis_client()
        try:
            return self._blocking.blpop(list(keys), timeout=self._block_for(seconds)) is not None
        except Exception as error:
            meaning = self._meaning(error, "wake")
            self._distrust(error)
            if is_passing_refusal(error, meaning):  # the list is elsewhere now: a claim will find it
                time.sleep(PAUSE_AFTER_REFUSAL)
                return False
            if meaning is error:
                raise
            raise meaning from error

    def _distrust(self, error: Exception) -> None:
        if self._is_silent_master(error):
            if self._wire is not None:
                self._wire.forget()
            self.client.connection_pool.disconnect(inuse_connections=False)

    def _listening(self) -> ThreadListener:
        with self._lock:
            self._check_open()
            if self._listener is None:
                self._listener = ThreadListener(self._waiting_config())
            return self._listener

    def close(self) -> None:
        """Close every connection. Who waits for a result is told; closing twice is harmless."""
        with self._lock:
            self._closed = True
            listener, self._listener = self._listener, None
            blocking, self._blocking = self._blocking, None
        if listener is not None:
            listener.close()
        for client in (blocking, self._client):
            if client is not None:
                client.close()
