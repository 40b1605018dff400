"""The attempts that run in this worker, each in one of its slots."""

from __future__ import annotations

import asyncio
import time
from itertools import chain
from typing import TYPE_CHECKING, Any

from fairque.core.context import TaskContext
from fairque.worker.execution import Running
from fairque.worker.heart import attempt_key
from fairque.worker.xcom import AttemptXCom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fairque.core.models import Task
    from fairque.worker.execution import Execution, Outcome, Owner
    from fairque.worker.heart import AttemptKey
    from fairque.worker.xcom import WorkerXCom


NEWEST = 0.1  # how much of the pace the latest attempt makes


class Slots:
    """Runs attempts, of all shards, and says how each ended.

    Args:
        count: How many attempts run at once.
        worker_id: Who runs them.
        execution: Runs each.
        xcom: Opens their cross-task data.
        on_ended: Told of each attempt that has left its slot.
    """

    def __init__(
        self,
        count: int,
        *,
        worker_id: str,
        execution: Execution,
        xcom: WorkerXCom,
        on_ended: Callable[[], None],
    ) -> None:
        self._count = count
        self._worker_id = worker_id
        self._execution = execution
        self._xcom = xcom
        self._on_ended = on_ended
        self._running: dict[AttemptKey, Running] = {}
        self._alone: AttemptKey | None = None  # of a suspect that runs
        self.reserved = 0  # for tasks that are claimed and about to start
        self.pace = 0.0  # seconds that an attempt takes, on a moving average

    @property
    def free(self) -> int:
        """How many more attempts may start: none beside a suspect."""
        return 0 if self._alone in self._running else self._count - len(self._running) - self.reserved

    def longest(self, tasks: Iterable[Task[Any]]) -> float:
        """Seconds that these tasks, or what runs already, may take at the longest."""
        running = (running.task for running in self._running.values())
        longest = 0.0
        for task in chain(tasks, running):
            if task.timeout is None:
                return float("inf")
            longest = max(longest, task.timeout)
        return longest

    def runs_any(self, owner: Owner) -> bool:
        """Whether attempts of the owner run."""
        return any(running.owner is owner for running in self._running.values())

    @property
    def running(self) -> int:
        """How many attempts run."""
        return len(self._running)

    def start(self, task: Task[Any], owner: Owner, *, alone: bool = False) -> bool:
        """Run a claimed task; a suspect of killing its worker `alone`, but for what runs already.

        Returns:
            False if its lease may have been lost since it was claimed: it is to be handed back.
        """
        key = attempt_key(task)
        if not owner.heart.begin(key, task):
            return False
        context = TaskContext(
            user_id=task.user_id or "",
            task_id=task.task_id,
            attempt=task.attempt,
            worker_id=self._worker_id,
            deadline=None if task.timeout is None else time.monotonic() + task.timeout,
            pipeline_id=task.header.pipeline,
            schedule_id=task.schedule_id,
            fire_time=task.fire_time,
            open_xcom=AttemptXCom(self._xcom, task),
        )
        running = self._running[key] = Running(task, key, context, owner)
        if alone:
            self._alone = key
        running.job = asyncio.create_task(self._run(running))
        return True

    async def _run(self, running: Running) -> None:
        outcome: Outcome | None = None
        began = time.monotonic()
        try:
            outcome = await self._execution.run(running)
        except BaseException as error:  # noqa: BLE001 - whatever happens, the slot is freed and the end is told
            outcome = running.ended(error=error)
        del self._running[running.key]
        self.pace += NEWEST * (time.monotonic() - began - self.pace)
        if running.dropped:
            outcome = None
            running.owner.heart.remove(running.key)
        self._on_ended()
        running.owner.on_end(outcome)

    def drop(self, key: AttemptKey) -> None:
        """An attempt is no longer wanted: interrupt it where that is possible, and ignore how it ends."""
        running = self._running.get(key)
        if running is None or running.dropped:
            return
        running.dropped = True
        running.context.canceled = True
        self._execution.interrupt(running)

    def drop_all(self, owner: Owner) -> tuple[list[Task[Any]], list[asyncio.Task[None]]]:
        """Drop everything that runs for an owner; a thread may go on, but nobody waits for it any more.

        Returns:
            The tasks whose leases are still held, and the jobs that end soon, being canceled.
        """
        owned = [running for running in self._running.values() if running.owner is owner]
        unfinished = [running.task for running in owned if not running.dropped]
        jobs = []
        for running in owned:
            running.dropped = running.context.canceled = True
            if running.job is not None:
                running.job.cancel()
                jobs.append(running.job)
        return unfinished, jobs
