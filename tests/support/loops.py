"""Event loops that behave as the worst one may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TypeVarTuple

Ts = TypeVarTuple("Ts")
EARLY_SECONDS = 0.002


class EarlyLoop(asyncio.SelectorEventLoop):
    """Its timers ring before their time by any other clock.

    So do uvloop's, which counts from when it last looked at its clock, in whole milliseconds.
    """

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return super().call_later(delay - EARLY_SECONDS, callback, *args, context=context)
