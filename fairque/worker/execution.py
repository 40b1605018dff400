"""Runs one attempt of one task and says how it ended."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fairque.core.context import TaskContext, enter
from fairque.core.exceptions import DecodeError, FairQueueError, TaskValidationError, UnknownFunctionError
from fairque.core.registry import registry
from fairque.queue.failure import UNKNOWN
from fairque.worker.handler import AsyncTaskHandler, TaskHandler
from fairque.worker.outage import sit_out

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fairque.core.models import Task
    from fairque.worker.inputs import Inputs
    from fairque.worker.threads import TaskThreads

logger = logging.getLogger("fairque.worker")


@dataclass(slots=True)
class Running:
    """An attempt under way."""

    task: Task[Any]
    context: TaskContext
    job: asyncio.Task[None] | None = None
    # Set when the outcome is no longer wanted: canceled, lease lost, or handed back.
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: with an encoded result, or an error and the type of the failure."""

    task: Task[Any]
    result: bytes = b""
    error: BaseException | None = None
    failure_type: str = "failed"


@dataclass(slots=True)
class Execution:
    """Runs attempts: `async def` on the loop, plain functions in threads.

    Args:
        threads: Where plain functions run.
        encode_result: Turns a result into bytes.
        inputs: Fetches what the arguments name of others' results.
        handler: Runs tasks that name no function.
    """

    threads: TaskThreads
    encode_result: Callable[[Any], bytes]
    inputs: Inputs
    handler: TaskHandler | AsyncTaskHandler | None = None
    _unknown: set[str | None] = field(default_factory=set)  # functions that were told of

    async def run(self, running: Running) -> Outcome:
        """Run the attempt to its end.

        Raises:
            asyncio.CancelledError: It was interrupted, and `running.dropped` says that this was meant.
        """
        task, started = running.task, time.monotonic()
        try:
            task = await self._filled(running)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - decoding a pickle runs code of the arguments' classes
            outcome = Outcome(task, error=error, failure_type="invalid")
        else:
            outcome = await self._attempt(running, task)
        if self.handler is not None and task.function is None and not running.dropped:
            await self._tell(self.handler, task, outcome, time.monotonic() - started)
        return outcome

    def is_interruptible(self, task: Task[Any]) -> bool:
        """Whether canceling the attempt's job ends it: the loop can be interrupted, threads cannot."""
        if task.function is None:
            return isinstance(self.handler, AsyncTaskHandler)
        return task.function in registry and registry.get(task.function).is_async

    async def _attempt(self, running: Running, filled: Task[Any]) -> Outcome:
        task = running.task  # without its inputs, which may be large and are of no use any more at its end
        try:
            work = self._work(filled, running.context)
        except BaseException as error:  # noqa: BLE001 - conversion runs code of the annotations' classes
            return Outcome(task, error=error, failure_type=self._refusal(error))
        try:
            async with asyncio.timeout(task.timeout) as limit:
                result = await work()
                if inspect.iscoroutine(result):  # a plain function around an `async def`
                    enter(running.context)
                    result = await result
        except BaseException as error:
            running.context.canceled = True  # a thread that goes on cannot be stopped, but it can be told
            if running.dropped and isinstance(error, asyncio.CancelledError):
                raise
            if limit.expired():
                late = TimeoutError(f"it ran longer than its timeout of {task.timeout:g} s")
                return Outcome(task, error=late, failure_type="timeout")
            return Outcome(task, error=error)
        try:
            encoded = self.encode_result(result)
        except BaseException as error:  # noqa: BLE001 - encoding runs code of the result's class
            return Outcome(task, error=error, failure_type="invalid")
        try:
            await self._publish(running, result)
        except FairQueueError as error:
            # As a result that is too large: another attempt would not make it smaller.
            is_refused = isinstance(error, TaskValidationError)
            return Outcome(task, error=error, failure_type="invalid" if is_refused else "failed")
        return Outcome(task, result=encoded)

    def _refusal(self, error: BaseException) -> str:
        """The type of the failure of a task that cannot begin here.

        That a function is not known is logged once: there may be very many tasks of it.
        """
        if not isinstance(error, UnknownFunctionError):
            return "invalid"
        if error.name not in self._unknown:
            self._unknown.add(error.name)
            logger.warning(
                "%s; such tasks go back to the queue for workers that know what to do with them, and fail as "
                "invalid if none has come within queue.unknown_task_grace",
                error,
            )
        return UNKNOWN

    @staticmethod
    async def _publish(running: Running, result: Any) -> None:
        """A function that says so has its result in XCom too, before its task has finished."""
        name = running.task.function
        if name is not None and registry.get(name).auto_xcom:
            xcom = running.context.xcom
            await sit_out(lambda: xcom.push(running.task.name, result), lambda: not running.dropped)

    async def _filled(self, running: Running) -> Task[Any]:
        """The task with everything it needs to run."""
        task = running.task
        if task.defect is not None:
            raise DecodeError(task.defect)
        return await self.inputs.fill(running) if task.header.inputs else task

    def _work(self, task: Task[Any], context: TaskContext) -> Callable[[], Awaitable[Any]]:
        """What to await for the result. Nothing of the task's own code runs yet."""
        if task.function is None:
            return self._handler_work(task, context)
        function = registry.get(task.function)
        args, kwargs = task.call_arguments()
        bound = function.fit(args, kwargs)
        if function.is_async:

            async def on_loop() -> Any:
                enter(context)
                return await function.invoke(bound, context)

            return on_loop

        def in_thread() -> Any:
            enter(context)
            return function.invoke(bound, context)

        return lambda: self.threads.run(in_thread)

    def _handler_work(self, task: Task[Any], context: TaskContext) -> Callable[[], Awaitable[Any]]:
        handler = self.handler
        if handler is None:
            raise UnknownFunctionError(None)
        _ = task.payload  # undecodable ones fail here, as invalid
        if isinstance(handler, AsyncTaskHandler):
            process = handler.process_task

            async def on_loop() -> Any:
                enter(context)
                return await process(task)

            return on_loop
        plain = handler.process_task

        def in_thread() -> Any:
            enter(context)
            return plain(task)

        return lambda: self.threads.run(in_thread)

    async def _tell(
        self, handler: TaskHandler | AsyncTaskHandler, task: Task[Any], outcome: Outcome, duration: float
    ) -> None:
        hook: Any  # plain or async, as the handler is
        arguments: tuple[Any, ...] = (task, duration)
        if outcome.error is None:
            hook = handler.on_task_success
        elif outcome.failure_type == "timeout":
            hook = handler.on_task_timeout
        else:
            hook, arguments = handler.on_task_failure, (task, outcome.error, duration)
        try:
            if isinstance(handler, AsyncTaskHandler):
                await hook(*arguments)
            else:
                await self.threads.run(lambda: hook(*arguments))
        except Exception:
            logger.exception("%s of %s raised; the outcome stands", hook.__name__, type(handler).__name__)
