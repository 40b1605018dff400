"""Task ids: UUIDs of version 7 (RFC 9562), made by the client so that a push can be repeated."""

from __future__ import annotations

import os
import threading
import time

from fairque.core.forks import renew_in_children

_AT_ONCE = 64  # random ends that are made at once: most of what an id costs is the way to the system


class _Source:
    """What the ids of a process are made of. A child of a fork has one of its own."""

    def __init__(self) -> None:
        self.last = 0
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Another process may not have the same random ends."""
        self.lock = threading.RLock()  # an object that is collected meanwhile may make an id, too
        self.ends: list[str] = []

    def end(self) -> str:
        """The last 64 bits of an id: the variant, which is 10, and 62 random ones."""
        if not self.ends:
            random = bytearray(os.urandom(8 * _AT_ONCE))
            random[::8] = bytes(byte & 0x3F | 0x80 for byte in random[::8])
            digits = random.hex()
            self.ends = [f"{digits[i : i + 4]}-{digits[i + 4 : i + 16]}" for i in range(0, len(digits), 16)]
        return self.ends.pop()


_source = _Source()


def new_id() -> str:
    """A UUIDv7 in its text form. Ids of one process sort in the order they were made.

    The 12 bits after the version carry the fraction of the millisecond (RFC 9562 §6.2, method 3). The
    random part comes from the system, so that forked processes cannot make the same ids.
    """
    nanoseconds = time.time_ns()
    ticks = (nanoseconds // 1_000_000 << 12) | (nanoseconds % 1_000_000) * 4096 // 1_000_000
    source = _source
    with source.lock:
        last = source.last
        source.last = ticks = ticks if ticks > last else last + 1
        end = source.end()
    digits = f"{ticks:015x}"
    return f"{digits[:8]}-{digits[8:12]}-7{digits[12:]}-{end}"
