"""The worker's engine, for asyncio. The blocking `Worker` runs this one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import threading
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fairque.core.exceptions import ServerError
from fairque.core.forks import renew_in_children
from fairque.core.units import Seconds, to_seconds
from fairque.queue.async_queue import AsyncTaskQueue
from fairque.queue.declared import declare, declared_schedules
from fairque.queue.queue import TaskQueue
from fairque.queue.visits import Visits
from fairque.utils.background import ending_signals
from fairque.utils.loops import name_of
from fairque.worker.execution import Execution
from fairque.worker.heart import AttemptKey, Heart
from fairque.worker.homes import Homes
from fairque.worker.inputs import Inputs
from fairque.worker.post import Post, all_have_ended, leave_all
from fairque.worker.processes import TaskProcesses
from fairque.worker.pump import Pump
from fairque.worker.recycling import Limits
from fairque.worker.selection import choices, choices_in
from fairque.worker.slots import Slots
from fairque.worker.steps import leave_the_parents_loop
from fairque.worker.threads import TaskThreads
from fairque.worker.turns import Turns
from fairque.worker.upkeep import Upkeep
from fairque.worker.vitals import Vitals
from fairque.worker.xcom import WorkerXCom

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from fairque.core.config import FairQueueConfig, WorkerConfig
    from fairque.core.function import Executor
    from fairque.queue.replies import Fate
    from fairque.worker.handler import AsyncTaskHandler, TaskHandler

logger = logging.getLogger("fairque.worker")

Source: TypeAlias = "AsyncTaskQueue | TaskQueue | FairQueueConfig | str | None"

OPENING_SECONDS = 2.0  # for the first words, before the worker begins
LEAVING_SHARE, LONGEST_LEAVING = 0.25, 1.0  # of the grace, and in seconds: kept for handing back what runs on


class AsyncWorker:
    """Runs tasks of a queue: `async def` functions on the event loop, plain ones in threads or processes.

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
        max_tasks: After so many tasks claim no more, let running ones end, and return from `run`.
        max_memory_mb: The same once the process occupies more MiB; looked at when a task ends.
        executor: Where plain functions run that do not say it themselves: in a `thread` of the worker, or in
            a `process`. The configuration's (`thread`) if not given.
        modules: What such a process imports before it runs a task; the program itself if not given. The
            module that defines a task's function is imported in any case.

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
        max_tasks: int | None = None,
        max_memory_mb: int | None = None,
        executor: Executor | None = None,
        modules: Sequence[str] | None = None,
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
            max_tasks=max_tasks,
            max_memory_mb=max_memory_mb,
            executor=executor,
        )
        self._modules = modules
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
        self.vitals = Vitals(self.worker_id)
        self.on_start: Callable[[], object] | None = None  # is called on the loop when `run` begins
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """In the child of a fork it is another worker, unless its id was given, and does not run."""
        if self._loop is not None and self._thread == threading.get_ident():
            self._loop.call_soon(leave_the_parents_loop)
        self._loop = None
        self.worker_id = self.settings.id or _new_worker_id()
        self.vitals = Vitals(self.worker_id)

    async def run(self) -> None:
        """Work until `stop` is called, a signal comes, a burst has nothing left, or a limit is passed.

        SIGTERM and SIGINT are handled where the application does not handle them itself: the first one stops
        claiming and lets running tasks end within `graceful_shutdown_timeout`, a second one does not wait.
        The server may go away and come back: the worker waits for it, for ever.

        Raises:
            RuntimeError: It runs already.
            UnsafeServerError: The server may drop tasks.
        """
        if self._loop is not None:
            raise RuntimeError(f"worker {self.worker_id} works already: stop() it first")
        self._stop_requested, self._hurry = asyncio.Event(), asyncio.Event()
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        if self._stop_was_asked:  # looked at after the loop is known, and set by stop() before it looks there
            self._stop_requested.set()
        try:
            if self.on_start is not None:
                self.on_start()
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
            self.vitals.detach()

    def stop(self) -> None:
        """Ask the worker to stop: running tasks get `graceful_shutdown_timeout`. From any thread.

        Before `run` it is remembered, and `run` returns at once.
        """
        self._stop_was_asked = True
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(self._stop_requested.set)

    def hurry(self) -> None:
        """Stop without waiting for running tasks: they are handed back. From any thread, while it runs."""
        self.stop()
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(self._hurry.set)

    def forget_stop(self) -> None:
        """Let the next `run` work although `stop` was called before it."""
        self._stop_was_asked = False

    async def _run(self, queue: AsyncTaskQueue) -> None:
        declared = declared_schedules()
        await self._refuse_unsafe(queue)
        threads, processes = TaskThreads(), TaskProcesses(queue.config, self._modules)
        turns = self._turns(queue, threads, processes)
        posts = [self._post(queue, number, turns) for number in range(len(queue.commands.shards))]
        for post in posts:
            post.start()
        self.vitals.attach(posts, turns)
        homes = asyncio.create_task(Homes(queue.manager, queue.commands, self.worker_id, turns).run())
        declaring = asyncio.create_task(queue.run(declare(queue.commands, declared)))
        logger.info(
            "worker %s serves queue %s, %d at once, on %s",
            self.worker_id,
            queue.commands.where,
            self.settings.concurrency,
            name_of(asyncio.get_running_loop()),
        )
        try:
            with ending_signals(self._on_signal):
                await self._until_it_ends(posts, turns)
        finally:
            # Cancellation may come at every await from here on (anyio repeats it), and must not keep a
            # heart beating for tasks that nobody runs.
            homes.cancel()
            declaring.cancel()
            for post in posts:
                post.heart.stop()
            threads.close()
            try:
                await _to_its_end(leave_all(posts))
            finally:
                await _to_its_end(processes.close())
            logger.info("worker %s has left", self.worker_id)

    def _turns(self, queue: AsyncTaskQueue, threads: TaskThreads, processes: TaskProcesses) -> Turns:
        """The slots, shared out among the shards."""
        commands = queue.commands
        limits = Limits(self.settings.max_tasks, self.settings.max_memory_mb)

        def on_ended() -> None:
            reason = limits.passed()
            if reason is not None and not turns.are_over:
                logger.info("worker %s ends when its running tasks have: %s", self.worker_id, reason)
                self.vitals.recycling = reason
                turns.stop()

        slots = Slots(
            self.settings.concurrency,
            worker_id=self.worker_id,
            execution=Execution(
                threads,
                processes,
                self.settings.executor,
                commands.encode_result,
                Inputs(queue.manager, commands),
                self.handler,
            ),
            xcom=WorkerXCom(queue.manager, commands),
            on_ended=on_ended,
        )
        turns = Turns(slots, Visits(len(commands.shards)))
        return turns

    def _post(self, queue: AsyncTaskQueue, number: int, turns: Turns) -> Post:
        """What the worker does in one shard."""
        commands, loop = queue.commands.shards[number], asyncio.get_running_loop()
        lease = commands.config.lease_seconds if self._lease is None else self._lease

        def on_lost(key: AttemptKey, _: Fate) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(turns.slots.drop, key)

        heart = Heart(queue.config.redis, commands, self.worker_id, lease, on_lost)
        pump = Pump(
            queue.manager,
            commands,
            number=number,
            worker_id=self.worker_id,
            lease=lease,
            selection=choices_in(
                number,
                choices(self.settings.assigned_users, self.settings.steal_targets),
                queue.commands,
            ),
            turns=turns,
            heart=heart,
            burst=self.burst,
        )
        return Post(self.worker_id, pump, heart, Upkeep(queue.manager, commands))

    @staticmethod
    async def _refuse_unsafe(queue: AsyncTaskQueue) -> None:
        """Raise what speaks against the server before the worker begins; one that is away is waited for."""
        with contextlib.suppress(ServerError, TimeoutError):
            async with asyncio.timeout(OPENING_SECONDS):
                await queue.manager.open()

    async def _until_it_ends(self, posts: list[Post], turns: Turns) -> None:
        """Wait for the pumps; once a stop is asked for, for as long as the grace allows."""
        grace = self.settings.graceful_shutdown_timeout
        working = asyncio.create_task(all_have_ended(posts))
        stopping = asyncio.create_task(self._stop_requested.wait())
        hurrying = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                turns.stop()
                await asyncio.wait(
                    {working, hurrying},
                    timeout=grace - min(LONGEST_LEAVING, LEAVING_SHARE * grace),
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            for waiting in (working, stopping, hurrying):
                waiting.cancel()

    def _on_signal(self) -> None:
        if self._stop_requested.is_set():
            self._hurry.set()
        self._stop_requested.set()


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
