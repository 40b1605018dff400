"""Durable pushes: a push that returns only once replicas, or disks, have what it wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import replace

from fairque.core.calls import Call, Confirm
from fairque.core.exceptions import ConfigurationError, DurabilityError
from fairque.core.keys import unescape
from fairque.core.units import to_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairque.core.calls import Flow
    from fairque.core.config import FairQueueConfig

T = TypeVar("T")

PART_OF_TIMEOUT = 0.8  # of the socket's timeout, which must not pass before the server gives up


class Durability:
    """What is asked after a push.

    Args:
        config: Its `queue.durable`, `queue.durability`, and the timeout of its connections.
    """

    def __init__(self, config: FairQueueConfig) -> None:
        self._is_default = config.queue.durable
        self._replicas = config.queue.durability.replicas
        self._disk = config.queue.durability.disk
        patience = config.redis.socket_timeout
        seconds = config.queue.durability.timeout
        self._seconds = seconds if patience is None else min(seconds, PART_OF_TIMEOUT * patience)

    def flow(self, flow: Flow[T], *, durable: bool | None) -> Flow[T]:
        """The flow of a push, with its calls confirmed if that is asked for."""
        return self._confirmed(flow) if self._is_asked(durable) else flow

    def _confirmed(self, flow: Flow[T]) -> Flow[T]:
        step = next(flow)
        try:
            while True:
                reply = yield self._call(step) if isinstance(step, Call) and step.script == "push" else step
                step = flow.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def calls(self, calls: Sequence[Call[T]], *, durable: bool | None) -> Sequence[Call[T]]:
        """The calls of a push, confirmed if that is asked for."""
        return [self._call(call) for call in calls] if self._is_asked(durable) else calls

    def _is_asked(self, durable: bool | None) -> bool:
        asked = self._is_default if durable is None else durable
        if asked and not self._replicas and not self._disk:
            raise ConfigurationError(
                "queue.durability: a durable push asks for nothing, with replicas 0 and disk false: set one"
            )
        return asked

    def _call(self, call: Call[T]) -> Call[T]:
        given: Any = call.args[0]
        options = {**msgspec.json.decode(given), "durable": True}
        args = (msgspec.json.encode(options), *call.args[1:])
        return replace(call, args=args, confirm=self._confirm(_tasks_of(call)))

    def _confirm(self, tasks: tuple[tuple[str, str], ...]) -> Confirm:
        milliseconds = max(1, to_ms(self._seconds, "queue.durability.timeout"))
        wait = ("WAITAOF", 1, self._replicas) if self._disk else ("WAIT", self._replicas)

        def problem(reply: Any) -> DurabilityError | None:
            why, confirmed = self._judge(reply)
            return DurabilityError(tasks, confirmed, self._replicas, why) if why else None

        return Confirm((*wait, milliseconds), problem)

    def _judge(self, reply: Any) -> tuple[str, int]:
        """What is wrong with the server's answer, if anything; and how many replicas confirmed."""
        if isinstance(reply, Exception):
            return f"the server cannot say whether it is durable ({reply})", 0
        local, replicas = reply if self._disk else (1, reply)
        if local and replicas >= self._replicas:
            return "", replicas
        within = f"within {self._seconds:g} s"
        if not local:
            return f"it was not on the server's disk {within}", replicas
        return f"{replicas} of {self._replicas} replicas confirmed it {within}", replicas


def _tasks_of(call: Call[Any]) -> tuple[tuple[str, str], ...]:
    named: tuple[Any, ...] = call.args[1:]  # user, id, record
    return tuple((unescape(user), unescape(task)) for user, task in zip(named[::3], named[1::3], strict=True))
