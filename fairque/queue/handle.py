"""Handles: what a caller keeps of a pushed task, to ask what became of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fairque.core.calls import Flow, Listen, Wait
from fairque.core.exceptions import (
    ResultExpiredError,
    ResultTimeoutError,
    TaskCanceledError,
    TaskFailedError,
    TaskNotFoundError,
)
from fairque.core.models import Task, TaskState
from fairque.core.outputs import Output
from fairque.core.units import Seconds, to_seconds

if TYPE_CHECKING:
    from fairque.queue.async_queue import AsyncTaskQueue
    from fairque.queue.commands import ShardCommands
    from fairque.queue.queue import TaskQueue

R = TypeVar("R")

# Waiters are woken by the server; this look is for an announcement lost with a connection.
LOOK_AGAIN_SECONDS = 5.0


class Handle(Generic[R]):
    """What both handles share.

    Attributes:
        user_id: Whose task it is.
        task_id: Its id.
        created: False if the push found the task known already, and changed nothing.
    """

    def __init__(
        self, commands: ShardCommands, user_id: str, task_id: str, *, created: bool, returns: Any = None
    ) -> None:
        self.user_id = user_id
        self.task_id = task_id
        self.created = created
        self._commands = commands
        self._returns = returns

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name} user_id={self.user_id!r} task_id={self.task_id!r} created={self.created}>"

    @property
    def output(self) -> R:
        """Its result, as an argument of another task of the same user, which depends on this one then."""
        return Output(self.task_id)  # type: ignore[return-value]  # it stands for an R

    def _state_flow(self) -> Flow[TaskState]:
        state, *_ = yield self._commands.fate_call(self.user_id, self.task_id)
        return TaskState(state.decode())

    def _info_flow(self) -> Flow[Task[Any]]:
        task: Task[Any] | None = yield self._commands.get(self.user_id, self.task_id)
        if task is None:
            raise TaskNotFoundError(self.user_id, self.task_id)
        return task

    def _result_flow(self, timeout: Seconds | None) -> Flow[Any]:
        seconds = None if timeout is None else to_seconds(timeout, "timeout")
        deadline = None if seconds is None else time.monotonic() + seconds
        topic = self._commands.keys.done(self.user_id, self.task_id)
        listening = False
        while True:
            fate = yield from fate_of(self._commands, self.user_id, self.task_id)
            if fate is not None:
                return outcome_of(self._commands, self.user_id, self.task_id, fate, self._returns)
            if not listening:
                listening = True
                yield Listen(topic)
                continue  # it may have ended before the ear was open
            pause = LOOK_AGAIN_SECONDS
            if deadline is not None and seconds is not None:
                pause = min(pause, deadline - time.monotonic())
                if pause <= 0:
                    raise ResultTimeoutError(self.user_id, self.task_id, seconds)
            yield Wait(pause, topic=topic)


def fate_of(
    commands: ShardCommands, user_id: str, task_id: str
) -> Flow[tuple[TaskState, list[bytes | None]] | None]:
    """State and details of an ended task; None while it lives."""
    try:
        state, *details = yield commands.fate_call(user_id, task_id)
    except TaskNotFoundError:
        raise ResultExpiredError(user_id, task_id) from None
    ended = TaskState(state.decode())
    return (ended, details) if ended.is_terminal else None


def outcome_of(
    commands: ShardCommands,
    user_id: str,
    task_id: str,
    fate: tuple[TaskState, list[bytes | None]],
    returns: Any = None,
) -> Any:
    """The result, or the error, that the end of a task means."""
    state, details = fate
    if state is TaskState.CANCELED:
        raise TaskCanceledError(user_id, task_id)
    if state is TaskState.FAILED:
        failure_type, error = ((text or b"").decode() for text in details)
        raise TaskFailedError(user_id, task_id, failure_type, error)
    data = details[0] if details else None
    if data is None:
        raise ResultExpiredError(user_id, task_id)
    return commands.decode_result(data, returns)


class TaskHandle(Handle[R]):
    """A pushed task, for blocking code."""

    def __init__(self, queue: TaskQueue, task: Task[R], *, created: bool) -> None:
        user_id = task.user_id or ""
        super().__init__(
            queue.commands.of(user_id), user_id, task.task_id, created=created, returns=task.returns
        )
        self._queue = queue

    def state(self) -> TaskState:
        """Where the task is now.

        Raises:
            TaskNotFoundError: It is no longer known.
        """
        return self._queue.run(self._state_flow())

    def info(self) -> Task[Any]:
        """Everything known of the task: state, times, attempts, errors.

        Raises:
            TaskNotFoundError: It is no longer known.
        """
        return self._queue.run(self._info_flow())

    def result(self, timeout: Seconds | None = None) -> R:
        """Wait for the task to end and return its result, as the function's annotation has it.

        Args:
            timeout: Seconds to wait; for ever if None. The task goes on after it.

        Raises:
            ResultTimeoutError: It has not ended in time (a TimeoutError).
            TaskFailedError: It is in the dead letter queue.
            TaskCanceledError: It was canceled.
            ResultExpiredError: It finished, but its result is no longer kept.
        """
        return self._queue.run(self._result_flow(timeout))  # type: ignore[no-any-return]

    def cancel(self, *, cascade: bool = False) -> bool:
        """Cancel the task: True if it is canceled now, False if it had ended otherwise.

        Args:
            cascade: Cancel everything that depends on it, too.

        Raises:
            TaskNotFoundError: It is no longer known.
        """
        return self._queue.cancel(self.user_id, self.task_id, cascade=cascade)


class AsyncTaskHandle(Handle[R]):
    """A pushed task, for asyncio."""

    def __init__(self, queue: AsyncTaskQueue, task: Task[R], *, created: bool) -> None:
        user_id = task.user_id or ""
        super().__init__(
            queue.commands.of(user_id), user_id, task.task_id, created=created, returns=task.returns
        )
        self._queue = queue

    async def state(self) -> TaskState:
        return await self._queue.run(self._state_flow())

    async def info(self) -> Task[Any]:
        return await self._queue.run(self._info_flow())

    async def result(self, timeout: Seconds | None = None) -> R:
        return await self._queue.run(self._result_flow(timeout))

    async def cancel(self, *, cascade: bool = False) -> bool:
        return await self._queue.cancel(self.user_id, self.task_id, cascade=cascade)
