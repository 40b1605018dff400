"""The worker's loop: it acknowledges what has ended and claims for the slots that are free.

One round trip is under way at a time. What ends meanwhile is acknowledged by the next one, in one script,
and a claim that is due goes along in the same trip.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from typing import TYPE_CHECKING, Any

from fairque.core.context import TaskContext
from fairque.core.exceptions import ScriptError, ServerError
from fairque.core.models import TaskState
from fairque.queue.checks import LONGEST_BATCH
from fairque.worker.execution import Execution, Outcome, Running
from fairque.worker.heart import AttemptKey, Heart, attempt_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairque.core.calls import Call, Flow, Wait
    from fairque.core.models import Task
    from fairque.queue.commands import QueueCommands
    from fairque.queue.replies import Claim
    from fairque.utils.async_lua_manager import AsyncLuaScriptManager
    from fairque.worker.selection import Choice

logger = logging.getLogger("fairque.worker")

FINISH_BATCH = 200  # acknowledgements in one script
BURST_PATIENCE = 10.0  # a burst waits for tasks (retries, mostly) that are due within so many seconds
LONGEST_BACKOFF = 5.0


class Pump:
    """Claims, starts and acknowledges tasks until told to stop.

    Args:
        manager: Runs the calls.
        commands: Builds them.
        worker_id: Who claims.
        slots: How many tasks run at once.
        lease: Seconds a claim is good for.
        selection: Whose tasks to claim, in order.
        execution: Runs the tasks.
        heart: Keeps their leases.
        burst: Whether to end when nothing is left.
    """

    def __init__(
        self,
        manager: AsyncLuaScriptManager,
        commands: QueueCommands,
        *,
        worker_id: str,
        slots: int,
        lease: float,
        selection: Sequence[Choice],
        execution: Execution,
        heart: Heart,
        burst: bool,
    ) -> None:
        self._manager = manager
        self._commands = commands
        self._worker_id = worker_id
        self._slots = slots
        self._lease = lease
        self._selection = selection
        self._execution = execution
        self._heart = heart
        self._burst = burst
        self.running: dict[AttemptKey, Running] = {}
        self._ended: dict[AttemptKey, Outcome] = {}  # not yet acknowledged
        self._claims_of = secrets.token_hex(8)  # with the next one it makes the id of a claim, which stays
        self._claims = 0  # the same until the claim is answered
        self._choice = 0  # which way to claim next
        self._hungry = True  # whether a claim may give something
        self._nothing_left = False  # whether the last claim found nothing, now and soon
        self._sleeper: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._stopping = False
        self._halted = False
        self._outage = 0  # failed round trips in a row

    def stop(self) -> None:
        """Claim no more; `run` returns once all that runs has ended and is acknowledged."""
        self._stopping = True
        self._changed.set()

    def halt(self) -> None:
        """Return from `run` after one more acknowledgement, whatever still runs."""
        self._halted = True
        self.stop()

    async def run(self) -> None:
        """Work until stopped, or in a burst until nothing is left."""
        try:
            while True:
                self._changed.clear()
                last = self._halted
                ended, calls = self._due_calls()
                if calls:
                    await self._round_trip(ended, calls)
                if last or (not calls and self._is_done()):
                    return
                if not calls:
                    await self._changed.wait()
        finally:
            if self._sleeper is not None:
                self._sleeper.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._sleeper

    def _is_done(self) -> bool:
        if self.running:
            return False
        return self._stopping or (self._burst and self._nothing_left)

    # --- one round trip ---

    def _due_calls(self) -> tuple[list[Outcome], list[Call[Any]]]:
        """What should be said to the server now: acknowledgements first, then a claim."""
        good = [outcome for outcome in self._ended.values() if outcome.error is None][:FINISH_BATCH]
        bad = [outcome for outcome in self._ended.values() if outcome.error is not None][:FINISH_BATCH]
        calls: list[Call[Any]] = []
        if good:
            calls.append(self._commands.finish_call([(outcome.task, outcome.result) for outcome in good]))
        calls += [self._fail_call(outcome) for outcome in bad]
        # What was freed by tasks that are acknowledged in this very trip can be claimed for already.
        free = self._slots - len(self.running)
        if self._hungry and free > 0 and not self._stopping:
            choice = self._selection[self._choice]
            calls.append(
                self._commands.claim(
                    self._worker_id,
                    min(free, LONGEST_BATCH),
                    users=choice.users,
                    lease=self._lease,
                    steal=choice.steal,
                    claim_id=f"{self._claims_of}-{self._claims}",
                )
            )
        return good + bad, calls

    def _fail_call(self, outcome: Outcome) -> Call[bool]:
        error, task = outcome.error, outcome.task
        assert error is not None  # noqa: S101 - for the type checker
        call, state = self._commands.fail_call(task, error, failure_type=outcome.failure_type)
        again = "it will be retried" if state is TaskState.SCHEDULED else "it is in the dead letter queue"
        logger.warning(
            "task %r of user %r, attempt %d: %s (%s); %s",
            task.task_id,
            task.user_id,
            task.attempt,
            outcome.failure_type,
            error,
            again,
        )
        return call

    async def _round_trip(self, ended: list[Outcome], calls: list[Call[Any]]) -> None:
        good = [outcome for outcome in ended if outcome.error is None]
        bad = [outcome for outcome in ended if outcome.error is not None]
        replies = await self._manager.execute_together(calls)
        failures = [reply for reply in replies if isinstance(reply, Exception)]
        if good:
            accepted = replies.pop(0)
            for position, outcome in enumerate(good):
                self._acknowledge(
                    outcome, accepted if isinstance(accepted, Exception) else accepted[position]
                )
        for outcome in bad:
            self._acknowledge(outcome, replies.pop(0))
        if replies and not isinstance(replies[0], Exception):
            self._take(replies[0])
        await self._judge(failures)

    def _acknowledge(self, outcome: Outcome, reply: bool | Exception) -> None:
        """Forget an attempt whose outcome the server has; keep it for the next trip if it has not."""
        if isinstance(reply, ServerError) and not isinstance(reply, ScriptError):
            return
        task = outcome.task
        del self._ended[attempt_key(task)]
        self._heart.remove(task)
        if self._burst:
            self._hungry, self._nothing_left = True, False  # it may have scheduled a retry
        if isinstance(reply, Exception):
            logger.error(
                "the outcome of task %r of user %r was refused: %s", task.task_id, task.user_id, reply
            )
        elif not reply:
            logger.warning(
                "task %r of user %r: attempt %d had lost its lease, its outcome was dropped",
                task.task_id,
                task.user_id,
                task.attempt,
            )

    def _take(self, claim: Claim) -> None:
        """Start what was claimed; work out whether and when to claim again."""
        self._claims += 1
        for task in claim.tasks:
            self._start(task)
        if len(self.running) >= self._slots:
            self._choice = 0  # hungry again as soon as a slot is free
            return
        choice = self._selection[self._choice]
        if self._choice + 1 < len(self._selection):
            self._choice += 1
            return
        self._choice = 0
        if claim.tasks:
            return  # one more look, which tells how long to sleep
        self._hungry = False
        picky = choice.users is not None  # then `more` may mean others' tasks
        due_soon = claim.pause is not None and claim.pause <= BURST_PATIENCE
        self._nothing_left = not due_soon and (picky or not claim.more)
        self._sleep(self._commands.idle(claim, LONGEST_BACKOFF, picky=picky))

    # --- running ---

    def _start(self, task: Task[Any]) -> None:
        deadline = None if task.timeout is None else time.monotonic() + task.timeout
        context = TaskContext(
            user_id=task.user_id or "",
            task_id=task.task_id,
            attempt=task.attempt,
            worker_id=self._worker_id,
            deadline=deadline,
        )
        running = Running(task, context)
        self.running[attempt_key(task)] = running
        self._heart.add(task)
        running.job = asyncio.create_task(self._attempt(running))

    async def _attempt(self, running: Running) -> None:
        try:
            outcome = await self._execution.run(running)
            if not running.dropped:
                self._ended[attempt_key(running.task)] = outcome
        except asyncio.CancelledError:
            if not running.dropped:
                raise
        finally:
            del self.running[attempt_key(running.task)]
            if running.dropped:
                self._heart.remove(running.task)
            self._changed.set()

    def drop(self, key: AttemptKey) -> None:
        """An attempt is no longer wanted: interrupt it where that is possible, and ignore how it ends."""
        running = self.running.get(key)
        if running is None or running.dropped:
            return
        running.dropped = True
        running.context.canceled = True
        if running.job is not None and self._execution.is_interruptible(running.task):
            running.job.cancel()

    def drop_all(self) -> list[asyncio.Task[None]]:
        """Drop every attempt that still runs. Returns the jobs that will end soon, being interrupted."""
        for key in list(self.running):
            self.drop(key)
        return [
            running.job
            for running in self.running.values()
            if running.job is not None and self._execution.is_interruptible(running.task)
        ]

    # --- pausing ---

    def _sleep(self, wait: Wait) -> None:
        def flow() -> Flow[None]:
            yield wait

        async def sleep() -> None:
            try:
                await self._manager.run(flow())
            except ServerError as error:
                await self._judge([error])
            self._hungry = True
            self._sleeper = None
            self._changed.set()

        if self._sleeper is None:
            self._sleeper = asyncio.create_task(sleep())

    async def _judge(self, failures: Sequence[Exception]) -> None:
        """Sit out an outage: a line in the log at its beginning and its end, and pauses that grow."""
        lost = [error for error in failures if isinstance(error, ServerError)]
        for error in failures:
            if not isinstance(error, ServerError):
                logger.error("worker %s: %s", self._worker_id, error, exc_info=error)
        if not lost:
            if self._outage:
                logger.warning("worker %s can use the server again", self._worker_id)
            self._outage = 0
            return
        if self._outage == 0:
            logger.warning("worker %s cannot use the server and keeps trying: %s", self._worker_id, lost[0])
        self._outage += 1
        pause = min(LONGEST_BACKOFF, 0.05 * 2.0 ** min(self._outage, 10))
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter
