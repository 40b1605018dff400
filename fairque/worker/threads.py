"""Threads for plain functions. They are daemons, and one that hangs is left behind, not waited for."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from fairque.core.forks import renew_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("fairque.worker")


class _Job(NamedTuple):
    function: Callable[[], Any]
    context: Context
    future: asyncio.Future[Any]


class _End(NamedTuple):
    """How a job ended."""

    future: asyncio.Future[Any]
    value: Any
    error: BaseException | None


class TaskThreads:
    """As many threads as run at once, reused. Belongs to the event loop that is running.

    Waking a thread, or the loop, costs more than a short function takes. So a thread that takes a job calls
    one other for the jobs that are left, and that one the next; where functions are short, the first thread
    has done them all before. Nothing waits behind a function that is not: there are as many threads as jobs
    that have not ended, and while any job waits one of them is on its way. Ends are told to the loop by one
    wake-up, together with those that come until it looks.

    The standard executor joins its threads when the interpreter exits, so a hung task would keep a stopped
    worker from ending.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = 0
        self._closed = False
        self._is_inherited = False  # by the child of a fork
        self._begin()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """What waits is the parent's to do."""
        self._is_inherited = True
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()  # of what follows
        self._waiting: deque[_Job] = deque()
        self._unfinished = 0  # jobs that wait or run, also those that nobody waits for any more
        # Bells of threads without a job: to release one calls its thread.
        self._idle: list[threading.Lock] = []
        self._is_called = False  # whether a thread is called, and has not looked yet
        self._ends: list[_End] = []  # that the loop is to be told of: it is woken when there is the first

    def run(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Call `function` in a thread, in a copy of the current context.

        Canceling the wait leaves the thread running; what it returns is dropped.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        with self._lock:
            self._unfinished += 1
            self._waiting.append(_Job(function, copy_context(), future))
            is_short = self._unfinished > self._threads
            if not is_short:
                self._call_one()
        if is_short:
            self._start_one()
        return future

    def close(self) -> None:
        """Let idle threads end, and busy ones once they are done."""
        with self._lock:
            self._closed = True
            for bell in self._idle:
                bell.release()
            self._idle.clear()

    def _call_one(self) -> None:
        """See to it that a thread is on its way while jobs wait and one is idle. With the lock."""
        if self._waiting and self._idle and not self._is_called:
            self._is_called = True
            self._idle.pop().release()

    def _start_one(self) -> None:
        """A new thread, for the job that has come last."""
        try:
            threading.Thread(target=self._work, name="fairque-task", daemon=True).start()
        except RuntimeError:  # the system has no more: the task fails, and no other
            with self._lock:
                self._waiting.pop()
                self._unfinished -= 1
            raise
        self._threads += 1

    def _work(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        while (job := self._next(bell)) is not None:
            value, error = None, None
            try:
                value = job.context.run(job.function)
            except BaseException as raised:  # noqa: BLE001 - a task's SystemExit is its failure, not ours
                error = raised
            if not self._tell(_End(job.future, value, error)):
                return
            del job, value, error  # hold nothing of a task while idle

    def _next(self, bell: threading.Lock) -> _Job | None:
        """The job to do next; waits for one. None when there will be none."""
        was_called = False
        while True:
            with self._lock:
                if was_called:
                    self._is_called = False
                if self._waiting:
                    job = self._waiting.popleft()
                    self._call_one()
                    return job
                if self._closed:
                    return None
                self._idle.append(bell)
            bell.acquire()
            was_called = True

    def _tell(self, end: _End) -> bool:
        """Hand an end to the loop: False where there is none any more."""
        if self._is_inherited:
            _leave_the_parents_thread()
        with self._lock:
            self._unfinished -= 1
            self._ends.append(end)
            is_first = len(self._ends) == 1
        if not is_first:
            return True
        try:
            self._loop.call_soon_threadsafe(self._take_ends)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return False
        return True

    def _take_ends(self) -> None:
        with self._lock:
            ends, self._ends = self._ends, []
        for future, value, error in ends:
            if future.done():  # timed out or interrupted meanwhile
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(as_failure(error))


def _leave_the_parents_thread() -> None:
    """A child has come back out of its task, and would go on with what is its parent's."""
    logger.error(
        "a task has forked, and the child has returned from its function: the child is ended; leave it by "
        "os._exit"
    )
    os._exit(1)


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
