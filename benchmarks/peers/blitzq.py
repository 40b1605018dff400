"""BlitzQ, in its reliable mode."""

from __future__ import annotations

from typing import Any

from blitzq import Queue, Worker

from benchmarks.harness import Options, run


def _queue(options: Options) -> tuple[Queue, Any]:
    queue = Queue(name="benchmark", redis_url=options.url, mode="reliable")
    return queue, queue.task(options.task)


class Producer:
    def __init__(self, options: Options) -> None:
        self.queue, self.task = _queue(options)

    async def push(self, payload: str) -> Any:
        return await self.task.enqueue(payload)

    async def push_many(self, payloads: list[str]) -> None:
        await self.task.enqueue_many([(payload,) for payload in payloads])

    async def wait(self, handle: Any) -> None:
        await self.queue.get_result(handle.id, timeout=30)

    async def close(self) -> None:
        await self.queue.close()


def run_worker(options: Options) -> None:
    queue, _ = _queue(options)
    run(Worker(queue, concurrency=options.concurrency, threads=min(options.concurrency, 10)).run())
