"""Handles on pushed pipelines."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from fairque.core.calls import Flow, Listen, Wait
from fairque.core.exceptions import (
    ResultExpiredError,
    ResultTimeoutError,
    TaskCanceledError,
    TaskFailedError,
    TaskNotFoundError,
)
from fairque.core.models import LIVE, TaskState
from fairque.core.outputs import Output
from fairque.core.units import Seconds, to_seconds
from fairque.queue.graphs import DEAD
from fairque.queue.handle import AsyncTaskHandle, Handle, TaskHandle, fate_of, outcome_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairque.core.pipeline_build import BuiltPipeline
    from fairque.queue.async_queue import AsyncTaskQueue
    from fairque.queue.commands import ShardCommands
    from fairque.queue.queue import TaskQueue

R = TypeVar("R")
H = TypeVar("H", bound="Handle[Any]")

# The end of the last step is announced; a pipeline that cannot go on is seen by looking.
LOOK_SECONDS = 0.5
STEPS_A_SECOND = 2_000  # that waiting for a large pipeline looks at, at the most
AT_ONCE = 500  # last steps that are looked at when one of them is announced
SHOWN_NAMES = 10  # in a message

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
        self, commands: ShardCommands, user_id: str, built: BuiltPipeline, steps: Sequence[H]
    ) -> None:
        self.user_id = user_id
        self.pipeline_id = built.pipeline_id
        self.steps = tuple(steps)
        self.created = any(step.created for step in steps)
        self._commands = commands
        self._by_id = {step.task_id: step for step in steps}
        self._names = {name: [task.task_id for task in tasks] for name, tasks in built.names.items()}
        self._upstream = {task.task_id: task.depends_on for task in built.tasks}
        self._needs_others = any(other not in self._by_id for ids in self._upstream.values() for other in ids)
        self._returns = {task.task_id: task.returns for task in built.results}
        self._returns_list = built.returns_list

    def __repr__(self) -> str:
        name, steps = type(self).__name__, len(self.steps)
        return f"<{name} user_id={self.user_id!r} pipeline_id={self.pipeline_id!r} steps={steps}>"

    # A class with `__getitem__` could be iterated else, by numbers that are no names.
    __iter__ = None

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> H:
        """The handle of the step of this name.

        Raises:
            KeyError: There is no such step, or there are several: `named` gives them all.
        """
        handles = self.named(name)
        if len(handles) == 1:
            return handles[0]
        if handles:
            raise KeyError(f"{len(handles)} steps are named {name!r}: named({name!r}) gives them all")
        known = [*map(repr, self._names)]
        more = f" and {len(known) - SHOWN_NAMES:,} more" if len(known) > SHOWN_NAMES else ""
        raise KeyError(f"no step is named {name!r}; there are {', '.join(known[:SHOWN_NAMES])}{more}")

    def named(self, name: str) -> list[H]:
        """The handles of all steps of this name, in the order in which the pipeline names them."""
        return [self._by_id[task_id] for task_id in self._names.get(name, [])]

    @property
    def output(self) -> R:
        """Its result, as an argument of a task of another push, which depends on its last steps then."""
        outputs = [Output(task_id) for task_id in self.result_ids]
        return outputs if self._returns_list else outputs[0]  # type: ignore[return-value]  # it stands for an R

    @property
    def result_ids(self) -> tuple[str, ...]:
        """The ids of its last steps, whose results are the pipeline's: what depends on it waits for these."""
        return tuple(self._returns)

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
        last = {by_id[task_id] for task_id in self.result_ids}
        seen = set(states)
        if seen & ON_ITS_WAY and last != {TaskState.FINISHED}:
            # What is forgotten has ended: all were pushed, or there would be no handle.
            has_begun = seen & {TaskState.STARTED, TaskState.FINISHED, TaskState.FAILED, None}
            waits = TaskState.QUEUED if TaskState.QUEUED in seen else TaskState.SCHEDULED
            return TaskState.STARTED if has_begun else waits
        if dead := last & DEAD:
            return TaskState.FAILED if TaskState.FAILED in dead else TaskState.CANCELED
        deferred = [task_id for task_id in self.result_ids if by_id[task_id] is TaskState.DEFERRED]
        if not deferred:
            return TaskState.FINISHED
        cause = yield from self._commands.dead_end(self.user_id, deferred)
        if cause is None:
            return TaskState.DEFERRED
        (state,) = yield from self._commands.states(self.user_id, [cause])
        return state or TaskState.DEFERRED

    def _cancel_flow(self) -> Flow[int]:
        states = yield from self._states_flow()
        live = [name for name, state in zip(self._ids, states, strict=True) if state in LIVE]
        # From the last one on, so that none is let go by the end of another.
        return (yield from self._commands.cancel_all(self.user_id, live[::-1]))

    def _result_flow(self, timeout: Seconds | None) -> Flow[Any]:
        seconds = None if timeout is None else to_seconds(timeout, "timeout")
        deadline = None if seconds is None else time.monotonic() + seconds
        pause = max(LOOK_SECONDS, len(self.steps) / STEPS_A_SECOND)
        results: dict[str, Any] = {}
        heard: set[str] = set()
        last_cause, look_at = None, time.monotonic()
        while left := [task_id for task_id in self.result_ids if task_id not in results]:
            if time.monotonic() >= look_at:
                cause = yield from self._look(left, results)
                # Seen twice: of very many dependents some are released a moment after the end.
                if cause is not None and cause == last_cause:
                    yield from self._raise_end_of(cause)
                last_cause, look_at = cause, time.monotonic() + pause
                continue
            topic = self._commands.keys.done(self.user_id, left[0])
            if topic not in heard:
                heard.add(topic)
                yield Listen(topic)
            yield from self._collect(left[:AT_ONCE], results)
            if left[0] in results:
                continue
            if deadline is not None and time.monotonic() >= deadline:
                raise ResultTimeoutError(self.user_id, left[0], seconds or 0)
            until = look_at if deadline is None else min(look_at, deadline)
            yield Wait(max(0, until - time.monotonic()), topic=topic)
        found = [results[task_id] for task_id in self.result_ids]
        return found if self._returns_list else found[0]

    def _look(self, left: Sequence[str], results: dict[str, Any]) -> Flow[str | None]:
        """Collect the last steps that have ended; the id of what keeps others of them from ever starting."""
        deferred = yield from self._collect(left, results)
        if not deferred:
            return None
        # Steps are cheaper to look at than the graph, in which a chain is walked step by step.
        if not self._needs_others and DEAD.isdisjoint((yield from self._states_flow())):
            return None
        return (yield from self._commands.dead_end(self.user_id, deferred))

    def _collect(self, task_ids: Sequence[str], results: dict[str, Any]) -> Flow[list[str]]:
        """Take the results of the last steps that have finished: which others are DEFERRED.

        Raises:
            TaskFailedError, TaskCanceledError: One has ended without.
            ResultExpiredError: The result of one is no longer kept.
        """
        deferred = []
        found = yield from self._commands.results(self.user_id, task_ids)
        for task_id, (state, data) in found.items():
            if state in DEAD:
                yield from self._raise_end_of(task_id)
            elif state is TaskState.DEFERRED:
                deferred.append(task_id)
            elif state is None or (state is TaskState.FINISHED and data is None):
                raise ResultExpiredError(self.user_id, task_id)
            elif state is TaskState.FINISHED and data is not None:
                results[task_id] = self._commands.decode_result(data, self._returns[task_id])
        return deferred

    def _raise_end_of(self, task_id: str) -> Flow[None]:
        """The error of a task that failed or was canceled, unless it lives again meanwhile."""
        fate = yield from fate_of(self._commands, self.user_id, task_id)
        if fate is None or fate[0] is TaskState.FINISHED:
            return
        try:
            outcome_of(self._commands, self.user_id, task_id, fate)
        except TaskCanceledError as error:
            raise error from (yield from self._failure_before(task_id))

    def _failure_before(self, task_id: str) -> Flow[TaskFailedError | None]:
        """The error of the step because of which a step was canceled; None if it was not for that."""
        states = dict(zip(self._ids, (yield from self._states_flow()), strict=True))
        reached = dict.fromkeys(self._upstream.get(task_id, ()))
        waiting = list(reached)
        for other in waiting:  # grows as it is walked
            state = states.get(other)
            if state is TaskState.FAILED:
                try:
                    yield from self._raise_end_of(other)
                except TaskFailedError as error:
                    return error
            elif state is TaskState.CANCELED:
                new = [before for before in self._upstream[other] if before not in reached]
                reached |= dict.fromkeys(new)
                waiting += new
        return None


class PipelineHandle(_PipelineHandle[R, TaskHandle[Any]]):
    """A pushed pipeline, for blocking code. `handle["load"]` is the handle of the step of that name."""

    def __init__(
        self, queue: TaskQueue, user_id: str, built: BuiltPipeline, steps: Sequence[TaskHandle[Any]]
    ) -> None:
        super().__init__(queue.commands.of(user_id), user_id, built, steps)
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
            TaskCanceledError: A step was canceled, and nothing can go on without it. Its `__cause__` is the
                error of the step for whose failure that was.
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
        super().__init__(queue.commands.of(user_id), user_id, built, steps)
        self._queue = queue

    async def state(self) -> TaskState:
        return await self._queue.run(self._state_flow())

    async def progress(self) -> PipelineProgress:
        return await self._queue.run(self._progress_flow())

    async def result(self, timeout: Seconds | None = None) -> R:
        return await self._queue.run(self._result_flow(timeout))

    async def cancel(self) -> int:
        return await self._queue.run(self._cancel_flow())
