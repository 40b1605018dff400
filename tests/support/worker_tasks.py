"""Tasks that worker tests run, in this process and in worker processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fairque import Retry, TaskContext, current_task, task


@task(name="tests.add")
def add(a: int, b: int) -> int:
    return a + b


@task(name="tests.async_add")
async def async_add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@task(name="tests.succeed_on", max_retries=5, retry_delay=0.01)
def succeed_on(context: TaskContext, attempt: int) -> int:
    if context.attempt < attempt:
        raise ValueError(f"attempt {context.attempt} is too early")
    return context.attempt


@task(name="tests.ask_for_retry", max_retries=2)
async def ask_for_retry(context: TaskContext) -> int:
    if context.attempt == 1:
        raise Retry(delay=0.02, reason="not yet")
    return context.attempt


@task(name="tests.sleep", max_retries=0)
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@task(name="tests.async_sleep", max_retries=0)
async def async_sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@task(name="tests.block_the_loop", max_retries=0)
async def block_the_loop(seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251 - blocking the loop is the point
    return "blocked"


@task(name="tests.wait_until_canceled", max_retries=0, timeout=30)
def wait_until_canceled(journal: str) -> None:
    context = current_task()
    write(journal, f"started {context.attempt}")
    while not context.canceled:
        time.sleep(0.005)
    write(journal, f"canceled {context.attempt}")


@task(name="tests.async_wait_until_canceled", max_retries=0, timeout=30)
async def async_wait_until_canceled(journal: str) -> None:
    context = current_task()
    write(journal, f"started {context.attempt}")
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        write(journal, f"canceled {context.attempt}")
        raise


@task(name="tests.journaled", max_retries=0)
def journaled(journal: str, number: int, seconds: float) -> int:
    """Writes a line when it starts and one when it is done, each with its process and attempt."""
    context = current_task()
    write(journal, f"start {number} {context.attempt} {os.getpid()}")
    time.sleep(seconds)
    write(journal, f"done {number} {context.attempt} {os.getpid()}")
    return number


@task(name="tests.hang_at_first", max_retries=0)
def hang_at_first(journal: str, number: int) -> int:
    """Hangs in its first attempt, for a test to kill the worker; the next one takes half a second."""
    context = current_task()
    write(journal, f"start {number} {context.attempt}")
    time.sleep(60 if context.attempt == 1 else 0.5)
    write(journal, f"done {number} {context.attempt}")
    return number


@task(name="tests.raise_system_exit", max_retries=0)
def raise_system_exit() -> None:
    raise SystemExit(3)


@task(name="tests.async_raise_system_exit", max_retries=0)
async def async_raise_system_exit() -> None:
    raise SystemExit(3)


@task(name="tests.whoami", max_retries=0)
def whoami(context: TaskContext) -> list[str]:
    return [context.user_id, context.task_id, str(context.attempt), context.worker_id]


@task(name="tests.return_unencodable", max_retries=3)
def return_unencodable() -> object:
    return object()


@task(name="tests.slow_then_named", max_retries=0, timeout=0.1, interrupt=False)
def outlive_timeout(journal: str) -> str:
    time.sleep(0.4)
    write(journal, "outlived")
    return "too late"


def write(journal: str, line: str) -> None:
    """Append a line, durably: journals are read after processes were killed."""
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lines(journal: Path) -> list[str]:
    """The journal so far."""
    return journal.read_text().splitlines() if journal.exists() else []


@task(name="tests.swallow_cancellation", max_retries=0)
async def swallow_cancellation(journal: str) -> None:
    """Does not end, whoever asks."""
    write(journal, "started")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


@task(name="tests.block_a_thread_of_the_loop", max_retries=0)
async def block_a_thread_of_the_loop(journal: str) -> None:
    write(journal, "started")
    await asyncio.to_thread(time.sleep, 60)


class LazyModel:
    """As an ORM's object whose column cannot be loaded any more."""

    def model_dump(self, mode: str) -> dict[str, Any]:
        raise KeyError("lazy column")


@task(name="tests.return_lazy_model", max_retries=0)
def return_lazy_model() -> Any:
    return LazyModel()


@dataclass
class Picky:
    number: int

    def __post_init__(self) -> None:
        if self.number != 1:
            raise KeyError(f"no number {self.number}")


@task(name="tests.take_picky", max_retries=0)
def take_picky(picky: Picky) -> int:
    return picky.number


class OwnRetry(Retry):
    def __init__(self) -> None:  # forgets its base's
        pass


@task(name="tests.raise_named", max_retries=0)
def raise_named(name: str) -> None:
    raise {"GeneratorExit": GeneratorExit, "OwnRetry": OwnRetry, "CancelledError": asyncio.CancelledError}[
        name
    ]


