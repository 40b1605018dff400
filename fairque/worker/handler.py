"""Handlers: how a worker runs tasks that name no function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairque.core.models import Task


class TaskHandler(ABC):
    """Runs the tasks made by `Task.create`, in the worker's threads. Subclass it and give it to a worker.

    The `on_…` methods are told how each attempt ended; what they raise is logged and changes nothing.

    Attributes:
        interrupt: Whether `TaskInterrupted` may be raised in `process_task` when it is not wanted any more.
    """

    interrupt: bool = True

    @abstractmethod
    def process_task(self, task: Task[Any]) -> Any:
        """Do the work of `task.payload`. What it returns is the task's result; what it raises fails it."""

    def on_task_success(self, task: Task[Any], duration: float) -> None:  # noqa: B027 - a hook may be left out
        """The attempt succeeded after `duration` seconds."""

    def on_task_failure(self, task: Task[Any], error: BaseException, duration: float) -> None:  # noqa: B027 - a hook may be left out
        """The attempt raised `error` after `duration` seconds; it may be retried."""

    def on_task_timeout(self, task: Task[Any], duration: float) -> None:  # noqa: B027 - a hook may be left out
        """The attempt reached its timeout after `duration` seconds; it may be retried."""


class AsyncTaskHandler(ABC):
    """A `TaskHandler` for asyncio: its methods run on the worker's event loop."""

    @abstractmethod
    async def process_task(self, task: Task[Any]) -> Any:
        """Do the work of `task.payload`. What it returns is the task's result; what it raises fails it."""

    async def on_task_success(self, task: Task[Any], duration: float) -> None:  # noqa: B027 - a hook may be left out
        """The attempt succeeded after `duration` seconds."""

    async def on_task_failure(self, task: Task[Any], error: BaseException, duration: float) -> None:  # noqa: B027 - a hook may be left out
        """The attempt raised `error` after `duration` seconds; it may be retried."""

    async def on_task_timeout(self, task: Task[Any], duration: float) -> None:  # noqa: B027 - a hook may be left out
        """The attempt reached its timeout after `duration` seconds; it may be retried."""
