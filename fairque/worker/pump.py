"""The worker's loop in one shard: it acknowledges what has ended and claims for the slots that are free.

One round trip is under way at a time. What ends meanwhile is acknowledged by the next one, in one script,
and a claim that is due goes along in the same trip. What a claim gave starts while the next trip is under
way, so that the worker and its server work at the same time, each on a part of the slots.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from typing import TYPE_CHECKING, Any

from fairque.core.exceptions import QueueClosedError, ScriptError, ServerError
from fairque.core.models import TaskState
from fairque.queue.checks import LONGEST_BATCH
from fairque.queue.failure import UNKNOWN, error_text
from fairque.worker.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairque.core.calls import Call, Flow, Wait
    from fairque.core.models import Task
    from fairque.queue.commands import ShardCommands
    from fairque.queue.replies import Claim
    from fairque.utils.async_lua_manager import AsyncLuaScriptManager
    from fairque.worker.execution import Outcome
    from fairque.worker.heart import Heart
    from fairque.worker.selection import Choice
    from fairque.worker.turns import Turns

logger = logging.getLogger("fairque.worker")

ACKNOWLEDGED_AT_ONCE = 200  # finishes in one script, and fails in one trip
BURST_PATIENCE = 10.0  # a burst waits for tasks (retries, mostly) that are due within so many seconds
LONGEST_SLEEP = 5.0
DISTURBED_SECONDS = 1.0
SWALLOWED_SECONDS = 0.05  # after which a wait is canceled again: as it sends, redis-py may swallow that
INTERRUPTED_SECONDS = 1.0  # for attempts on the loop to end when they are interrupted


class _Claims:
    """Claims under one name, each of which is repeated under its id until it is answered.

    The name is nobody else's: worker ids may be shared by replicas of one configuration.
    """

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self.answered = 0
        self.is_open = False  # one was sent, and is not answered yet


class Pump:
    """Claims, starts and acknowledges tasks of a shard until told to stop.

    Args:
        manager: Runs the calls.
        commands: Builds them.
        number: Of the shard.
        worker_id: Who claims.
        lease: Seconds a claim is good for.
        selection: Whose tasks to claim, in order; empty where no user of the shard is served.
        turns: Tells when to claim, and for how many slots; and runs the tasks there.
        heart: Keeps the leases.
        burst: Whether to end when nothing is left.
    """

    def __init__(
        self,
        manager: AsyncLuaScriptManager,
        commands: ShardCommands,
        *,
        number: int,
        worker_id: str,
        lease: float,
        selection: Sequence[Choice],
        turns: Turns,
        heart: Heart,
        burst: bool,
    ) -> None:
        self._manager = manager
        self._commands = commands
        self.number = number
        self._worker_id = worker_id
        self._lease = lease
        self._selection = selection
        self._turns = turns
        self.heart = heart
        self._burst = burst
        # Ended attempts that are not acknowledged yet. A failure's call is made once, with its decision.
        self._finished: list[Outcome] = []
        self._failed: list[tuple[Outcome, Call[TaskState | None]]] = []
        self._claimed: deque[Task[Any]] = deque()  # about to start; each has its slot reserved
        self._claims = _Claims()
        self._claims_asleep = _Claims()  # which wait on the server for a wake-up, beside the others
        self._choice = 0  # which way to claim next
        self._hungry = bool(selection)  # whether a claim may give something
        self._nothing_left = not selection  # whether the last claim found nothing, now and soon
        self._surplus: list[Task[Any]] = []  # claimed, and to be handed back
        self._rests = False  # until it tries the server again, which has failed
        self._sleeper: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._outage = Outage(worker_id)
        self._changed = asyncio.Event()
        self._stopping = False
        self._halted = False
        turns.join(self)

    def stop(self) -> None:
        """Claim no more; `run` returns once all that runs has ended and is acknowledged."""
        self._stopping = True
        self._changed.set()

    def halt(self) -> None:
        """Return from `run` after the round trip under way, whatever still runs."""
        self._halted = True
        self.stop()

    def look(self) -> None:
        """See whether there is something to do."""
        self._changed.set()

    def stir(self) -> None:
        """Claim again: there may be work, whatever the last claim said."""
        self._hungry, self._nothing_left = bool(self._selection), not self._selection
        self._changed.set()

    @property
    def level(self) -> int | None:
        """How it wants to claim: 0 first, 1 only if nobody wants to claim at 0; None if it does not."""
        if not self._hungry or self._stopping or self._rests:
            return None
        return int(self._selection[self._choice].steal)

    @property
    def is_idle(self) -> bool:
        """Whether it runs nothing, and has nothing to do."""
        return self._nothing_left and not (self._finished or self._failed or self._runs_any)

    @property
    def _runs_any(self) -> bool:
        return bool(self._claimed) or self._turns.slots.runs_any(self)

    async def run(self) -> None:
        """Work until stopped, or in a burst until nothing is left in any shard."""
        try:
            while not self._halted:
                self._changed.clear()
                if await self._round_trip():
                    continue
                if self._claimed:
                    # The first half may end at once, and is then acknowledged while the other one runs.
                    self._start_claimed((len(self._claimed) + 1) // 2)
                    await asyncio.sleep(0)
                elif self._is_done():
                    self._turns.look_all()
                    return
                else:
                    await self._changed.wait()
        finally:
            self._set_alarm(None)
            sleeper = self._sleeper
            while sleeper is not None and not sleeper.done():
                sleeper.cancel()
                await asyncio.wait([sleeper], timeout=SWALLOWED_SECONDS)

    async def leave(self) -> None:
        """After `run`, however it ended: acknowledge what has ended, hand back what has not, take leave.

        Raises:
            ServerError: The server could not be used; the leases will run out.
        """
        unfinished, jobs = self._turns.slots.drop_all(self)
        unfinished += [*self._claimed, *self._surplus]
        self._turns.slots.reserved -= len(self._claimed)
        self._claimed.clear()
        self._surplus = []
        self.stop()
        # When a loop is torn down, it cancels the attempts too: that is no failure of theirs.
        torn = [pair for pair in self._failed if isinstance(pair[0].error, asyncio.CancelledError)]
        self._failed = [pair for pair in self._failed if pair not in torn]
        unfinished += [ended.task for ended, _ in torn]
        while self._finished or self._failed:
            before = len(self._finished) + len(self._failed)
            await self._round_trip()
            if len(self._finished) + len(self._failed) == before:
                break  # an outage
        for call in self._open_claims():
            claim = await self._manager.execute(call)
            unfinished += claim.tasks
        await self._manager.execute(self._release_call(unfinished))
        if jobs:
            await asyncio.wait(jobs, timeout=INTERRUPTED_SECONDS)

    def abandon(self) -> Flow[None]:
        """What `leave` says, as far as it can be said from another thread, for a loop that is blocked."""
        unfinished = self.heart.held()
        for call in self._open_claims():
            claim: Claim = yield call
            unfinished += claim.tasks
        yield self._release_call(unfinished)

    def _open_claims(self) -> list[Call[Claim]]:
        """Repeated, they give what is leased to this worker and was never started."""
        return [self._claim_call(1, own) for own in (self._claims, self._claims_asleep) if own.is_open]

    def _release_call(self, tasks: list[Task[Any]]) -> Call[list[bool]]:
        claimants = (self._claims.name, self._claims_asleep.name)
        return self._commands.release_call(tasks, leaving=self._worker_id, claimants=claimants)

    def _is_done(self) -> bool:
        if self._stopping:
            return not self._runs_any
        return self._burst and self._turns.all_idle

    def on_end(self, outcome: Outcome | None) -> None:
        """An attempt has left its slot."""
        if outcome is not None and outcome.error is None:
            self._finished.append(outcome)
        elif outcome is not None and outcome.error is not None:
            self._failed.append((outcome, self._fail_call(outcome, outcome.error)))
        self._changed.set()
        self._turns.pass_on()

    def _fail_call(self, outcome: Outcome, error: BaseException) -> Call[TaskState | None]:
        try:
            return self._commands.fail_call(outcome.task, error, failure_type=outcome.failure_type)
        except Exception:  # the error is of a user's class, which may do anything
            logger.exception("the error of task %r cannot be looked into; it fails", outcome.task.task_id)
            return self._commands.fail_call(outcome.task, type(error).__name__, failure_type="invalid")

    # --- one round trip ---

    async def _round_trip(self) -> bool:
        """Say to the server all that is due now; False if there is nothing to say."""
        finished = self._finished[:ACKNOWLEDGED_AT_ONCE]
        failed = self._failed[:ACKNOWLEDGED_AT_ONCE]
        calls: list[Call[Any]] = []
        if finished:
            calls.append(self._commands.finish_call([(ended.task, ended.result) for ended in finished]))
        calls += [call for _, call in failed]
        surplus, self._surplus = self._surplus, []
        if surplus:
            calls.append(self._commands.release_call(surplus))
        # What was freed by attempts that are acknowledged in this very trip can be claimed for already.
        taken = (
            0 if self.level is None else self._turns.take(self, 1 if self._outage.lasts else LONGEST_BATCH)
        )
        if taken:
            calls.append(self._claim_call(taken, self._claims))
        if not calls:
            return False
        replies: list[Any] = []
        try:
            replies = await self._manager.execute_together(calls, when_sent=self._start_claimed)
        finally:
            self._start_claimed()  # also where nothing could be sent
            claim = replies[-1] if taken and replies else None
            self._turns.answered(self, None if isinstance(claim, Exception) else claim)
        left = list(replies)
        if finished:
            self._acknowledge_finished(finished, left.pop(0))
        for pair in failed:
            self._acknowledge_failed(pair, left.pop(0))
        if taken:
            self._take(left[-1], self._claims)
        await self._rest_in_outage(replies)
        self._turns.pass_on()
        return True

    async def _rest_in_outage(self, replies: list[object]) -> None:
        """Leave the slots to other shards while this one's server cannot be used."""
        self._rests = True
        try:
            await self._outage.judge(replies)
        finally:
            self._rests = False

    def _acknowledge_finished(self, finished: list[Outcome], reply: list[bool] | Exception) -> None:
        outcomes: Sequence[bool | Exception]
        outcomes = [reply] * len(finished) if isinstance(reply, Exception) else reply
        open_still = [
            ended for ended, held in zip(finished, outcomes, strict=True) if not self._is_settled(ended, held)
        ]
        self._finished[: len(finished)] = open_still

    def _acknowledge_failed(
        self, failed: tuple[Outcome, Call[TaskState | None]], reply: TaskState | Exception | None
    ) -> None:
        ended, _ = failed
        if self._is_settled(ended, reply if isinstance(reply, Exception) else reply is not None):
            self._failed.remove(failed)
            if isinstance(reply, TaskState):
                _log_failure(ended, reply)

    def _claim_call(self, slots: int, claims: _Claims) -> Call[Claim]:
        choice = self._selection[self._choice]
        claims.is_open = True
        return self._commands.claim(
            self._worker_id,
            slots,
            users=choice.users,
            lease=self._lease,
            steal=choice.steal,
            claimant=claims.name,
            claim_id=claims.answered,
        )

    def _is_settled(self, ended: Outcome, held: bool | Exception) -> bool:
        """Whether the server has said its last word on an attempt; if not, the next trip asks again."""
        if isinstance(held, ServerError) and not isinstance(held, ScriptError):
            return False
        self.heart.remove(ended.key)
        if self._burst:
            self._turns.stir_all()  # it may have scheduled a retry, or pushed something
        if isinstance(held, Exception):
            logger.error(
                "the outcome of task %r of user %r was refused: %s",
                ended.task.task_id,
                ended.task.user_id,
                held,
            )
        elif not held:
            logger.warning(
                "task %r of user %r: attempt %d had lost its lease, its outcome was dropped",
                ended.task.task_id,
                ended.task.user_id,
                ended.task.attempt,
            )
        return True

    def _take(self, claim: Claim | Exception, claims: _Claims) -> None:
        """Start what was claimed; work out whether and when to claim again."""
        if isinstance(claim, Exception):
            if not isinstance(claim, ServerError):
                logger.error("worker %s could not claim: %s", self._worker_id, claim, exc_info=claim)
            return
        claims.answered += 1
        claims.is_open = False
        # A claim that is repeated after an outage may give more than it asked for, and others have the slots.
        room = 0 if self._stopping else max(0, self._turns.free)
        self._surplus += claim.tasks[room:]
        started = claim.tasks[:room]
        self._claimed += started
        self._turns.slots.reserved += len(started)
        if claim.alone:
            self._start_claimed(last_alone=True)
        choice = self._selection[self._choice]
        if self._turns.free <= 0 or claim.unfinished:
            self._choice = (
                0  # hungry again as soon as a slot is free; what was not looked at yet is not passed by
            )
        elif self._choice + 1 < len(self._selection):
            self._choice += 1
        else:
            self._choice = 0
            self._rest(claim, picky=choice.users is not None)

    def _start_claimed(self, most: int | None = None, *, last_alone: bool = False) -> None:
        """Start what is claimed; the last one alone, if it is a suspect of killing its worker."""
        slots, claimed = self._turns.slots, self._claimed
        for _ in range(len(claimed) if most is None else most):
            task = claimed.popleft()
            slots.reserved -= 1
            slots.start(task, self, alone=last_alone and not claimed)

    # --- resting ---

    def _rest(self, claim: Claim, *, picky: bool) -> None:
        """Sleep after a claim that left slots free, unless it says that there is more."""
        if claim.tasks and claim.more:
            return
        self._hungry = False
        due_soon = claim.pause is not None and claim.pause <= BURST_PATIENCE
        # To a picky worker `more` may mean others' tasks.
        self._nothing_left = not due_soon and (picky or not claim.more)
        wait = self._commands.idle(claim, LONGEST_SLEEP, picky=picky)
        self._set_alarm(None if claim.pause is None or not wait.keys else wait.seconds)
        if self._sleeper is None and not (self._burst and self._turns.all_idle):
            self._sleeper = asyncio.create_task(self._sleep(wait))

    def _set_alarm(self, seconds: float | None) -> None:
        """Claim again in so many seconds, even while the sleeper goes on; None for no alarm.

        An idle server looks only ten times a second whose blocked wait has passed (its `hz`). A user with a
        rate of 20 and a burst of 1 would start 10 tasks a second.
        """
        if self._alarm is not None:
            self._alarm.cancel()
        loop = asyncio.get_running_loop()
        self._alarm = None if seconds is None else loop.call_later(seconds, self._wake_up)

    def _wake_up(self) -> None:
        self._hungry = True
        self._changed.set()

    async def _sleep(self, wait: Wait) -> None:
        try:
            if wait.keys and len(self._selection) == 1:
                await self._claim_when_woken(wait)
            else:
                await self._pause(wait)
        except ServerError as error:
            await self._outage.judge([error])
        except QueueClosedError:
            pass  # the next claim says so, and ends the loop
        except Exception:
            logger.exception("worker %s was disturbed in its sleep", self._worker_id)
            await asyncio.sleep(DISTURBED_SECONDS)
        finally:
            if self._sleeper is asyncio.current_task():
                self._sleeper = None
                self._wake_up()

    async def _claim_when_woken(self, wait: Wait) -> None:
        """Have the server claim a task, one, as soon as it wakes this worker: a round trip less to its start.

        Should other shards have filled the slots meanwhile, it is handed back, and another worker is woken.
        """
        claims = self._claims_asleep
        woken, claim = await self._manager.execute_woken(wait, self._claim_call(1, claims))
        if not isinstance(claim, Exception):
            if not isinstance(woken, Exception):
                self._sleeper = None  # the next may begin
            self._hungry = True
            self._turns.took(self, claim)
            self._take(claim, claims)
            self._start_claimed()
            self._changed.set()
        for reply in (woken, claim):
            if isinstance(reply, Exception):
                raise reply

    async def _pause(self, wait: Wait) -> None:
        def flow() -> Flow[bool]:
            is_woken: bool = yield wait
            return is_woken

        woken = await self._manager.run(flow())
        if woken and self._turns.free <= 0 and not self._stopping:
            # Other shards have filled the slots meanwhile: the wake-up is for another worker.
            await self._manager.execute(self._commands.release_call([]))


def _log_failure(ended: Outcome, state: TaskState) -> None:
    if ended.failure_type == UNKNOWN and state is TaskState.SCHEDULED:
        return  # the first one of its function was told of
    logger.warning(
        "task %r of user %r, attempt %d: %s (%s); %s",
        ended.task.task_id,
        ended.task.user_id,
        ended.task.attempt,
        ended.failure_type,
        error_text(ended.error or ""),
        "it will be retried" if state is TaskState.SCHEDULED else "it is in the dead letter queue",
    )
