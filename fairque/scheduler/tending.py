"""Tending the schedules of one shard: fire what is due, sleep until more is. As a flow, without I/O."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from fairque.core.calls import Listen, Wait
from fairque.core.exceptions import ServerError

if TYPE_CHECKING:
    from fairque.core.calls import Flow
    from fairque.queue.firing import Shot
    from fairque.queue.schedules import ScheduleCommands

logger = logging.getLogger("fairque.scheduler")

# At the latest the clock is read again after so many seconds: the server's may have been set.
LONGEST_SLEEP = 5.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between tries while the server fails
OTHERS_TURN = 0.02  # seconds until what another scheduler is dealing with is looked at again


def tend(schedules: ScheduleCommands, grace: float) -> Flow[None]:
    """Fire what is due, for ever. The server may go away and come back.

    Args:
        schedules: Those of a shard.
        grace: Seconds by which a fire time may be late before it counts as missed.
    """
    yield Listen(schedules.topic)
    pause = 0.0
    while True:
        try:
            shots, until_next = yield from schedules.fire_due(round(grace * 1000))
        except ServerError as error:
            if not pause:
                logger.warning("the scheduler cannot use the server and keeps trying: %s", error)
            pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, 2 * pause))
            yield Wait(pause)
            continue
        if pause:
            logger.warning("the scheduler can use the server again")
            pause = 0.0
        for shot in shots:
            _tell(shot)
        if not shots:
            seconds = LONGEST_SLEEP if until_next is None else min(LONGEST_SLEEP, until_next)
            yield Wait(math.ceil(seconds * 1000) / 1000, topic=schedules.topic)
        elif all(shot.pushed is None for shot in shots):
            yield Wait(OTHERS_TURN)


def _tell(shot: Shot) -> None:
    schedule = shot.schedule
    if shot.problem:
        logger.error(
            "schedule %s of user %s could not push: %s", schedule.schedule_id, schedule.user_id, shot.problem
        )
    elif shot.pushed:
        logger.debug(
            "schedule %s of user %s has pushed %s",
            schedule.schedule_id,
            schedule.user_id,
            ", ".join(shot.tasks),
        )
