"""One shape for both faces: `AsyncTaskQueue` driven in blocking style, so that a test is written once."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar, cast

from fairque.core.config import FairQueueConfig
from fairque.queue.async_queue import AsyncTaskQueue
from fairque.queue.handle import AsyncTaskHandle
from fairque.queue.pipeline_handle import AsyncPipelineHandle
from fairque.queue.queue import TaskQueue
from fairque.queue.xcom import AsyncXComManager
from fairque.scheduler.async_scheduler import AsyncTaskScheduler
from fairque.scheduler.scheduler import TaskScheduler

T = TypeVar("T")

FACES = ("blocking", "asyncio")


class Loop:
    """An event loop in a thread, on which any thread can run a coroutine to its end."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="test-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class _Driven:
    """An object whose coroutine methods block; handles that come back are driven too."""

    def __init__(self, loop: Loop, target: Any) -> None:
        self._loop = loop
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if inspect.iscoroutinefunction(value):
            return lambda *args, **kwargs: self._wrap(self._loop.run(value(*args, **kwargs)))
        if inspect.ismethod(value):
            return lambda *args, **kwargs: self._wrap(value(*args, **kwargs))
        return self._wrap(value)

    def __repr__(self) -> str:
        return repr(self._target)

    def _wrap(self, value: Any) -> Any:
        if isinstance(value, (AsyncTaskHandle, AsyncPipelineHandle, AsyncXComManager)):
            return _Driven(self._loop, value)
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._wrap, value)) if type(value) in {list, tuple} else value
        return value

    def __getitem__(self, name: str) -> Any:
        return self._wrap(self._target[name])


class _DrivenQueue(_Driven):
    def __init__(self, config: FairQueueConfig) -> None:
        loop = Loop()

        async def make() -> AsyncTaskQueue:
            return AsyncTaskQueue(config)

        super().__init__(loop, loop.run(make()))

    def close(self) -> None:
        self._loop.run(self._target.close())
        self._loop.close()


def open_face(face: str, config: FairQueueConfig) -> TaskQueue:
    """A queue of this face, to be used as a `TaskQueue`; close it."""
    if face == "blocking":
        return TaskQueue(config)
    return cast("TaskQueue", _DrivenQueue(config))


def open_scheduler(queue: TaskQueue) -> TaskScheduler:
    """A scheduler of the queue's face, to be used as a `TaskScheduler`."""
    if not isinstance(queue, _DrivenQueue):
        return TaskScheduler(queue)

    async def make() -> AsyncTaskScheduler:
        return AsyncTaskScheduler(queue._target)

    return cast("TaskScheduler", _Driven(queue._loop, queue._loop.run(make())))


def each(queue: TaskQueue, method: str, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    """What the method answers to each of these calls; `AsyncTaskQueue` gets them all at once."""
    if not isinstance(queue, _Driven):
        return [getattr(queue, method)(*arguments) for arguments in calls]

    async def gather() -> list[Any]:
        return await asyncio.gather(*(getattr(queue._target, method)(*arguments) for arguments in calls))

    return queue._loop.run(gather())


class Background(threading.Thread):
    """A call in a thread of its own; `value()` joins it and gives what it returned or raised."""

    def __init__(self, work: Callable[..., Any], *args: Any) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._args = args
        self._value: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._work(*self._args)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the value is asked for
            self._error = error

    def value(self, within: float = 30) -> Any:
        self.join(within)
        assert not self.is_alive(), f"still running after {within} s"
        if self._error is not None:
            raise self._error
        return self._value
