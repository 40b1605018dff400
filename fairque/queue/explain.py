"""Why a task is not running, from what explain.lua found."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from fairque.core.keys import unescape
from fairque.core.models import TaskState
from fairque.core.records import Explanation
from fairque.core.units import from_ms

SHOWN_BLOCKERS = 5  # of what it waits for, in the reason
LONGEST_ERROR = 200  # characters of an error in the reason
LATEST = 250_000_000_000_000  # ms, just before the year 10,000: later ones are no datetime


class Policy(msgspec.Struct):
    """The policy that counts, as the scripts have it."""

    weight: float = 1.0
    max_concurrency: float | None = None  # a large one comes with an exponent
    share: float | None = None
    rate: float | None = None
    paused: bool = False


class Found(msgspec.Struct):
    """The reply of explain.lua."""

    state: str
    at: str
    now: float
    queue_paused: bool
    queue_waiting: int
    ring_size: int
    leased: int
    in_flight: int
    served: int
    busy_ms: float
    policy: Policy
    starts: float
    group: str = ""
    since: float | None = None
    ring_rank: int | None = None
    throttled_until: float | None = None
    lane_rank: int = 0
    ahead: list[str] = []
    group_rank: int | None = None
    groups: int = 1
    worker: str = ""
    attempt: int = 0
    failure_type: str = "failed"
    error: str = ""
    unknown_since: float | None = None  # nobody who met it has known its function
    blockers: list[str] = []  # the open ones, the first hundred
    open: int = 0  # how many there are
    ended: list[tuple[str, str]] = []  # blockers that have ended without opening the way, or are not known


_decode = msgspec.json.Decoder(Found).decode


def explain(reply: bytes, user_id: str, task_id: str) -> Explanation:
    """The explanation of one task."""
    found = _decode(reply)
    task = Explanation(user_id=user_id, task_id=task_id, state=found.state, reason="")
    match TaskState(found.state):
        case TaskState.QUEUED:
            return _queued(found, task)
        case TaskState.SCHEDULED:
            due = float(found.at) // 1000
            return _replace(
                task,
                reason=_scheduled(found, due),
                until=_moment(due),
                estimated_start=_moment(due),
            )
        case TaskState.DEFERRED:
            waits_for = tuple(unescape(name) for name in found.blockers if not name.startswith("%%"))
            return _replace(task, reason=_deferred(found, waits_for), waits_for=waits_for)
        case TaskState.STARTED:
            expiry = float(found.at)
            lease = f"without a heartbeat its lease ends at {_clock(expiry)}"
            if expiry <= found.now:
                lease = (
                    "its lease has run out, and it will be taken back: no heartbeat has come from its worker"
                )
            reason = f"it is running on worker {found.worker}, attempt {found.attempt}; {lease}"
            return _replace(task, reason=reason)
        case TaskState.FAILED:
            why = found.failure_type + _first_line(found.error)
            return _replace(
                task, reason=f"it failed ({why}) and is in the dead letter queue: requeue(…) runs it again"
            )
        case state:
            return _replace(task, reason=f"it has ended: {state.value}")


def _scheduled(found: Found, due: float) -> str:
    if found.unknown_since is None:
        return f"it is due at {_clock(due)}: it was delayed, or waits for its next attempt"
    return (
        f"it waits for a worker that knows its function, since {_clock(found.unknown_since)}, and is offered "
        f"again at {_clock(due)}; it fails after queue.unknown_task_grace{_first_line(found.error)}"
    )


def _deferred(found: Found, waits_for: tuple[str, ...]) -> str:
    """What it waits for, and first of all what will not come by itself."""
    for name, state in found.ended:
        match state:
            case "failed":
                return (
                    f"it waits for task {unescape(name)!r}, which failed: requeue that one to go on, "
                    "or cancel this one"
                )
            case "canceled":
                return f"it waits for task {unescape(name)!r}, which was canceled: it will be canceled too"
            case "missing":
                return f"it waits for task {unescape(name)!r}, which has not been pushed"
    if len(waits_for) < len(found.blockers):
        return "it came with a graph of tasks whose push has not ended yet"
    shown = ", ".join(map(repr, waits_for[:SHOWN_BLOCKERS]))
    more = "" if found.open <= SHOWN_BLOCKERS else " and others"
    return f"it waits for {_counted(found.open, 'task')} to finish: {shown}{more}"


def _queued(found: Found, task: Explanation) -> Explanation:
    limit, until = _limit(found)
    start = None if limit in {"queue_paused", "paused"} else _start(found)
    return _replace(
        task,
        reason=_reason(found, limit, until),
        ahead=found.lane_rank,
        ahead_ids=tuple(map(unescape, found.ahead)),
        group=found.group or None,
        groups_ahead=found.group_rank,
        users_ahead=found.ring_rank,
        ready_users=found.ring_size,
        limit=limit,
        until=_moment(until),
        estimated_start=_moment(start),
    )


def _limit(found: Found) -> tuple[str | None, float | None]:
    """What holds the user back, and until when (ms) if that is known."""
    cap = found.policy.max_concurrency
    if found.queue_paused:
        return "queue_paused", None
    if found.policy.paused:
        return "paused", None
    if cap is not None and found.in_flight >= cap:
        return "max_concurrency", None
    if found.throttled_until is not None and found.throttled_until > found.now:
        return "rate", found.throttled_until
    return ("share", None) if _is_passed_over(found) else (None, None)


def _is_passed_over(found: Found) -> bool:
    """Whether its user stands beyond its share of the slots, beside others who may use the next one."""
    share = found.policy.share
    if share is None or found.ring_rank is None or found.ring_size < 2:  # noqa: PLR2004 - it and another
        return False
    return found.in_flight + 1 > max(1, share * (found.leased + 1))


def _reason(found: Found, limit: str | None, until: float | None) -> str:
    policy = found.policy
    match limit:
        case "queue_paused":
            return "the queue is paused, and starts nothing until it is resumed"
        case "paused":
            return "its user is paused, and starts nothing until it is resumed"
        case "max_concurrency":
            held = f"its user runs as many tasks as its max_concurrency allows: {found.in_flight}"
        case "rate":
            held = f"its user may start {policy.rate:g} tasks a second, the next at {_clock(until)}"
        case "share":
            held = (
                f"its user has {found.in_flight} of the {found.leased} slots in use and may have "
                f"{policy.share:.0%} of them: others that can use the next one go first"
            )
        case _ if found.ring_rank is None:
            held = "its user takes its turn with the next claim"
        case _:
            held = f"{found.ring_rank} of {found.ring_size} ready users have their turn before its user"
            if policy.share is not None:
                held += f", which may use {policy.share:.0%} of the slots while others can use them"
    others = found.groups - 1
    turns = f", which takes turns with {_counted(others, 'other group')} of its user" if others > 0 else ""
    are = "is" if found.lane_rank == 1 else "are"
    before = f"{found.lane_rank} {are} before it" if found.lane_rank else "it is the first"
    return f"{held}; {before} in its lane{turns}"


def _first_line(error: str) -> str:
    """`: no such file`, or nothing where there is no message."""
    line = error.strip().partition("\n")[0]
    short = line if len(line) <= LONGEST_ERROR else line[:LONGEST_ERROR] + "…"
    return f": {short}" if short else ""


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _start(found: Found) -> float | None:
    """When (ms) it may start at the pace of the last minutes: the latest of what each limit says."""
    if found.since is None or not found.starts:
        return None
    pace = found.starts / max(found.now - found.since, 1)  # tasks a millisecond
    turns = (found.lane_rank + 1) * found.groups
    rounds = turns * (1 + (max(found.ring_size, 1) - 1) / found.policy.weight)
    waits = [min(rounds, found.queue_waiting) / pace]
    if found.policy.rate is not None:
        begin = max(found.throttled_until or found.now, found.now) - found.now
        waits.append(begin + (turns - 1) * 1000 / found.policy.rate)
    cap = found.policy.max_concurrency
    if cap is not None and found.served > found.in_flight:
        ran = found.busy_ms / (found.served - found.in_flight)
        waits.append(math.ceil(max(turns - (cap - found.in_flight), 0) / cap) * ran)
    return found.now + max(waits)


def _replace(task: Explanation, **fields: Any) -> Explanation:
    return msgspec.structs.replace(task, **fields)


def _moment(milliseconds: float | None) -> Any:
    return None if milliseconds is None or milliseconds > LATEST else from_ms(math.ceil(milliseconds))


def _clock(milliseconds: float | None) -> str:
    moment = _moment(milliseconds)
    return "an unknown time" if moment is None else moment.isoformat(timespec="milliseconds")
