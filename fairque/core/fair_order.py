"""The fair order as plain arithmetic: who is next, and what it is charged. No server, no clock, no I/O.

This is what the scripts do (`includes/pick.lua`, `charge.lua`, `eligible.lua`, `rate.lua`, `groups.lua`),
written once more for reading, for the simulator, and for the test that holds the scripts against it decision
by decision. The order is start-time fair queueing (P. Goyal, H. M. Vin, H. Cheng: "Start-time Fair Queueing",
SIGCOMM 1996), with the charge at dispatch and a correction at the end of an attempt. Rates are the generic
cell rate algorithm (ITU-T I.371). Times are milliseconds; costs are tasks, or seconds of a worker's time.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from fairque.core.user_policy import UserPolicy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

T = TypeVar("T")

Cost = Literal["tasks", "time"]

LARGEST_STEP = 1e9  # of one charge; so weights below a billionth count as one
SMALLEST_STEP = 2.0**-52  # of the virtual time itself: a charge always moves it
FIRST_ESTIMATE = 0.1  # seconds, for a user of whom nothing is known
LEARNING = 0.2  # how much of an estimate the latest run time makes
LONGEST_GAP = 1e12  # ms, thirty years: slower rates count as that
ROUNDING = 0.05  # ms; today's milliseconds have four decimals in a double
SHORTEST_RUN = 0.001  # seconds that the shortest attempt costs


def step_of(cost: float, weight: float, v: float) -> float:
    """How far a charge moves a virtual time that stands at `v`."""
    return max(min(cost / weight, LARGEST_STEP), v * SMALLEST_STEP)


def correction(charged: float, cost: float, weight: float) -> float:
    """What is added when `charged` turns out to be `cost`; a refund is at most what was charged."""
    return min(cost / weight, LARGEST_STEP) - min(charged / weight, LARGEST_STEP)


def learned(estimate: float | None, seconds: float) -> float:
    """A moving average of run times after one more of them."""
    return seconds if estimate is None else estimate + LEARNING * (seconds - estimate)


def gap_of(rate: float) -> float:
    """Milliseconds between two tokens."""
    return min(1000 / rate, LONGEST_GAP)


@dataclass(slots=True)
class Tokens:
    """A token bucket as one number: the time at which the bucket would be full again (ms)."""

    full_at: float = 0.0

    def usable_from(self, policy: UserPolicy, now: float) -> float:
        """When the next token may be used; at `now` or before for at once."""
        if policy.rate is None:
            return 0.0
        gap = gap_of(policy.rate)
        self.full_at = min(self.full_at, now + policy.tokens * gap)  # the rate may have been raised since
        return self.full_at - (policy.tokens - 1) * gap - ROUNDING

    def use(self, policy: UserPolicy, now: float) -> None:
        """Take one token."""
        if policy.rate is not None:
            self.full_at = max(self.full_at, now) + gap_of(policy.rate)


@dataclass(slots=True)
class Ring:
    """Names by virtual time, and the times of those outside. Equal times go by the names' bytes."""

    inside: list[tuple[float, bytes, str]] = field(default_factory=list)
    v: dict[str, float] = field(default_factory=dict)
    served: float = 0.0  # the largest virtual time served
    forgets: bool = False  # whether names outside stand at the floor, once it has passed them

    def __contains__(self, name: str) -> bool:
        return self._place(name) is not None

    def _place(self, name: str) -> int | None:
        entry = self._entry(name)
        place = bisect_left(self.inside, entry)
        return place if place < len(self.inside) and self.inside[place] == entry else None

    def _entry(self, name: str) -> tuple[float, bytes, str]:
        return self.v.get(name, 0.0), name.encode(), name

    @property
    def floor(self) -> float:
        """The virtual time at which a name enters: the smallest inside, or the largest served."""
        return self.inside[0][0] if self.inside else self.served

    def enter(self, name: str, floor: float) -> None:
        """Idling earns no credit, and draining forgives no debt."""
        if name not in self:
            self.v[name] = max(self.v.get(name, 0.0), floor)
            insort(self.inside, self._entry(name))

    def leave(self, name: str) -> None:
        place = self._place(name)
        if place is not None:
            del self.inside[place]

    def serve(self, name: str, cost: float, weight: float) -> None:
        """Charge a name that is picked."""
        v = self.v[name]
        self.served = max(self.served, v)
        self.move(name, step_of(cost, weight, v))

    def move(self, name: str, by: float) -> None:
        place = self._place(name)
        if place is not None:
            del self.inside[place]
        v = self.v.get(name, 0.0)
        if self.forgets and place is None:
            v = max(v, self.floor)
        self.v[name] = v + by
        if place is not None:
            insort(self.inside, self._entry(name))

    def lift(self, name: str, v: float) -> None:
        """Being passed over earns no credit, and holds down no floor: a name moves up to where service is."""
        self.leave(name)
        self.v[name] = max(self.v[name], v)
        insort(self.inside, self._entry(name))

    def names(self) -> Iterator[str]:
        return (name for _, _, name in self.inside)


@dataclass(slots=True)
class _User(Generic[T]):
    policy: UserPolicy
    lanes: dict[str, deque[tuple[T, str]]] = field(default_factory=dict)  # group → (task, function)
    groups: Ring = field(default_factory=lambda: Ring(forgets=True))
    tokens: Tokens = field(default_factory=Tokens)
    running: int = 0
    estimates: dict[str, float] = field(default_factory=dict)  # by function; "" is any


