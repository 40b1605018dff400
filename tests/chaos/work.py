"""The tasks of the scenarios. They write down when they start and what they did."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

from fairque import Retry, TaskContext, TaskQueue, task
from tests.chaos.journal import Journal


class Here:
    """What the tasks of this process use: its journal, and who is told of the moments of a run."""

    journal: Journal
    queue: TaskQueue
    on_moment: Callable[[str], None] = staticmethod(lambda name: None)


def _start(context: TaskContext) -> None:
    Here.journal.write("start", [(context.task_id, context.attempt)], context.worker_id)
    Here.on_moment("run:started")


def _raised(context: TaskContext) -> None:
    Here.journal.write("raised", [(context.task_id, context.attempt)], context.worker_id)


def _effect(context: TaskContext) -> None:
    Here.on_moment("run:worked")
    Here.journal.write("effect", [(context.task_id, context.attempt)], context.worker_id)
    Here.on_moment("run:done")


@task(name="chaos.step", max_retries=0)
def step(context: TaskContext, seconds: float = 0.0, padding: str = "") -> int:
    _start(context)
    time.sleep(seconds)
    _effect(context)
    return context.attempt


@task(name="chaos.async_step", max_retries=0)
async def async_step(context: TaskContext, seconds: float = 0.0) -> int:
    _start(context)
    await asyncio.sleep(seconds)
    _effect(context)
    return context.attempt


@task(name="chaos.hang_once", max_retries=0)
def hang_once(context: TaskContext) -> int:
    """Hangs in its first attempt, for a fault to end it."""
    _start(context)
    time.sleep(60 if context.attempt == 1 else 0)
    _effect(context)
    return context.attempt


@task(name="chaos.stumble", max_retries=1, retry_delay=0.01)
def stumble(context: TaskContext) -> int:
    """Fails in its first attempt."""
    _start(context)
    if context.attempt == 1:
        _raised(context)
        raise ValueError("it stumbles at first")
    _effect(context)
    return context.attempt


@task(name="chaos.block_the_loop", max_retries=0)
async def block_the_loop(context: TaskContext, seconds: float) -> int:
    _start(context)
    time.sleep(seconds)  # noqa: ASYNC251 - blocking the loop is the point
    _effect(context)
    return context.attempt


class Gathering:
    """Lets tasks of this process go on once so many have come."""

    def __init__(self) -> None:
        self._come = 0
        self._all_here = asyncio.Event()

    async def join(self, count: int) -> None:
        self._come += 1
        if self._come == count:
            self._all_here.set()
        await self._all_here.wait()


gathering = Gathering()


@task(name="chaos.end_together", max_retries=0)
async def end_together(context: TaskContext, count: int) -> int:
    """In its first attempt it ends when `count` of its kind do, so that one finish carries them all."""
    _start(context)
    if context.attempt == 1:
        await gathering.join(count)
    _effect(context)
    return context.attempt


@task(name="chaos.kill_the_process", max_retries=0)
def kill_the_process(context: TaskContext, after: float = 0.0) -> None:
    _start(context)
    time.sleep(after)
    os.kill(os.getpid(), signal.SIGKILL)


@task(name="chaos.follow_up", max_retries=0)
def follow_up(context: TaskContext, delay: float) -> None:
    """Pushes a task that is due later, from the worker's process and its clock."""
    _start(context)
    name = f"{context.task_id}-later"
    Here.journal.write("trying", [(name, 0)])
    Here.queue.push(step(), user_id=context.user_id, task_id=name, delay=delay)
    Here.journal.write("pushed", [(name, 0)])
    _effect(context)


@task(name="chaos.try_later", max_retries=1)
def try_later(context: TaskContext, delay: float) -> int:
    """Asks for its second attempt."""
    _start(context)
    if context.attempt == 1:
        _raised(context)
        raise Retry(delay=delay)
    _effect(context)
    return context.attempt


@task(name="chaos.share", max_retries=0)
async def share(context: TaskContext, seconds: float = 0.0) -> int:
    """Uses the worker's connections while it runs."""
    _start(context)
    await context.xcom.push(f"{context.task_id} began", context.attempt)
    await asyncio.sleep(seconds)
    await context.xcom.push(f"{context.task_id} ends", context.attempt)
    _effect(context)
    return context.attempt
