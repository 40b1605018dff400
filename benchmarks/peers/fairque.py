"""FairQueue."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from benchmarks.harness import Options
from fairque import TaskHandle, TaskQueue, Worker, task


class Producer:
    def __init__(self, options: Options) -> None:
        self.queue = TaskQueue(options.url)
        self.task = task(options.task)
        self.users = cycle([f"user-{number}" for number in range(options.users)])

    def push(self, payload: str) -> TaskHandle[Any]:
        handle: TaskHandle[Any] = self.queue.push(self.task(payload), user_id=next(self.users))
        return handle

    def push_many(self, payloads: list[str]) -> None:
        self.queue.push_batch(
            [self.task(payload).with_options(user_id=next(self.users)) for payload in payloads]
        )

    def wait(self, handle: TaskHandle[Any]) -> None:
        handle.result(timeout=30)

    def close(self) -> None:
        self.queue.close()


def run_worker(options: Options) -> None:
    task(options.task)
    Worker(options.url, concurrency=options.concurrency).run()
