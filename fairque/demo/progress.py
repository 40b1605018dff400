"""How far a run is, for each user: what the live display shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from fairque.demo.report import TaskTimes

SHARE_MS = 1000  # the time that a user's share is taken over


@dataclass(frozen=True, slots=True)
class UserProgress:
    """One user.

    Attributes:
        share: The user's part of the tasks that started in the last second, 0 to 1.
        longest_wait: Seconds, of the tasks that have started and of those that still wait.
    """

    user: str
    size: int
    done: int
    waiting: int
    share: float
    longest_wait: float


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run, by the server's clock: its latest time is now."""

    seconds: float
    done: int
    users: tuple[UserProgress, ...]


def progress(times: Collection[TaskTimes], sizes: Mapping[str, int]) -> Progress:
    """How far a run is.

    Args:
        times: Of the tasks that have started.
        sizes: How many tasks each user has.
    """
    began = min((task.queued_at for task in times), default=0)
    now = max((task.finished_at or task.started_at for task in times), default=0)
    started = Counter(task.owner for task in times)
    done = Counter(task.owner for task in times if task.finished_at is not None)
    recent = Counter(task.owner for task in times if task.started_at > now - SHARE_MS)
    waits = {user: 0 if started[user] == size else now - began for user, size in sizes.items()}
    for task in times:
        waits[task.owner] = max(waits[task.owner], task.wait)
    users = tuple(
        UserProgress(
            user,
            size,
            done[user],
            size - started[user],
            recent[user] / max(recent.total(), 1),
            waits[user] / 1000,
        )
        for user, size in sizes.items()
    )
    return Progress((now - began) / 1000, done.total(), users)
