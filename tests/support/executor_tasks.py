"""Tasks for the tests of executors: what is well-behaved, and what is not."""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairque import Retry, TaskContext, current_task, task
from tests.support.worker_tasks import LazyModel, write

letter: contextvars.ContextVar[str] = contextvars.ContextVar("letter", default="none")


# --- what is used in both, by the worker's executor ---


@task(name="executors.where", max_retries=0)
def where(context: TaskContext) -> dict[str, Any]:
    here = current_task()
    return {
        "pid": os.getpid(),
        "same": here is context,
        "user": here.user_id,
        "task": here.task_id,
        "attempt": here.attempt,
        "worker": here.worker_id,
        "remaining": here.remaining,
        "canceled": here.canceled,
    }


@task(name="executors.turn", max_retries=0)
def turn(value: str) -> str:
    """Sets a context variable, and gives what the task before left of it."""
    before = letter.get()
    letter.set(value)
    return before


@task(name="executors.greet", max_retries=0)
def greet(name: str, *, greeting: str = "hello") -> str:
    return f"{greeting} {name}"


@task(name="executors.count_up", max_retries=0)
def count_up(journal: str) -> None:
    """A busy loop, which never looks whether it is wanted."""
    write(journal, f"started {os.getpid()}")
    try:
        while True:
            sum(range(1_000))
    finally:
        write(journal, "ended")


@task(name="executors.count_up_stubbornly", max_retries=0)
def count_up_stubbornly(journal: str) -> None:
    """The same, and it swallows what it can."""
    write(journal, f"started {os.getpid()}")
    try:
        while True:
            with contextlib.suppress(Exception):  # as much code does
                sum(range(1_000))
    finally:
        write(journal, "ended")


@task(name="executors.count_on", max_retries=0, interrupt=False)
def count_on(journal: str) -> None:
    write(journal, "started")
    context, began = current_task(), time.monotonic()
    while not context.canceled:
        sum(range(1_000))
    while time.monotonic() - began < 2:
        sum(range(1_000))
    write(journal, "ended by itself")


@task(name="executors.clean_up", max_retries=0)
def clean_up(journal: str) -> None:
    """Looks whether it is wanted, and ends in its own way."""
    write(journal, "started")
    context = current_task()
    while not context.canceled:
        time.sleep(0.005)
    write(journal, "cleaned up")


@task(name="executors.busy_with_xcom", max_retries=0)
def busy_with_xcom(context: TaskContext, journal: str) -> None:
    write(journal, "started")
    while True:
        context.xcom.pull("nothing", default=None)


@task(name="executors.read_and_write", max_retries=0)
def read_and_write(context: TaskContext, key: str) -> int:
    value: int = context.xcom.pull(key, default=0) + 1
    context.xcom.push(key, value)
    return value


@task(name="executors.published", max_retries=0, auto_xcom=True)
def published(value: int) -> int:
    return value


@task(name="executors.plain_around_async", max_retries=0)
def plain_around_async(number: int) -> Any:
    async def later() -> tuple[str, int]:
        return current_task().user_id, number

    return later()


@task(name="executors.async_where", max_retries=0)
async def async_where() -> int:
    return os.getpid()


@task(name="executors.process", executor="process", max_retries=0)
def in_process() -> int:
    return os.getpid()


@task(name="executors.thread", executor="thread", max_retries=0)
def in_thread() -> int:
    return os.getpid()


# --- exceptions ---


