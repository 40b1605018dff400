"""Durations and points in time: what callers give, and integer milliseconds on the wire."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from fairque.core.exceptions import TaskValidationError

Seconds: TypeAlias = float | timedelta
Moment: TypeAlias = datetime | float  # aware datetime, or seconds since 1970 UTC

# Two hundred years: beyond it a scheduled time in microseconds would leave the doubles that are exact.
LONGEST = 200 * 365.25 * 86400.0


def to_seconds(value: Seconds, what: str) -> float:
    """Seconds as a float.

    Raises:
        TaskValidationError: Not a number or timedelta, NaN, negative, or longer than 200 years.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TaskValidationError(
            f"{what} must be seconds or a timedelta, not {type(value).__name__}: {value!r}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise TaskValidationError(f"{what} must be a finite number of seconds, not {value!r}")
    if value < 0:
        raise TaskValidationError(f"{what} must not be negative: {value!r}")
    if value > LONGEST:
        raise TaskValidationError(f"{what} is over 200 years: {value!r} s")
    return float(value)


def to_ms(value: Seconds, what: str) -> int:
    """A duration in whole milliseconds, rounded up so that nothing is early."""
    seconds = to_seconds(value, what)
    milliseconds = round(seconds * 1000)
    if milliseconds / 1000 == seconds:
        return milliseconds  # the product may be off by the noise of floats
    return math.ceil(round(seconds * 1000, 6))


def moment_to_ms(value: Moment, what: str) -> int:
    """A point in time in milliseconds since 1970 UTC.

    Raises:
        TaskValidationError: A naive datetime, or a number that is no time.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TaskValidationError(f"{what} needs a time zone: {value!r} — datetime.now(UTC) has one")
        value = value.timestamp()
        if value < 0:
            raise TaskValidationError(f"{what} lies before 1970: {value!r}")
    return to_ms(value, what)


def from_ms(value: int | None) -> datetime | None:
    """The aware UTC datetime of a wire time."""
    return None if value is None else datetime.fromtimestamp(value / 1000, UTC)
