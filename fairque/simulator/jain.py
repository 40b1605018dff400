"""Jain's index of the users' service, over the times in which they had to share.

R. Jain, D. Chiu, W. Hawe: "A quantitative measure of fairness and discrimination", 1984: the square of the
sum over n times the sum of squares; 1 where all are served alike, 1/n where one of n is served alone.

A run is cut into windows. A window opens with any start while two users or more wait, and lasts `ROUNDS`
starts for each of them. The users that wait all through it are compared by their service in it over their
weight: who had nothing to run is not owed service. The index of a run is the mean of its windows', each
counted by the number of its users; None where no window holds two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairque.simulator.lag import AMOUNTS, Unit, history

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from fairque.simulator.simulation import Run

ROUNDS = 10


def index_of(shares: Collection[float]) -> float:
    """Jain's index of some shares, 1 if all are nothing."""
    squares = sum(share**2 for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def jain_index(runs: Sequence[Run], unit: Unit, weights: Mapping[str, float]) -> float | None:
    """Jain's index of a run, as the module tells.

    Args:
        runs: In the order of their starts.
        unit: What service is counted in.
        weights: Of users whose weight is not 1.
    """
    windows = _Windows()
    amount = AMOUNTS[unit]
    for is_start, run in history(runs):
        if is_start:
            windows.start(run.user, amount(run) / weights.get(run.user, 1.0))
        else:
            windows.arrive(run.user)
    return windows.sum / windows.users if windows.users else None


class _Windows:
    def __init__(self) -> None:
        self.sum = 0.0
        self.users = 0
        self._waiting: dict[str, int] = {}
        self._compared: dict[str, float] = {}  # who has waited since the window opened → service
        self._left = 0  # starts until it closes

    def arrive(self, user: str) -> None:
        self._waiting[user] = self._waiting.get(user, 0) + 1

    def start(self, user: str, amount: float) -> None:
        if not self._left and len(self._waiting) > 1:
            self._compared = dict.fromkeys(self._waiting, 0.0)
            self._left = ROUNDS * len(self._compared)
        if user in self._compared:
            self._compared[user] += amount
        self._waiting[user] -= 1
        if not self._waiting[user]:
            del self._waiting[user]
            self._compared.pop(user, None)
        if self._left:
            self._left -= 1
            if not self._left:
                self._close()

    def _close(self) -> None:
        count = len(self._compared)
        if count > 1:
            self.sum += index_of(self._compared.values()) * count
            self.users += count
        self._compared = {}
