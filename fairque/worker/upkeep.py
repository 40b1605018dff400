"""What every worker does for a shard beside its tasks: it takes back expired leases, and cleans up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import TYPE_CHECKING

from fairque.core.exceptions import QueueClosedError, ServerError, UnsafeServerError

if TYPE_CHECKING:
    from fairque.queue.commands import ShardCommands
    from fairque.utils.async_lua_manager import AsyncLuaScriptManager

logger = logging.getLogger("fairque.worker")

MAINTENANCE_SECONDS = 1.0  # between looks for expired leases
CLEANUP_EVERY = 10  # such looks
MAINTENANCE_BATCH = 200  # tasks at a time
BREATH_SECONDS = 0.01


class Upkeep:
    """Keeps a shard in order. Every worker does so; the scripts make it safe.

    Args:
        manager: Runs the calls.
        commands: Builds them.
    """

    def __init__(self, manager: AsyncLuaScriptManager, commands: ShardCommands) -> None:
        self._manager = manager
        self._commands = commands
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the call that is under way: canceled while it connects, redis-py would lose a socket."""
        self._stopping.set()

    async def run(self) -> None:
        """Go on until stopped."""
        looks = 0
        while not self._stopping.is_set():
            try:
                await self._reclaim()
                if looks % CLEANUP_EVERY == 0:
                    await self._clean_up()
                    await self._manager.run(self._commands.policies.publish_if_lost())
                    await self._manager.run(self._commands.server.again())
            except (QueueClosedError, UnsafeServerError):
                return  # the pump says so
            except ServerError as error:  # the pump logs the outage
                logger.debug("maintenance failed: %s", error)
            except Exception:
                logger.exception("maintenance failed")
            looks += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAINTENANCE_SECONDS * (0.75 + secrets.randbelow(500) / 1000)):
                    await self._stopping.wait()

    async def _reclaim(self) -> None:
        found = MAINTENANCE_BATCH
        while found == MAINTENANCE_BATCH and not self._stopping.is_set():
            reclaimed = await self._manager.execute(self._commands.reclaim(MAINTENANCE_BATCH))
            found = len(reclaimed)

    async def _clean_up(self) -> None:
        removed = MAINTENANCE_BATCH
        while removed == MAINTENANCE_BATCH and not self._stopping.is_set():
            removed = await self._manager.run(self._commands.cleanup(MAINTENANCE_BATCH))
            await asyncio.sleep(BREATH_SECONDS)  # let others have the server in between
