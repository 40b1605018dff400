"""Whether the server is fit for a queue: it must not drop keys, and should keep them through a crash."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from fairque.core.calls import Call
from fairque.core.exceptions import ConfigurationError, UnsafeServerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fairque.core.calls import Flow

logger = logging.getLogger("fairque.queue")

SAFE = "noeviction"
NO_PERSISTENCE = "no append-only file: a crash of the server loses tasks — CONFIG SET appendonly yes"


def read_info(text: bytes) -> dict[str, str]:
    """What INFO says, by name."""
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def evicts_by(info: Mapping[str, str]) -> str | None:
    """The server's policy if it may drop keys. Of one that does not show it, the best is assumed."""
    policy = info.get("maxmemory_policy", SAFE)
    return None if policy == SAFE else policy


def is_volatile(info: Mapping[str, str]) -> bool:
    """Whether a crash of the server loses what came since its last snapshot, if it takes any."""
    return info.get("aof_enabled") == "0"


class ServerCheck:
    """Looks whether the server is fit: at the first use of a queue, and now and then in a worker.

    Args:
        root: The shard's.
        allow_eviction: Whether it may drop keys.
        allow_no_persistence: Whether it may lose them in a crash.
    """

    def __init__(self, root: str, *, allow_eviction: bool, allow_no_persistence: bool) -> None:
        self._root = root
        self._allow_eviction = allow_eviction
        self._allow_no_persistence = allow_no_persistence
        self._told_of: str | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether anything is not allowed."""
        return not (self._allow_eviction and self._allow_no_persistence)

    def _call(self, shards: int | None = None) -> Call[tuple[dict[str, str], int]]:
        options = b"{}" if shards is None else msgspec.json.encode({"shards": shards})
        return Call("open", self._root, (options,), lambda reply: (read_info(reply[0]), reply[1]))

    def begin(self, shards: int) -> Flow[None]:
        """Refuse another number of shards, and a server that drops keys; warn of one that forgets them."""
        info, known = yield self._call(shards)
        if known != shards:
            raise ConfigurationError(
                f"queue.shards is {shards}, and the queue was used with {known}: its tasks are where {known} "
                "shards have them. Use one number everywhere; to change it, let the queue drain, stop its "
                f"clients, and HDEL {self._root}:settings shards"
            )
        policy = evicts_by(info)
        if policy is not None and not self._allow_eviction:
            raise UnsafeServerError(policy)
        if is_volatile(info) and not self._allow_no_persistence:
            _warn_once(NO_PERSISTENCE + ", or allow it knowingly: redis.allow_no_persistence")

    def again(self) -> Flow[None]:
        """Log it if the server has become one that would be refused, perhaps after a failover."""
        if self._allow_eviction:
            return
        info, _ = yield self._call()
        policy = evicts_by(info)
        if policy is not None and policy != self._told_of:
            logger.error("%s", UnsafeServerError(policy))
        self._told_of = policy


@cache
def _warn_once(text: str) -> None:
    """Once in a process, which may open many queues."""
    logger.warning("%s", text)
