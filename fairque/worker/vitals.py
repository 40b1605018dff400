"""How a worker does: for threads that watch it, also while a task blocks its event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from fairque.utils.lua_manager import LuaScriptManager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairque.core.config import RedisConfig
    from fairque.worker.post import Post
    from fairque.worker.turns import Turns

# A loop that is silent for so long, while no task has time left, will not answer any more.
STUCK_SECONDS = 30.0


class Health(NamedTuple):
    """What probes are told."""

    live: bool
    ready: bool
    body: dict[str, Any]


class _Parts(NamedTuple):
    loop: asyncio.AbstractEventLoop
    posts: Sequence[Post]
    turns: Turns

    @property
    def keeps_any(self) -> bool:
        """Whether the lease of any attempt is kept."""
        return any(post.heart.keeps_any for post in self.posts)

    @property
    def last_contact(self) -> float | None:
        """When (`time.monotonic()`) any shard was told last that the worker lives."""
        contacts = [post.heart.last_contact for post in self.posts]
        return max((contact for contact in contacts if contact is not None), default=None)


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

    def attach(self, posts: Sequence[Post], turns: Turns) -> None:
        """The worker runs now, on the running loop, and these are its parts."""
        self._asked, self.recycling = None, None
        self._parts, self._has_ended = _Parts(asyncio.get_running_loop(), posts, turns), False

    def detach(self) -> None:
        """The worker has ended."""
        self._parts, self._has_ended = None, True

    def health(self) -> Health:
        """As probes see it: ready while it takes tasks, live unless nothing but a restart can help it."""
        parts = self._parts
        state = self._note(self._state_of(parts))
        contact = None if parts is None else parts.last_contact
        body = {
            "worker": self._worker_id,
            "state": state,
            "since": _shown(self._since),
            "running": 0 if parts is None else parts.turns.slots.running,
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
        for post in parts.posts:
            post.heart.stop()
        manager = LuaScriptManager(config)
        try:
            for post in parts.posts:
                manager.run(post.pump.abandon())
        finally:
            manager.close()

    def _answer(self) -> None:
        self._asked = None

    def _state_of(self, parts: _Parts | None) -> str:
        if parts is None:
            return "ended" if self._has_ended else "starting"
        # A task may block the loop for as long as it may run: its lease is kept, and so is its process.
        silent = self.silence() > STUCK_SECONDS and not parts.keeps_any
        if silent or not all(post.heart.is_alive for post in parts.posts):
            return "stuck"
        if parts.turns.are_over:
            return "draining"
        contact = parts.last_contact
        if contact is None:
            return "starting"
        lease = parts.posts[0].heart.lease
        return "disconnected" if time.monotonic() - contact > lease else "working"

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