@dataclass(slots=True)
class Attempt(Generic[T]):
    """A task that was picked, and what its user has been charged for it."""

    task: T
    user: str
    group: str
    function: str
    started: float
    charged: float
    weight: float


class FairOrder(Generic[T]):
    """Users' ready tasks, and whose is next.

    Args:
        cost: Whether a task costs one, or the seconds that it runs.
        default: The policy of users without one of their own.
    """

    def __init__(self, cost: Cost = "tasks", default: UserPolicy | None = None) -> None:
        self.cost = cost
        self.ring = Ring()
        self.in_use = 0  # slots
        self._default = default or UserPolicy()
        self._users: dict[str, _User[T]] = {}
        self._throttled: dict[str, float] = {}  # user → when it may start again

    def _user(self, name: str) -> _User[T]:
        return self._users.setdefault(name, _User(self._default))

    def set_policy(self, user: str, policy: UserPolicy, now: float) -> None:
        """Change a user's share and limits; the next pick follows them."""
        self._user(user).policy = policy
        self._settle([user], now)

    def push(self, task: T, user: str, now: float, *, group: str = "", function: str = "") -> None:
        """A task has become ready; a group's own tasks keep their order."""
        mine = self._user(user)
        mine.lanes.setdefault(group, deque()).append((task, function))
        mine.groups.enter(group, mine.groups.floor)
        self._settle([user], now)

    def pick(self, now: float, users: Collection[str] | None = None) -> Attempt[T] | None:
        """Start the task that is next, among these users or all; None if nobody is eligible."""
        self._settle([name for name, due in self._throttled.items() if due <= now], now)
        name, passed = self._next(users)
        if name is None:
            return None
        level = next(self.ring.v[other] for other in self.ring.names() if other not in passed)
        for other in passed:
            self.ring.lift(other, level)
        user, weight = self._users[name], self._users[name].policy.weight
        group = next(user.groups.names())
        task, function = user.lanes[group].popleft()
        cost = self._estimate(user, function)
        user.groups.serve(group, cost, 1.0)
        self.ring.serve(name, cost, weight)
        if not user.lanes[group]:
            del user.lanes[group]
            user.groups.leave(group)
        user.tokens.use(user.policy, now)
        user.running += 1
        self.in_use += 1
        self._settle([name], now)
        return Attempt(task, name, group, function, now, cost, weight)

    def accrue(self, attempt: Attempt[T], now: float) -> None:
        """A heartbeat: an attempt that has outrun its estimate is charged as it runs."""
        seconds = (now - attempt.started) / 1000
        if self.cost == "time" and seconds > attempt.charged:
            self._correct(attempt, seconds)

    def end(self, attempt: Attempt[T], now: float, *, learn: bool = True) -> None:
        """An attempt has ended; one that was cut short teaches nothing of its function."""
        user = self._users[attempt.user]
        seconds = max((now - attempt.started) / 1000, SHORTEST_RUN)
        if self.cost == "time":
            self._correct(attempt, seconds)
            for key in {attempt.function, ""} if learn else ():
                user.estimates[key] = learned(user.estimates.get(key), seconds)
        user.running -= 1
        self.in_use -= 1
        self._settle([attempt.user], now)

    def throttled_until(self) -> float | None:
        """When the next throttled user may start again; None if no one is throttled."""
        return min(self._throttled.values(), default=None)

    def _next(self, among: Collection[str] | None) -> tuple[str | None, list[str]]:
        """The first in the ring that is within its share, and who was passed over; else the first of all."""
        beyond: list[str] = []
        for name in self.ring.names():
            if among is None or name in among:
                if self._is_within_share(self._users[name]):
                    return name, beyond
                beyond.append(name)
        return beyond[0] if beyond else None, []

    def _is_within_share(self, user: _User[T]) -> bool:
        share = user.policy.share
        if share is None:
            return True
        slots = share * (self.in_use + 1) + 1e-9  # 0.29 * 100 is a little less than 29
        return user.running + 1 <= max(1, slots)

    def _estimate(self, user: _User[T], function: str) -> float:
        if self.cost == "tasks":
            return 1.0
        return user.estimates.get(function, user.estimates.get("", FIRST_ESTIMATE))

    def _correct(self, attempt: Attempt[T], seconds: float) -> None:
        self.ring.move(attempt.user, correction(attempt.charged, seconds, attempt.weight))
        self._users[attempt.user].groups.move(attempt.group, correction(attempt.charged, seconds, 1.0))
        attempt.charged = seconds

    def _settle(self, names: Collection[str], now: float) -> None:
        """In the ring if and only if eligible. Who enters at once with others enters at the same floor."""
        floor = self.ring.floor
        for name in names:
            user = self._users[name]
            self._throttled.pop(name, None)
            at_its_cap = user.policy.slots is not None and user.running >= user.policy.slots
            if not user.lanes or user.policy.paused or at_its_cap:
                self.ring.leave(name)
            elif (due := user.tokens.usable_from(user.policy, now)) > now:
                self.ring.leave(name)
                self._throttled[name] = due
            else:
                self.ring.enter(name, floor)
