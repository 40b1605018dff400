"""Whose turn it is to claim: what depends on time."""

from __future__ import annotations

import asyncio

from fairque import Task
from fairque.queue.replies import Claim
from fairque.queue.visits import Visits
from fairque.worker.turns import PATIENCE_SECONDS, Turns
from tests.support.loops import EarlyLoop


class Places:
    """Slots of a worker, of which some are free."""

    free = 1


class Hungry:
    """A shard's pump that always wants to claim."""

    level = 0
    is_idle = False

    def __init__(self, number: int) -> None:
        self.number = number
        self.looked = asyncio.Event()

    def look(self) -> None:
        self.looked.set()

    stir = stop = look


def test_a_slot_is_not_kept_for_a_shard_that_does_not_answer_even_if_timers_ring_early() -> None:
    async def main() -> int:
        places, visits = Places(), Visits(2)
        turns = Turns(places, visits)  # type: ignore[arg-type]
        slow, other = Hungry(0), Hungry(1)
        turns.join(slow)
        turns.join(other)
        for place, advance in ((slow, 1.0), (other, 5.0)):  # so the other one's turn is later
            gave = Claim(
                (Task.create(),), more=True, unfinished=False, pause=None, advance=advance, alone=False
            )
            visits.took(place.number, gave)
        assert turns.take(slow, 10) == 1
        places.free = 2
        assert turns.take(other, 10) == 0
        other.looked.clear()
        await asyncio.wait_for(other.looked.wait(), 20 * PATIENCE_SECONDS)
        return turns.take(other, 10)

    with asyncio.Runner(loop_factory=EarlyLoop) as runner:
        assert runner.run(main()) == 1
