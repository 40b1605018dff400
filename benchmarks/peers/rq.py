"""RQ."""

from __future__ import annotations

from redis import Redis
from rq import Queue, Worker
from rq.job import Job

from benchmarks.harness import Options


class Producer:
    def __init__(self, options: Options) -> None:
        self.connection = Redis.from_url(options.url)
        self.queue = Queue(connection=self.connection)
        self.task = options.task

    def push(self, payload: str) -> Job:
        return self.queue.enqueue(self.task, payload)

    def push_many(self, payloads: list[str]) -> None:
        self.queue.enqueue_many([Queue.prepare_data(self.task, (payload,)) for payload in payloads])

    def wait(self, handle: Job) -> None:
        handle.latest_result(timeout=30)

    def close(self) -> None:
        self.connection.close()


def run_worker(options: Options) -> None:
    connection = Redis.from_url(options.url)
    Worker([Queue(connection=connection)], connection=connection).work(logging_level="WARNING")
