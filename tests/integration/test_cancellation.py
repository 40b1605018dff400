"""An asyncio task that is told to end ends, wherever in redis-py the word reaches it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fairque.core.config import FairQueueConfig
from fairque.queue.async_queue import AsyncTaskQueue


async def _execute(queue: AsyncTaskQueue) -> None:
    await queue.manager.execute(queue.commands.shards[0].stats())


async def _execute_together(queue: AsyncTaskQueue) -> None:
    await queue.manager.execute_together([queue.commands.shards[0].stats(), queue.commands.shards[0].stats()])


async def _run(queue: AsyncTaskQueue) -> None:
    await queue.stats()


async def _pop(queue: AsyncTaskQueue) -> None:
    await queue.pop("w", block=0.001)


@pytest.mark.parametrize("work", [_execute, _execute_together, _run, _pop])
async def test_no_cancellation_is_lost(
    config: FairQueueConfig, work: Callable[[AsyncTaskQueue], Awaitable[None]]
) -> None:
    async with AsyncTaskQueue(config) as queue:

        async def again_and_again() -> None:
            while True:
                await work(queue)

        for steps in range(25):
            await work(queue)  # there is a connection
            going = asyncio.create_task(again_and_again())
            for _ in range(steps):
                await asyncio.sleep(0)
            going.cancel()
            await asyncio.wait({going}, timeout=1)
            assert going.cancelled(), f"a cancellation after {steps} steps was swallowed"