@task(name="tests.async_raise_named", max_retries=0)
async def async_raise_named(name: str) -> None:
    raise {"GeneratorExit": GeneratorExit, "OwnRetry": OwnRetry, "CancelledError": asyncio.CancelledError}[
        name
    ]


@task(name="tests.return_bytes", max_retries=0)
def return_text(length: int) -> str:
    return "x" * length


@task(name="tests.plain_around_async", max_retries=0)
def plain_around_async(number: int) -> Any:
    async def later() -> tuple[str, int]:
        await asyncio.sleep(0)
        return current_task().user_id, number

    return later()


@task(name="tests.note_and_sleep", max_retries=0)
def note_and_sleep(journal: str, seconds: float) -> None:
    write(journal, f"began {time.monotonic()} {os.getpid()}")
    time.sleep(seconds)
    write(journal, f"ended {time.monotonic()} {os.getpid()}")


@task(name="tests.number", max_retries=0)
def number(value: int) -> int:
    return value


@task(name="tests.double", max_retries=0)
async def double(value: int) -> int:
    return 2 * value


@task(name="tests.total", max_retries=0)
def total(values: Sequence[int | None]) -> int:
    return sum(value or 0 for value in values)


@task(name="tests.broken", max_retries=0)
def broken(value: int = 0) -> int:
    raise ValueError(f"broken by {value}")


@task(name="tests.pulling", max_retries=0, pull={"values": "number"})
def pulling(factor: int, values: list[int]) -> int:
    return factor * sum(values)


@task(name="tests.text", max_retries=0)
def text(size: int) -> str:
    return "x" * size


@task(name="tests.length", max_retries=0)
def length(value: str) -> int:
    return len(value)


@task(name="tests.published", max_retries=0, auto_xcom=True)
def published(value: int) -> int:
    return value


@task(name="tests.published_text", max_retries=3, retry_delay=0.01, auto_xcom=True)
def published_text(size: int) -> str:
    return "x" * size


@task(name="tests.published_later", max_retries=0, auto_xcom=True)
async def published_later(value: int) -> int:
    return value


@task(name="tests.read_xcom", max_retries=0)
def read_xcom(context: TaskContext, *keys: str) -> list[Any]:
    return [context.xcom.pull(key) for key in keys]


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Box:
    value: Any


@task(name="tests.same", max_retries=0)
def same(value: Any) -> Any:
    return value


@task(name="tests.block_the_loop_at_first", max_retries=0)
async def block_the_loop_at_first(journal: str, seconds: float) -> int:
    """Blocks the event loop in its first attempt."""
    context = current_task()
    write(journal, f"start {context.attempt} {os.getpid()}")
    if context.attempt == 1 and context.worker_id != "second":
        time.sleep(seconds)  # noqa: ASYNC251 - blocking the loop is the point
    return context.attempt


@task(name="tests.outlive_on_the_loop", max_retries=0, timeout=0.2)
async def outlive_on_the_loop(journal: str, seconds: float) -> None:
    """Blocks the event loop for longer than its timeout."""
    write(journal, "start")
    time.sleep(seconds)  # noqa: ASYNC251 - blocking the loop is the point


@task(name="tests.fork", max_retries=0)
def fork(journal: str, seconds: float) -> int:
    """Forks a child that does nothing for some time, and writes down its process id."""
    child = os.fork()
    if child == 0:
        time.sleep(seconds)
        os._exit(0)
    write(journal, f"child {child}")
    return child


@task(name="tests.fork_and_return", max_retries=0)
async def fork_and_return(journal: str) -> int:
    """A mistake: the child goes on with the worker's event loop."""
    child = os.fork()
    if child == 0:
        await asyncio.sleep(0)
        return -1
    write(journal, f"child {child}")
    os.waitpid(child, 0)  # noqa: ASYNC222 - blocking the loop is the point
    return child


@task(name="tests.end_a_process", max_retries=0)
def end_a_process(journal: str) -> int | None:
    """Starts a process of multiprocessing by a fork, and ends it by SIGTERM."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    write(journal, f"child {process.pid}")
    process.terminate()
    process.join(10)
    return process.exitcode


_kept: list[bytearray] = []


@task(name="tests.keep", max_retries=0)
def keep(mebibytes: int) -> None:
    """Occupies memory for good."""
    _kept.append(bytearray(os.urandom(1024)) * (1024 * mebibytes))


@task(name="tests.note_signals_on_the_loop", max_retries=0)
async def note_signals_on_the_loop(journal: str, number: int) -> None:
    """Has the event loop write a line for each such signal from now on."""
    asyncio.get_running_loop().add_signal_handler(number, lambda: write(journal, "heard"))


@task(name="tests.note_signals", max_retries=0)
async def note_signals(journal: str, number: int) -> None:
    """From now on the worker's process writes down this signal."""
    signal.signal(number, lambda *_: write(journal, "heard"))
