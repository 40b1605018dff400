"""A worker process of the chaos suite: an ordinary worker, with what the suite does to it and asks of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fairque import FairQueueConfig, Task, TaskQueue, Worker
from fairque.core.calls import Call
from fairque.queue.commands import ShardCommands
from tests.chaos.journal import Journal
from tests.chaos.wire import Fault
from tests.chaos.work import Here


def shift_clock(seconds: float) -> None:
    """This process's clock goes wrong by so much, for all who ask the time of day."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


def witness_finishes(journal: Journal, worker: str) -> None:
    """Write down the server's answer to each finish, as soon as it is read."""
    finish_call = ShardCommands.finish_call

    def witnessed(commands: ShardCommands, items: Sequence[tuple[Task[Any], bytes]]) -> Call[list[bool]]:
        call = finish_call(commands, items)

        def read(reply: Any) -> list[bool]:
            flags = call.read(reply)
            for kind, wanted in (("accepted", True), ("refused", False)):
                told = [
                    (task.task_id, task.attempt)
                    for (task, _), flag in zip(items, flags, strict=True)
                    if flag is wanted
                ]
                if told:
                    journal.write(kind, told, worker)
            return flags

        return msgspec.structs.replace(call, read=read)

    ShardCommands.finish_call = witnessed  # type: ignore[method-assign, assignment]


class Orders(NamedTuple):
    """What a worker process is to be.

    Args:
        config: Settings for its `FairQueueConfig`.
        options: Of its `Worker`.
        journal: Where to write.
        log: A file for what it logs.
        fault: A point and the signal that it sends itself there.
        clock: By how many seconds its clock is wrong.
    """

    config: dict[str, Any]
    options: dict[str, Any]
    journal: Path
    log: Path
    fault: tuple[str, signal.Signals] | None = None
    clock: float = 0.0


def main(orders: Orders) -> None:
    os.dup2(os.open(orders.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), sys.stderr.fileno())
    shift_clock(orders.clock)
    config = FairQueueConfig.model_validate(orders.config)
    Here.journal = Journal(orders.journal)
    Here.queue = TaskQueue(config)
    worker = Worker(config, **orders.options)
    witness_finishes(Here.journal, worker.worker_id)
    if orders.fault:
        Fault(*orders.fault, Here.journal, worker.worker_id).arm()
    Here.journal.write("ready", [("worker", 0)], worker.worker_id)
    worker.run()
