"""One trace through several orders, and what each did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairque.simulator.measure import CLASSES, Measured, UserClass, measure, user_classes
from fairque.simulator.orders import OrderName, make_order
from fairque.simulator.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fairque.core.user_policy import UserPolicy
    from fairque.simulator.trace import Arrival


@dataclass(frozen=True, slots=True)
class Offered:
    """What a trace asks for.

    Attributes:
        work: Seconds of a slot's time that all tasks take together.
        seconds: From the first arrival to the last.
        users: How many there are of each class.
    """

    tasks: int
    work: float
    seconds: float
    users: Mapping[UserClass, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a trace asks for, and what each order made of it."""

    offered: Offered
    slots: int
    measured: Sequence[Measured]

    @property
    def load(self) -> float | None:
        """The work over what the slots can do while tasks arrive; None if all arrive at once."""
        can_do = self.offered.seconds * self.slots
        return self.offered.work / can_do if can_do else None


def compare(
    arrivals: Sequence[Arrival],
    names: Sequence[OrderName],
    slots: int,
    policies: Mapping[str, UserPolicy] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Run a trace once in each of several orders.

    Args:
        arrivals: In the order of their times.
        names: Of the orders.
        slots: Tasks that run at the same time.
        policies: Of users that have one of their own; they bind only the fair orders.
        on_progress: Called now and then with the number of tasks that have started since, in all orders.
    """
    policies, classes = policies or {}, user_classes(arrivals)
    measured = [
        measure(name, simulate(arrivals, make_order(name, policies), slots, on_progress), classes, policies)
        for name in names
    ]
    return Comparison(_offered(arrivals, classes), slots, measured)


def _offered(arrivals: Sequence[Arrival], classes: Mapping[str, UserClass]) -> Offered:
    counts = Counter(classes.values())
    return Offered(
        tasks=len(arrivals),
        work=sum(arrival.cost for arrival in arrivals) / 1000,
        seconds=(arrivals[-1].time - arrivals[0].time) / 1000,
        users={name: counts[name] for name in CLASSES},
    )
