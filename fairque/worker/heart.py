"""Heartbeats, from a thread and a connection of their own: a busy loop or pool cannot hold them up."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from fairque.core.exceptions import ServerError
from fairque.queue.replies import Fate
from fairque.utils.lua_manager import LuaScriptManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fairque.core.config import RedisConfig
    from fairque.core.models import Task
    from fairque.queue.commands import ShardCommands

logger = logging.getLogger("fairque.worker")

# An attempt that has outlived its timeout by this is hung: its lease may run out.
GRACE_SECONDS = 5.0
CHUNK = 500  # leases renewed by one script

AttemptKey: TypeAlias = tuple[str | None, str, int, str]


def attempt_key(task: Task[Any]) -> AttemptKey:
    """What tells one attempt from every other, also from another life of the same id."""
    return task.user_id, task.task_id, task.attempt, task.run.claim


class _Beat(NamedTuple):
    key: AttemptKey
    task: Task[Any]
    until: float  # time.monotonic()


class Heart:
    """Renews the leases of what a worker has claimed in one shard, and tells the shard that the worker lives.

    Each shard has a thread and a connection of its own, so that one whose server hangs holds up no other.

    Args:
        config: For the thread's own connection.
        commands: Builds the calls.
        worker_id: Whose heart it is.
        lease: Seconds that each beat is good for; it beats three times in that.
        on_lost: Called in the thread with an attempt that lost its lease, and how.
    """

    def __init__(
        self,
        config: RedisConfig,
        commands: ShardCommands,
        worker_id: str,
        lease: float,
        on_lost: Callable[[AttemptKey, Fate], None],
    ) -> None:
        self._config = config
        self._commands = commands
        self._worker_id = worker_id
        self.lease = lease
        self._on_lost = on_lost
        self._beats: dict[AttemptKey, _Beat] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="fairque-heart", daemon=True)
        self.last_contact: float | None = None  # time.monotonic() of the last beat that was answered

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def keeps_any(self) -> bool:
        """Whether it still keeps a lease, of an attempt that has not outlived its timeout and the grace."""
        now = time.monotonic()
        with self._lock:
            return any(beat.until > now for beat in self._beats.values())

    def held(self) -> list[Task[Any]]:
        """The attempts that were claimed and have not ended, or whose ends the server does not know yet."""
        with self._lock:
            return [beat.task for beat in self._beats.values()]

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End soon: no beat begins any more."""
        self._stop.set()

    async def ended(self, timeout: float) -> None:
        """Wait for a beat that is under way, which would tell of a worker that has left; not for ever."""
        deadline = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread has no event
            await asyncio.sleep(0.002)

    # The lock costs less than the assignment it is held for. Without it, what the thread reads would be whole
    # only where there is a global interpreter lock.

    def keep(self, tasks: Iterable[Task[Any]], longest: float) -> None:
        """Keep the leases of tasks that are claimed: they begin soon, or go back.

        Args:
            tasks: What was claimed.
            longest: Seconds that other attempts may block the loop for meanwhile.
        """
        until = time.monotonic() + longest + GRACE_SECONDS
        beats = {(key := attempt_key(task)): _Beat(key, task, until) for task in tasks}
        with self._lock:
            self._beats |= beats

    def begin(self, key: AttemptKey, task: Task[Any]) -> bool:
        """A kept attempt begins; its lease is kept until its timeout and a grace have passed.

        Returns:
            False if its lease was lost before, or is kept no longer.
        """
        now = time.monotonic()
        hung = float("inf") if task.timeout is None else now + task.timeout + GRACE_SECONDS
        with self._lock:
            beat = self._beats.pop(key, None)
            if beat is None or beat.until < now:
                return False
            self._beats[key] = _Beat(key, task, hung)
        return True

    def remove(self, key: AttemptKey) -> None:
        """The attempt has ended, or was handed back."""
        with self._lock:
            self._beats.pop(key, None)

    def _beat_on(self) -> None:
        manager: LuaScriptManager | None = None
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                if manager is None:
                    manager = LuaScriptManager(self._config)  # a cluster's client connects here
                self._beat(manager)
                self.last_contact = time.monotonic()
                pause = self.lease / 3
            except Exception as error:
                # The worker tells of an outage, once. The next beat comes soon: the leases are running out.
                if not isinstance(error, ServerError):
                    logger.exception("heartbeat of worker %s failed", self._worker_id)
                pause = min(1.0, self.lease / 10)
        if manager is not None:
            manager.close()

    def _beat(self, manager: LuaScriptManager) -> None:
        now = time.monotonic()
        with self._lock:
            beats = [beat for beat in self._beats.values() if beat.until > now]
        for start in range(0, max(len(beats), 1), CHUNK):
            chunk = beats[start : start + CHUNK]
            tasks = [beat.task for beat in chunk]
            call = self._commands.heartbeat_call(tasks, worker_id=self._worker_id, lease=self.lease)
            fates = manager.execute(call)
            for beat, fate in zip(chunk, fates, strict=True):
                if fate is not Fate.HELD:
                    self._lose(beat.key, fate)

    def _lose(self, key: AttemptKey, fate: Fate) -> None:
        with self._lock:
            known = self._beats.pop(key, None)
        if known is not None:  # else it ended while the beat was under way
            self._on_lost(key, fate)
