"""The worker's loop in one shard: it acknowledges what has ended and claims for the slots that are free.

One round trip is under way at a time. What ends meanwhile is acknowledged by the next one, in one script,
and a claim that is due goes along in the same trip. What a claim gave starts while the next trip is under
way, so that the worker and its server work at the same time, each on a part of the slots.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from fairque.core.exceptions import ScriptError, ServerError
from fairque.queue.checks import LONGEST_BATCH
from fairque.queue.replies import Claim, given_by
from fairque.worker.ends import Ends
from fairque.worker.heart import attempt_key
from fairque.worker.outage import Outage
from fairque.worker.rest import Rest
from fairque.worker.trip import Claims, Trip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairque.core.calls import Call, Flow
    from fairque.core.models import Task
    from fairque.queue.commands import ShardCommands
    from fairque.utils.async_lua_manager import AsyncLuaScriptManager
    from fairque.worker.execution import Outcome
    from fairque.worker.heart import Heart
    from fairque.worker.selection import Choice
    from fairque.worker.turns import Turns

logger = logging.getLogger("fairque.worker")

BURST_PATIENCE = 10.0  # a burst waits for tasks (retries, mostly) that are due within so many seconds
LONGEST_SLEEP = 5.0
SHORT_SECONDS = 0.001  # of a task; and how long the end of a short one may wait for others
WORTH_HALVING = 32  # tasks of a claim: fewer start all at once
INTERRUPTED_SECONDS = 1.0  # for attempts on the loop to end when they are interrupted


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
        self._ends = Ends(commands, heart, self._on_settled)
        self._unread: Trip | None = None
        self._claimed: deque[Task[Any]] = deque()  # about to start; each has its slot reserved
        self._claims = Claims()
        self._choice = 0  # which way to claim next
        self._hungry = bool(selection)  # whether a claim may give something
        self._nothing_left = not selection  # whether the last claim found nothing, now and soon
        self._stirred = False  # since the last claim of the first choice, which may have missed something
        self._surplus: list[Task[Any]] = []  # claimed, and to be handed back
        self._sits_out = False  # until it tries the server again, which has failed
        self._long = 0  # attempts that run for longer than others wait for them
        self._outage = Outage(worker_id)
        self._rest = Rest(
            self,
            manager,
            commands,
            turns,
            self._outage,
            worker_id=worker_id,
            may_claim=len(selection) == 1 and not burst,
        )
        self._changed = asyncio.Event()
        self.is_stopping = False
        self._halted = False
        turns.join(self)

    def stop(self) -> None:
        """Claim no more; `run` returns once all that runs has ended and is acknowledged."""
        self.is_stopping = True
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
        self._stirred = True
        self._changed.set()

    @property
    def level(self) -> int | None:
        """How it wants to claim: 0 first, 1 only if nobody wants to claim at 0; None if it does not."""
        if not self._hungry or self.is_stopping or self._sits_out:
            return None
        return int(self._selection[self._choice].steal)

    @property
    def is_idle(self) -> bool:
        """Whether it runs nothing, and has nothing to do."""
        return self._nothing_left and not (self._hungry or self._ends or self._runs_any)

    @property
    def _runs_any(self) -> bool:
        holds_any = bool(self._claimed or self._unread or self._surplus)
        return holds_any or self._turns.slots.runs_any(self)

    async def run(self) -> None:
        """Work until stopped, or in a burst until nothing is left in any shard."""
        try:
            while not self._halted:
                self._changed.clear()
                await self._let_others_end()
                trip = self._next_trip()
                if trip is not None:
                    await self._talk(trip)
                    # What was started meanwhile may end at once, and be part of the next trip.
                    await asyncio.sleep(0)
                elif self._read():
                    continue
                elif self._claimed:
                    # The first half may end at once, and is then acknowledged while the other one runs.
                    count = len(self._claimed)
                    self._start_claimed(count if count < WORTH_HALVING else (count + 1) // 2)
                    await asyncio.sleep(0)
                elif self._is_done():
                    self._turns.stop()  # else one that is woken just now would go on for ever, all by itself
                    return
                else:
                    await self._changed.wait()
        finally:
            await self._rest.end()

    async def leave(self) -> None:
        """After `run`, however it ended: acknowledge what has ended, hand back what has not, take leave.

        Raises:
            ServerError: The server could not be used; the leases will run out.
        """
        self.stop()
        self._read()
        unfinished, jobs = self._turns.slots.drop_all(self)
        unfinished += [*self._claimed, *self._surplus, *self._ends.drop_torn()]
        self._turns.slots.reserved -= len(self._claimed)
        self._claimed.clear()
        self._surplus = []
        while self._ends:
            before, trip = len(self._ends), self._next_trip()
            if trip is not None:
                await self._talk(trip)
                self._read()
            if len(self._ends) == before:
                break  # an outage
        unfinished += self._surplus
        self._surplus = []
        for call in self._open_claims():
            claim = await self._manager.execute(call)
            unfinished += claim.tasks
        await self._manager.execute(self._release_call(unfinished))
        if jobs:
            await asyncio.wait(jobs, timeout=INTERRUPTED_SECONDS)

    def abandon(self) -> Flow[None]:
        """What `leave` says, as far as it can be said from another thread, for a loop that is blocked."""
        unfinished = self.heart.held()
        if (trip := self._unread) is not None and trip.asked:
            unfinished += trip.values()[-1].tasks
        for call in self._open_claims():
            claim: Claim = yield call
            unfinished += claim.tasks
        yield self._release_call(unfinished)

    def _open_claims(self) -> list[Call[Claim]]:
        """Repeated, they give what is leased to this worker and was never started."""
        return [self.claim_call(1, own) for own in (self._claims, self._rest.claims) if own.is_open]

    def _release_call(self, tasks: list[Task[Any]]) -> Call[list[bool]]:
        claimants = (self._claims.name, self._rest.claims.name)
        return self._commands.release_call(tasks, leaving=self._worker_id, claimants=claimants)

    def _is_done(self) -> bool:
        if self.is_stopping:
            return not self._runs_any
        return self._burst and self._turns.all_idle

    async def _let_others_end(self) -> None:
        """Where tasks are short, and few have ended, wait a moment for more: a trip costs more than those."""
        slots = self._turns.slots
        self._long = min(self._long, slots.running)
        if not 0 < self._ends.unsaid < slots.running - self._long or slots.pace > SHORT_SECONDS:
            return
        is_over = False

        def end_wait() -> None:
            nonlocal is_over
            is_over = True
            self._changed.set()

        # The timer itself says that it is over: by another clock it may ring too early, and once only.
        moment = asyncio.get_running_loop().call_later(SHORT_SECONDS, end_wait)
        while self._ends.unsaid < slots.running - self._long and not is_over:
            self._changed.clear()
            await self._changed.wait()
        moment.cancel()
        if is_over:
            self._long = slots.running

    def on_end(self, outcome: Outcome | None) -> None:
        """An attempt has left its slot."""
        if outcome is not None:
            self._ends.add(outcome)
        self._changed.set()
        self._turns.pass_on()

    def _on_settled(self) -> None:
        if self._burst:
            self._turns.stir_all()  # it may have scheduled a retry, or pushed something

    # --- one round trip ---

    def _next_trip(self) -> Trip | None:
        """All that is to be said to the server now; None if there is nothing."""
        report = self._ends.report()
        calls = [*report.calls]
        surplus = [*self._surplus]
        asked = 0
        if surplus:  # without a claim: that could come before a release whose script is not known yet
            calls.append(self._commands.release_call(surplus))
        else:
            asked = self._slots_to_claim_for()
        if asked:
            if self._choice == 0:
                self._stirred = False  # later choices know nothing of what an earlier one may have missed
            calls.append(self.claim_call(asked, self._claims))
        return Trip(calls, report, surplus, asked, self._choice) if calls else None

    def _slots_to_claim_for(self) -> int:
        """Those too that are freed by attempts which are acknowledged in this very trip."""
        taken = 0
        if self.level is not None:
            taken = self._turns.take(self, 1 if self._outage.lasts else LONGEST_BATCH)
        if not taken and self._claims.is_open and not (self.is_stopping and self._outage.lasts):
            return 1  # the last one was not answered: what it gave is leased to this worker, and must not lie
        return taken

    async def _talk(self, trip: Trip) -> None:
        """Make a round trip. What the one before has brought is read while the server works."""
        replies: list[Any] | None = None
        trip.sent = time.monotonic()
        try:
            replies = await self._manager.exchange(trip.calls, when_sent=self._go_on)
        finally:
            self._go_on()  # also where nothing could be sent
            self._turns.answered(self)
            if replies is None:
                self._ends.put_back(trip.report)
        trip.replies = replies
        if trip.asked and not isinstance(replies[-1], Exception):
            self._claims.was_answered()
            trip.given = given_by(replies[-1])
        self._turns.slots.reserved += trip.given
        self._unread = trip
        if not trip.can_wait:
            self._read()
        await self._sit_out(replies)
        self._turns.pass_on()

    async def _sit_out(self, replies: list[Any]) -> None:
        """Leave the slots to other shards while this one's server cannot be used."""
        self._sits_out = True
        try:
            await self._outage.judge(replies)
        finally:
            self._sits_out = False

    def _go_on(self) -> None:
        """Work on, while a trip is under way."""
        self._read()
        self._start_claimed()

    def _read(self) -> bool:
        """Take note of what the last trip has brought; whether there was one that was not read yet."""
        trip, self._unread = self._unread, None
        if trip is None:
            return False
        self._turns.slots.reserved -= trip.given
        values = trip.values()
        self._ends.settle(trip.report, iter(values))
        if trip.surplus:
            self._settle_surplus(trip.surplus, values[len(trip.report.calls)])
        if trip.asked:
            if isinstance(values[-1], Claim):
                self._turns.took(self, values[-1])
            # What lay in the socket, or here, while a task blocked the loop may be somebody else's by now.
            is_fresh = time.monotonic() - trip.sent < self._lease / 2
            self._take(values[-1], trip.asked, trip.choice, is_fresh=is_fresh)
        return True

    def _settle_surplus(self, surplus: Sequence[Task[Any]], reply: list[bool] | Exception) -> None:
        """Forget what was handed back, and claim again; after a failure the next trip says so once more."""
        if isinstance(reply, ServerError) and not isinstance(reply, ScriptError):
            return
        gone = {attempt_key(task) for task in surplus}
        self._surplus = [task for task in self._surplus if attempt_key(task) not in gone]
        for key in gone:
            self.heart.remove(key)
        self.stir()

    def claim_call(self, slots: int, claims: Claims) -> Call[Claim]:
        """A claim for so many slots, under the name of some claims."""
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

    def _take(self, claim: Claim | Exception, asked: int, choice: int, *, is_fresh: bool = True) -> None:
        """Start what was claimed; work out whether and when to claim again.

        Args:
            claim: What came.
            asked: The slots that it was for.
            choice: Whose tasks it was for.
            is_fresh: Whether it was just claimed; else it goes back.
        """
        if isinstance(claim, Exception):
            if not isinstance(claim, ServerError):
                logger.error("worker %s could not claim: %s", self._worker_id, claim, exc_info=claim)
            return
        if claim.tasks:
            self.heart.keep(claim.tasks, self._turns.slots.longest(claim.tasks))
        # A claim that is repeated after an outage may give more than it asked for, and others have the slots.
        room = max(0, self._turns.free) if is_fresh and not self.is_stopping else 0
        self._surplus += claim.tasks[room:]
        started = claim.tasks[:room]
        self._claimed += started
        self._turns.slots.reserved += len(started)
        if claim.alone:
            self._start_claimed(last_alone=True)
        # What it was for counts, not what is free by now: attempts may have ended since it was sent.
        gave_all = (len(claim.tasks) < asked or not claim.more) and not claim.unfinished
        if not gave_all or self._turns.free <= 0:
            self._choice = 0  # again as soon as a slot is free; what was not looked at yet is not passed by
        elif choice + 1 < len(self._selection):
            self._choice = choice + 1
        else:
            self._choice = 0
            if not self._stirred:
                self._go_to_rest(claim, picky=self._selection[choice].users is not None)

    def _start_claimed(self, most: int | None = None, *, last_alone: bool = False) -> None:
        """Start what is claimed; the last one alone, if it is a suspect of killing its worker."""
        slots, claimed = self._turns.slots, self._claimed
        for _ in range(len(claimed) if most is None else most):
            task = claimed.popleft()
            slots.reserved -= 1
            if not slots.start(task, self, alone=last_alone and not claimed):
                self._surplus.append(task)
                self._changed.set()

    # --- resting ---

    def _go_to_rest(self, claim: Claim, *, picky: bool) -> None:
        """Sleep after a claim that left slots free, unless it says that there is more."""
        if claim.tasks and claim.more:
            return
        self._hungry = False
        due_soon = claim.pause is not None and claim.pause <= BURST_PATIENCE
        # To a picky worker `more` may mean others' tasks.
        self._nothing_left = not due_soon and (picky or not claim.more)
        wait = self._commands.idle(claim, LONGEST_SLEEP, picky=picky)
        self._rest.set_alarm(None if claim.pause is None or not wait.keys else wait.seconds)
        if not self.is_stopping and not (self._burst and self._turns.all_idle):
            self._rest.begin(wait)

    # --- as its rest sees it ---

    @property
    def is_claiming(self) -> bool:
        """Whether a claim is under way that was not made in its sleep."""
        return self._claims.is_open

    def start(self, claim: Claim) -> None:
        """Start what was claimed in its sleep."""
        self.wake_up()
        self._turns.took(self, claim)
        self._take(claim, asked=1, choice=0)
        self._start_claimed()

    def wake_up(self) -> None:
        """Claim again."""
        self._hungry = True
        self._changed.set()
