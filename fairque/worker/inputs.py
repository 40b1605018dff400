"""Fetches the results that a task's arguments name, before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairque.worker.outage import sit_out

if TYPE_CHECKING:
    from fairque.core.models import Task
    from fairque.queue.shards import QueueCommands
    from fairque.utils.async_lua_manager import AsyncLuaScriptManager
    from fairque.worker.execution import Running


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
        return await sit_out(
            lambda: self._manager.run(self._commands.of(running.task.user_id).inputs(running.task)),
            lambda: not running.dropped,
        )
