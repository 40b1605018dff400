"""The attempts that run in this worker, each in one of its slots."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from fairque.core.context import TaskContext
from fairque.worker.execution import Execution, Outcome, Running
from fairque.worker.heart import AttemptKey, Heart, attempt_key
from fairque.worker.xcom import AttemptXCom

if TYPE_CHECKING:
    from collections.abc import Callable

    from fairque.core.models import Task
    from fairque.worker.xcom import WorkerXCom


class Slots:
    """Runs attempts, keeps their leases, and says how each ended.

    Args:
        count: How many attempts run at once.
        worker_id: Who runs them.
        execution: Runs each.
        heart: Keeps their leases.
        xcom: Opens their cross-task data.
        on_end: Told of each attempt that left its slot: its outcome, or None if that is not wanted any more.
    """

    def __init__(
        self,
        count: int,
        *,
        worker_id: str,
        execution: Execution,
        heart: Heart,
        xcom: WorkerXCom,
        on_end: Callable[[Outcome | None], None],
    ) -> None:
        self._count = count
        self._worker_id = worker_id
        self._execution = execution
        self._heart = heart
        self._xcom = xcom
        self._on_end = on_end
        self._running: dict[AttemptKey, Running] = {}
        self._alone: AttemptKey | None = None  # of a suspect that runs

    @property
    def free(self) -> int:
        """How many more attempts may start: none beside a suspect."""
        return 0 if self._alone in self._running else self._count - len(self._running)

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs."""
        return not self._running

    def start(self, task: Task[Any], *, alone: bool = False) -> None:
        """Run a claimed task; a suspect of killing its worker `alone`, but for what runs already."""
        context = TaskContext(
            user_id=task.user_id or "",
            task_id=task.task_id,
            attempt=task.attempt,
            worker_id=self._worker_id,
            deadline=None if task.timeout is None else time.monotonic() + task.timeout,
            pipeline_id=task.header.pipeline,
            open_xcom=AttemptXCom(self._xcom, task),
        )
        running = Running(task, context)
        self._running[attempt_key(task)] = running
        if alone:
            self._alone = attempt_key(task)
        self._heart.add(task)
        running.job = asyncio.create_task(self._run(running))

    async def _run(self, running: Running) -> None:
        outcome: Outcome | None = None
        try:
            outcome = await self._execution.run(running)
        except BaseException as error:  # noqa: BLE001 - whatever happens, the slot is freed and the end is told
            outcome = Outcome(running.task, error=error)
        del self._running[attempt_key(running.task)]
        if running.dropped:
            outcome = None
            self._heart.remove(running.task)
        self._on_end(outcome)

    def drop(self, key: AttemptKey) -> None:
        """An attempt is no longer wanted: interrupt it where that is possible, and ignore how it ends."""
        running = self._running.get(key)
        if running is None or running.dropped:
            return
        running.dropped = True
        running.context.canceled = True
        if running.job is not None and self._execution.is_interruptible(running.task):
            running.job.cancel()

    def drop_all(self) -> tuple[list[Task[Any]], list[asyncio.Task[None]]]:
        """Drop everything that runs; a thread goes on, but nobody waits for it any more.

        Returns:
            The tasks whose leases are still held, and the jobs that end soon, being canceled.
        """
        unfinished = [running.task for running in self._running.values() if not running.dropped]
        jobs = []
        for running in self._running.values():
            running.dropped = running.context.canceled = True
            if running.job is not None:
                running.job.cancel()
                jobs.append(running.job)
        return unfinished, jobs
