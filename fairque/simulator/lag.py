"""The worst lag: how far two users' service drifts apart while both wait, and how far the fair order lets it.

While users i and j both have waiting tasks, from t₁ to t₂, let Sᵢ and Sⱼ be the service of the tasks that
start meanwhile. The lag of the interval is |Sᵢ/wᵢ − Sⱼ/wⱼ|; the worst lag is the largest over all pairs of
users and all such intervals. With d(t) = Sᵢ/wᵢ − Sⱼ/wⱼ counted from any moment on, it is the largest d
minus the smallest within one stretch in which both wait, so two numbers a pair are enough: O(users) for
each start. Of more than `FOLLOWED` users, half of those looked at are the ones with the most work and half
are spread over the rest.

The bound, counted in tasks with one charged at the start. The picked user has the smallest virtual time m
of those that wait, so it moves to at most m + 1/w; m never falls while anybody waits, and who enters does
so at m or at what it had after its last start. So m ≤ vᵢ ≤ m + 1/wᵢ at all times, vᵢ − vⱼ stays within
[−1/wⱼ, 1/wᵢ], and the lag is at most 1/wᵢ + 1/wⱼ, whatever the number of slots. The worst pair is that of
the two smallest weights.

The bound in seconds, where an estimate is charged at the start and corrected later. Let uᵢ be vᵢ with what
the running attempts will have cost in the end in the place of what they have been charged so far; uᵢ·wᵢ
grows by exactly the service of i. Let p be i's last start, or its entry into the ring if that is later, and
m = vᵢ at p.

- After p, uᵢ is at most m + Σ L/wᵢ over i's attempts that run just after p, with L their true cost.
- A user that waits at p or later has v ≥ m, but for refunds: an attempt that started after p refunds at
  most what it was charged after p, and one that ran at p at most its estimate E. A refund may also lower
  the level at which others enter, but each is given once; so uⱼ ≥ m − Σ E/w over the attempts that ran at
  p, of all users.
- An attempt of i counts in one of the two sums: it either costs more than it was charged, or refunds.

So |uᵢ − uⱼ| ≤ K, where K is the largest sum, at any moment, of max(L, E)/w over the attempts that run, and
the lag is at most 2K. With N slots K ≤ N·X for X the largest max(L, E)/w of a task; with one slot that is
the two largest tasks of start-time fair queueing. Orders without charges have no bound, nor has either fair
order in the other's unit; and none is given where users have rates or caps, for who may not start is not
owed service.
"""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from fairque.simulator.simulation import Run

Unit = Literal["tasks", "seconds"]

FOLLOWED = 100
AMOUNTS: dict[Unit, Callable[[Run], float]] = {"tasks": lambda _: 1.0, "seconds": lambda run: run.seconds}


def history(runs: Sequence[Run]) -> Iterator[tuple[bool, Run]]:
    """Arrivals (False) and starts (True) in the sequence in which the simulation had them."""
    arrivals = sorted(runs, key=lambda run: run.arrival.time)
    arrived = 0
    for run in runs:
        while arrived < len(arrivals) and arrivals[arrived].arrival.time <= run.started:
            yield False, arrivals[arrived]
            arrived += 1
        yield True, run


def followed_users(runs: Iterable[Run], limit: int = FOLLOWED) -> list[str]:
    """The users whose pairs are looked at: all, or half the biggest and half spread over the rest by size."""
    work: Counter[str] = Counter()
    for run in runs:
        work[run.user] += run.arrival.cost
    users = [user for user, _ in work.most_common()]
    if len(users) <= limit:
        return users
    biggest, rest = users[: limit // 2], users[limit // 2 :]
    spread = limit - len(biggest)
    return biggest + [rest[(place + 1) * len(rest) // spread - 1] for place in range(spread)]


def worst_lag(
    runs: Sequence[Run], unit: Unit, weights: Mapping[str, float], limit: int = FOLLOWED
) -> float | None:
    """The worst lag, in tasks or seconds for a weight of 1; None if no two users ever waited at one time.

    Args:
        runs: In the order of their starts.
        unit: What service is counted in.
        weights: Of users whose weight is not 1.
        limit: Of more users only so many are looked at.
    """
    users = followed_users(runs, limit)
    pairs = _Pairs(len(users))
    numbers = {user: number for number, user in enumerate(users)}
    amount = AMOUNTS[unit]
    for is_start, run in history(runs):
        number = numbers.get(run.user)
        if number is None:
            continue
        if is_start:
            pairs.serve(number, amount(run) / weights.get(run.user, 1.0))
        else:
            pairs.arrive(number)
    return pairs.worst


class _Pairs:
    """For each pair of users that wait, the largest difference of their service so far, both ways."""

    def __init__(self, users: int) -> None:
        self.worst: float | None = None
        self._service = [0.0] * users
        self._waiting = [0] * users
        self._together: set[int] = set()  # who waits
        self._ahead = [[0.0] * users for _ in range(users)]  # the most that one was ahead of another

    def arrive(self, user: int) -> None:
        self._waiting[user] += 1
        if user in self._together:
            return
        for other in self._together:
            lead = self._service[user] - self._service[other]
            self._ahead[user][other], self._ahead[other][user] = lead, -lead
        self._together.add(user)

    def serve(self, user: int, amount: float) -> None:
        self._service[user] += amount
        mine, ahead, services = self._service[user], self._ahead[user], self._service
        for other in self._together:
            lead = mine - services[other]
            if lead > ahead[other]:  # noqa: PLR1730 - max() takes three times as long
                ahead[other] = lead
        self._waiting[user] -= 1
        if not self._waiting[user]:
            self._leave(user)

    def _leave(self, user: int) -> None:
        self._together.remove(user)
        for other in self._together:
            lag = self._ahead[user][other] + self._ahead[other][user]
            self.worst = lag if self.worst is None else max(self.worst, lag)


def tasks_bound(users: Iterable[str], weights: Mapping[str, float]) -> float | None:
    """What the fair order by tasks keeps the lag within, in tasks; None for a single user."""
    steps = sorted((1 / weights.get(user, 1.0) for user in users), reverse=True)
    return steps[0] + steps[1] if len(steps) > 1 else None


def seconds_bound(runs: Sequence[Run], weights: Mapping[str, float]) -> float:
    """What the fair order by time keeps the lag within, in seconds: twice what runs at the worst moment."""
    running: list[tuple[float, float]] = []  # (end, the larger of cost and estimate by weight)
    now = most = 0.0
    for run in runs:
        while running and running[0][0] <= run.started:
            now -= heappop(running)[1]
        size = max(run.seconds, run.charged) / weights.get(run.user, 1.0)
        heappush(running, (run.ended, size))
        now += size
        most = max(most, now)
    return 2 * most
