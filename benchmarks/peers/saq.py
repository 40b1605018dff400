"""SAQ."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from saq import Job, Queue, Worker

from benchmarks.harness import Options, run
from benchmarks.tasks import async_task, plain_task


async def async_function(_context: Any, *, payload: str) -> str | None:
    return await async_task(payload)


def plain_function(_context: Any, *, payload: str) -> str | None:
    return plain_task(payload)


class Producer:
    def __init__(self, options: Options) -> None:
        self.queue = Queue.from_url(options.url)
        self.name = f"{options.kind}_function"

    async def open(self) -> None:
        await self.queue.connect()

    async def push(self, payload: str) -> Job | None:
        return await self.queue.enqueue(self.name, payload=payload)

    async def push_many(self, payloads: list[str]) -> None:
        await asyncio.gather(*[self.queue.enqueue(self.name, payload=payload) for payload in payloads])

    async def push_and_wait(self, payload: str) -> None:
        await self.queue.apply(self.name, timeout=30, payload=payload)

    async def close(self) -> None:
        await self.queue.disconnect()


def run_worker(options: Options) -> None:
    async def main() -> None:
        queue = Queue.from_url(options.url)
        await queue.connect()
        worker = Worker(queue, [async_function, plain_function], concurrency=options.concurrency)
        worker.pool = ThreadPoolExecutor(options.concurrency)
        await worker.start()

    run(main())
