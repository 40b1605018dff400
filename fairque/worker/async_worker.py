"""The worker's engine, for asyncio. The blocking `Worker` runs this one."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fairque.core.exceptions import ServerError
from fairque.core.units import Seconds, to_seconds
from fairque.queue.async_queue import AsyncTaskQueue
from fairque.queue.queue import TaskQueue
from fairque.worker.execution import Execution
from fairque.worker.heart import AttemptKey, Heart
from fairque.worker.pump import Pump
from fairque.worker.selection import choices
from fairque.worker.threads import TaskThreads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fairque.core.config import FairQueueConfig, WorkerConfig
    from fairque.queue.replies import Fate
    from fairque.worker.handler import AsyncTaskHandler, TaskHandler

logger = logging.getLogger("fairque.worker")

Source: TypeAlias = "AsyncTaskQueue | TaskQueue | FairQueueConfig | str | None"

MAINTENANCE_SECONDS = 1.0  # between looks for expired leases
CLEANUP_EVERY = 10  # such looks
MAINTENANCE_BATCH = 200  # tasks at a time
LAST_TRIP_SECONDS = 2.0  # for a round trip that is under way when the grace ends


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
        graceful_shutdown_timeout: Seconds that running tasks get when the worker is stopped; what is not
            done by then is handed back to the queue. The configuration's (30) if not given.

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
            assigned_users=None if assigned_users is None else list(assigned_users),
            steal_targets=list(steal_targets) if isinstance(steal_targets, (list, tuple)) else steal_targets,
            graceful_shutdown_timeout=(
                None
                if graceful_shutdown_timeout is None
                else to_seconds(graceful_shutdown_timeout, "graceful_shutdown_timeout")
            ),
        )
        self.burst = burst
        self.handler = handler
        self._lease = None if lease is None else to_seconds(lease, "lease")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_requested = asyncio.Event()
        self._hurry = asyncio.Event()
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
        """
        self._loop = asyncio.get_running_loop()
        if isinstance(self._source, AsyncTaskQueue):
            await self._run(self._source)
            return
        queue = AsyncTaskQueue(self.config)
        try:
            await self._run(queue)
        finally:
            await queue.close()

    def stop(self) -> None:
        """Ask the worker to stop: running tasks get `graceful_shutdown_timeout`. From any thread."""
        if self._loop is None or self._loop.is_closed():
            self._stop_requested.set()
        else:
            self._loop.call_soon_threadsafe(self._stop_requested.set)

    async def _run(self, queue: AsyncTaskQueue) -> None:
        commands, loop = queue.commands, asyncio.get_running_loop()
        lease = commands.config.lease_seconds if self._lease is None else self._lease
        threads = TaskThreads()

        def on_lost(key: AttemptKey, _: Fate) -> None:
            loop.call_soon_threadsafe(pump.slots.drop, key)

        heart = Heart(queue.config.redis, commands, self.worker_id, lease, on_lost)
        pump = Pump(
            queue.manager,
            commands,
            worker_id=self.worker_id,
            concurrency=self.settings.concurrency,
            lease=lease,
            selection=choices(self.settings.assigned_users, self.settings.steal_targets),
            execution=Execution(threads, commands.encode_result, self.handler),
            heart=heart,
            burst=self.burst,
        )
        heart.start()
        upkeep = asyncio.create_task(self._maintain(queue))
        logger.info(
            "worker %s serves queue %s, %d at once",
            self.worker_id,
            commands.keys.root,
            self.settings.concurrency,
        )
        try:
            with _signals(self._on_signal):
                await self._work(pump)
        finally:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)
            await self._leave(queue, pump)
            await asyncio.to_thread(heart.stop)
            threads.close()
            logger.info("worker %s has left", self.worker_id)

    async def _work(self, pump: Pump) -> None:
        """Run the pump; once a stop is asked for, for as long as the grace allows."""
        working = asyncio.create_task(pump.run())
        stopping = asyncio.create_task(self._stop_requested.wait())
        hurrying = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                pump.stop()
                await asyncio.wait(
                    {working, hurrying},
                    timeout=self.settings.graceful_shutdown_timeout,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                pump.halt()
                await asyncio.wait({working}, timeout=LAST_TRIP_SECONDS)
            if working.done():
                await working  # an error of the pump is the worker's
        finally:
            for waiting in (working, stopping, hurrying):
                waiting.cancel()
            await asyncio.gather(working, stopping, hurrying, return_exceptions=True)

    def _on_signal(self) -> None:
        if self._stop_requested.is_set():
            self._hurry.set()
        self._stop_requested.set()

    async def _leave(self, queue: AsyncTaskQueue, pump: Pump) -> None:
        """Hand back what is unfinished, and take leave."""
        unfinished, jobs = pump.slots.drop_all()
        try:
            await queue.manager.execute(queue.commands.release_call(unfinished, leaving=self.worker_id))
        except ServerError as error:
            logger.warning(
                "worker %s could not hand back %d tasks, their leases will run out: %s",
                self.worker_id,
                len(unfinished),
                error,
            )
        if jobs:
            await asyncio.wait(jobs, timeout=1.0)

    async def _maintain(self, queue: AsyncTaskQueue) -> None:
        """Take back expired leases, and clean up. Every worker does; the scripts make it safe."""
        looks = 0
        while True:
            try:
                full = True
                while full:
                    full = len(await queue.reclaim(MAINTENANCE_BATCH)) == MAINTENANCE_BATCH
                if looks % CLEANUP_EVERY == 0:
                    await queue.cleanup_expired_tasks(MAINTENANCE_BATCH)
            except ServerError as error:  # the pump logs the outage
                logger.debug("maintenance failed: %s", error)
            except Exception:
                logger.exception("maintenance failed")
            looks += 1
            await asyncio.sleep(MAINTENANCE_SECONDS * (0.75 + secrets.randbelow(500) / 1000))


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
