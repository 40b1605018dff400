"""The worker's engine, for asyncio. The blocking `Worker` runs this one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fairque.core.exceptions import FairQueueError, QueueClosedError, ServerError
from fairque.core.units import Seconds, to_seconds
from fairque.queue.async_queue import AsyncTaskQueue
from fairque.queue.queue import TaskQueue
from fairque.worker.execution import Execution
from fairque.worker.heart import AttemptKey, Heart
from fairque.worker.inputs import Inputs
from fairque.worker.pump import Pump
from fairque.worker.selection import choices
from fairque.worker.threads import TaskThreads

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from fairque.core.config import FairQueueConfig, WorkerConfig
    from fairque.queue.replies import Fate
    from fairque.worker.handler import AsyncTaskHandler, TaskHandler

logger = logging.getLogger("fairque.worker")

Source: TypeAlias = "AsyncTaskQueue | TaskQueue | FairQueueConfig | str | None"

MAINTENANCE_SECONDS = 1.0  # between looks for expired leases
CLEANUP_EVERY = 10  # such looks
MAINTENANCE_BATCH = 200  # tasks at a time
BREATH_SECONDS = 0.01
LEAVING_SHARE, LONGEST_LEAVING = 0.25, 1.0  # of the grace, and in seconds: kept for handing back what runs on
LAST_TRIP_SECONDS = 2.0  # for a round trip that is under way when the grace ends
LEAVE_SECONDS = 5.0  # for the last words to the server


class AsyncWorker:
    """Runs tasks of a queue: `async def` functions on the event loop, plain functions in threads.

    Args:
        source: A queue, a `FairQueueConfig`, a URL, or nothing (as for `AsyncTaskQueue`).
        worker_id: Unique among the workers; made up from host and process if not given.
        concurrency: How many tasks run at once; the configuration's (10) if not given.
        burst: End when nothing is left: nothing ready or running, and nothing due within ten seconds.
        handler: Runs tasks that name no function.
        assigned_users: Serve these users first; everyone if neither this nor `steal_targets` is given.
        steal_targets: Take tasks of these users (or of all, `"*"`) when the assigned ones have none.
        lease: Seconds a claim is good for without a heartbeat; the queue's `lease_seconds` if not given.
        graceful_shutdown_timeout: Seconds in which a worker that is stopped is gone. Running tasks get all
            but the last of them (a quarter, at most one second); then they are handed back to the queue. The
            configuration's (30) if not given.

    Raises:
        ConfigurationError: The source or a setting cannot be used.
    """

    def __init__(
        self,
        source: Source = None,
        *,
        worker_id: str | None = None,
        concurrency: int | None = None,
        burst: bool = False,
        handler: TaskHandler | AsyncTaskHandler | None = None,
        assigned_users: Sequence[str] | None = None,
        steal_targets: Sequence[str] | Literal["*"] | None = None,
        lease: Seconds | None = None,
        graceful_shutdown_timeout: Seconds | None = None,
    ) -> None:
        self._source = source
        self._given = _settings(
            id=worker_id,
            concurrency=concurrency,
            assigned_users=_listed(assigned_users),
            steal_targets=_listed(steal_targets),
            graceful_shutdown_timeout=(
                None
                if graceful_shutdown_timeout is None
                else to_seconds(graceful_shutdown_timeout, "graceful_shutdown_timeout")
            ),
        )
        self.burst = burst
        self.handler = handler
        self._lease = None if lease is None else to_seconds(lease, "lease")
        self._loop: asyncio.AbstractEventLoop | None = None  # while it runs
        self._stop_was_asked = False
        if isinstance(source, (AsyncTaskQueue, TaskQueue)):
            self.config = source.config
        else:
            from fairque.queue.connect import configuration_of  # noqa: PLC0415 - pydantic loads when it is used

            self.config = configuration_of(source)
        self.settings = _merge(self.config.worker, self._given)
        self.worker_id = self.settings.id or _new_worker_id()

    async def run(self) -> None:
        """Work until `stop` is called, SIGTERM or SIGINT arrives, or a burst has nothing left.

        The signals are handled where the application does not handle them itself: the first one stops
        claiming and lets running tasks end within `graceful_shutdown_timeout`, a second one does not wait.
        The server may go away and come back: the worker waits for it, for ever.

        Raises:
            RuntimeError: It runs already.
        """
        if self._loop is not None:
            raise RuntimeError(f"worker {self.worker_id} works already: stop() it first")
        self._stop_requested, self._hurry = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stop_was_asked:  # looked at after the loop is known, and set by stop() before it looks there
            self._stop_requested.set()
        try:
            if isinstance(self._source, AsyncTaskQueue):
                await self._run(self._source)
                return
            queue = AsyncTaskQueue(self.config)
            try:
                await self._run(queue)
            finally:
                await _to_its_end(queue.close())
        finally:
            self._loop, self._stop_was_asked = None, False

    def stop(self) -> None:
        """Ask the worker to stop: running tasks get `graceful_shutdown_timeout`. From any thread.

        Before `run` it is remembered, and `run` returns at once.
        """
        self._stop_was_asked = True
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(self._stop_requested.set)

    def forget_stop(self) -> None:
        """Let the next `run` work although `stop` was called before it."""
        self._stop_was_asked = False

    async def _run(self, queue: AsyncTaskQueue) -> None:
        commands, loop = queue.commands, asyncio.get_running_loop()
        lease = commands.config.lease_seconds if self._lease is None else self._lease
        threads = TaskThreads()

        def on_lost(key: AttemptKey, _: Fate) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(pump.slots.drop, key)

        heart = Heart(queue.config.redis, commands, self.worker_id, lease, on_lost)
        pump = Pump(
            queue.manager,
            commands,
            worker_id=self.worker_id,
            concurrency=self.settings.concurrency,
            lease=lease,
            selection=choices(self.settings.assigned_users, self.settings.steal_targets),
            execution=Execution(
                threads, commands.encode_result, Inputs(queue.manager, commands), self.handler
            ),
            heart=heart,
            burst=self.burst,
        )
        heart.start()
        working = asyncio.create_task(pump.run())
        upkeep = asyncio.create_task(self._maintain(queue))
        logger.info(
            "worker %s serves queue %s, %d at once",
            self.worker_id,
            commands.keys.root,
            self.settings.concurrency,
        )
        try:
            with _signals(self._on_signal):
                await self._until_it_ends(pump, working)
        finally:
            # Cancellation may come at every await from here on (anyio repeats it), and must not keep a
            # heart beating for tasks that nobody runs.
            heart.stop()
            threads.close()
            await _to_its_end(self._leave(pump, heart, working, upkeep))
            logger.info("worker %s has left", self.worker_id)

    async def _until_it_ends(self, pump: Pump, working: asyncio.Task[None]) -> None:
        """Wait for the pump; once a stop is asked for, for as long as the grace allows."""
        grace = self.settings.graceful_shutdown_timeout
        stopping = asyncio.create_task(self._stop_requested.wait())
        hurrying = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                pump.stop()
                await asyncio.wait(
                    {working, hurrying},
                    timeout=grace - min(LONGEST_LEAVING, LEAVING_SHARE * grace),
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            stopping.cancel()
            hurrying.cancel()

    def _on_signal(self) -> None:
        if self._stop_requested.is_set():
            self._hurry.set()
        self._stop_requested.set()

    async def _leave(
        self, pump: Pump, heart: Heart, working: asyncio.Task[None], upkeep: asyncio.Task[None]
    ) -> None:
        """End all that runs in the background, each step for a bounded time, and take leave."""
        pump.halt()  # also where a cancellation is swallowed on its way, the pump ends after its round trip
        upkeep.cancel()
        await asyncio.wait({working, upkeep}, timeout=LAST_TRIP_SECONDS)
        working.cancel()
        await asyncio.wait({working, upkeep}, timeout=LAST_TRIP_SECONDS)
        await heart.ended(LAST_TRIP_SECONDS)
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await pump.leave()
        except (FairQueueError, TimeoutError) as error:
            logger.warning(
                "worker %s could not take its leave, its leases will run out: %s", self.worker_id, error
            )
        if working.done() and not working.cancelled():
            working.result()  # an error of the pump is the worker's

    async def _maintain(self, queue: AsyncTaskQueue) -> None:
        """Take back expired leases, and clean up. Every worker does; the scripts make it safe."""
        looks = 0
        # redis-py may swallow a cancellation (it uses wait_for, before Python 3.12), hence the question.
        while not _is_canceled():
            try:
                while len(await queue.reclaim(MAINTENANCE_BATCH)) == MAINTENANCE_BATCH:
                    pass
                if looks % CLEANUP_EVERY == 0:
                    await self._clean_up(queue)
                    await queue.run(queue.commands.policies.publish_if_lost())
            except QueueClosedError:
                return  # the pump says so
            except ServerError as error:  # the pump logs the outage
                logger.debug("maintenance failed: %s", error)
            except Exception:
                logger.exception("maintenance failed")
            looks += 1
            if not _is_canceled():
                await asyncio.sleep(MAINTENANCE_SECONDS * (0.75 + secrets.randbelow(500) / 1000))

    @staticmethod
    async def _clean_up(queue: AsyncTaskQueue) -> None:
        removed = MAINTENANCE_BATCH
        while removed == MAINTENANCE_BATCH:
            removed = await queue.cleanup_expired_tasks(MAINTENANCE_BATCH)
            await asyncio.sleep(BREATH_SECONDS)  # let others have the server in between


def _is_canceled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _listed(users: Sequence[str] | None) -> Sequence[str] | None:
    """As a list, but for a string, which the settings' check tells apart."""
    return users if users is None or isinstance(users, str) else list(users)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Finish `work` though the caller is canceled meanwhile, however often; be canceled after it."""
    task = asyncio.create_task(work)
    canceled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            canceled = True
    task.result()
    if canceled:
        raise asyncio.CancelledError


def _settings(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _merge(configured: WorkerConfig, given: dict[str, Any]) -> WorkerConfig:
    """The configured settings with those given to the worker, checked as the configuration is."""
    from fairque.core.config import WorkerConfig  # noqa: PLC0415 - loaded with the configuration anyway

    return WorkerConfig(**{**configured.model_dump(), **given})


def _new_worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"[-256:]


@contextmanager
def _signals(handler: Any) -> Iterator[None]:
    """Handle SIGTERM and SIGINT in the main thread, unless the application does."""
    taken: list[signal.Signals] = []
    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            if _is_default(number):
                loop.add_signal_handler(number, handler)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def _is_default(number: signal.Signals) -> bool:
    current = signal.getsignal(number)
    if current in (signal.SIG_DFL, signal.default_int_handler):
        return True
    # asyncio.run puts a handler of its own on SIGINT, which cancels the main task.
    return getattr(getattr(current, "func", None), "__name__", "") == "_on_sigint"
