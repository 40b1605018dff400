"""Which shards are a worker's home: it leans to them while they have work, and others are stolen from."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING

from fairque.core.exceptions import FairQueueError, QueueClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fairque.queue.shards import QueueCommands
    from fairque.utils.async_lua_manager import AsyncLuaScriptManager
    from fairque.worker.turns import Turns

logger = logging.getLogger("fairque.worker")

LOOK_SECONDS = 5.0  # between looks for who lives


def homes_of(worker_id: str, workers: Iterable[str], shards: int) -> set[int]:
    """The shards that rendezvous hashing gives to a worker; the one that is nearest to it, if none.

    D. G. Thaler, C. V. Ravishankar: "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions
    on Networking 6(1), 1998. A worker that comes or goes moves only the shards that it gets or had.
    """
    everybody = {*workers, worker_id}
    owned = {shard for shard in range(shards) if max(everybody, key=_weight_for(shard)) == worker_id}
    return owned or {max(range(shards), key=lambda shard: _weight(worker_id, shard))}


def _weight_for(shard: int) -> Callable[[str], bytes]:
    return lambda worker_id: _weight(worker_id, shard)


def _weight(worker_id: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}:{worker_id}".encode(), digest_size=8).digest()


class Homes:
    """Keeps a worker's home shards up to date.

    Args:
        manager: Runs the calls.
        commands: Builds them.
        worker_id: Whose homes.
        turns: Is told of them.
    """

    def __init__(
        self, manager: AsyncLuaScriptManager, commands: QueueCommands, worker_id: str, turns: Turns
    ) -> None:
        self._manager = manager
        self._commands = commands
        self._worker_id = worker_id
        self._turns = turns

    async def run(self) -> None:
        """Go on until canceled."""
        shards = len(self._commands.shards)
        while shards > 1:
            try:
                workers = await self._living()
            except QueueClosedError:
                return
            self._turns.stay_home(homes_of(self._worker_id, workers, shards))
            await asyncio.sleep(LOOK_SECONDS)

    async def _living(self) -> list[str]:
        """Every shard is told who lives: the first that answers says it."""
        for shard in self._commands.shards:
            try:
                return await self._manager.execute(shard.workers())
            except QueueClosedError:
                raise
            except FairQueueError as error:  # the pump says what is wrong
                logger.debug("the workers cannot be asked for: %s", error)
        return []
