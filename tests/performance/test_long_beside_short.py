"""What long tasks cost the short ones beside them: their slots, and no more."""

from __future__ import annotations

import asyncio
import time

from redis import Redis

from fairque import AsyncWorker, TaskQueue, task
from fairque.utils.loops import new_event_loop

SHORT = 1_500
SLOTS_FOR_SHORT = 4
ROUNDS = 3
AT_LEAST = 0.6  # measured 0.9 to 1.1; 0.4 where the ends of short tasks wait for long ones


def test_short_tasks_run_as_fast_beside_long_ones_as_in_as_many_slots_of_their_own(
    queue: TaskQueue, raw: Redis
) -> None:
    ended = 0
    is_enough = asyncio.Event()

    @task
    async def short() -> None:
        nonlocal ended
        ended += 1
        if ended == SHORT:
            is_enough.set()

    @task
    async def long() -> None:
        await asyncio.sleep(60)

    async def rate(beside: int) -> float:
        nonlocal ended
        ended = 0
        is_enough.clear()
        queue.push_batch([long() for _ in range(beside)], user_id="long")
        queue.push_batch([short() for _ in range(SHORT)], user_id="short")
        worker = AsyncWorker(queue, concurrency=SLOTS_FOR_SHORT + beside, graceful_shutdown_timeout=0.1)
        began = time.monotonic()
        running = asyncio.create_task(worker.run())
        await is_enough.wait()
        took = time.monotonic() - began
        worker.stop()
        await running
        raw.flushall()
        return SHORT / took

    async def ratio() -> float:
        """The best of several rounds, in turn."""
        rates = [(await rate(0), await rate(6)) for _ in range(ROUNDS)]
        return max(beside for _, beside in rates) / max(alone for alone, _ in rates)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(ratio()) >= AT_LEAST
