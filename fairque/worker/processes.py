"""Processes for plain functions, seen from the worker. One that dies takes its task with it, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from fairque.core.exceptions import TaskProcessError
from fairque.core.function import MAIN_NAMES
from fairque.worker import child
from fairque.worker.child import LENGTH, Find, Report, Run, Setup, framed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from fairque.core.config import FairQueueConfig
    from fairque.core.context import TaskContext
    from fairque.core.function import TaskFunction
    from fairque.core.models import Task

logger = logging.getLogger("fairque.worker")

START_SECONDS = 120.0  # for a process to import the program and its tasks
END_SECONDS = 1.0  # for an idle process to end in an orderly way
KILL_SECONDS = 5.0  # for the system to end one that was killed
CUT_SECONDS = 1.0  # after which a process that has closed its connection is killed
LAST_WORDS_SECONDS = 0.2  # for what a process has sent to arrive once it has ended
# The parent's path comes first, so that fairque is found wherever the parent found it.
PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; from fairque.worker.child import main; main(int(sys.argv[1]))"
)


class TaskProcess(asyncio.Protocol):
    """One process, and the connection to it.

    Args:
        process: The process.
        on_end: Called once it has ended.
    """

    def __init__(self, process: asyncio.subprocess.Process, on_end: Callable[[TaskProcess], None]) -> None:
        self.pid = process.pid
        self._process = process
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._report: asyncio.Future[bytes] | None = None
        self._known: set[str] = set()
        self._is_cut = asyncio.Event()
        self._end = asyncio.create_task(self._watch())

    @property
    def has_ended(self) -> bool:
        """Whether it can carry out nothing any more."""
        return self._end.done() or self._is_cut.is_set()

    async def ask(self, order: Setup | Find | Run) -> Report:
        """Have an order carried out. One at a time.

        Raises:
            TaskProcessError: The process ended before it did.
            Exception: The order cannot be pickled.
        """
        message = framed(pickle.dumps(order))
        if self._transport is None or self.has_ended:
            raise TaskProcessError(f"the process {_how_it_ended(self._process.returncode)}")
        self._report = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return msgspec.msgpack.decode(await self._report, type=Report)

    async def find(self, function: TaskFunction[..., Any]) -> None:
        """Have a function ready.

        Raises:
            TaskProcessError: It cannot be found, or the process ended.
        """
        if function.name not in self._known:
            await self.make_ready(Find(function.name, function.function.__module__))
            self._known.add(function.name)

    async def make_ready(self, order: Setup | Find) -> None:
        """Have an order carried out that comes before any task.

        Raises:
            TaskProcessError: It failed, or took too long.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                report = await self.ask(order)
        except TimeoutError:
            raise TaskProcessError(f"importing the tasks took longer than {START_SECONDS:g} s") from None
        if report.failure is not None:
            error = TaskProcessError(f"a process cannot import what the task needs: {report.failure.text}")
            error.add_note(report.failure.traceback)
            raise error

    async def run(self, task: Task[Any], context: TaskContext) -> Report:
        """Run a task. Canceling the wait leaves the process at it: kill it then."""
        return await self.ask(Run(task, context))

    async def ended(self) -> None:
        """Wait for its end; also where its watch was canceled, with all that was on the loop."""
        await self._process.wait()

    def dismiss(self) -> None:
        """Have it end in an orderly way, being idle."""
        if self._transport is not None:
            self._transport.close()

    def kill(self) -> None:
        """End it at once, with all that it has started and that has not left its process group."""
        if self._transport is not None:
            self._transport.abort()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    # --- what comes from it ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            report = bytes(self._received[LENGTH.size : end])
            del self._received[:end]
            if self._report is not None and not self._report.done():
                self._report.set_result(report)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio passes it
        self._is_cut.set()
        # A task may have closed what it should not; the process itself may go on for ever then.
        asyncio.get_running_loop().call_later(CUT_SECONDS, self.kill)

    async def _watch(self) -> None:
        code = await self._process.wait()
        if self._report is not None and not self._report.done():
            # A process of the task's may hold the other end open.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_cut.wait(), LAST_WORDS_SECONDS)
        if self._report is not None and not self._report.done():
            self._report.set_exception(TaskProcessError(f"the task's process {_how_it_ended(code)}"))
        self.kill()  # what is left is the connection
        self._on_end(self)


