"""Traces out of a few numbers, the same ones for the same seed."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

from fairque.core.exceptions import ConfigurationError
from fairque.simulator.trace import Arrival

Arrivals = Literal["poisson", "bursty"]

MEAN_COST = 1.0  # seconds, over all users
LARGEST_COST = 1000 * MEAN_COST  # a heavy tail would else now and then outweigh all the rest
SPREAD = 0.5  # of users' mean costs: the standard deviation of their logarithms
BURST_SECONDS = 1.0  # that a burst's tasks arrive within

LIMITS: dict[str, tuple[float, float]] = {
    "users": (1, 100_000),
    "tasks": (1, 10_000_000),
    "slots": (1, 100_000),
    "zipf": (0, 5),
    "load": (0.01, 100),
    "tail": (1.05, 100),
    "seed": (0, 2**63 - 1),
}


def check_limits(name: str, value: float) -> None:
    """Refuse a number beyond its limits.

    Raises:
        ConfigurationError: It names the option, the value and the limits.
    """
    least, most = LIMITS[name]
    if not least <= value <= most:
        raise ConfigurationError(f"--{name} {value:.15g}: must be from {least:,} to {most:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a generated trace looks like.

    Attributes:
        users: How many there are.
        tasks: How many there are, of all users together.
        zipf: How unequal the users are: the user of rank r has r⁻ᶻ times the tasks of the first; 0 is equal.
        arrivals: `poisson`: each task arrives on its own. `bursty`: a user with n tasks pushes them in about
            √n bursts, each within a second, so that big users push big batches.
        load: The work offered over what the slots can do meanwhile; above 1 the backlog grows to the end.
        tail: The exponent of the Pareto distribution of costs. The smaller, the rarer and longer the long
            tasks: at 1.1 one task can outweigh thousands.
        slots: Tasks that run at the same time; with `load` it gives the length of the trace.
        seed: The same seed gives the same trace.

    Raises:
        ConfigurationError: A value is beyond its limits.
    """

    users: int = 100
    tasks: int = 20_000
    zipf: float = 1.1
    arrivals: Arrivals = "bursty"
    load: float = 0.95
    tail: float = 2.0
    slots: int = 8
    seed: int = 1

    def __post_init__(self) -> None:
        for name in LIMITS:
            check_limits(name, getattr(self, name))
        if self.arrivals not in get_args(Arrivals):
            raise ConfigurationError(f"--arrivals {self.arrivals}: must be {' or '.join(get_args(Arrivals))}")


def generate(workload: Workload) -> list[Arrival]:
    """A trace, in the order of its times."""
    dice = random.Random(workload.seed)  # noqa: S311 - a simulation, no secret
    names = [f"user-{rank:0{len(str(workload.users))}}" for rank in range(1, workload.users + 1)]
    ranks = list(accumulate(rank**-workload.zipf for rank in range(1, workload.users + 1)))
    owners = dice.choices(names, cum_weights=ranks, k=workload.tasks)
    means = {name: dice.lognormvariate(0, SPREAD) for name in names}
    drawn = [means[owner] * _pareto(dice, workload.tail) for owner in owners]
    scale = workload.tasks * MEAN_COST / sum(drawn)
    costs = [max(1, round(min(cost * scale, LARGEST_COST) * 1000)) for cost in drawn]
    length = sum(costs) / 1000 / (workload.slots * workload.load)
    moments = (
        _poisson(dice, owners, length) if workload.arrivals == "poisson" else _bursts(dice, owners, length)
    )
    began = min(moments)
    tasks = zip(moments, owners, costs, strict=True)
    found = [Arrival(round((time - began) * 1000), owner, "", cost) for time, owner, cost in tasks]
    return sorted(found, key=lambda arrival: arrival.time)


def _pareto(dice: random.Random, exponent: float) -> float:
    """A Pareto variate of mean 1."""
    return dice.paretovariate(exponent) * (exponent - 1) / exponent


def _poisson(dice: random.Random, owners: list[str], length: float) -> list[float]:
    """Of a Poisson process whose number of arrivals is known, the moments are uniform."""
    return [dice.uniform(0, length) for _ in owners]


def _bursts(dice: random.Random, owners: list[str], length: float) -> list[float]:
    starts = {
        owner: [dice.uniform(0, length) for _ in range(math.isqrt(count))]
        for owner, count in Counter(owners).items()
    }
    return [dice.choice(starts[owner]) + dice.uniform(0, BURST_SECONDS) for owner in owners]
