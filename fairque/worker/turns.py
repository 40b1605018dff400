"""Shares a worker's free slots out among the shards that may have work for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from fairque.queue.replies import Claim
    from fairque.queue.visits import Visits
    from fairque.worker.slots import Slots


# A slot that is another shard's turn is kept for it so long while its claim is under way.
PATIENCE_SECONDS = 0.05


@dataclass(slots=True)
class _Claiming:
    slots: int  # that the claim may fill
    is_slow: bool = False  # others are not to wait for it any more


class Claimant(Protocol):
    """A shard's pump, as the others see it."""

    number: int  # of the shard

    @property
    def level(self) -> int | None:
        """How it wants to claim: 0 first, 1 only if nobody wants to claim at 0; None if it does not."""

    @property
    def is_idle(self) -> bool:
        """Whether it runs nothing, and has nothing to do."""

    def stop(self) -> None:
        """Claim no more."""

    def look(self) -> None:
        """Something has changed that may be of use to it."""

    def stir(self) -> None:
        """There may be work again."""


class Turns:
    """Whose turn it is to claim, and for how many slots.

    Args:
        slots: The worker's, of all shards.
        visits: The account of what was taken from each shard.
    """

    def __init__(self, slots: Slots, visits: Visits) -> None:
        self.slots = slots
        self._visits = visits
        self._claimants: list[Claimant] = []
        self.are_over = False  # whether nothing is claimed any more
        self._open: dict[int, _Claiming] = {}  # by shard: its claim under way

    def join(self, claimant: Claimant) -> None:
        """Take a shard's pump in."""
        self._claimants.append(claimant)

    def stop(self) -> None:
        """Claim no more."""
        self.are_over = True
        for claimant in self._claimants:
            claimant.stop()

    @property
    def all_idle(self) -> bool:
        """Whether there is nothing left in any shard."""
        return all(claimant.is_idle for claimant in self._claimants)

    @property
    def is_alone(self) -> bool:
        """Whether there is one shard."""
        return len(self._claimants) == 1

    @property
    def free(self) -> int:
        """Slots that neither run an attempt nor are kept for a claim under way."""
        return self.slots.free - sum(claiming.slots for claiming in self._open.values())

    def take(self, claimant: Claimant, most: int) -> int:
        """How many slots the claimant may claim for now, up to `most`; they are kept for it."""
        taken = 0
        if claimant.number not in self._open:
            taken = min(most, self._division().get(claimant.number, 0))
        if taken:
            self._open[claimant.number] = claiming = _Claiming(taken)
            if len(self._claimants) > 1:
                asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._lose_patience, claiming)
        self.pass_on()
        return taken

    def answered(self, claimant: Claimant) -> None:
        """The claim under way was answered, or failed: what it does not fill is free."""
        self._open.pop(claimant.number, None)

    def took(self, claimant: Claimant, claim: Claim) -> None:
        """What a claim gave goes on the account of the shard."""
        self._visits.took(claimant.number, claim)

    def pass_on(self) -> None:
        """Let those look who may claim for the slots that are free."""
        if len(self._claimants) > 1:
            division = self._division()
            for claimant in self._claimants:
                if division.get(claimant.number) and claimant.number not in self._open:
                    claimant.look()

    def stir_all(self) -> None:
        """Any task may have pushed others, into any shard."""
        for claimant in self._claimants:
            claimant.stir()

    def stay_home(self, homes: Collection[int]) -> None:
        """Lean to these shards."""
        self._visits.homes = homes

    def _division(self) -> dict[int, int]:
        free = self.free
        if free <= 0:
            return {}
        levels = {
            claimant.number: level
            for claimant in self._claimants
            if (level := claimant.level) is not None and not self._is_slow(claimant.number)
        }
        if len(levels) == 1:
            return dict.fromkeys(levels, free)
        first = min(levels.values(), default=0)
        contenders = [number for number, level in levels.items() if level == first]
        under_way = {number: claiming.slots for number, claiming in self._open.items()}
        return self._visits.division(free, contenders, under_way)

    def _is_slow(self, number: int) -> bool:
        claiming = self._open.get(number)
        return claiming is not None and claiming.is_slow

    def _lose_patience(self, claiming: _Claiming) -> None:
        claiming.is_slow = True
        self.pass_on()
