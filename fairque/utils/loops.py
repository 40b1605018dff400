"""The event loop of whatever runs on one of its own: uvloop's where it is installed, which is faster.

A loop that an application runs itself is its own choice.
"""

from __future__ import annotations

import asyncio
import os

from fairque.core.exceptions import ConfigurationError

VARIABLE = "FAIRQUE_EVENT_LOOP"


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new event loop, which the caller closes.

    Raises:
        ConfigurationError: `FAIRQUE_EVENT_LOOP` names no loop, or one that is not installed.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted not in {None, "asyncio", "uvloop"}:
        raise ConfigurationError(f"{VARIABLE} is {wanted!r}: must be asyncio or uvloop")
    if wanted != "asyncio":
        try:
            import uvloop  # noqa: PLC0415 - an extra
        except ImportError as error:
            if wanted == "uvloop":
                raise ConfigurationError(
                    f"{VARIABLE} is uvloop, which cannot be imported ({error}): "
                    "pip install 'fairque[fast]', or take asyncio"
                ) from error
        else:
            return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def name_of(loop: asyncio.AbstractEventLoop) -> str:
    """What kind of loop it is, for the log: `asyncio` or `uvloop`, or what an application runs."""
    return type(loop).__module__.partition(".")[0]
