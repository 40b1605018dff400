"""Task ids: UUIDs of version 7 (RFC 9562), made by the client so that a push can be repeated."""

from __future__ import annotations

import os
import time

from fairque.core.forks import Lock

_lock = Lock()
_last = 0

_VARIANT = 1 << 63  # of the last 64 bits the first two are 10
_TAIL = (1 << 62) - 1


def new_id() -> str:
    """A UUIDv7 in its text form. Ids of one process sort in the order they were made.

    The 12 bits after the version carry the fraction of the millisecond (RFC 9562 §6.2, method 3). The
    random part comes from the system, so that forked processes cannot make the same ids.
    """
    global _last  # noqa: PLW0603 - the one thing that makes ids of a process ordered
    nanoseconds = time.time_ns()
    ticks = (nanoseconds // 1_000_000 << 12) | (nanoseconds % 1_000_000) * 4096 // 1_000_000
    with _lock.now:
        _last = ticks = max(ticks, _last + 1)
    tail = int.from_bytes(os.urandom(8)) & _TAIL | _VARIANT
    digits = f"{(ticks >> 12 << 16 | 0x7000 | ticks & 0xFFF) << 64 | tail:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
