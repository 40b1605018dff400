"""A trace through an order on a number of slots, event by event.

What happens at one moment happens in this sequence: attempts end or beat, tasks arrive, free slots are
filled.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fairque.core.fair_order import Attempt
    from fairque.simulator.orders import Order
    from fairque.simulator.trace import Arrival

HEARTBEAT = 10_000  # milliseconds: a third of the default lease, as workers do it
PROGRESS_STEP = 1000  # tasks


class Run(NamedTuple):
    """A task that was run.

    Attributes:
        arrival: The task.
        started: Milliseconds since the trace began.
        charged: What its user was charged at the start: tasks, or seconds.
    """

    arrival: Arrival
    started: float
    charged: float

    @property
    def user(self) -> str:
        return self.arrival.user

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.arrival.cost / 1000

    @property
    def wait(self) -> float:
        """Seconds from its arrival to its start."""
        return (self.started - self.arrival.time) / 1000

    @property
    def ended(self) -> float:
        """Milliseconds since the trace began."""
        return self.started + self.arrival.cost


def simulate(
    arrivals: Sequence[Arrival], order: Order, slots: int, on_progress: Callable[[int], None] | None = None
) -> list[Run]:
    """Run every task, and tell in the order of their starts what became of them.

    Args:
        arrivals: In the order of their times.
        order: Empty; it is used up.
        slots: Tasks that run at the same time.
        on_progress: Called now and then with the number of tasks that have started since.
    """
    return _Simulation(arrivals, order, slots, on_progress or (lambda _: None)).run()


class _Simulation:
    def __init__(
        self, arrivals: Sequence[Arrival], order: Order, slots: int, on_progress: Callable[[int], None]
    ) -> None:
        self._arrivals = arrivals
        self._arrived = 0
        self._order = order
        self._free = slots
        self._on_progress = on_progress
        self._runs: list[Run] = []
        # (when, which start, attempt): no two are equal but for the heartbeats of one attempt, one at a time.
        self._events: list[tuple[float, int, Attempt[Arrival]]] = []

    def run(self) -> list[Run]:
        while (now := self._next_moment()) is not None:
            self._let_events_happen(now)
            self._let_tasks_arrive(now)
            self._fill_slots(now)
        self._on_progress(len(self._runs) % PROGRESS_STEP)
        return self._runs

    def _next_moment(self) -> float | None:
        moments = [self._events[0][0]] if self._events else []
        if self._arrived < len(self._arrivals):
            moments.append(self._arrivals[self._arrived].time)
        if self._free and (wake := self._order.throttled_until()) is not None:
            moments.append(wake)
        return min(moments, default=None)

    def _let_events_happen(self, now: float) -> None:
        while self._events and self._events[0][0] <= now:
            when, number, attempt = heappop(self._events)
            if when < attempt.started + attempt.task.cost:
                self._order.accrue(attempt, when)
                self._expect(attempt, number, when)
            else:
                self._order.end(attempt, when)
                self._free += 1

    def _let_tasks_arrive(self, now: float) -> None:
        while self._arrived < len(self._arrivals) and self._arrivals[self._arrived].time <= now:
            task = self._arrivals[self._arrived]
            self._arrived += 1
            self._order.push(task, task.user, now, group=task.group)

    def _fill_slots(self, now: float) -> None:
        while self._free and (attempt := self._order.pick(now)) is not None:
            self._free -= 1
            self._runs.append(Run(attempt.task, now, attempt.charged))
            self._expect(attempt, len(self._runs), now)
            if len(self._runs) % PROGRESS_STEP == 0:
                self._on_progress(PROGRESS_STEP)

    def _expect(self, attempt: Attempt[Arrival], number: int, now: float) -> None:
        """An attempt's next event: its end, or before that a heartbeat where these are charged."""
        end = attempt.started + attempt.task.cost
        when = min(end, now + HEARTBEAT) if self._order.cost == "time" else end
        heappush(self._events, (when, number, attempt))
