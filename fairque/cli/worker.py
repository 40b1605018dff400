"""`fairque worker`."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import traceback
from typing import Annotated

import typer

from fairque.cli.options import ConfigOption, QueueOption, UrlOption, configuration
from fairque.core.exceptions import ConfigurationError


def worker(  # noqa: PLR0917 - typer passes them by name
    modules: Annotated[
        list[str], typer.Argument(metavar="MODULE…", help="Modules that define tasks, e.g. myapp.tasks.")
    ],
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", metavar="N", help="Tasks that run at once (10).")
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            "--executor",
            metavar="KIND",
            help="Where plain functions run that do not say it themselves: thread (the default), or process, "
            "which is killed when its task is canceled or past its timeout, and may crash alone.",
        ),
    ] = None,
    burst: Annotated[
        bool,
        typer.Option(
            "--burst", help="End when nothing is left: nothing ready or running, nothing due within 10 s."
        ),
    ] = False,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """Run tasks until stopped (SIGTERM or Ctrl-C lets running ones end; a second one does not wait).

    The modules are imported from the current folder or the Python path, which registers their tasks.

    Example: fairque worker myapp.tasks --url redis://localhost:6379/0 --concurrency 20
    """
    from fairque.queue.queue import TaskQueue  # noqa: PLC0415 - --help and --version stay fast
    from fairque.worker.worker import Worker  # noqa: PLC0415

    _start_logging(log_level)
    settings = configuration(config, url, queue, with_policies=True)
    _import_tasks(modules)
    with TaskQueue(settings) as tasks:
        engine = Worker(tasks, concurrency=concurrency, executor=executor, modules=modules, burst=burst)
        for problem in tasks.health().problems:
            logging.getLogger("fairque.worker").warning("%s", problem)
        if tasks.stats().paused:
            logging.getLogger("fairque.worker").warning(
                "the queue is paused and starts nothing: fairque resume lets it go on"
            )
        engine.run()
    _end_process()


def _end_process() -> None:
    """End although threads of tasks go on that nobody can stop: their tasks have been handed back."""
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if any(not thread.daemon for thread in others):
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def _start_logging(level: str) -> None:
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigurationError(f"--log-level {level}: must be debug, info, warning or error")
    logging.basicConfig(level=number, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def _import_tasks(modules: list[str]) -> None:
    sys.path.insert(0, "")
    for name in modules:
        if name.endswith(".py") or "/" in name:
            hint = name.removesuffix(".py").strip("./").replace("/", ".")
            raise ConfigurationError(f"{name} is a file: give the module's name, {hint}")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                raise ConfigurationError(
                    f"there is no module {name!r}: start in the folder that holds it, or set PYTHONPATH"
                ) from error
            raise ConfigurationError(f"module {name!r} cannot be imported: {_where(error)}") from error
        except (Exception, SystemExit) as error:
            raise ConfigurationError(f"module {name!r} cannot be imported: {_where(error)}") from error


def _where(error: BaseException) -> str:
    """The error and the line of the user's code that raised it, in one line."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({frame.filename}:{frame.lineno})"
