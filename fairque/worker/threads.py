"""Threads for plain functions. They are daemons, and one that hangs is left behind, not waited for."""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class _Job(NamedTuple):
    function: Callable[[], Any]
    context: Context
    future: asyncio.Future[Any]


class TaskThreads:
    """As many threads as run at once, reused. Belongs to the event loop that is running.

    The standard executor joins its threads when the interpreter exits, so a hung task would keep a
    stopped worker from ending.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: list[SimpleQueue[_Job | None]] = []
        self._closed = False

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call `function` in a thread, in a copy of the current context.

        Canceling the wait leaves the thread running; what it returns is dropped.
        """
        job = _Job(function, copy_context(), self._loop.create_future())
        if self._idle:
            inbox = self._idle.pop()
        else:
            inbox = SimpleQueue()
            threading.Thread(target=self._work, args=(inbox,), name="fairque-task", daemon=True).start()
        inbox.put(job)
        return await job.future

    def close(self) -> None:
        """Let idle threads end, and busy ones once they are done."""
        self._closed = True
        for inbox in self._idle:
            inbox.put(None)
        self._idle.clear()

    def _work(self, inbox: SimpleQueue[_Job | None]) -> None:
        while (job := inbox.get()) is not None:
            value, error = None, None
            try:
                value = job.context.run(job.function)
            except BaseException as raised:  # noqa: BLE001 - a task's SystemExit is its failure, not ours
                error = raised
            try:
                self._loop.call_soon_threadsafe(self._done, inbox, job.future, value, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del job, value, error  # hold nothing of a task while idle

    def _done(
        self,
        inbox: SimpleQueue[_Job | None],
        future: asyncio.Future[Any],
        value: Any,
        error: BaseException | None,
    ) -> None:
        if self._closed:
            inbox.put(None)
        else:
            self._idle.append(inbox)
        if future.done():  # timed out or interrupted meanwhile
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(as_failure(error))


def as_failure(error: BaseException) -> Exception:
    """What a task raised, as something that only fails the task.

    A future cannot carry a StopIteration, and SystemExit and its like would stop the loop.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    try:
        text = f"the task raised {type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - a user's __str__ may do anything
        text = f"the task raised {type(error).__name__}"
    return RuntimeError(text).with_traceback(error.__traceback__)
