"""How the scripts' replies read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import msgspec

from fairque.core.keys import split_member, unescape
from fairque.core.models import (
    Attempt,
    QueueHealth,
    QueueStats,
    Run,
    Task,
    TaskState,
    UserStats,
    decode_task,
)

QueuedAt: TypeAlias = Callable[[int, int], int]  # (place, priority) → ms


class Fate(IntEnum):
    """What a heartbeat learned of an attempt."""

    LOST = 0
    HELD = 1
    CANCELED = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim's tasks; whether more is ready; and in how many seconds a scheduled task is due, if one is."""

    tasks: tuple[Task[Any], ...]
    more: bool
    pause: float | None


def read_flags(reply: Any) -> list[bool]:
    """Ones and zeros."""
    return [flag == 1 for flag in reply]


def read_fates(reply: Any) -> list[Fate]:
    """The fates of heartbeats."""
    return [Fate(fate) for fate in reply]


def read_state(reply: Any) -> TaskState:
    """A state's name."""
    return TaskState(reply.decode())


def read_members(reply: Any) -> list[tuple[str, str]]:
    """Members as (user_id, task_id)."""
    return [split_member(name) for name in reply]


def read_claim(reply: Any, worker_id: str, lease_ms: int, queued_at: QueuedAt) -> Claim:
    """The reply of claim.lua."""
    pause, more, now = reply[:3]
    tasks = []
    for i in range(3, len(reply), 5):
        name, attempt, place, failures, record = reply[i : i + 5]
        run = Run(
            attempt=attempt,
            place=place.decode(),
            worker=worker_id,
            started_at=now,
            lease_expires_at=now + lease_ms,
            failures=failures,
        )
        task = decode_task(record, *split_member(name), state=TaskState.STARTED, run=run)
        run = msgspec.structs.replace(run, queued_at=queued_at(int(place), task.header.priority))
        tasks.append(msgspec.structs.replace(task, run=run))
    return Claim(tuple(tasks), more == 1, None if pause < 0 else pause / 1000)


def read_task(reply: Any, user_id: str, task_id: str, queued_at: QueuedAt) -> Task[Any]:
    """The reply of get.lua."""
    state, score, record, fields = reply
    return _task(TaskState(state.decode()), int(score), record, fields, user_id, task_id, queued_at)


def read_failed(reply: Any, queued_at: QueuedAt) -> tuple[int, list[Task[Any]]]:
    """The reply of failed.lua: how many were looked at, and the tasks."""
    tasks = [
        _task(TaskState.FAILED, 0, record, fields, *split_member(name), queued_at)
        for name, record, fields in _groups(reply[1:], 3)
    ]
    return reply[0], tasks


def _task(
    state: TaskState,
    score: int,
    record: bytes,
    fields: list[bytes],
    user_id: str,
    task_id: str,
    queued_at: QueuedAt,
) -> Task[Any]:
    stored = {name.decode(): value for name, value in _groups(fields, 2)}
    place = stored.get("place", b"").decode()
    if state is TaskState.QUEUED:
        place = str(score)
    task = decode_task(record, user_id, task_id, state=state, run=Run())
    run = Run(
        attempt=int(stored.get("attempt", 0)),
        place=place,
        worker=_text(stored.get("worker")),
        queued_at=queued_at(int(place), task.header.priority) if place else None,
        started_at=_whole(stored.get("started_at")),
        finished_at=_whole(stored.get("finished_at")),
        due_at=score // 1000 if state is TaskState.SCHEDULED else None,
        lease_expires_at=score if state is TaskState.STARTED else None,
        failures=int(stored.get("failures", 0)),
        crashes=int(stored.get("crashes", 0)),
        failure_type=_text(stored.get("failure_type")),
        error=_text(stored.get("error")),
        history=_decode_history(stored.get("history", b"[]")),
    )
    return msgspec.structs.replace(task, run=run)


_decode_history = msgspec.json.Decoder(tuple[Attempt, ...]).decode


def read_stats(reply: Any) -> QueueStats:
    """The reply of stats.lua."""
    *sizes, totals_reply = reply
    totals = {name.decode(): int(value) for name, value in _groups(totals_reply, 2)}
    scheduled, started, finished, failed, canceled, ready_users, users, workers = sizes
    ended = sum(totals.get(name, 0) for name in ("finished", "failed", "canceled", "lost"))
    live = totals.get("pushed", 0) + totals.get("requeued", 0) - ended
    return QueueStats(
        queued=live - scheduled - started,
        scheduled=scheduled,
        started=started,
        finished=finished,
        failed=failed,
        canceled=canceled,
        ready_users=ready_users,
        users=users,
        workers=workers,
        totals=totals,
    )


def read_users(reply: Any) -> list[UserStats]:
    """The reply of users.lua."""
    return [
        UserStats(
            user_id=unescape(name.decode()),
            queued=int(ready),
            started=int(in_flight),
            live=int(live),
            virtual_time=float(v),
            eligible=eligible == 1,
        )
        for name, ready, in_flight, live, v, eligible in _groups(reply, 6)
    ]


def read_health(reply: Any) -> QueueHealth:
    """The reply of health.lua."""
    info_text, workers, overdue = reply
    info = dict(line.split(":", 1) for line in info_text.decode().splitlines() if ":" in line)
    valkey = info.get("valkey_version")
    problems = []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        problems.append(
            f"maxmemory-policy is {policy}: the server may drop tasks — CONFIG SET maxmemory-policy noeviction"
        )
    if info.get("aof_enabled") == "0":
        problems.append("no append-only file: a crash of the server loses tasks — CONFIG SET appendonly yes")
    if overdue:
        problems.append(f"{overdue} leases expired over a minute ago: no worker is running, or none reclaims")
    return QueueHealth(
        ok=not problems,
        problems=tuple(problems),
        server="valkey" if valkey else "redis",
        version=valkey or info.get("redis_version", "unknown"),
        workers=workers,
        overdue_leases=overdue,
    )


def _groups(values: list[Any], size: int) -> Iterator[list[Any]]:
    return (values[i : i + size] for i in range(0, len(values), size))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _whole(value: bytes | None) -> int | None:
    return None if value is None else int(value)
