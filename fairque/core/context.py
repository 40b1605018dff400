"""What a running task may know of itself."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class TaskContext:
    """The circumstances of the attempt that is running; a parameter annotated with it receives it.

    Attributes:
        user_id: Whose task it is.
        task_id: Its id.
        attempt: The number of this attempt, 1 for the first.
        worker_id: Who runs it.
        deadline: `time.monotonic()` at which the attempt times out; None without a timeout.
        canceled: Becomes True when the task was canceled or the lease was lost: stop and return.
    """

    user_id: str
    task_id: str
    attempt: int = 1
    worker_id: str = "local"
    deadline: float | None = None
    canceled: bool = field(default=False)

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline (negative once it has passed); None without a timeout."""
        return None if self.deadline is None else self.deadline - time.monotonic()


_current: ContextVar[TaskContext] = ContextVar("fairque_task")


def current_task() -> TaskContext:
    """The context of the task that is running here.

    Raises:
        LookupError: No task is running in this thread or asyncio task.
    """
    try:
        return _current.get()
    except LookupError:
        raise LookupError("no task is running here: current_task() works inside a task only") from None


def enter(context: TaskContext) -> None:
    """Make `context` the current one of this thread or asyncio task (for whoever runs tasks)."""
    _current.set(context)
