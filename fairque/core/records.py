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
    """What happened to a task so far. Times are the server's, in milliseconds.

    `attempt` and `claim` are the fence: together they tell the last attempt from every other.
    """

    attempt: int = 0
    claim: str = ""
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
    """How many tasks are where now, how fair the service is, and how many transitions there were so far.

    Attributes:
        started: Tasks that run, which is the slots in use.
        ready_users: Users that could be served now.
        throttled_users: Users that only their rate holds back.
        paused: Whether the whole queue is paused.
        jain_index: Jain's index of what users with work were served in the last minute, divided by their
            weights: 1 is equal, 1/n is all for one of n. None where nothing was served. Measured over the
            minute that runs from its half on, over the last one before.
        virtual_time_spread: The largest less the smallest virtual time among ready users: how far behind the
            first one is at most. In tasks, or in seconds where tasks cost time, of a user of weight 1.
        totals: Transitions by name.
    """

    queued: int
    scheduled: int
    deferred: int
    started: int
    finished: int
    failed: int
    canceled: int
    ready_users: int
    throttled_users: int
    users: int
    workers: int
    paused: bool
    jain_index: float | None
    virtual_time_spread: float
    totals: Mapping[str, int]


class UserStats(msgspec.Struct, frozen=True):
    """One user's part in the queue.

    Attributes:
        queued, started, scheduled, deferred, failed: Tasks by state; deferred ones wait for others, failed
            ones are in the dead letter queue.
        live: Tasks that have not ended.
        virtual_time: How much service it has received, on the clock by which users take turns.
        eligible: Whether it has ready work and nothing holds it back.
        throttled: Whether nothing but its rate holds it back.
        weight, paused: From its policy.
        served: Attempts started since the user is known.
        stolen: Those of them that were stolen.
        worker_seconds: How long its ended attempts ran.
        throttled_seconds: How long nothing but its rate has held it back.
        wait_p50, wait_p95, wait_p99: Seconds from ready to started, of the last five to ten minutes, to about
            ten percent; None where nothing started.
    """

    user_id: str
    queued: int
    started: int
    scheduled: int
    deferred: int
    failed: int
    live: int
    virtual_time: float
    eligible: bool
    throttled: bool
    weight: float
    paused: bool
    served: int
    stolen: int
    worker_seconds: float
    throttled_seconds: float
    wait_p50: float | None
    wait_p95: float | None
    wait_p99: float | None


class Explanation(msgspec.Struct, frozen=True):
    """Why a task is not running.

    Attributes:
        state: Where it is.
        reason: The answer in a sentence.
        ahead: How many tasks of its lane are before it, and `ahead_ids` the first five of them.
        group: Its group, if it has one, and `groups_ahead` how many of the user's have their turn before.
        users_ahead: How many of the `ready_users` have their turn before its user; None if that is not ready.
        limit: What holds it back: `queue_paused`, `paused`, `max_concurrency`, `rate`, `share` (its user has
            its share of the slots, and others go first while they can use one), or None.
        until: Until when, where that is known.
        waits_for: Ids of the dependencies that are open, the first hundred.
        estimated_start: From the pace of the last minutes; None where nothing has started lately, or nobody
            can know.
    """

    user_id: str
    task_id: str
    state: str
    reason: str
    ahead: int = 0
    ahead_ids: tuple[str, ...] = ()
    group: str | None = None
    groups_ahead: int | None = None
    users_ahead: int | None = None
    ready_users: int = 0
    limit: str | None = None
    until: datetime | None = None
    waits_for: tuple[str, ...] = ()
    estimated_start: datetime | None = None


class QueueHealth(msgspec.Struct, frozen=True):
    """Whether the server is fit for a queue. `problems` say what to change; empty when `ok`."""

    ok: bool
    problems: tuple[str, ...]
    server: str
    version: str
    workers: int
    overdue_leases: int


class RepairReport(msgspec.Struct, frozen=True):
    """What a repair has found wrong, and mended unless it was a `dry_run`.

    Attributes:
        tasks, users: How many were looked at.
        remaining: What is still wrong, of all kinds: after a dry run as much as was found, else nothing.
        lost: Entries of lanes, leases and other places that name no task.
        homeless: Tasks that were in no place: queued again, or put where their run says that they ended.
        doubled: Tasks that were in several places: the one that is furthest in a task's life was kept.
        misplaced: Tasks in a place that cannot be theirs.
        unreadable: Live tasks whose record cannot be read: they went to the dead letter queue.
        runs: Runs that contradict where their task is.
        leftovers: Keys, and entries, without what they belong to.
        edges: Dependencies that did not stand alike at both ends, or whose end was not told.
        counters: Users whose counters did not say where their tasks are.
        derived: Users that were not where their tasks and their policy put them: ring, throttled, groups,
            index.
        shard: Things that the shard keeps once: totals, clock, settings, the wake-up.
        xcom: Values that the index of their namespace did not tell of as they are.
        schedules: Schedules that were not where their record puts them, or of which not all was left: those
            were removed.
        keys: Keys of a type that no script can read; they were removed.
        problems: All of it in sentences, and what stays since nobody can judge it.
    """

    dry_run: bool
    tasks: int
    users: int
    remaining: int
    lost: int
    homeless: int
    doubled: int
    misplaced: int
    unreadable: int
    runs: int
    leftovers: int
    edges: int
    counters: int
    derived: int
    shard: int
    xcom: int
    schedules: int
    keys: int
    problems: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems
