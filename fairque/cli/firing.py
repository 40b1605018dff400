"""What `fairque scheduler` does."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from fairque.cli.starting import import_tasks, tell_problems
from fairque.queue.queue import TaskQueue
from fairque.scheduler.async_scheduler import AsyncTaskScheduler
from fairque.utils.loops import new_event_loop
from fairque.worker.exit_code import ExitCode

if TYPE_CHECKING:
    from fairque.core.config import FairQueueConfig

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class _Ending:
    """Takes the signals that end a scheduler; one that has not begun yet, or is told again, ends at once.

    Signals that are ignored (as by nohup) stay so.
    """

    def __init__(self) -> None:
        self.scheduler: AsyncTaskScheduler | None = None
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)

    def _hear(self, *_: object) -> None:
        scheduler, self.scheduler = self.scheduler, None
        if scheduler is None:  # not yet there, or asked already
            os._exit(ExitCode.DONE)
        scheduler.stop()


def fire(settings: FairQueueConfig, modules: list[str]) -> None:
    """Put on the server what the modules and the configuration declare, and fire schedules until stopped.

    Raises:
        ConfigurationError: A module cannot be imported, or the environment asks for no such event loop.
        ScheduleValidationError: A declared schedule is wrong.
        ServerError: The server cannot be used at the start.
    """
    ending = _Ending()
    import_tasks(modules)
    with TaskQueue(settings) as queue:
        tell_problems(queue)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run(AsyncTaskScheduler(queue), ending))


async def _run(scheduler: AsyncTaskScheduler, ending: _Ending) -> None:
    async with scheduler:
        ending.scheduler = scheduler
        await scheduler.run()
