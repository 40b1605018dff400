"""Small things that many tests do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from redis import Redis

from fairque.core.models import Task
from fairque.queue.queue import TaskQueue

# A lease that is over by the time anybody looks: reclaim() takes it back at once.
BLINK = 0.001


def make(user: str, name: str, **options: Any) -> Task[Any]:
    """A task of this user whose id and payload are `name`."""
    return Task.create(user_id=user, task_id=name, payload=name, **options)


def push(queue: TaskQueue, user: str, *names: str, **options: Any) -> None:
    queue.push_batch([make(user, name, **options) for name in names])


def popped(queue: TaskQueue, worker: str = "w", **options: Any) -> Task[Any]:
    task = queue.pop(worker, **options)
    assert task is not None, "the queue gave nothing"
    return task


def names(tasks: Iterable[Task[Any]]) -> list[str]:
    return [task.task_id for task in tasks]


def drain(queue: TaskQueue, batch: int = 1) -> list[Task[Any]]:
    """Pop and finish until nothing is ready; the tasks in the order they came."""
    taken: list[Task[Any]] = []
    while tasks := queue.pop_batch("w", batch):
        taken += tasks
        queue.finish_batch((task, None) for task in tasks)
    return taken


def server_ms(raw: Redis) -> float:
    seconds, microseconds = raw.time()
    return float(seconds * 1000 + microseconds / 1000)


def sleep_past(raw: Redis, milliseconds: float) -> None:
    """Until the server's clock is past this time."""
    while (left := milliseconds - server_ms(raw)) >= 0:
        time.sleep(left / 1000 + 0.001)


def lapse(queue: TaskQueue, raw: Redis, worker: str = "w") -> Task[Any]:
    """Pop a task whose lease has run out when this returns."""
    task = popped(queue, worker, lease=BLINK)
    assert task.run.lease_expires_at is not None
    sleep_past(raw, task.run.lease_expires_at)
    return task


def eventually(condition: Callable[[], bool], within: float = 10) -> None:
    """Wait for something that happens in another thread or on the server and announces itself nowhere."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
