"""streaQ."""

from __future__ import annotations

from typing import Any

from streaq import Worker

from benchmarks.harness import Options


class Producer:
    def __init__(self, options: Options) -> None:
        self.worker: Worker[Any] = Worker(redis_url=options.url)
        self.task = self.worker.task(options.task)

    async def open(self) -> None:
        await self.worker.__aenter__()

    async def push(self, payload: str) -> Any:
        return await self.task.enqueue(payload)

    async def push_many(self, payloads: list[str]) -> None:
        await self.worker.enqueue_many([self.task.enqueue(payload) for payload in payloads])

    async def wait(self, handle: Any) -> None:
        await handle.result(timeout=30)

    async def close(self) -> None:
        await self.worker.__aexit__(None, None, None)


def run_worker(options: Options) -> None:
    worker: Worker[Any] = Worker(redis_url=options.url, concurrency=options.concurrency)
    worker.task(options.task)
    worker.run_sync()
