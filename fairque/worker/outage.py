"""Sitting out the times when the server cannot be used."""

from __future__ import annotations

import asyncio
import logging
import random

from fairque.core.exceptions import ServerError

logger = logging.getLogger("fairque.worker")

LONGEST_PAUSE = 5.0  # seconds


class Outage:
    """Pauses that grow while the server fails; one line in the log when it begins, one when it is over.

    Args:
        worker_id: Who tells.
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._failures = 0  # in a row

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
