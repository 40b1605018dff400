"""The command line: `fairque worker`, `fairque stats`, `fairque demo`."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairque import __version__
from fairque.core.exceptions import ConfigurationError, FairQueueError

if TYPE_CHECKING:
    from fairque.core.config import FairQueueConfig
    from fairque.core.records import QueueStats, UserStats

app = typer.Typer(
    name="fairque",
    help="A task queue on Redis or Valkey that gives every user a fair share of the workers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML file of settings. Beside a common.yaml it is laid over that one.",
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The server: redis://, rediss://, unix:// or embedded://. Without --url and --config: the "
        "environment (FAIRQUE_REDIS__URL=…), then ./fairque.yaml, then localhost.",
    ),
]
QueueOption = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="The queue's name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]

# What a person got wrong ends with one line and this exit code, as a wrong option does.
USAGE_ERROR = 2
SHOWN_USERS = 20


def main() -> None:
    """Run the command line; what a person can get wrong is one clear line, not a traceback."""
    try:
        app()
    except FairQueueError as error:
        typer.echo(f"fairque: {error}", err=True)
        sys.exit(USAGE_ERROR)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fairque {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A task queue on Redis or Valkey that gives every user a fair share of the workers."""


@app.command()
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
    settings = _configuration(config, url, queue)
    _import_tasks(modules)
    with TaskQueue(settings) as tasks:
        engine = Worker(tasks, concurrency=concurrency, burst=burst)
        for problem in tasks.health().problems:
            logging.getLogger("fairque.worker").warning("%s", problem)
        engine.run()
    _end_process()


@app.command()
def stats(
    config: ConfigOption = None, url: UrlOption = None, queue: QueueOption = None, as_json: JsonOption = False
) -> None:
    """Show how many tasks are where, and whose they are.

    Example: fairque stats --url redis://localhost:6379/0 --json
    """
    import msgspec  # noqa: PLC0415 - --help and --version stay fast

    from fairque.queue.queue import TaskQueue  # noqa: PLC0415

    with TaskQueue(_configuration(config, url, queue)) as tasks:
        numbers, users, root = tasks.stats(), tasks.users(SHOWN_USERS), tasks.commands.keys.root
    if as_json:
        rows = [msgspec.to_builtins(user) for user in users]
        typer.echo(msgspec.json.encode({"queue": root, **msgspec.to_builtins(numbers), "top_users": rows}))
    else:
        _show_stats(root, numbers, users)


@app.command()
def demo(as_json: JsonOption = False) -> None:
    """Watch real work of many users finish in fair order, on a server that this command starts.

    The work: every source file of Python's standard library is parsed and measured, once through one shared
    FIFO and once fairly by user, and the waits are compared. It takes under a minute.
    """
    from fairque.demo import run_demo  # noqa: PLC0415 - only where it is used

    raise typer.Exit(run_demo(json_output=as_json))


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


def _configuration(file: Path | None, url: str | None, queue: str | None) -> FairQueueConfig:
    from fairque.core.config import FairQueueConfig, QueueConfig, load_worker_config  # noqa: PLC0415

    if file is not None and file.name != "common.yaml" and (file.parent / "common.yaml").exists():
        config = load_worker_config(file.stem, file.parent)
    elif file is not None:
        config = FairQueueConfig.from_yaml(file)
    else:
        config = FairQueueConfig.load() if url is None else FairQueueConfig.from_url(url)
    if file is not None and url is not None:
        config = config.model_copy(update={"redis": FairQueueConfig.from_url(url).redis})
    if queue is not None:
        named = QueueConfig(**{**dict(config.queue), "name": queue})
        config = config.model_copy(update={"queue": named})
    return config


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


def _show_stats(root: str, numbers: QueueStats, users: list[UserStats]) -> None:
    from rich.console import Console  # noqa: PLC0415 - not needed for --json
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    console.print(
        f"[bold]{root}[/]  {numbers.queued:,} queued · {numbers.scheduled:,} scheduled · "
        f"{numbers.started:,} started · {numbers.finished:,} finished · {numbers.failed:,} failed · "
        f"{numbers.canceled:,} canceled · {numbers.workers:,} workers"
    )
    if not users:
        return
    table = Table("user", box=None, pad_edge=False)
    for name in ("queued", "started", "live", "virtual time"):
        table.add_column(name, justify="right")
    for user in users:
        table.add_row(
            # Not as markup, and without what would move the terminal's cursor: ids are any text.
            Text("".join(sign if sign.isprintable() else "�" for sign in user.user_id)),
            f"{user.queued:,}",
            f"{user.started:,}",
            f"{user.live:,}",
            f"{user.virtual_time:,.1f}",
        )
    console.print(table)
    if numbers.users > len(users):
        console.print(f"… and {numbers.users - len(users):,} more users")
