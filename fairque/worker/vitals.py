"""How a worker does: for threads that watch it, also while a task blocks its event loop."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from fairque.utils.lua_manager import LuaScriptManager

if TYPE_CHECKING:
    import asyncio

    from fairque.core.config import RedisConfig
    from fairque.worker.heart import Heart
    from fairque.worker.pump import Pump

# A loop that is silent for so long, while no task has time left, will not answer any more.
STUCK_SECONDS = 30.0


class Health(NamedTuple):
    """What probes are told."""

    live: bool
    ready: bool
    body: dict[str, Any]


class _Parts(NamedTuple):
    loop: asyncio.AbstractEventLoop
    pump: Pump
    heart: Heart
    lease: float


class Vitals:
    """What can be told of a worker from outside of its event loop. Safe to use from any thread.

    Args:
        worker_id: Whose they are; None while that is not known yet.
    """

    def __init__(self, worker_id: str | None) -> None:
        self._worker_id = worker_id
        self._parts: _Parts | None = None
        self._has_ended = False
        self._asked: float | None = None  # since when the loop owes an answer
        self._lock = threading.Lock()
        self._state, self._since = "starting", datetime.now(UTC)
        self.recycling: str | None = None  # why the worker wants to be replaced

    def attach(self, loop: asyncio.AbstractEventLoop, pump: Pump, heart: Heart, lease: float) -> None:
        """The worker runs now, and these are its parts."""
        self._asked, self.recycling = None, None
        self._parts, self._has_ended = _Parts(loop, pump, heart, lease), False

    def detach(self) -> None:
        """The worker has ended."""
        self._parts, self._has_ended = None, True

    def health(self) -> Health:
        """As probes see it: ready while it takes tasks, live unless nothing but a restart can help it."""
        parts = self._parts
        state = self._note(self._state_of(parts))
        contact = None if parts is None else parts.heart.last_contact
        body = {
            "worker": self._worker_id,
            "state": state,
            "since": _shown(self._since),
            "running": 0 if parts is None else parts.pump.slots.running,
            "last_contact": None if contact is None else _shown(_at(contact)),
        }
        return Health(live=state != "stuck", ready=state == "working", body=body)

    def silence(self) -> float:
        """Seconds for which the event loop has owed an answer. Asks it anew if it owes none."""
        parts = self._parts
        if parts is None:
            return 0.0
        with self._lock:
            asked = self._asked
            if asked is None:
                self._asked = time.monotonic()
        if asked is not None:
            return time.monotonic() - asked
        try:
            parts.loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop has been closed meanwhile
            self._asked = None
        return 0.0

    def hand_back(self, config: RedisConfig) -> None:
        """Give back all that runs, in place of a loop that cannot. The process must end after that.

        Raises:
            FairQueueError: The server could not be used; the leases will run out.
        """
        parts = self._parts
        if parts is None:
            return
        parts.heart.stop()
        manager = LuaScriptManager(config)
        try:
            manager.run(parts.pump.abandon())
        finally:
            manager.close()

    def _answer(self) -> None:
        self._asked = None

    def _state_of(self, parts: _Parts | None) -> str:
        if parts is None:
            return "ended" if self._has_ended else "starting"
        # A task may block the loop for as long as it may run: its lease is kept, and so is its process.
        silent = self.silence() > STUCK_SECONDS and not parts.heart.keeps_any
        if silent or not parts.heart.is_alive:
            return "stuck"
        if parts.pump.is_stopping:
            return "draining"
        if parts.heart.last_contact is None:
            return "starting"
        return "disconnected" if time.monotonic() - parts.heart.last_contact > parts.lease else "working"

    def _note(self, state: str) -> str:
        with self._lock:
            if state != self._state:
                self._state, self._since = state, datetime.now(UTC)
        return state


def _at(moment: float) -> datetime:
    """The time of a `time.monotonic()`."""
    return datetime.now(UTC) - timedelta(seconds=time.monotonic() - moment)


def _shown(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
