"""What callers of XCom may leave out, and what they may give."""

from __future__ import annotations

from enum import Enum
from typing import Final

from fairque.core.exceptions import TaskValidationError
from fairque.core.units import Seconds, to_seconds

DEFAULT_NAMESPACE: Final = "default"


class Missing(Enum):
    """`MISSING` stands for a default that was not given; None may be one."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return self.name


MISSING: Final = Missing.MISSING


def check_ttl(ttl: Seconds) -> float:
    """A time to live in seconds.

    Raises:
        TaskValidationError: No number or timedelta, not above 0, or over 200 years.
    """
    seconds = to_seconds(ttl, "ttl")
    if seconds == 0:
        raise TaskValidationError(f"ttl must be longer than 0 s, not {ttl!r}")
    return seconds
