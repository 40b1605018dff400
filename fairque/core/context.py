"""What a running task may know of itself."""

from __future__ import annotations

import time
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from fairque.core.exceptions import XComUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from types import TracebackType


class TaskInterrupted(BaseException):
    """Ends a plain function that runs in a thread and is not wanted any more.

    It is raised in the function when its task was canceled, its lease was lost, its timeout has passed, or
    its worker has stopped; never twice in one attempt. It strikes between two steps of Python code, so that
    `finally` and `with` do their work, but not inside a call that blocks in C (`time.sleep`, a read from a
    socket): there it waits until that call returns. `except Exception` does not catch it. A function that
    must not be struck anywhere, say because it shares locks with others, is a `@task(interrupt=False)`.
    """


@dataclass(slots=True)
class TaskContext:
    """The circumstances of the attempt that is running; a parameter annotated with it receives it.

    Within `with context:` it is the one that `current_task()` gives, so that a test can call what needs one.

    Attributes:
        user_id: Whose task it is.
        task_id: Its id.
        attempt: The number of this attempt, 1 for the first.
        worker_id: Who runs it.
        deadline: `time.monotonic()` at which the attempt times out; None without a timeout.
        canceled: Becomes True when the task was canceled or the lease was lost: stop and return. A thread
            has half a second for that before `TaskInterrupted` is raised in it; a process is killed, and
            never sees it.
        pipeline_id: The id of the pipeline that the task is a step of; None if it is none.
        schedule_id: The id of the schedule that pushed it; None if none did.
        fire_time: For which of its fire times: what a report is about, however late it runs.
        open_xcom: Opens `xcom`. A worker gives it; a test may give one of its own.
    """

    user_id: str
    task_id: str
    attempt: int = 1
    worker_id: str = "local"
    deadline: float | None = None
    canceled: bool = field(default=False)
    pipeline_id: str | None = None
    schedule_id: str | None = None
    fire_time: datetime | None = None
    open_xcom: Callable[[TaskContext], Any] | None = field(default=None, repr=False, compare=False)

    _before: list[Token[TaskContext]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __enter__(self) -> Self:
        self._before.append(_current.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._before.pop())

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline (negative once it has passed); None without a timeout."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    # Any: it is an AsyncXComManager on the worker's event loop and an XComManager in a thread, and a type
    # checker cannot see which. A union would need a cast at every use; as it is, an annotation is enough:
    # `xcom: XComManager = context.xcom`. (Nor may core know the classes: they belong to the queue.)
    @property
    def xcom(self) -> Any:
        """The cross-task data of the task's user, in the namespace of its pipeline, or `default` without one.

        In an `async def` an `AsyncXComManager`, whose methods are awaited; in a plain function an
        `XComManager`. What it writes counts only while this attempt holds the lease: a stale one gets
        `LeaseLostError`.

        Raises:
            XComUnavailableError: No worker runs this task (`f.call(…)`).
        """
        if self.open_xcom is None:
            raise XComUnavailableError("TaskContext.xcom")
        return self.open_xcom(self)


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
