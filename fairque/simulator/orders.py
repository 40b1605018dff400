"""The orders that are compared. The two fair ones are the queue's own arithmetic."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from fairque.core.exceptions import ConfigurationError
from fairque.core.fair_order import Attempt, Cost, FairOrder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fairque.core.user_policy import UserPolicy
    from fairque.simulator.trace import Arrival

OrderName = Literal["fifo", "round-robin", "fair-tasks", "fair-time"]
ORDERS: tuple[OrderName, ...] = get_args(OrderName)
COSTS: dict[OrderName, Cost] = {"fair-tasks": "tasks", "fair-time": "time"}


class Order(Protocol):
    """Whose task is next. `FairOrder` is one; times are milliseconds."""

    cost: Cost

    def push(self, task: Arrival, user: str, now: float, *, group: str = "") -> None:
        """A task is ready."""

    def pick(self, now: float) -> Attempt[Arrival] | None:
        """Start the task that is next; None if none may start now."""

    def accrue(self, attempt: Attempt[Arrival], now: float) -> None:
        """A heartbeat of a running attempt; only where `cost` is "time"."""

    def end(self, attempt: Attempt[Arrival], now: float) -> None:
        """An attempt has ended."""

    def throttled_until(self) -> float | None:
        """When somebody may start a task again without anything else happening; None for nobody."""


def make_order(name: OrderName, policies: Mapping[str, UserPolicy]) -> Order:
    """An order by its name; `policies` are of users with one of their own, and bind only the fair orders.

    Raises:
        ConfigurationError: A policy is paused: its tasks would never start.
    """
    if name == "fifo":
        return Fifo()
    if name == "round-robin":
        return RoundRobin()
    order: FairOrder[Arrival] = FairOrder(COSTS[name])
    for user, policy in policies.items():
        if policy.paused:
            raise ConfigurationError(f"user {user!r} is paused: its tasks would never start; leave it out")
        order.set_policy(user, policy, 0)
    return order


class _Plain:
    """What an order without charges and limits does at the other events: nothing."""

    cost: Cost = "tasks"

    def accrue(self, attempt: Attempt[Arrival], now: float) -> None:
        pass

    def end(self, attempt: Attempt[Arrival], now: float) -> None:
        pass

    def throttled_until(self) -> float | None:
        return None


class Fifo(_Plain):
    """One queue for all."""

    def __init__(self) -> None:
        self._waiting: deque[Arrival] = deque()

    def push(self, task: Arrival, user: str, now: float, *, group: str = "") -> None:  # noqa: ARG002
        self._waiting.append(task)

    def pick(self, now: float) -> Attempt[Arrival] | None:
        return _attempt(self._waiting.popleft(), now) if self._waiting else None


class RoundRobin(_Plain):
    """A queue for each user, one task of each in turn; who becomes ready goes to the end of the line."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Arrival]] = {}
        self._line: deque[str] = deque()

    def push(self, task: Arrival, user: str, now: float, *, group: str = "") -> None:  # noqa: ARG002
        mine = self._waiting.setdefault(user, deque())
        if not mine:
            self._line.append(user)
        mine.append(task)

    def pick(self, now: float) -> Attempt[Arrival] | None:
        if not self._line:
            return None
        user = self._line.popleft()
        mine = self._waiting[user]
        task = mine.popleft()
        if mine:
            self._line.append(user)
        return _attempt(task, now)


def _attempt(task: Arrival, now: float) -> Attempt[Arrival]:
    return Attempt(task, task.user, task.group, "", now, 1.0, 1.0)


def check_names(names: Sequence[str]) -> list[OrderName]:
    """The orders that are named, each once; all if none is.

    Raises:
        ConfigurationError: There is no order of a name.
    """
    for name in names:
        if name not in ORDERS:
            raise ConfigurationError(f"--policy {name}: must be one of {', '.join(ORDERS)}")
    return [name for name in ORDERS if name in names or not names]
