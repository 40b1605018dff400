"""Schedules that are declared in code (`@task(cron=…)`) or in a configuration, put on the server."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from fairque.core.calls import Wait
from fairque.core.exceptions import ServerError
from fairque.core.registry import registry
from fairque.queue.schedules import refuse_twins

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fairque.core.calls import Flow
    from fairque.core.schedule import Schedule
    from fairque.queue.shards import QueueCommands

logger = logging.getLogger("fairque.scheduler")

PAUSE_SECONDS = 1.0  # between tries while the server is away


def declared_schedules(configured: Iterable[Schedule] = ()) -> list[Schedule]:
    """The schedules of all task functions that are registered, and those of a configuration.

    Raises:
        ScheduleValidationError: A function that is to be scheduled needs arguments, or two of a user's
            schedules have one id.
    """
    functions = [registry.get(name) for name in registry.names()]
    found = [function.scheduled() for function in functions]
    declared = [*(schedule for schedule in found if schedule is not None), *configured]
    refuse_twins(declared)
    return declared


def declare(commands: QueueCommands, schedules: Iterable[Schedule]) -> Flow[None]:
    """Put declared schedules on the server where they are not there. A server that is away is waited for.

    A paused one stays paused, and one whose times are the same goes on from where it was.
    """
    by_shard: dict[int, list[Schedule]] = defaultdict(list)
    for schedule in schedules:
        by_shard[commands.shards.index(commands.of(schedule.user_id))].append(schedule)
    is_away = False
    for number, chosen in by_shard.items():
        while True:
            try:
                yield from commands.shards[number].schedules.add(chosen, declared=True)
                break
            except ServerError as error:
                if not is_away:
                    logger.warning("declared schedules cannot be put on the server yet: %s", error)
                is_away = True
                yield Wait(PAUSE_SECONDS)
