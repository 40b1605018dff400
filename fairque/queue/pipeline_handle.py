"""Handles on pushed pipelines."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from fairque.core.calls import Flow, Listen, Wait
from fairque.core.exceptions import (
    ResultTimeoutError,
    TaskNotFoundError,
)
from fairque.core.models import LIVE, TaskState
from fairque.core.units import Seconds, to_seconds
from fairque.queue.handle import AsyncTaskHandle, Handle, TaskHandle, fate_of, outcome_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairque.core.pipeline_build import BuiltPipeline
    from fairque.queue.async_queue import AsyncTaskQueue
    from fairque.queue.commands import QueueCommands
    from fairque.queue.queue import TaskQueue

R = TypeVar("R")
H = TypeVar("H", bound="Handle[Any]")

# The end of the last step is announced; a pipeline that cannot go on is seen by looking.
LOOK_SECONDS = 0.5
STEPS_A_SECOND = 2_000  # that waiting for a large pipeline looks at, at the most

ON_ITS_WAY = frozenset({TaskState.QUEUED, TaskState.STARTED, TaskState.SCHEDULED})


class PipelineProgress(msgspec.Struct, frozen=True):
    """How far a pipeline is: how many of its steps are where.

    Attributes:
        total: How many steps it has.
        waiting: Those that wait for others (DEFERRED).
        ready: QUEUED, or SCHEDULED for later.
        running, finished, failed, canceled: By state.
        forgotten: Those whose retention has passed.
    """

    total: int
    waiting: int
    ready: int
    running: int
    finished: int
    failed: int
    canceled: int
    forgotten: int


class _PipelineHandle(Generic[R, H]):
    """What both handles share.

    Attributes:
        user_id: Whose pipeline it is.
        pipeline_id: The id of this run: that of all its tasks, and the namespace of their XCom.
        created: Whether any of its tasks is new.
        steps: A handle for each step, each after those it depends on.
    """

    def __init__(
        self, commands: QueueCommands, user_id: str, built: BuiltPipeline, steps: Sequence[H]
    ) -> None:
        self.user_id = user_id
        self.pipeline_id = built.pipeline_id
        self.steps = tuple(steps)
        self.created = any(step.created for step in steps)
        self._commands = commands
        self._by_id = {step.task_id: step for step in steps}
        self._names = {name: [task.task_id for task in tasks] for name, tasks in built.names.items()}
        self._last = [self._by_id[task.task_id] for task in built.results]
        self._returns = {task.task_id: task.returns for task in built.results}
        self._returns_list = built.returns_list

    def __repr__(self) -> str:
        name, steps = type(self).__name__, len(self.steps)
        return f"<{name} user_id={self.user_id!r} pipeline_id={self.pipeline_id!r} steps={steps}>"

    def __getitem__(self, name: str) -> H:
        """The handle of the step of this name.

        Raises:
            KeyError: There is no such step, or there are several: `named` gives them all.
        """
        handles = self.named(name)
        if len(handles) != 1:
            known = ", ".join(map(repr, self._names))
            there_are = f"{len(handles)} steps are" if handles else f"no step is (there are {known})"
            raise KeyError(f"{there_are} named {name!r}")
        return handles[0]

    def named(self, name: str) -> list[H]:
        """The handles of all steps of this name, in the order in which the pipeline names them."""
        return [self._by_id[task_id] for task_id in self._names.get(name, [])]

    @property
    def _ids(self) -> list[str]:
        return [step.task_id for step in self.steps]

    def _states_flow(self) -> Flow[list[TaskState | None]]:
        return (yield from self._commands.states(self.user_id, self._ids))

    def _progress_flow(self) -> Flow[PipelineProgress]:
        count = Counter((yield from self._states_flow()))
        return PipelineProgress(
            total=len(self.steps),
            waiting=count[TaskState.DEFERRED],
            ready=count[TaskState.QUEUED] + count[TaskState.SCHEDULED],
            running=count[TaskState.STARTED],
            finished=count[TaskState.FINISHED],
            failed=count[TaskState.FAILED],
            canceled=count[TaskState.CANCELED],
            forgotten=count[None],
        )

    def _state_flow(self) -> Flow[TaskState]:
        states = yield from self._states_flow()
        if all(state is None for state in states):
            raise TaskNotFoundError(self.user_id, self.steps[0].task_id)
        by_id = dict(zip(self._ids, states, strict=True))
        seen = set(states)
        if seen & ON_ITS_WAY and not all(by_id[step.task_id] is TaskState.FINISHED for step in self._last):
            has_begun = seen & {TaskState.STARTED, TaskState.FINISHED, TaskState.FAILED}
            waits = TaskState.QUEUED if TaskState.QUEUED in seen else TaskState.SCHEDULED
            return TaskState.STARTED if has_begun else waits
        for step in self._last:
            state = by_id[step.task_id]
            if state is TaskState.DEFERRED:
                cause = yield from self._commands.dead_end(self.user_id, step.task_id)
                if cause is not None:
                    (state,) = yield from self._commands.states(self.user_id, [cause])
            if state not in {TaskState.FINISHED, None}:
                return state
        return TaskState.FINISHED

    def _cancel_flow(self) -> Flow[int]:
        states = yield from self._states_flow()
        live = [name for name, state in zip(self._ids, states, strict=True) if state in LIVE]
        # From the last one on, so that none is let go by the end of another.
        return (yield from self._commands.cancel_all(self.user_id, live[::-1]))

    def _result_flow(self, timeout: Seconds | None) -> Flow[Any]:
        seconds = None if timeout is None else to_seconds(timeout, "timeout")
        deadline = None if seconds is None else time.monotonic() + seconds
        results = []
        for step in self._last:
            yield Listen(self._commands.keys.done(self.user_id, step.task_id))
            fate = yield from self._await_step(step.task_id, deadline, seconds)
            returns = self._returns[step.task_id]
            results.append(outcome_of(self._commands, self.user_id, step.task_id, fate, returns))
        return results if self._returns_list else results[0]

    def _await_step(self, task_id: str, deadline: float | None, seconds: float | None) -> Flow[Any]:
        """The end of a step, or the error of the task that keeps it from ever starting."""
        topic = self._commands.keys.done(self.user_id, task_id)
        pause = max(LOOK_SECONDS, len(self.steps) / STEPS_A_SECOND)
        last_cause = None
        while True:
            fate = yield from fate_of(self._commands, self.user_id, task_id)
            if fate is not None:
                return fate
            cause = yield from self._commands.dead_end(self.user_id, task_id)
            # Seen twice: of very many dependents some are released a moment after the end.
            if cause is not None and cause == last_cause:
                yield from self._raise_end_of(cause)
            last_cause = cause
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if left <= 0:
                raise ResultTimeoutError(self.user_id, task_id, seconds or 0)
            yield Wait(left, topic=topic)

    def _raise_end_of(self, task_id: str) -> Flow[None]:
        """The error of a task that failed or was canceled, unless it lives again meanwhile."""
        fate = yield from fate_of(self._commands, self.user_id, task_id)
        if fate is not None and fate[0] is not TaskState.FINISHED:
            outcome_of(self._commands, self.user_id, task_id, fate)


class PipelineHandle(_PipelineHandle[R, TaskHandle[Any]]):
    """A pushed pipeline, for blocking code. `handle["load"]` is the handle of the step of that name."""

    def __init__(
        self, queue: TaskQueue, user_id: str, built: BuiltPipeline, steps: Sequence[TaskHandle[Any]]
    ) -> None:
        super().__init__(queue.commands, user_id, built, steps)
        self._queue = queue

    def state(self) -> TaskState:
        """Where the pipeline is: FINISHED when its last steps are.

        Before any step has begun it is QUEUED or SCHEDULED, and STARTED while any is on its way. When none
        is, it is FAILED or CANCELED if a step that ended so keeps the last one from ever starting, unless
        that is requeued; else it waits for tasks outside of the pipeline, and is DEFERRED.

        Raises:
            TaskNotFoundError: None of its tasks is known any more.
        """
        return self._queue.run(self._state_flow())

    def progress(self) -> PipelineProgress:
        """How many of its steps are where."""
        return self._queue.run(self._progress_flow())

    def result(self, timeout: Seconds | None = None) -> R:
        """Wait for the last step and return its result; of several, side by side, the list of theirs.

        Args:
            timeout: Seconds to wait; for ever if None. The pipeline goes on after it.

        Raises:
            ResultTimeoutError: It has not ended in time (a TimeoutError).
            TaskFailedError: A step failed, and nothing can go on without it.
            TaskCanceledError: A step was canceled, and nothing can go on without it.
            ResultExpiredError: It finished, but its result is no longer kept.
        """
        return self._queue.run(self._result_flow(timeout))  # type: ignore[no-any-return]

    def cancel(self) -> int:
        """Cancel all steps that have not ended; running ones learn it at their next heartbeat.

        Returns:
            How many were canceled.
        """
        return self._queue.run(self._cancel_flow())


class AsyncPipelineHandle(_PipelineHandle[R, AsyncTaskHandle[Any]]):
    """A pushed pipeline, for asyncio. `handle["load"]` is the handle of the step of that name."""

    def __init__(
        self,
        queue: AsyncTaskQueue,
        user_id: str,
        built: BuiltPipeline,
        steps: Sequence[AsyncTaskHandle[Any]],
    ) -> None:
        super().__init__(queue.commands, user_id, built, steps)
        self._queue = queue

    async def state(self) -> TaskState:
        return await self._queue.run(self._state_flow())

    async def progress(self) -> PipelineProgress:
        return await self._queue.run(self._progress_flow())

    async def result(self, timeout: Seconds | None = None) -> R:
        return await self._queue.run(self._result_flow(timeout))

    async def cancel(self) -> int:
        return await self._queue.run(self._cancel_flow())
