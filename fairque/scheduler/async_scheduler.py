"""The scheduler's engine, and the asyncio face of schedules. The blocking face runs this engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Self

from fairque.core.calls import single
from fairque.core.schedule import Schedule
from fairque.queue.async_queue import AsyncTaskQueue
from fairque.queue.declared import declare, declared_schedules
from fairque.queue.handle import AsyncTaskHandle
from fairque.queue.queue import TaskQueue
from fairque.queue.schedules import add_all, list_all
from fairque.scheduler.tending import tend
from fairque.utils.background import ending_signals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from types import TracebackType

    from fairque.core.config import FairQueueConfig
    from fairque.core.models import Task
    from fairque.core.schedule import CatchUp, Overlap
    from fairque.core.units import Moment, Seconds

logger = logging.getLogger("fairque.scheduler")


class AsyncTaskScheduler:
    """`TaskScheduler` for asyncio: the same operations with `await`. Belongs to one event loop.

    Args:
        source: A queue, a `FairQueueConfig`, a URL, or nothing, as for `TaskScheduler`.

    Raises:
        ConfigurationError: The source cannot be used; the message says why.
    """

    def __init__(self, source: AsyncTaskQueue | TaskQueue | FairQueueConfig | str | None = None) -> None:
        self._owned: AsyncTaskQueue | None = None
        if not isinstance(source, AsyncTaskQueue):
            self._owned = source = AsyncTaskQueue(source.config if isinstance(source, TaskQueue) else source)
        self._queue = source
        self.config = source.config
        self._commands = source.commands
        self._name = self.config.scheduler.id or f"{socket.gethostname()}-{os.getpid()}"
        self._loop: asyncio.AbstractEventLoop | None = None  # while it runs
        self._stop_requested: asyncio.Event | None = None
        self._stop_was_asked = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._owned is not None:
            await self._owned.close()

    # --- firing ---

    async def run(self) -> None:
        if self._loop is not None:
            raise RuntimeError("the scheduler works already: stop() it first")
        self._stop_requested = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stop_was_asked:  # looked at after the loop is known, and set by stop() before it looks there
            self._stop_requested.set()
        try:
            with ending_signals(self._stop_requested.set):
                await self._work(self._stop_requested)
        finally:
            self._loop, self._stop_was_asked = None, False

    async def _work(self, stopping: asyncio.Event) -> None:
        """Tend the schedules of each shard until it is time to stop, or something is wrong with one."""
        manager, grace = self._queue.manager, self.config.scheduler.misfire_grace
        flows = [declare(self._commands, declared_schedules(self.config.scheduler.declared()))]
        flows += [tend(shard.schedules, grace) for shard in self._commands.shards]
        working = [asyncio.create_task(manager.run(flow)) for flow in flows]
        logger.info("scheduler %s serves queue %s", self._name, self._commands.where)
        ending = asyncio.create_task(stopping.wait())
        try:
            waiting = {ending, *working}
            while ending in waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in (ending, *working):
                task.cancel()
            await asyncio.gather(ending, *working, return_exceptions=True)
            logger.info("scheduler %s has ended", self._name)

    def stop(self) -> None:
        self._stop_was_asked = True
        loop, stopping = self._loop, self._stop_requested
        if loop is not None and stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(stopping.set)

    def forget_stop(self) -> None:
        """Let the next `run` work although `stop` was called before it."""
        self._stop_was_asked = False

    # --- schedules ---

    async def add_schedule(
        self,
        expr: str | None = None,
        task: Task[Any] | None = None,
        *,
        every: Seconds | None = None,
        at: Moment | None = None,
        user_id: str | None = None,
        timezone: str = "UTC",
        schedule_id: str | None = None,
        catch_up: CatchUp = "latest",
        max_catch_up: int = 100,
        jitter: Seconds | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        overlap: Overlap = "allow",
        active: bool = True,
        metadata: Mapping[str, Any] | None = None,
        replace: bool = False,
    ) -> Schedule:
        schedule = Schedule.create(
            expr,
            task,
            every=every,
            at=at,
            user_id=user_id,
            timezone=timezone,
            schedule_id=schedule_id,
            catch_up=catch_up,
            max_catch_up=max_catch_up,
            jitter=jitter,
            start=start,
            end=end,
            overlap=overlap,
            active=active,
            metadata=metadata,
        )
        return (await self.add_schedules([schedule], replace=replace))[0]

    async def add_schedules(self, schedules: Iterable[Schedule], *, replace: bool = False) -> list[Schedule]:
        return await self._queue.run(add_all(self._commands, schedules, replace=replace))

    async def update_schedule(self, user_id: str, schedule_id: str, **changes: Any) -> Schedule:
        return await self._queue.run(
            self._commands.of(user_id).schedules.change(
                user_id, schedule_id, lambda schedule: schedule.changed(**changes)
            )
        )

    async def remove_schedule(self, user_id: str, schedule_id: str) -> bool:
        return await self._queue.run(
            single(self._commands.of(user_id).schedules.remove(user_id, schedule_id))
        )

    async def get_schedule(self, user_id: str, schedule_id: str) -> Schedule:
        return await self._queue.run(self._commands.of(user_id).schedules.get(user_id, schedule_id))

    async def list_schedules(
        self, *, user_id: str | None = None, active: bool | None = None, limit: int | None = None
    ) -> list[Schedule]:
        return await self._queue.run(list_all(self._commands, user_id=user_id, active=active, limit=limit))

    async def pause(self, user_id: str, schedule_id: str) -> Schedule:
        return await self.update_schedule(user_id, schedule_id, active=False)

    async def resume(self, user_id: str, schedule_id: str) -> Schedule:
        return await self.update_schedule(user_id, schedule_id, active=True)

    async def trigger_now(self, user_id: str, schedule_id: str) -> AsyncTaskHandle[Any]:
        receipt = await self._queue.run(
            self._commands.of(user_id).schedules.fire_by_hand(user_id, schedule_id)
        )
        return AsyncTaskHandle(self._queue, receipt.task, created=receipt.created)

    async def next_fire_times(self, user_id: str, schedule_id: str, n: int = 1) -> list[datetime]:
        return (await self.get_schedule(user_id, schedule_id)).next_fire_times(n)
