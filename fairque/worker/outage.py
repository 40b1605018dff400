"""Sitting out the times when the server cannot be used."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, TypeVar

from fairque.core.exceptions import ScriptError, ServerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

logger = logging.getLogger("fairque.worker")

LONGEST_PAUSE = 2.0  # seconds; a server that is back is used again within three
PAUSE_OF_AN_ATTEMPT = 0.5  # seconds between its tries


class Outage:
    """Pauses that grow while the server fails; one line in the log when it begins, one when it is over.

    Args:
        worker_id: Who tells.
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._failures = 0  # in a row

    @property
    def lasts(self) -> bool:
        """Whether the server failed when it was last asked."""
        return self._failures > 0

    async def judge(self, outcomes: list[object]) -> None:
        """Take note of how a round trip went, and pause if the server failed in it."""
        error = next((outcome for outcome in outcomes if isinstance(outcome, ServerError)), None)
        if error is None:
            if self._failures:
                logger.warning("worker %s can use the server again", self._worker_id)
            self._failures = 0
            return
        if self._failures == 0:
            logger.warning("worker %s cannot use the server and keeps trying: %s", self._worker_id, error)
        self._failures += 1
        pause = min(LONGEST_PAUSE, 0.05 * 2.0 ** min(self._failures, 10))
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter


async def sit_out(work: Callable[[], Awaitable[T]], is_wanted: Callable[[], bool]) -> T:
    """What an attempt asks of the server, again and again while that is away and the attempt is wanted.

    Raises:
        ScriptError: The server is there, and will say so again: it is for the attempt to fail.
        ServerError: The attempt is not wanted any more.
    """
    while True:
        try:
            return await work()
        except ScriptError:
            raise
        except ServerError:
            if not is_wanted():
                raise
            await asyncio.sleep(PAUSE_OF_AN_ATTEMPT)
