"""What `fairque dev` does: keep a server, and a process that is started anew when the code changes."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import typer

from fairque.cli.options import configuration
from fairque.cli.sources import Sources, imported
from fairque.cli.starting import import_tasks
from fairque.cli.working import chosen
from fairque.core.config import FairQueueConfig, RedisConfig
from fairque.core.exceptions import ConfigurationError
from fairque.queue.connect import TRUSTED
from fairque.queue.queue import TaskQueue
from fairque.scheduler.scheduler import TaskScheduler
from fairque.utils.embedded import EmbeddedServer
from fairque.worker.exit_code import ExitCode, told
from fairque.worker.guard import Guard
from fairque.worker.link import Link
from fairque.worker.supervised import NOW_SECONDS, Child
from fairque.worker.worker import Worker

LOOK_SECONDS = 0.5  # between looks at the files
WRITING_SECONDS = 0.1  # in which nothing changes once all is written
GRACE_SECONDS = 2.0  # for running tasks; then they are handed back, for the new code

logger = logging.getLogger("fairque.dev")


def develop(modules: list[str], folder: Path | None, options: Mapping[str, object]) -> None:
    """Keep a server and a child that works, until Ctrl-C or SIGTERM.

    Raises:
        ConfigurationError: A module cannot be found.
        EmbeddedServerError: There is no server to run, or it did not start.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # Bytecode knows its source by second and size: after a second change within one it would be stale.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        sys.path.insert(0, "")
        sources = Sources(modules)
        with EmbeddedServer.open(_url(folder)) as server:
            _tell(server.socket_path, folder)
            given = [f"{name}={value}" for name, value in options.items() if value is not None]
            where = f"--socket={server.socket_path}"
            _Development([sys.executable, "-m", "fairque", "dev", *modules, *given, where], sources).run()
    except KeyboardInterrupt:
        logger.info("all has ended")


def _url(folder: Path | None) -> str:
    return "embedded://" if folder is None else f"embedded://{quote(str(folder.resolve()))}"


def _tell(socket: str, folder: Path | None) -> None:
    kept = "gone at the end; --folder keeps its data" if folder is None else f"with its data in {folder}"
    typer.echo(f"A server of its own is at unix://{socket}, {kept}.")
    typer.echo(f"To push to it from another terminal: export FAIRQUE_REDIS__URL=unix://{socket}")


class _Development:
    """A child that works, and its successors."""

    def __init__(self, command: list[str], sources: Sources) -> None:
        self._command = command
        self._sources = sources
        self._child: Child | None = None

    def run(self) -> None:
        """Until KeyboardInterrupt."""
        try:
            while True:
                self._child = Child(self._command, 1)
                changed = self._watch()
                logger.info("%s changed: starting anew", ", ".join(path.name for path in changed))
                self._end()
        finally:
            self._end()

    def _watch(self) -> list[Path]:
        """The files that have changed, once they have."""
        while True:
            look_at = time.monotonic() + LOOK_SECONDS
            while (left := look_at - time.monotonic()) > 0:
                self._listen(left)
            changed = more = self._sources.changed()
            while more:
                time.sleep(WRITING_SECONDS)
                more = self._sources.changed()
                changed += more
            if changed:
                return sorted(set(changed))

    def _listen(self, patience: float) -> None:
        """Hear which files the child has imported, and whether it has ended."""
        child = self._child
        code = None if child is None else child.process.poll()
        if child is None or (child.link is None and code is None):
            time.sleep(patience)
            return
        while child.link is not None and select.select([child.link], [], [], patience)[0]:
            said = child.link.receive()
            for message in said or ():
                self._sources.add(message.get("files", ()))
            if said is None:
                child.hang_up()
            patience = 0.0
        if code is not None:
            self._end(code)

    def _end(self, code: int | None = None) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if code is None:
            child.drain(GRACE_SECONDS)
            try:
                child.process.wait(GRACE_SECONDS + NOW_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                child.process.kill()
                child.process.wait()
        else:
            logger.error("it has ended, %s: waiting for a change of the code", told(code))
        child.hang_up()


def work(settings: FairQueueConfig, modules: list[str], fd: int) -> ExitCode:
    """Run a worker and a scheduler, as the child.

    Raises:
        ConfigurationError: A module cannot be imported.
        ScheduleValidationError: A declared schedule is wrong.
    """
    link = Link.inherited(fd)
    with Guard(link) as guard:
        try:
            import_tasks(modules)
        except ConfigurationError as error:
            link.send({"files": imported(error.__cause__)})
            raise
        link.send({"files": imported()})
        with TaskQueue(settings) as tasks, TaskScheduler(tasks) as scheduler:
            worker = Worker(tasks, modules=modules)
            guard.watch(worker.engine)
            scheduler.start()
            worker.run()
    return ExitCode.DONE


def settings_of(
    file: Path | None, queue: str | None, socket: str, concurrency: int | None
) -> FairQueueConfig:
    """All that is configured, but with the server of this socket.

    Raises:
        ConfigurationError: A setting is wrong; the message names it.
    """
    settings = configuration(file, None, queue, process="worker")
    worker = chosen(settings.worker, concurrency=concurrency)
    worker = worker.model_copy(update={"graceful_shutdown_timeout": GRACE_SECONDS})
    redis = RedisConfig(unix_socket_path=socket, **TRUSTED)
    return settings.model_copy(update={"redis": redis, "workers": {worker.id or "worker": worker}})
