"""ArdiQ."""

from __future__ import annotations

from typing import Any

from ardiq import Ardiq

from benchmarks.harness import Options, run


def _app(options: Options) -> tuple[Ardiq, Any]:
    app = Ardiq(redis_url=options.url, queue_name="benchmark", concurrency=options.concurrency)
    return app, app.task()(options.task)


class Producer:
    def __init__(self, options: Options) -> None:
        self.app, self.task = _app(options)

    async def push(self, payload: str) -> Any:
        return await self.task.enqueue(payload)

    async def push_many(self, payloads: list[str]) -> None:
        await self.app.enqueue_many([self.task.prepare(payload) for payload in payloads])

    async def wait(self, handle: Any) -> None:
        await handle.result(timeout=30)

    async def close(self) -> None:
        """Its connections close with the process."""


def run_worker(options: Options) -> None:
    app, _ = _app(options)
    run(app.run())
