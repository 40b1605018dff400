"""What the operations of a queue have in common: where they run, and what every script has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fairque.core import codec
from fairque.core.calls import Call
from fairque.core.keys import Keys
from fairque.core.units import to_ms
from fairque.queue.replies import TaskReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fairque.core.config import QueueConfig

T = TypeVar("T")


class Commands:
    """Builds calls for one shard of a queue.

    Args:
        config: The queue's settings.
        shard: The number of the shard.
    """

    def __init__(self, config: QueueConfig, shard: int = 0) -> None:
        self.config = config
        self.keys = Keys(config.prefix, config.name, shard)
        self._root = self.keys.root
        self._ageing_us = round(config.ageing_seconds * 1_000_000)
        self._reader = TaskReader(self._ageing_us, unpickle=config.codec == "pickle")
        kept = {
            state: to_ms(getattr(config.retention, state), state)
            for state in ("finished", "failed", "canceled")
        }
        window = to_ms(config.push_retry_window, "push_retry_window")
        # A task stays known for the retry window even where its result is not kept, so that a push repeated
        # after a lost reply adds nothing.
        self._retention = {state: max(duration, window) for state, duration in kept.items()}
        self._result_ms = kept["finished"]
        # What every script needs that may end a task, and release others by that.
        self._ending = {"ageing_us": self._ageing_us, "retention": self._retention}
        self._ending_options = self._options(**self._ending)

    @staticmethod
    def _options(**options: Any) -> bytes:
        return msgspec.json.encode({name: value for name, value in options.items() if value is not None})

    def _call(
        self, script: str, args: Iterable[Any], read: Callable[[Any], T], *, idempotent: bool = True
    ) -> Call[T]:
        return Call(script, self._root, tuple(args), read, idempotent)

    def decode_result(self, data: bytes, returns: Any) -> Any:
        """A result as the function's annotation has it."""
        value = codec.decode(data, allow_pickle=self._reader.unpickle)
        return codec.convert(value, returns, "the result")
