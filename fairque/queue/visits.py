"""Which shard to visit next, so that users get their share whichever shard they are in.

Start-time fair queueing (as in docs/en/fairness.md) over shards: a claim tells by how much it moved the
virtual time of its shard's active users on an average, and the shard that has moved least is next. So a shard
with ten active users is visited ten times as often as one with one, and weights and costs count as they do
within a shard. Everybody who claims keeps an account of its own; shards know nothing of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from fairque.queue.replies import Claim

# How far a home shard may be ahead of the others: one task of each of its active users.
LEAN = 1.0


class Visits:
    """One claimant's account of what it has taken from each shard.

    Args:
        shards: How many there are.
    """

    def __init__(self, shards: int) -> None:
        self.homes: Collection[int] = ()  # visited first, as far as `LEAN` allows
        self._time = [0.0] * shards  # how far the virtual time of each has moved
        self._step = [1.0] * shards  # by one task, as the last claim had it
        self._has_work = [False] * shards  # as far as is known

    def order(self, shards: Iterable[int]) -> list[int]:
        """These shards, the one that is next first."""
        return sorted(shards, key=lambda shard: (self._time[shard], shard))

    def division(self, slots: int, shards: Iterable[int], under_way: Mapping[int, int]) -> dict[int, int]:
        """How many of the free slots each of these shards is to fill, beside those that claims are for."""
        floor = self._floor()
        start = {
            shard: max(self._time[shard], floor)
            + under_way.get(shard, 0) * self._step[shard]
            - (LEAN if shard in self.homes else 0)
            for shard in shards
        }
        filled = dict.fromkeys(start, 0)
        for _ in range(slots if start else 0):
            shard = min(start, key=lambda shard: (start[shard], self._has_work[shard], shard))
            filled[shard] += 1
            start[shard] += self._step[shard]
        return filled

    def took(self, shard: int, claim: Claim) -> None:
        """A claim has given something, or nothing."""
        # Nothing to do earns no credit: a shard that has work again begins where the others are.
        self._time[shard] = max(self._time[shard], self._floor()) + claim.advance
        self._has_work[shard] = bool(claim.tasks)
        if claim.tasks:
            self._step[shard] = claim.advance / len(claim.tasks)

    def _floor(self) -> float:
        working = [time for time, has_work in zip(self._time, self._has_work, strict=True) if has_work]
        return min(working, default=max(self._time))
