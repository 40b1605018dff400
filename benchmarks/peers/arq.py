"""arq."""

from __future__ import annotations

from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job
from arq.worker import Worker

from benchmarks.harness import Options
from benchmarks.tasks import async_task


async def task(_context: dict[str, Any], payload: str) -> str | None:
    return await async_task(payload)


class Producer:
    def __init__(self, options: Options) -> None:
        self.settings = RedisSettings.from_dsn(options.url)

    async def open(self) -> None:
        self.pool = await create_pool(self.settings)

    async def push(self, payload: str) -> Job | None:
        return await self.pool.enqueue_job("task", payload)

    async def push_many(self, payloads: list[str]) -> None:
        for payload in payloads:
            await self.pool.enqueue_job("task", payload)

    async def wait(self, handle: Job) -> None:
        await handle.result(timeout=30)

    async def close(self) -> None:
        await self.pool.aclose()


def run_worker(options: Options) -> None:
    settings = RedisSettings.from_dsn(options.url)
    Worker([task], redis_settings=settings, max_jobs=options.concurrency).run()
