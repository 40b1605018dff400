"""Huey."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey

from benchmarks.harness import Options


def _huey(options: Options) -> tuple[RedisHuey, Any]:
    huey = RedisHuey("benchmark", url=options.url, notify_result=options.results == "awaited")
    if options.results == "awaited":
        huey.store_none = True
    return huey, huey.task()(options.task)


class Producer:
    def __init__(self, options: Options) -> None:
        self.huey, self.task = _huey(options)

    def push(self, payload: str) -> Any:
        return self.task(payload)

    def push_many(self, payloads: list[str]) -> None:
        for payload in payloads:
            self.task(payload)

    def wait(self, handle: Any) -> None:
        handle.get(blocking=True, timeout=30)

    def close(self) -> None:
        self.huey.storage.pool.disconnect()


def run_worker(options: Options) -> None:
    huey, _ = _huey(options)
    huey.create_consumer(workers=options.concurrency, periodic=False).run()
