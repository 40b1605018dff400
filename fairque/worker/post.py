"""A worker's post at one shard: the pump that claims there, the heart of its attempts, and the upkeep."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fairque.core.exceptions import FairQueueError, UnsafeServerError

if TYPE_CHECKING:
    from fairque.worker.heart import Heart
    from fairque.worker.pump import Pump
    from fairque.worker.upkeep import Upkeep

logger = logging.getLogger("fairque.worker")

LAST_TRIP_SECONDS = 2.0  # for a round trip that is under way when the grace ends
LEAVE_SECONDS = 5.0  # for the last words to the server


class Post:
    """Starts what a worker does in a shard, and ends it.

    Attributes:
        working: The pump, under way.
    """

    working: asyncio.Task[None]

    def __init__(self, worker_id: str, pump: Pump, heart: Heart, upkeep: Upkeep) -> None:
        self.pump = pump
        self.heart = heart
        self._worker_id = worker_id
        self._upkeep = upkeep

    def start(self) -> None:
        """Begin, in the background."""
        self.heart.start()
        self.working = asyncio.create_task(self.pump.run())
        self._keeping = asyncio.create_task(self._upkeep.run())

    async def leave(self) -> None:
        """End all of it, each step for a bounded time, and take leave.

        Raises:
            Exception: What ended the pump.
        """
        both = {self.working, self._keeping}
        self.pump.halt()  # also where a cancellation is swallowed on its way, it ends after its round trip
        self._upkeep.stop()
        await asyncio.wait(both, timeout=LAST_TRIP_SECONDS)
        self._keeping.cancel()
        self.working.cancel()
        await asyncio.wait(both, timeout=LAST_TRIP_SECONDS)
        await self.heart.ended(LAST_TRIP_SECONDS)
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self.pump.leave()
        except UnsafeServerError:
            pass  # it was there only later, and the pump says so: nothing was claimed
        except (FairQueueError, TimeoutError) as error:
            logger.warning(
                "worker %s could not take its leave, its leases will run out: %s", self._worker_id, error
            )
        if self.working.done() and not self.working.cancelled():
            self.working.result()


async def all_have_ended(posts: list[Post]) -> None:
    """Wait until every pump has ended, or one with an error."""
    await asyncio.wait({post.working for post in posts}, return_when=asyncio.FIRST_EXCEPTION)


async def leave_all(posts: list[Post]) -> None:
    """Leave every post; then raise what ended one of them."""
    outcomes = await asyncio.gather(*(post.leave() for post in posts), return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome
