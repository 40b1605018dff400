"""For how long a call is repeated, and after what."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from redis import exceptions as redis_errors

from fairque.core.exceptions import (
    ServerLoadingError,
    ServerReadOnlyError,
    ServerUnavailableError,
    SlotMovedError,
)

if TYPE_CHECKING:
    from fairque.core.calls import Call

LONGEST_PAUSE = 0.5  # seconds before a repeat
# The server has answered, and it was no: the script did not run, so that any call may be repeated.
_REFUSALS = (redis_errors.ResponseError, redis_errors.ClusterError)
_PASSING = (ServerUnavailableError, ServerLoadingError)
# Where another node takes over, these pass too. One server that says so has a wrong address.
_PASSING_WITH_OTHERS = (*_PASSING, ServerReadOnlyError, SlotMovedError)


def is_passing_refusal(error: Exception, meaning: Exception) -> bool:
    """Whether a server said no for a reason that passes by itself, or with a look for the right node."""
    return isinstance(error, _REFUSALS) and isinstance(meaning, _PASSING_WITH_OTHERS)


class Patience:
    """The repeats of one call.

    Args:
        call: What is repeated.
        window: Seconds after its first failure in which it is.
        others: Whether another node may take over: Sentinel, or a cluster.
    """

    def __init__(self, call: Call[Any], window: float, *, others: bool) -> None:
        self._call = call
        self._window = window
        self._passing = _PASSING_WITH_OTHERS if others else _PASSING
        self._tries = 0
        self._since: float | None = None

    def pause_after(self, error: Exception, meaning: Exception) -> float | None:
        """Seconds until the call is tried again, or None to give up.

        Args:
            error: What the client library raised.
            meaning: The FairQueue error that it means.
        """
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        self._tries += 1
        is_safe = self._call.idempotent or isinstance(error, _REFUSALS)
        if not is_safe or not isinstance(meaning, self._passing):
            return None
        pause = random.uniform(0.2, 1) * min(LONGEST_PAUSE, 0.05 * 2.0**self._tries)  # noqa: S311 - jitter
        return pause if now + pause - self._since <= self._window else None
