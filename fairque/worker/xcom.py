"""The cross-task data of a running task: under its attempt's fence, over the worker's connections."""

from __future__ import annotations

import asyncio
import pickle
from concurrent import futures
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fairque.core.exceptions import QueueClosedError
from fairque.core.xcom_defaults import DEFAULT_NAMESPACE
from fairque.queue.xcom import AsyncXComManager, XComManager
from fairque.worker.interruption import held_off

if TYPE_CHECKING:
    from fairque.core.calls import Flow
    from fairque.core.context import TaskContext
    from fairque.core.models import Task
    from fairque.queue.queue import TaskQueue
    from fairque.queue.shards import QueueCommands
    from fairque.queue.xcom_commands import XComCommands
    from fairque.utils.async_lua_manager import AsyncLuaScriptManager

LOOK_SECONDS = 1.0  # a thread that waits for the loop looks so often whether there still is one


class WorkerXCom:
    """Opens the XCom of attempts. Belongs to the worker's event loop, which is running.

    Args:
        manager: Runs the calls.
        commands: Builds them.
    """

    def __init__(self, manager: AsyncLuaScriptManager, commands: QueueCommands) -> None:
        self.manager = manager
        self.commands = commands
        self.loop = asyncio.get_running_loop()

    def run_from_thread(self, flow: Flow[Any]) -> Any:
        """Drive a flow on the worker's loop, and wait for it in a thread.

        Raises:
            QueueClosedError: The worker has ended meanwhile.
        """
        with held_off():
            return self._run_from_thread(flow)

    def _run_from_thread(self, flow: Flow[Any]) -> Any:
        work = self.manager.run(flow)
        try:
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError:  # the loop is closed: the attempt has outlived its worker
            work.close()
            raise QueueClosedError from None
        while not futures.wait([future], LOOK_SECONDS).done:
            if self.loop.is_closed():
                raise QueueClosedError
        try:
            return future.result()
        except futures.CancelledError:  # with all that was left on the loop when it ended
            raise QueueClosedError from None


class ProcessXCom:
    """The same in a process of the worker, which waits for the server itself. It connects at first use.

    Args:
        config: A pickled `FairQueueConfig`.
    """

    def __init__(self, config: bytes) -> None:
        self._config = config

    @cached_property
    def _queue(self) -> TaskQueue:
        from fairque.queue.queue import TaskQueue  # noqa: PLC0415 - redis loads where it is used

        return TaskQueue(pickle.loads(self._config))  # noqa: S301 - the parent's own

    @property
    def commands(self) -> QueueCommands:
        """Builds the calls."""
        return self._queue.commands

    def run_from_thread(self, flow: Flow[Any]) -> Any:
        """Drive a flow."""
        return self._queue.run(flow)


@dataclass(slots=True, eq=False)
class AttemptXCom:
    """Opens the XCom of one attempt: a task's context holds it, and pays for no more if it is not used."""

    worker: WorkerXCom | ProcessXCom
    task: Task[Any]

    def __call__(self, context: TaskContext) -> XComManager | AsyncXComManager:
        """The face for where it is asked for: on the worker's loop the one to await, in a thread the other.

        The place decides, not the function: a thread may run a helper of an `async def`, and blocking the
        loop would wait for itself.
        """
        commands = self.worker.commands.of(context.user_id).xcom(
            context.user_id, namespace=context.pipeline_id or DEFAULT_NAMESPACE, attempt=self.task
        )
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if isinstance(self.worker, WorkerXCom) and here is self.worker.loop:
            return _AsyncTaskXCom(commands, self.worker)
        return _TaskXCom(commands, self.worker)

    def __reduce__(self) -> tuple[Any, ...]:
        """Nothing in another process, where a task may send its context to, for what else it says."""
        return type(None), ()


class _TaskXCom(XComManager):
    def __init__(self, commands: XComCommands, worker: WorkerXCom | ProcessXCom) -> None:
        self._owned = None
        self._use(commands, worker.run_from_thread)


class _AsyncTaskXCom(AsyncXComManager):
    def __init__(self, commands: XComCommands, worker: WorkerXCom) -> None:
        self._owned = None
        self._use(commands, worker.manager.run)
