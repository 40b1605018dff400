"""A comparison for people, as two tables, and for machines, as one JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from rich.table import Table

from fairque.simulator.measure import CLASS_RULE, CLASSES, UNITS

if TYPE_CHECKING:
    from rich.console import Console

    from fairque.simulator.compare import Comparison
    from fairque.simulator.lag import Unit
    from fairque.simulator.measure import Lag, Measured, Waits

NONE = "none"
TWO_DIGITS, ONE_DIGIT = 10, 100  # a number below has so many after the point


def show(comparison: Comparison, console: Console) -> None:
    """Print what was offered, the waits and the fairness."""
    offered = comparison.offered
    load = "all at once" if comparison.load is None else f"load {comparison.load:.0%}"
    console.print(
        f"{_count(offered.tasks, 'task')} of {_count(sum(offered.users.values()), 'user')}, "
        f"{number(offered.work)} s of work "
        f"arriving over {number(offered.seconds)} s, on {_count(comparison.slots, 'slot')} ({load})",
        highlight=False,
    )
    console.print(f"Classes: {CLASS_RULE}.", style="dim", highlight=False)
    console.print()
    console.print(_waits_table(comparison))
    console.print()
    console.print(_fairness_table(comparison))
    console.print(_footnote(comparison), style="dim", highlight=False)


def _count(amount: int, thing: str) -> str:
    return f"{amount:,} {thing}{'' if amount == 1 else 's'}"


def _waits_table(comparison: Comparison) -> Table:
    users = comparison.offered.users
    table = Table(title="Waits in seconds: p50 / p95 / p99", title_justify="left", box=None, pad_edge=False)
    table.add_column("policy", no_wrap=True)
    for name in CLASSES:
        table.add_column(f"{name} ({users[name]:,})", justify="right", no_wrap=True)
    for one in comparison.measured:
        table.add_row(one.policy, *(_waits(one.waits.get(name)) for name in CLASSES))
    return table


def _waits(waits: Waits | None) -> str:
    return NONE if waits is None else " / ".join(map(number, (waits.p50, waits.p95, waits.p99)))


def _fairness_table(comparison: Comparison) -> Table:
    title = "Fairness among users that wait: Jain's index, worst lag (at most)"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("policy", no_wrap=True)
    for head in ("Jain, tasks", "Jain, seconds", "lag, tasks", "lag, seconds"):
        table.add_column(head, justify="right", no_wrap=True)
    for one in comparison.measured:
        jains = (_optional(one.fairness[unit].jain, "{:.3f}") for unit in UNITS)
        table.add_row(one.policy, *jains, *(_lag(one.fairness[unit].lag) for unit in UNITS))
    return table


def _lag(lag: Lag) -> str:
    worst = NONE if lag.worst is None else number(lag.worst)
    return worst if lag.bound is None else f"{worst} ({number(lag.bound)})"


def _optional(value: float | None, pattern: str) -> str:
    return NONE if value is None else pattern.format(value)


def _footnote(comparison: Comparison) -> str:
    users, followed = sum(comparison.offered.users.values()), comparison.measured[0].followed
    pairs = "all pairs of users" if users == followed else f"the pairs among {followed} of {users:,} users"
    return f"Lag is over {pairs}, for a weight of 1; in brackets the most that the order allows."


def number(value: float) -> str:
    """Three digits or more."""
    digits = 2 if value < TWO_DIGITS else 1 if value < ONE_DIGIT else 0
    return f"{value:,.{digits}f}"


def to_json(comparison: Comparison) -> bytes:
    """One JSON object; times in seconds, what does not exist is null."""
    offered = comparison.offered
    return msgspec.json.encode(
        {
            "tasks": offered.tasks,
            "work_seconds": offered.work,
            "arrival_seconds": offered.seconds,
            "slots": comparison.slots,
            "load": comparison.load,
            "users": offered.users,
            "class_rule": CLASS_RULE,
            "policies": {one.policy: _policy(one) for one in comparison.measured},
        }
    )


def _policy(one: Measured) -> dict[str, Any]:
    return {
        "seconds": one.seconds,
        "wait_seconds": {name: msgspec.to_builtins(waits) for name, waits in one.waits.items()},
        **{f"by_{unit}": _fairness(one, unit) for unit in UNITS},
        "users_followed_for_lag": one.followed,
    }


def _fairness(one: Measured, unit: Unit) -> dict[str, float | None]:
    fairness = one.fairness[unit]
    return {"jain": fairness.jain, "worst_lag": fairness.lag.worst, "lag_bound": fairness.lag.bound}
