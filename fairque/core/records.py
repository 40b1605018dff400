"""What the queue tells of tasks, users and itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec


class Attempt(msgspec.Struct, frozen=True):
    """One ended attempt in a task's history (the last ten are kept)."""

    attempt: int
    at: int
    type: str
    error: str = ""
    traceback: str = ""
    worker: str = ""

    @property
    def ended_at(self) -> datetime:
        """When it ended, by the server's clock."""
        return datetime.fromtimestamp(self.at / 1000, UTC)


class Run(msgspec.Struct, frozen=True):
    """What happened to a task so far. Times are the server's, in milliseconds."""

    attempt: int = 0
    place: str = ""
    worker: str | None = None
    queued_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    due_at: int | None = None
    lease_expires_at: int | None = None
    failures: int = 0
    crashes: int = 0
    failure_type: str | None = None
    error: str | None = None
    history: tuple[Attempt, ...] = ()


class QueueStats(msgspec.Struct, frozen=True):
    """How many tasks are where now, and how many transitions happened since the queue began."""

    queued: int
    scheduled: int
    started: int
    finished: int
    failed: int
    canceled: int
    ready_users: int
    users: int
    workers: int
    totals: Mapping[str, int]


class UserStats(msgspec.Struct, frozen=True):
    """One user's part in the queue."""

    user_id: str
    queued: int
    started: int
    live: int
    virtual_time: float
    eligible: bool


class QueueHealth(msgspec.Struct, frozen=True):
    """Whether the server is fit for a queue. `problems` say what to change; empty when `ok`."""

    ok: bool
    problems: tuple[str, ...]
    server: str
    version: str
    workers: int
    overdue_leases: int
