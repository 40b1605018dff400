"""Docket (pydocket)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from docket import Docket, Worker

from benchmarks.harness import Options, run


def _docket(options: Options) -> Docket:
    return Docket(name="benchmark", url=f"{options.url}?max_connections=1000")


class Producer:
    def __init__(self, options: Options) -> None:
        self.docket = _docket(options)
        self.task = options.task
        self.docket.register(self.task)

    async def open(self) -> None:
        await self.docket.__aenter__()

    async def push(self, payload: str) -> Any:
        return await self.docket.add(self.task)(payload)

    async def push_many(self, payloads: list[str]) -> None:
        await self.docket.add_many([self.docket.call(self.task)(payload) for payload in payloads])

    async def wait(self, handle: Any) -> None:
        await handle.get_result(timeout=timedelta(seconds=30))

    async def close(self) -> None:
        await self.docket.__aexit__(None, None, None)


def run_worker(options: Options) -> None:
    async def main() -> None:
        async with _docket(options) as docket:
            docket.register(options.task)
            interval = timedelta(milliseconds=10)
            async with Worker(
                docket, concurrency=options.concurrency, minimum_check_interval=interval
            ) as worker:
                await worker.run_forever()

    run(main())
