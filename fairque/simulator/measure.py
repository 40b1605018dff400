"""What a simulated order did: waits by class of user, and how fair it was."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from fairque.simulator.jain import jain_index
from fairque.simulator.lag import FOLLOWED, Unit, followed_users, seconds_bound, tasks_bound, worst_lag
from fairque.simulator.orders import COSTS, OrderName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fairque.core.user_policy import UserPolicy
    from fairque.simulator.simulation import Run
    from fairque.simulator.trace import Arrival

UserClass = Literal["heavy", "medium", "small"]
CLASSES: tuple[UserClass, ...] = get_args(UserClass)
UNITS: tuple[Unit, ...] = get_args(Unit)
HEAVY, MEDIUM = 0.5, 0.9  # of the work
CLASS_RULE = (
    "users by the work they offer, biggest first: those that make up the first half of it are heavy, "
    "up to nine tenths medium, the rest small"
)


@dataclass(frozen=True, slots=True)
class Waits:
    """From arrival to start, in seconds, by nearest rank."""

    tasks: int
    p50: float
    p95: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Lag:
    """The worst lag between two users, and what it may be at most; None where there is none."""

    worst: float | None
    bound: float | None


@dataclass(frozen=True, slots=True)
class Fairness:
    """In one unit of service.

    Attributes:
        jain: 1 is even, 1/n is one of n users served alone; None if no two users had to share.
        lag: Between users that waited at the same time.
    """

    jain: float | None
    lag: Lag


@dataclass(frozen=True, slots=True)
class Measured:
    """One order.

    Attributes:
        seconds: From the first arrival to the last end.
        followed: Between how many users lag was measured.
    """

    policy: OrderName
    seconds: float
    waits: Mapping[UserClass, Waits]
    fairness: Mapping[Unit, Fairness]
    followed: int


def user_classes(arrivals: Sequence[Arrival]) -> dict[str, UserClass]:
    """Which class each user is of, by `CLASS_RULE`."""
    work: Counter[str] = Counter()
    for arrival in arrivals:
        work[arrival.user] += arrival.cost
    classes: dict[str, UserClass] = {}
    before = 0
    for user, cost in work.most_common():
        part = before / work.total()
        classes[user] = "heavy" if part < HEAVY else "medium" if part < MEDIUM else "small"
        before += cost
    return classes


def percentile(values: Sequence[float], percent: int) -> float:
    """By nearest rank, of sorted values: the least that is not below `percent` % of them."""
    return values[math.ceil(len(values) * percent / 100) - 1]


def measure(
    policy: OrderName,
    runs: Sequence[Run],
    classes: Mapping[str, UserClass],
    policies: Mapping[str, UserPolicy],
) -> Measured:
    """What a run shows.

    Args:
        policy: The order it was run in.
        runs: As `simulate` gives them.
        classes: Of all users.
        policies: Of users that have one of their own, as the order had them.
    """
    weights = {user: own.weight for user, own in policies.items()}
    bounds = _bounds(policy, runs, weights) if not any(map(_limits, policies.values())) else {}
    fairness = {
        unit: Fairness(jain_index(runs, unit, weights), Lag(worst_lag(runs, unit, weights), bounds.get(unit)))
        for unit in UNITS
    }
    seconds = max(run.ended for run in runs) / 1000
    followed = len(followed_users(runs, FOLLOWED))
    return Measured(policy, seconds, _waits(runs, classes), fairness, followed)


def _waits(runs: Sequence[Run], classes: Mapping[str, UserClass]) -> dict[UserClass, Waits]:
    found: dict[UserClass, list[float]] = {name: [] for name in CLASSES}
    for run in runs:
        found[classes[run.user]].append(run.wait)
    return {
        name: Waits(len(waits), *(percentile(waits, percent) for percent in (50, 95, 99, 100)))
        for name, waits in ((name, sorted(waits)) for name, waits in found.items() if waits)
    }


def _limits(policy: UserPolicy) -> bool:
    """Whether there are times in which the user's ready tasks may not start."""
    return policy.rate is not None or policy.max_concurrency is not None


def _bounds(policy: OrderName, runs: Sequence[Run], weights: Mapping[str, float]) -> dict[Unit, float | None]:
    """The bounds that an order has."""
    users = {run.user for run in runs}
    if len(users) < 2 or policy not in COSTS:  # noqa: PLR2004 - a pair
        return {}
    if COSTS[policy] == "tasks":
        return {"tasks": tasks_bound(users, weights)}
    return {"seconds": seconds_bound(runs, weights)}
