"""Celery."""

from __future__ import annotations

from typing import Any

from celery import Celery

from benchmarks.harness import Options


def _app(options: Options) -> Celery:
    app = Celery("benchmark", broker=options.url, set_as_current=False)
    app.conf.update(
        result_backend=None if options.results == "default" else options.url,
        task_ignore_result=options.results == "default",
        worker_prefetch_multiplier=64,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
    )
    app.task(options.task, name="task")
    return app


class Producer:
    def __init__(self, options: Options) -> None:
        self.app = _app(options)
        self.task = self.app.tasks["task"]

    def push(self, payload: str) -> Any:
        return self.task.delay(payload)

    def push_many(self, payloads: list[str]) -> None:
        with self.app.producer_pool.acquire(block=True) as producer:
            for payload in payloads:
                self.task.apply_async((payload,), producer=producer)

    def wait(self, handle: Any) -> None:
        handle.get(timeout=30)

    def close(self) -> None:
        self.app.close()


def run_worker(options: Options) -> None:
    quiet = ["--loglevel=WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    _app(options).worker_main(["worker", "--pool=threads", f"--concurrency={options.concurrency}", *quiet])
