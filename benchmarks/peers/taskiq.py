"""Taskiq, with the stream broker of taskiq-redis: the one of its brokers that acknowledges."""

from __future__ import annotations

from typing import Any

from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.harness import Options, run


def _broker(options: Options) -> RedisStreamBroker:
    broker = RedisStreamBroker(options.url)
    if options.results != "default":
        broker = broker.with_result_backend(RedisAsyncResultBackend(options.url, result_ex_time=86_400))
    broker.register_task(options.task, "task")
    return broker


class Producer:
    def __init__(self, options: Options) -> None:
        self.broker = _broker(options)
        self.task = self.broker.find_task("task")

    async def open(self) -> None:
        await self.broker.startup()

    async def push(self, payload: str) -> Any:
        return await self.task.kiq(payload)

    async def push_many(self, payloads: list[str]) -> None:
        for payload in payloads:
            await self.task.kiq(payload)

    async def wait(self, handle: Any) -> None:
        await handle.wait_result(timeout=30)

    async def close(self) -> None:
        await self.broker.shutdown()


def run_worker(options: Options) -> None:
    threads = {"sync_workers": options.concurrency} if options.kind == "plain" else {}
    broker = _broker(options)
    run(run_receiver_task(broker, max_async_tasks=options.concurrency, run_startup=True, **threads))
