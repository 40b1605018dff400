"""How the replies read that tell of the queue and its users."""

from __future__ import annotations

import math
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec

from fairque.core.keys import unescape
from fairque.core.records import QueueHealth, QueueStats, UserStats
from fairque.queue.fitness import NO_PERSISTENCE, evicts_by, is_volatile, read_info
from fairque.queue.replies import groups

if TYPE_CHECKING:
    from collections.abc import Sequence

MINUTE_MS = 60_000
HALF_MINUTE_MS = 30_000


def read_stats(replies: Sequence[Any]) -> QueueStats:
    """The replies of stats.lua, of all shards."""
    sizes = [sum(numbers) for numbers in zip(*(reply[:10] for reply in replies), strict=True)]
    scheduled, deferred, started, finished, failed, canceled, ready_users, users, _, throttled = sizes
    paused, _, _, in_minute = replies[0][10:14]
    spreads = [float(largest) - float(least) for least, largest in (reply[11:13] for reply in replies)]
    this_minute, last_minute = (_together([reply[place] for reply in replies]) for place in (14, 15))
    totals: Counter[str] = Counter()
    for reply in replies:
        totals.update({name.decode(): int(value) for name, value in groups(reply[16], 2)})
    ended = sum(totals.get(name, 0) for name in ("finished", "failed", "canceled", "lost"))
    live = totals.get("pushed", 0) + totals.get("requeued", 0) - ended
    return QueueStats(
        queued=live - scheduled - deferred - started,
        scheduled=scheduled,
        deferred=deferred,
        started=started,
        finished=finished,
        failed=failed,
        canceled=canceled,
        ready_users=ready_users,
        throttled_users=throttled,
        users=users,
        workers=max(reply[8] for reply in replies),  # a worker tells every shard that it lives
        paused=paused == 1,
        jain_index=_recent_jain(in_minute, this_minute, last_minute, ready_users),
        virtual_time_spread=max(spreads),
        totals=dict(totals),
    )


def _together(services: Sequence[list[Any]]) -> list[float | None]:
    """What is known of the service in a minute, of all shards; None for what none of them knows."""
    return [
        None if all(value is None for value in values) else sum(map(_number, values))
        for values in zip(*services, strict=True)
    ]


def _recent_jain(
    in_minute: int, this_minute: list[float | None], last_minute: list[float | None], ready: int
) -> float | None:
    """Of the minute that runs once it is half over, or where nothing was served in the last one."""
    users, _, _, in_ring, _, _ = map(_number, this_minute)
    if users and (in_minute >= HALF_MINUTE_MS or last_minute[0] is None):
        return _jain(this_minute, unserved=max(0.0, ready - in_ring))
    if last_minute[0] is None:
        return None
    return _jain(last_minute, unserved=_number(last_minute[5]))


def _jain(service: list[float | None], unserved: float) -> float | None:
    """Jain's index of the service in a minute: 1 for equal service, 1/n if one of n got all."""
    users, total, squares, *_ = map(_number, service)
    count = users + unserved
    return None if squares <= 0 else min(1.0, total * total / (count * squares))


def _number(value: bytes | float | None) -> float:
    return float(value or 0)


def read_users(reply: Any) -> list[UserStats]:
    """The reply of users.lua."""
    now, default, *found = reply
    return [_read_user(now, default, fields) for fields in groups(found, 6)]


def _read_user(now: int, default: bytes | None, fields: list[Any]) -> UserStats:
    name, record, ring_v, throttled_until, *waits = fields
    stored = {field.decode(): value for field, value in groups(record, 2)}

    def whole(field: str) -> int:
        return int(float(stored.get(field, 0)))

    policy = msgspec.json.decode(default or b"{}") | msgspec.json.decode(stored.get("policy", b"{}"))
    throttled_now = 0
    if throttled_until is not None:  # past that time nobody has come to let it back
        throttled_now = max(0, min(now, math.ceil(float(throttled_until))) - whole("throttled"))
    p50, p95, p99 = _percentiles(waits, (0.5, 0.95, 0.99))
    return UserStats(
        user_id=unescape(name.decode()),
        queued=whole("live") - whole("in_flight") - whole("scheduled") - whole("deferred"),
        started=whole("in_flight"),
        scheduled=whole("scheduled"),
        deferred=whole("deferred"),
        failed=whole("failed"),
        live=whole("live"),
        virtual_time=float(ring_v if ring_v is not None else stored.get("v", 0)),
        eligible=ring_v is not None,
        throttled=_number(throttled_until) > now,
        weight=float(policy.get("weight") or 1),
        paused=policy.get("paused") or False,
        served=whole("served"),
        stolen=whole("stolen"),
        worker_seconds=whole("busy_ms") / 1000,
        throttled_seconds=(whole("throttled_ms") + throttled_now) / 1000,
        wait_p50=p50,
        wait_p95=p95,
        wait_p99=p99,
    )


def _percentiles(histograms: list[list[bytes]], which: tuple[float, ...]) -> list[float | None]:
    """Waits in seconds, from buckets of milliseconds (includes/waits.lua)."""
    buckets: dict[int, int] = {}
    for histogram in histograms:
        for bucket, number in groups(histogram, 2):
            buckets[int(bucket)] = buckets.get(int(bucket), 0) + int(number)
    total = sum(buckets.values())
    if total == 0:
        return [None] * len(which)
    return [_quantile(sorted(buckets.items()), part * total) for part in which]


def _quantile(buckets: list[tuple[int, int]], rank: float) -> float:
    reached = accumulate(number for _, number in buckets)
    bucket = next(bucket for (bucket, _), passed in zip(buckets, reached, strict=True) if passed >= rank)
    # The middle of the bucket: four of them double the wait. The first one is under a millisecond.
    return 0.0005 if bucket == 0 else 2 ** ((bucket - 0.5) / 4) / 1000


def read_health(reply: Any) -> QueueHealth:
    """The reply of health.lua."""
    info_text, workers, overdue = reply
    info = read_info(info_text)
    valkey = info.get("valkey_version")
    problems = []
    policy = evicts_by(info)
    if policy is not None:
        problems.append(
            f"maxmemory-policy is {policy}, which may drop tasks — CONFIG SET maxmemory-policy noeviction"
        )
    if is_volatile(info):
        problems.append(NO_PERSISTENCE)
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


def worst(found: Sequence[QueueHealth]) -> QueueHealth:
    """The health of a queue whose shards' servers are so."""
    first = next((health for health in found if not health.ok), found[0])
    return msgspec.structs.replace(
        first,
        ok=all(health.ok for health in found),
        problems=tuple(dict.fromkeys(problem for health in found for problem in health.problems)),
        workers=max(health.workers for health in found),
        overdue_leases=sum(health.overdue_leases for health in found),
    )
