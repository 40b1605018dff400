"""The retry decision, as a value: nothing here waits or touches a server."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from fairque.core.portable import Portable
from fairque.core.units import Seconds, to_seconds

ExceptionTypes: TypeAlias = tuple[type[BaseException], ...]


class Retry(Portable):
    """Raise it in a task to have the task run again, as far as `max_retries` allows.

    Args:
        delay: Seconds or timedelta until the next attempt; without it the policy's backoff decides.
        reason: Kept in the task's history.
    """

    delay: float | None = None

    def __init__(self, *, delay: Seconds | None = None, reason: str = "the task asked for a retry") -> None:
        super().__init__(reason)
        self.delay = None if delay is None else to_seconds(delay, "delay")


class RemoteError(Exception):
    """What was raised in another process: how it reads, and what its task's policy says of it there.

    The exception itself stays behind: not every one survives the way, and its class need not be known here.
    """

    def __init__(self, text: str, traceback: str, *, is_covered: bool, delay: float | None) -> None:
        super().__init__(text)
        self.traceback = traceback
        self.is_covered = is_covered
        self.delay = delay


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is repeated, and how long after.

    The delay before retry *n* is drawn between 0 and `min(max_delay, base_delay × 2ⁿ⁻¹)`: exponential
    backoff with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Args:
        max_retries: Attempts after the first one; 0 means none.
        base_delay: Seconds, the cap of the first retry's delay.
        max_delay: Seconds, the cap of every delay.
        retry_on: Only these exceptions are retried.
        no_retry_on: These are not, even if `retry_on` names a base of theirs.
    """

    max_retries: int = 3
    base_delay: float = 1.0
    max_delay: float = 300.0
    retry_on: ExceptionTypes = (Exception,)
    no_retry_on: ExceptionTypes = ()

    def covers(self, error: BaseException) -> bool:
        """Whether the error is worth another attempt, as long as there are any left."""
        if isinstance(error, RemoteError):
            return error.is_covered
        if isinstance(error, Retry):
            return True
        return isinstance(error, self.retry_on) and not isinstance(error, self.no_retry_on)

    def delay_after(self, failures: int, error: BaseException) -> timedelta | None:
        """The pause before the next attempt after `failures` earlier failed ones, or None to give up."""
        if failures >= self.max_retries or not self.covers(error):
            return None
        if isinstance(error, (Retry, RemoteError)) and error.delay is not None:
            return timedelta(seconds=error.delay)
        cap = min(self.max_delay, self.base_delay * 2.0 ** min(failures, 64))
        return timedelta(seconds=random.uniform(0, cap))  # noqa: S311 - jitter, not a secret
