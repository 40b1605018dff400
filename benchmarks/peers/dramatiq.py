"""Dramatiq."""

from __future__ import annotations

import signal
import threading

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.harness import Options


def _actor(options: Options) -> dramatiq.Actor:
    broker = RedisBroker(url=options.url)
    if options.kind == "async":
        broker.add_middleware(AsyncIO())
    if options.results != "default":
        broker.add_middleware(Results(backend=RedisBackend(url=options.url), store_results=True))
    return dramatiq.actor(options.task, broker=broker)


class Producer:
    def __init__(self, options: Options) -> None:
        self.actor = _actor(options)

    def push(self, payload: str) -> dramatiq.Message:
        return self.actor.send(payload)

    def push_many(self, payloads: list[str]) -> None:
        for payload in payloads:
            self.actor.send(payload)

    def wait(self, handle: dramatiq.Message) -> None:
        backend = self.actor.broker.get_results_backend()
        handle.get_result(backend=backend, block=True, timeout=30_000)

    def close(self) -> None:
        self.actor.broker.close()


def run_worker(options: Options) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    worker = dramatiq.Worker(_actor(options).broker, worker_threads=options.concurrency)
    worker.start()
    stop.wait()
    worker.stop()
