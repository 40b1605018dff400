"""What `fairque worker` does: work, or supervise those that do."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import typer

from fairque.cli.starting import import_tasks, tell_problems
from fairque.core.config import FairQueueConfig, WorkerConfig
from fairque.core.exceptions import ConfigurationError
from fairque.core.keys import ID_LIMIT
from fairque.queue.queue import TaskQueue
from fairque.worker.exit_code import ExitCode
from fairque.worker.guard import Guard
from fairque.worker.link import Link
from fairque.worker.recycling import resident_mb
from fairque.worker.supervisor import Supervisor
from fairque.worker.vitals import Health, Vitals
from fairque.worker.worker import Worker

Probes: TypeAlias = tuple[str, int] | None  # the address that answers them

logger = logging.getLogger("fairque.worker")


def chosen(configured: WorkerConfig, **options: int | str | None) -> WorkerConfig:
    """The configured settings with those of the command line, checked as the others are.

    Raises:
        ConfigurationError: An option is out of its range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    return WorkerConfig(**{**configured.model_dump(), **given})


def supervise(
    settings: FairQueueConfig,
    worker: WorkerConfig,
    modules: list[str],
    options: Mapping[str, object],
    *,
    burst: bool,
    probes: Probes,
) -> ExitCode:
    """Run several workers, each by this command with these options."""
    if settings.redis.url == "embedded://":
        raise ConfigurationError(
            "--processes: embedded:// would be another server for each process: name a folder, as in "
            "embedded:///var/tmp/fq"
        )
    arguments = [*modules, *(f"{name}={value}" for name, value in options.items() if value is not None)]
    supervisor = Supervisor(
        [sys.executable, "-m", "fairque", "worker", *arguments, *(["--burst"] if burst else [])],
        processes=worker.processes or 1,
        grace=worker.graceful_shutdown_timeout,
        burst=burst,
    )
    with _answering(probes, supervisor.health):
        return supervisor.run()


def work(
    settings: FairQueueConfig,
    worker: WorkerConfig,
    modules: list[str],
    *,
    burst: bool,
    probes: Probes,
    number: int | None,
    supervisor_fd: int | None,
) -> ExitCode:
    """Run one worker; under a supervisor, its `number` tells a configured id from those of the others."""
    worker = _numbered(worker, number)
    vitals = [Vitals(worker.id)]  # until there is a worker
    link = None if supervisor_fd is None else Link.inherited(supervisor_fd)

    def health() -> Health:
        return vitals[-1].health()

    with Guard(link) as guard, _answering(probes, health):
        import_tasks(modules)
        _check_memory(worker.max_memory_mb)
        named = settings.model_copy(update={"workers": {worker.id or "worker": worker}})
        with TaskQueue(named) as queue:
            runner = Worker(queue, modules=modules, burst=burst)
            tell_problems(queue)
            vitals.append(runner.engine.vitals)
            guard.watch(runner.engine)
            runner.run()
        return ExitCode.RECYCLED if vitals[-1].recycling else ExitCode.DONE


def _numbered(worker: WorkerConfig, number: int | None) -> WorkerConfig:
    if worker.id is None or number is None:
        return worker
    suffix = f"-{number}"
    return worker.model_copy(update={"id": worker.id[: ID_LIMIT - len(suffix)] + suffix})


def _check_memory(max_memory_mb: int | None) -> None:
    used = resident_mb()
    if max_memory_mb is not None and used > max_memory_mb:
        raise ConfigurationError(
            f"max_memory_mb {max_memory_mb}: before its first task the process occupies {used:.0f} MiB "
            "already: give it more"
        )


@contextmanager
def _answering(probes: Probes, ask: Callable[[], Health]) -> Iterator[None]:
    if probes is None:
        yield
        return
    from fairque.worker.health_port import HealthPort  # noqa: PLC0415 - http.server, only where it is used

    port = HealthPort(*probes, ask)
    logger.info("probes are answered at %s", port.address)
    try:
        yield
    finally:
        port.close()


def end_process(code: ExitCode) -> None:
    """End although threads of tasks go on that nobody can stop: their tasks have been handed back."""
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if any(not thread.daemon for thread in others):
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    raise typer.Exit(code)
