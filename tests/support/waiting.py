"""Waiting for what another thread or process does, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(holds: Callable[[], object], what: str, *, within: float = 10.0, every: float = 0.002) -> float:
    """Return once `holds()` is true, with the seconds that took; fail if it is not true in time.

    What asks a server, or reads a long journal, is asked less often: `every` so many seconds.
    """
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > within:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(every)
    return time.monotonic() - began