class Custom(Exception):  # noqa: N818 - a user's name
    """Pickles, and cannot be unpickled."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Unpicklable(Exception):  # noqa: N818 - a user's name
    def __init__(self) -> None:
        super().__init__("it holds a lock")
        self.lock = threading.Lock()


class Unspeakable(Exception):  # noqa: N818 - a user's name
    def __str__(self) -> str:
        raise RuntimeError("no words")


class UnspeakableExit(BaseException):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class OwnRetry(Retry):
    def __init__(self, delay: Any) -> None:  # forgets its base's
        self.delay = delay


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def _local() -> None:
    class LocalError(ValueError):
        pass

    raise LocalError("of a class that nobody else knows")


def _chained() -> None:
    try:
        raising(KeyError("the cause"))
    except KeyError as error:
        raise ValueError("the effect") from error


def raising(error: BaseException) -> None:
    raise error


WAYS: dict[str, Callable[[], Any]] = {
    "ValueError": lambda: raising(ValueError("plain")),
    "Custom": lambda: raising(Custom(7, "seven")),
    "Unpicklable": lambda: raising(Unpicklable()),
    "Unspeakable": lambda: raising(Unspeakable()),
    "UnspeakableExit": lambda: raising(UnspeakableExit()),
    "Local": _local,
    "chained": _chained,
    "recursion": recurse,
    "sys.exit": lambda: sys.exit(5),
    "KeyboardInterrupt": lambda: raising(KeyboardInterrupt()),
    "StopIteration": lambda: raising(StopIteration(1)),
    "Retry": lambda: raising(Retry(delay=0.01, reason="again")),
    "OwnRetry": lambda: raising(OwnRetry(0.01)),
    "BadRetry": lambda: raising(OwnRetry("soon")),
    "unencodable": object,
    "lazy": LazyModel,
    "huge": lambda: "x" * 2_000_000,
    "large": lambda: "x" * 1_000_000,
}


@task(name="executors.fail", max_retries=1, retry_delay=0.01, no_retry_on=Custom)
def fail(way: str) -> Any:
    return WAYS[way]()


@task(name="executors.fail_unless_retried", max_retries=1, retry_delay=0.01, retry_on=Custom)
def fail_unless_retried(context: TaskContext, way: str) -> str:
    return "retried" if context.attempt == 2 else WAYS[way]()


# --- what a process alone survives ---


@task(name="executors.segfault", executor="process", max_retries=0)
def segfault() -> None:
    ctypes.string_at(0)


@task(name="executors.exit", executor="process", max_retries=1, retry_delay=0.01)
def exit_at_first(context: TaskContext, code: int) -> int:
    if context.attempt == 1:
        os._exit(code)
    return os.getpid()


@task(name="executors.print", executor="process", max_retries=0)
def shout(text: str) -> None:
    print(text)
    print(text, file=sys.stderr)
    os.write(1, text.encode())


@task(name="executors.hold_the_gil", executor="process", max_retries=0)
def hold_the_gil(journal: str) -> None:
    write(journal, f"started {os.getpid()}")
    re.match(r"(a+)+$", "a" * 40 + "b")


@task(name="executors.hang", executor="process", max_retries=0)
def hang(journal: str, seconds: float = 60.0) -> str:
    write(journal, f"started {os.getpid()}")
    time.sleep(seconds)
    write(journal, "done")
    return "slept"


@task(name="executors.thread_left", executor="process", max_retries=0)
def leave_a_thread() -> int:
    threading.Thread(target=time.sleep, args=(60,)).start()
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return os.getpid()


@task(name="executors.with_subprocess", executor="process", max_retries=0)
def run_a_program(journal: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as program:
        write(journal, f"program {program.pid}")


@task(name="executors.fork_and_die", executor="process", max_retries=0)
def fork_and_die(journal: str) -> None:
    """What it forks holds its end of the connection open."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    write(journal, f"fork {pid}")
    os.kill(os.getpid(), signal.SIGKILL)


@task(name="executors.close_everything", executor="process", max_retries=0)
def close_everything() -> None:
    os.closerange(3, 1_000)


@task(name="executors.own_pool", executor="process", max_retries=0)
def use_a_pool() -> list[int]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(abs, [-1, -2])


@task(name="executors.signals", executor="process", max_retries=0)
def signal_itself() -> list[str]:
    """SIGINT and SIGTERM are the worker's business; others work as in any main thread."""
    got: list[str] = []
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGALRM, lambda *_: got.append("alarm"))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while not got:
        time.sleep(0.005)
    with subprocess.Popen(["sleep", "60"]) as program:  # nor do programs inherit that they are ignored
        program.send_signal(signal.SIGINT)
        got.append(str(program.wait()))
    return got


@task(name="executors.memory", executor="process", max_retries=0)
def memory() -> float:
    """Megabytes that this process holds alone."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_\w+:\s+(\d+)", text, re.MULTILINE)) / 1024
