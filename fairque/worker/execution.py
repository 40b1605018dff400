"""Runs one attempt of one task and says how it ended."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fairque.core.context import enter
from fairque.core.exceptions import DecodeError, FairQueueError, TaskValidationError, UnknownFunctionError
from fairque.core.registry import registry
from fairque.queue.failure import UNKNOWN
from fairque.worker.handler import AsyncTaskHandler, TaskHandler
from fairque.worker.interruption import Interruption
from fairque.worker.outage import sit_out
from fairque.worker.steps import in_this_process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fairque.core.context import TaskContext
    from fairque.core.function import Executor, TaskFunction
    from fairque.core.models import Task
    from fairque.worker.heart import AttemptKey, Heart
    from fairque.worker.inputs import Inputs
    from fairque.worker.processes import TaskProcesses
    from fairque.worker.threads import TaskThreads

logger = logging.getLogger("fairque.worker")

NOTICE_SECONDS = 0.5  # between telling a thread that its attempt is not wanted any more, and interrupting it


@dataclass(slots=True)
class Running:
    """An attempt under way."""

    task: Task[Any]
    key: AttemptKey
    context: TaskContext
    owner: Owner
    job: asyncio.Task[None] | None = None
    interruption: Interruption | None = None  # while it is in a thread
    # Set when the outcome is no longer wanted: canceled, lease lost, or handed back.
    dropped: bool = False

    def ended(
        self, result: bytes = b"", error: BaseException | None = None, failure_type: str = "failed"
    ) -> Outcome:
        """How it ended. Of its task without its inputs, which may be large and are of no use any more."""
        return Outcome(self.task, self.key, result, error, failure_type)


class Outcome(NamedTuple):
    """How an attempt ended: with an encoded result, or an error and the type of the failure."""

    task: Task[Any]
    key: AttemptKey
    result: bytes
    error: BaseException | None
    failure_type: str


class Owner(Protocol):
    """Whoever claimed an attempt."""

    heart: Heart  # keeps its lease

    def on_end(self, outcome: Outcome | None) -> None:
        """The attempt has left its slot: how it ended, or None if that is not wanted any more."""


@dataclass(slots=True)
class Execution:
    """Runs attempts: `async def` on the loop, plain functions in threads or processes.

    Args:
        threads: Where plain functions run, and handlers.
        processes: The other place for plain functions.
        executor: Which of the two, for those that do not say it.
        encode_result: Turns a result into bytes.
        inputs: Fetches what the arguments name of others' results.
        handler: Runs tasks that name no function.
    """

    threads: TaskThreads
    processes: TaskProcesses
    executor: Executor
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
            if task.defect is not None or task.header.inputs:
                task = await self._filled(running)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - decoding a pickle runs code of the arguments' classes
            outcome = running.ended(error=error, failure_type="invalid")
        else:
            function = registry.find(task.function)
            if function is not None and self._is_for_process(function):
                outcome = await self._attempt_elsewhere(running, task, function)
            else:
                outcome = await self._attempt(running, task, function)
        if task.function is None and self.handler is not None and not running.dropped:
            await self._tell(self.handler, task, outcome, time.monotonic() - started)
        return outcome

    @staticmethod
    def interrupt(running: Running) -> None:
        """End an attempt that is not wanted any more: a thread a moment after it was told, all else now."""
        if running.interruption is not None:
            asyncio.get_running_loop().call_later(NOTICE_SECONDS, running.interruption.strike)
        elif running.job is not None:
            running.job.cancel()

    def _is_for_process(self, function: TaskFunction[..., Any]) -> bool:
        return not function.is_async and (function.executor or self.executor) == "process"

    async def _attempt_elsewhere(
        self, running: Running, filled: Task[Any], function: TaskFunction[..., Any]
    ) -> Outcome:
        """In a process. What it takes to have one ready is not the task's time."""
        task, limit = running.task, asyncio.timeout(None)
        try:
            async with self.processes.one_for(function) as process:
                if task.timeout is not None:
                    running.context.deadline = time.monotonic() + task.timeout
                limit = asyncio.timeout(task.timeout)
                async with limit:
                    done = await process.run(filled, running.context)
        except BaseException as error:  # noqa: BLE001 - as in `_attempt`
            return self._broken_off(running, error, limit)
        return running.ended(done.result, done.error, done.failure_type)

    async def _attempt(
        self, running: Running, filled: Task[Any], function: TaskFunction[..., Any] | None
    ) -> Outcome:
        try:
            begin = self._work(filled, running, function)
        except BaseException as error:  # noqa: BLE001 - conversion runs code of the annotations' classes
            return running.ended(error=error, failure_type=self._refusal(error))
        enter(running.context)  # of this asyncio task, and of the thread that gets a copy of its context
        seconds, limit = running.task.timeout, None
        try:
            if seconds is None:
                result = await _result_of(begin)
            else:
                async with asyncio.timeout(seconds) as limit:
                    result = await _result_of(begin)
        except BaseException as error:  # noqa: BLE001 - whatever it raises ends the attempt and no more
            return self._broken_off(running, error, limit)
        try:
            encoded = self.encode_result(result)
        except BaseException as error:  # noqa: BLE001 - encoding runs code of the result's class
            return running.ended(error=error, failure_type="invalid")
        if function is not None and function.auto_xcom:
            try:
                await self._publish(running, result)
            except FairQueueError as error:
                # As a result that is too large: another attempt would not make it smaller.
                is_refused = isinstance(error, TaskValidationError)
                return running.ended(error=error, failure_type="invalid" if is_refused else "failed")
        return running.ended(encoded)

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
    def _broken_off(running: Running, error: BaseException, limit: asyncio.Timeout | None) -> Outcome:
        """How an attempt ended that raised, ran out of time or was interrupted."""
        running.context.canceled = True  # a thread may go on for a while, or not be interruptible
        if running.interruption is not None:
            running.interruption.strike()
        if running.dropped and isinstance(error, asyncio.CancelledError):
            raise error
        if limit is not None and limit.expired():
            late = TimeoutError(f"it ran longer than its timeout of {running.task.timeout:g} s")
            return running.ended(error=late, failure_type="timeout")
        return running.ended(error=error)

    @staticmethod
    async def _publish(running: Running, result: Any) -> None:
        """A function that says so has its result in XCom too, before its task has finished."""
        xcom = running.context.xcom
        await sit_out(lambda: xcom.push(running.task.name, result), lambda: not running.dropped)

    async def _filled(self, running: Running) -> Task[Any]:
        """The task with everything it needs to run."""
        task = running.task
        if task.defect is not None:
            raise DecodeError(task.defect)
        return await self.inputs.fill(running) if task.header.inputs else task

    def _work(
        self, task: Task[Any], running: Running, function: TaskFunction[..., Any] | None
    ) -> Callable[[], Awaitable[Any]]:
        """What to call and await for the result. Nothing of the task's own code runs yet."""
        if function is None:
            return self._handler_work(task, running)
        call = partial(function.invoke, function.fit(*task.call_arguments()), running.context)
        return call if function.is_async else partial(self._in_thread, running, call, function.interrupt)

    async def _in_thread(self, running: Running, function: Callable[[], Any], is_interruptible: bool) -> Any:
        interruption = running.interruption = Interruption(is_allowed=is_interruptible)
        result = await self.threads.run(partial(interruption.guard, function))
        running.interruption = None  # what follows is on the loop
        return result

    def _handler_work(self, task: Task[Any], running: Running) -> Callable[[], Awaitable[Any]]:
        handler = self.handler
        if handler is None or task.function is not None:
            raise UnknownFunctionError(task.function)
        _ = task.payload  # undecodable ones fail here, as invalid
        call: Any = partial(handler.process_task, task)
        if isinstance(handler, AsyncTaskHandler):
            return call  # type: ignore[no-any-return]
        return partial(self._in_thread, running, call, handler.interrupt)

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


async def _result_of(begin: Callable[[], Awaitable[Any]]) -> Any:
    work = begin()
    result = await (in_this_process(work) if inspect.iscoroutine(work) else work)
    if inspect.iscoroutine(result):  # a plain function around an `async def`
        return await in_this_process(result)
    return result
