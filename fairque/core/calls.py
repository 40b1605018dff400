"""Operations as values: a `Call` is one script run, a `Flow` is several of them with waits in between.

Nothing here talks to a server. The blocking and the asyncio script manager drive the same flows, so an
operation is written once. The idea of a flow as a generator with two drivers is httpx's (its auth flows).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Confirm:
    """What is asked on the same connection after a script, so that the answer is about what it wrote.

    `problem` reads the reply, or the error that came in its place, and gives what is wrong with it.
    """

    command: tuple[str | int, ...]
    problem: Callable[[Any], Exception | None]


class Call(msgspec.Struct, Generic[T], frozen=True):
    """One run of one script.

    A struct, since one is made for each push, and a frozen dataclass takes five times as long to make.
    `idempotent` says that a repeat after a lost reply does no harm; only then is it repeated by itself.
    """

    script: str
    root: str
    args: tuple[str | bytes | int, ...]
    read: Callable[[Any], T]
    idempotent: bool = True
    confirm: Confirm | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause of a flow: until `seconds` have passed, or a wake-up arrives on a key, or `topic` speaks.

    `keys` are lists on the server that are popped; `topic` is a channel the flow has a `Listen` step for.
    """

    seconds: float
    keys: tuple[str, ...] = ()
    topic: str | None = None


@dataclass(frozen=True, slots=True)
class Listen:
    """Begin to listen on a channel, so that nothing said from here on is missed; ends with the flow."""

    topic: str


Step: TypeAlias = Call[Any] | Wait | Listen
Flow: TypeAlias = Generator[Step, Any, T]


def single(call: Call[T]) -> Flow[T]:
    """The flow of one call."""
    reply: T = yield call
    return reply
