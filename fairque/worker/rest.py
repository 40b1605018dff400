"""How a pump rests while there is nothing to claim: until it is woken, an alarm rings, or time has passed."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from fairque.core.exceptions import QueueClosedError, ServerError
from fairque.worker.trip import Claims

if TYPE_CHECKING:
    from fairque.core.calls import Call, Flow, Wait
    from fairque.queue.commands import ShardCommands
    from fairque.queue.replies import Claim
    from fairque.utils.async_lua_manager import AsyncLuaScriptManager
    from fairque.worker.outage import Outage
    from fairque.worker.turns import Turns

logger = logging.getLogger("fairque.worker")

DISTURBED_SECONDS = 1.0
SWALLOWED_SECONDS = 0.05  # after which a wait is canceled again: as it sends, redis-py may swallow that
SLOT_SECONDS = 0.001  # between looks whether a slot is kept for a claim that finds nothing


class Resting(Protocol):
    """The pump, as its rest sees it."""

    is_stopping: bool

    @property
    def is_claiming(self) -> bool:
        """Whether a claim is under way that was not made in its sleep."""

    def claim_call(self, slots: int, claims: Claims) -> Call[Claim]:
        """A claim for so many slots."""

    def start(self, claim: Claim) -> None:
        """Start what was claimed for it."""

    def wake_up(self) -> None:
        """Claim again."""


class Rest:
    """Sleeps for a pump, and wakes it up.

    Args:
        pump: Whose rest it is.
        manager: Runs the waits.
        commands: Builds the calls.
        turns: Has the worker's slots.
        outage: Of the pump's shard.
        worker_id: Who rests.
        may_claim: Whether the server may claim a task for the pump as it wakes it. Not where one of several
            selections comes first; nor in a burst, which has to know what is left: it does not end while a
            task is on its way to a sleeper.

    Attributes:
        claims: What was claimed in its sleep; beside the other claims.
    """

    def __init__(
        self,
        pump: Resting,
        manager: AsyncLuaScriptManager,
        commands: ShardCommands,
        turns: Turns,
        outage: Outage,
        *,
        worker_id: str,
        may_claim: bool,
    ) -> None:
        self._pump = pump
        self._manager = manager
        self._commands = commands
        self._turns = turns
        self._outage = outage
        self._worker_id = worker_id
        self._may_claim = may_claim
        self.claims = Claims()
        self._keeps_slot = False  # for its claim that is open
        self._sleeper: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def begin(self, wait: Wait) -> None:
        """Sleep, unless it does already, and wake the pump up after that."""
        if self._sleeper is None:
            self._sleeper = asyncio.create_task(self._sleep(wait))

    async def end(self) -> None:
        """Sleep no more."""
        self.set_alarm(None)
        sleeper = self._sleeper
        while sleeper is not None and not sleeper.done():
            sleeper.cancel()
            await asyncio.wait([sleeper], timeout=SWALLOWED_SECONDS)

    def set_alarm(self, seconds: float | None) -> None:
        """Wake the pump up in so many seconds, even while the sleeper goes on; None for no alarm.

        An idle server looks only ten times a second whose blocked wait has passed (its `hz`). A user with a
        rate of 20 and a burst of 1 would start 10 tasks a second.
        """
        if self._alarm is not None:
            self._alarm.cancel()
        loop = asyncio.get_running_loop()
        self._alarm = None if seconds is None else loop.call_later(seconds, self._on_alarm)

    def _on_alarm(self) -> None:
        if self._turns.free <= 0:
            self._give_up_slot()  # nobody tells the sleeper of what is due now
        self._pump.wake_up()

    async def _sleep(self, wait: Wait) -> None:
        try:
            await asyncio.sleep(0)  # what the claim gave begins first
            await self._sleep_until_woken(wait)
        except QueueClosedError:
            pass  # the next claim says so, and ends the loop
        except Exception:
            logger.exception("worker %s was disturbed in its sleep", self._worker_id)
            await asyncio.sleep(DISTURBED_SECONDS)
        finally:
            if self._sleeper is asyncio.current_task():
                self._sleeper = None
                self._pump.wake_up()

    async def _sleep_until_woken(self, wait: Wait) -> None:
        try:
            if wait.keys and self._may_claim and self._turns.is_alone:
                await self._claim_when_woken(wait)
            else:
                await self._pause(wait)
        except ServerError as error:
            await self._outage.judge([error])
            await self._repeat_claim()

    async def _claim_when_woken(self, wait: Wait) -> None:
        """Have the server claim a task, one, as soon as it wakes this worker: a round trip less to its start.

        A slot is kept for it, unless the worker needs the last one meanwhile: then it may be handed back.
        """
        self._keeps_slot = self._turns.free > 0
        self._turns.slots.reserved += self._keeps_slot
        try:
            woken, claim = await self._manager.execute_woken(wait, self._pump.claim_call(1, self.claims))
        finally:
            self._give_up_slot()
        if not isinstance(claim, Exception):
            # The slot may be kept for a claim under way, which finds nothing now.
            while claim.tasks and self._turns.free <= 0 and self._pump.is_claiming:  # noqa: ASYNC110 - it is short
                await asyncio.sleep(SLOT_SECONDS)
            self.claims.was_answered()
            if not isinstance(woken, Exception):
                self._sleeper = None  # the next may begin
            self._pump.start(claim)
        for reply in (woken, claim):
            if isinstance(reply, Exception):
                raise reply

    async def _repeat_claim(self) -> None:
        """If its claim was not answered: what it gave is leased to this worker, and must not lie."""
        while self.claims.is_open and not self._pump.is_stopping:
            try:
                claim = await self._manager.execute(self._pump.claim_call(1, self.claims))
            except ServerError as error:
                await self._outage.judge([error])
            else:
                self.claims.was_answered()
                self._pump.start(claim)

    def _give_up_slot(self) -> None:
        self._turns.slots.reserved -= self._keeps_slot
        self._keeps_slot = False

    async def _pause(self, wait: Wait) -> None:
        def flow() -> Flow[bool]:
            is_woken: bool = yield wait
            return is_woken

        woken = await self._manager.run(flow())
        if woken and self._turns.free <= 0 and not self._pump.is_stopping:
            # Other shards have filled the slots meanwhile: the wake-up is for another worker.
            await self._manager.execute(self._commands.release_call([]))
