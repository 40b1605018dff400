"""Fetches the results that a task's arguments name, before it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fairque.core.exceptions import QueueClosedError, ServerError

if TYPE_CHECKING:
    from fairque.core.models import Task
    from fairque.queue.commands import QueueCommands
    from fairque.utils.async_lua_manager import AsyncLuaScriptManager
    from fairque.worker.execution import Running

PAUSE_SECONDS = 0.5  # between tries while the server is away


class Inputs:
    """Fills in inputs, and waits for the server where it is away.

    Args:
        manager: Runs the calls.
        commands: Builds them.
    """

    def __init__(self, manager: AsyncLuaScriptManager, commands: QueueCommands) -> None:
        self._manager = manager
        self._commands = commands

    async def fill(self, running: Running) -> Task[Any]:
        """The attempt's task, with results in the place of outputs.

        Raises:
            ResultExpiredError: One is no longer kept.
            DecodeError: The body, or a result, cannot be decoded.
        """
        while True:
            try:
                return await self._manager.run(self._commands.inputs(running.task))
            except QueueClosedError:
                raise
            except ServerError:
                if running.dropped:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