class TaskProcesses:
    """As many processes as run tasks at once, started as needed and used again. Belongs to the running loop.

    They are spawned, not forked: a fork would copy the worker's locks and connections as they stand.

    Args:
        config: Of the queue, as the worker uses it.
        modules: What a process imports first; the program itself if None.

    Raises:
        RuntimeError: This is such a process, and it is importing the program.
    """

    def __init__(self, config: FairQueueConfig, modules: Sequence[str] | None) -> None:
        if child.is_importing_program:
            raise RuntimeError(
                "this program starts a worker while it is imported, and a process of that worker imports it: "
                "put what is to run below if __name__ == '__main__':"
            )
        self._config = config
        self._modules = modules
        self._idle: list[TaskProcess] = []
        self._all: set[TaskProcess] = set()

    @asynccontextmanager
    async def one_for(self, function: TaskFunction[..., Any]) -> AsyncIterator[TaskProcess]:
        """A process that has this function ready. It is killed if the block raises.

        Raises:
            TaskProcessError: There is none to be had.
        """
        process = self._idle_one() or await self._start()
        try:
            await process.find(function)
            yield process
        except BaseException:
            process.kill()
            raise
        if process in self._all:
            self._idle.append(process)

    async def close(self) -> None:
        """End all processes; those that do not end by themselves soon are killed."""
        for process in self._all.difference(self._idle):
            process.kill()
        for process in self._idle:
            process.dismiss()
        for seconds in (END_SECONDS, KILL_SECONDS):
            ends = [process.ended() for process in self._all]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*ends), seconds)
            for process in self._all:
                process.kill()

    def _idle_one(self) -> TaskProcess | None:
        """One that has nothing to do. That one has died may not have been seen to yet."""
        while self._idle:
            process = self._idle.pop()
            if not process.has_ended:
                return process
        return None

    def _forget(self, process: TaskProcess) -> None:
        self._all.discard(process)
        if process in self._idle:
            self._idle.remove(process)

    async def _start(self) -> TaskProcess:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = TaskProcess(await _spawn(theirs.fileno()), self._forget)
        except BaseException as error:
            ours.close()
            if isinstance(error, OSError):
                raise TaskProcessError(f"no process could be started for the task: {error}") from error
            raise
        self._all.add(process)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: process, sock=ours)
        except BaseException:
            ours.close()
            process.kill()
            raise
        try:
            await process.make_ready(self._setup())
        except BaseException:
            process.kill()
            raise
        logger.debug("process %d runs tasks", process.pid)
        return process

    def _setup(self) -> Setup:
        program: dict[str, Any] = {"sys_argv": sys.argv, "dir": str(Path.cwd())}
        if self._modules is None:
            program |= _program()
        queue = self._config.queue
        only = type(self._config)(
            redis=self._config.redis, queue=queue
        )  # its policies are not to be published
        modules = list(self._modules or ())
        return Setup(program, modules, _logging(), queue.codec, queue.max_payload_bytes, pickle.dumps(only))


async def _spawn(descriptor: int) -> asyncio.subprocess.Process:
    path = [entry or str(Path.cwd()) for entry in sys.path if isinstance(entry, str)]
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *flags,
        "-c",
        PROGRAM,
        str(descriptor),
        *path,
        stdin=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        # Ctrl-C is for the worker, which decides; and a kill reaches what a task started. A process group
        # would do, but uvloop knows sessions only.
        start_new_session=True,
    )


def _program() -> dict[str, str]:
    """How to import what this process runs, as multiprocessing does it."""
    main = sys.modules[MAIN_NAMES[0]]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return {"init_main_from_name": spec.name}
    return {} if file is None else {"init_main_from_path": str(Path(file).absolute())}


def _logging() -> tuple[int, str] | None:
    if not logging.root.handlers:
        return None
    form = getattr(logging.root.handlers[0].formatter, "_fmt", None)
    return logging.root.level, form or logging.BASIC_FORMAT


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "closed its connection to the worker"
    if code >= 0:
        return f"ended with exit code {code} before the task did"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (as the system does when memory runs out)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
