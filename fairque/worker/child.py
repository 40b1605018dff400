"""A process in which a worker has plain functions run, one task at a time, as its parent orders."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import inspect
import logging
import multiprocessing.process
import multiprocessing.spawn
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fairque.core import codec
from fairque.core.context import TaskContext, enter
from fairque.core.exceptions import ScriptError, ServerError, TaskProcessError, TaskValidationError
from fairque.core.registry import registry
from fairque.core.retry import RemoteError, Retry, RetryPolicy
from fairque.queue.failure import history_entry
from fairque.worker.outage import PAUSE_OF_AN_ATTEMPT
from fairque.worker.threads import as_failure
from fairque.worker.xcom import AttemptXCom, ProcessXCom

if TYPE_CHECKING:
    from fairque.core.function import TaskFunction
    from fairque.core.models import Task

# A message is as many bytes as this says, and then those.
LENGTH = struct.Struct("!Q")
LAST_MOMENT_SECONDS = 1.0  # for an idle process to end in an orderly way

is_importing_program = False  # while it is imported, nothing in it may start a worker


class Setup(NamedTuple):
    """How a process becomes like its parent. The first order, given once."""

    program: dict[str, Any]  # as multiprocessing.spawn.prepare takes it
    modules: list[str]
    logging: tuple[int, str] | None  # level and format, where the parent shows its log
    codec: codec.Codec
    max_payload_bytes: int
    config: bytes  # a pickled FairQueueConfig: pydantic loads where XCom is used


class Find(NamedTuple):
    """Have this function ready."""

    name: str
    module: str


class Run(NamedTuple):
    """Run this task."""

    task: Task[Any]
    context: TaskContext


class Failure(msgspec.Struct, array_like=True):
    """What an order ended with instead of a result."""

    type: str
    text: str
    traceback: str
    is_covered: bool
    delay: float | None


class Report(msgspec.Struct, array_like=True):
    """The answer to an order."""

    result: bytes = b""
    failure: Failure | None = None

    @property
    def failure_type(self) -> str:
        """What kind of failure it is, if it is one."""
        return "failed" if self.failure is None else self.failure.type

    @property
    def error(self) -> RemoteError | None:
        """What was raised, for the parent."""
        if self.failure is None:
            return None
        said = self.failure
        return RemoteError(said.text, said.traceback, is_covered=said.is_covered, delay=said.delay)


def framed(message: bytes) -> bytes:
    """A message as it travels."""
    return LENGTH.pack(len(message)) + message


def main(descriptor: int) -> None:
    """Carry out orders until the parent has gone or closes the connection."""
    _die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        # The parent gets them too, and decides. Not SIG_IGN, which programs started from here would inherit.
        signal.signal(number, lambda *_: None)
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    orders: SimpleQueue[bytes | None] = SimpleQueue()
    is_busy = threading.Event()
    threading.Thread(
        target=_listen, args=(connection, orders, is_busy), name="fairque-parent", daemon=True
    ).start()
    process = _Process()
    while (order := orders.get()) is not None:
        report = msgspec.msgpack.encode(process.carry_out(order))
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # a task may have closed or replaced it
                stream.flush()
        is_busy.clear()
        try:
            connection.sendall(framed(report))
        except OSError:  # the task has closed what is not its own
            os._exit(1)


def _die_with_parent() -> None:
    """Where the system can see to that, also while C code of a task lets no other thread run."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _listen(connection: socket.socket, orders: SimpleQueue[bytes | None], is_busy: threading.Event) -> None:
    """Take orders; when there is nobody to give any, end, with all that tasks have started."""
    with contextlib.suppress(OSError, EOFError):
        while True:
            (length,) = LENGTH.unpack(_received(connection, LENGTH.size))
            order = _received(connection, length)
            is_busy.set()
            orders.put(order)
    orders.put(None)
    if not is_busy.is_set():
        time.sleep(LAST_MOMENT_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _received(connection: socket.socket, length: int) -> bytes:
    received = bytearray(length)
    rest = memoryview(received)
    while rest:
        count = connection.recv_into(rest)
        if count == 0:
            raise EOFError
        rest = rest[count:]
    return bytes(received)


class _Process:
    """Carries out orders. Whatever goes wrong in one is its report, and no more."""

    def __init__(self) -> None:
        self._setup: Setup
        self._xcom: ProcessXCom

    def carry_out(self, message: bytes) -> Report:
        try:
            order = pickle.loads(message)  # noqa: S301 - the parent's own
        except BaseException as error:  # noqa: BLE001 - it holds the arguments of a task, of any class
            return _failed(error, "invalid")
        try:
            match order:
                case Setup():
                    self._become_like_parent(order)
                case Find():
                    _find(order)
                case Run():
                    return copy_context().run(self._run, order.task, order.context)
        except BaseException as error:  # noqa: BLE001 - an import runs any code
            return _failed(as_failure(error))
        return Report()

    def _become_like_parent(self, setup: Setup) -> None:
        global is_importing_program  # noqa: PLW0603 - there is one program
        self._setup, self._xcom = setup, ProcessXCom(setup.config)
        if setup.logging is not None:
            level, form = setup.logging
            logging.basicConfig(level=level, format=form)
        current: Any = multiprocessing.process.current_process()
        is_importing_program = current._inheriting = True  # noqa: SLF001 - it refuses to start processes then
        try:
            multiprocessing.spawn.prepare(setup.program)
            for module in setup.modules:
                importlib.import_module(module)
        finally:
            is_importing_program = current._inheriting = False  # noqa: SLF001 - the same

    def _run(self, task: Task[Any], context: TaskContext) -> Report:
        function = registry.get(task.function)
        context.open_xcom = AttemptXCom(self._xcom, task)
        enter(context)
        try:
            bound = function.fit(*task.call_arguments())
        except BaseException as error:  # noqa: BLE001 - conversion runs code of the annotations' classes
            return _failed(error, "invalid")
        try:
            result = function.invoke(bound, context)
            if inspect.iscoroutine(result):  # a plain function around an `async def`
                result = asyncio.run(result)
        except BaseException as error:  # noqa: BLE001 - a task's SystemExit is its failure, not ours
            return _failed(as_failure(error), policy=function.retry)
        try:
            encoded = codec.encode_result(result, self._setup.codec, self._setup.max_payload_bytes)
        except BaseException as error:  # noqa: BLE001 - encoding runs code of the result's class
            return _failed(error, "invalid")
        return _published(function, task, context, result) or Report(encoded)


def _find(order: Find) -> None:
    if order.name not in registry:
        importlib.import_module(order.module)
    if order.name not in registry:
        raise TaskProcessError(
            f"no function named {order.name!r} is there once {order.module} is imported: define it at the "
            "top of a module, and not below if __name__ == '__main__' or within a function"
        )


def _published(
    function: TaskFunction[..., Any], task: Task[Any], context: TaskContext, result: Any
) -> Report | None:
    """Have the result in XCom too, where the function says so: the report of what prevents it, if any."""
    while function.auto_xcom:
        try:
            context.xcom.push(task.name, result)
        except TaskValidationError as error:  # another attempt would not make it smaller
            return _failed(error, "invalid")
        except Exception as error:  # noqa: BLE001 - it is looked at
            if not isinstance(error, ServerError) or isinstance(error, ScriptError):
                return _failed(error, policy=function.retry)
            time.sleep(PAUSE_OF_AN_ATTEMPT)  # until the server is back, or the parent has had enough
        else:
            break
    return None


def _failed(error: BaseException, failure_type: str = "failed", policy: RetryPolicy | None = None) -> Report:
    try:
        is_covered = (policy or RetryPolicy()).covers(error)
        delay = float(error.delay) if isinstance(error, Retry) and error.delay is not None else None
    except Exception:  # noqa: BLE001 - the error is of a user's class, which may do anything
        failure_type, is_covered, delay = "invalid", False, None
    said = history_entry(error, failure_type)
    return Report(
        failure=Failure(failure_type, said["error"], said["traceback"], is_covered=is_covered, delay=delay)
    )
