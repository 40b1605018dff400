"""`fairque dev`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairque.cli.options import ConfigOption, LogLevelOption, QueueOption


def dev(  # noqa: PLR0917 - typer passes them by name
    modules: Annotated[
        list[str], typer.Argument(metavar="MODULE…", help="Modules that define tasks, e.g. myapp.tasks.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", metavar="DIR", help="Keep the server's data there, from one start to the next."
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", metavar="N", help="Tasks that run at once (10).")
    ] = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    log_level: LogLevelOption = "info",
    socket: Annotated[str | None, typer.Option(hidden=True)] = None,
    number: Annotated[int | None, typer.Option(hidden=True)] = None,  # noqa: ARG001 - there is one child
    supervisor_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run a server, a worker and a scheduler, and start the latter two anew when the code changes.

    The server is a Valkey of its own, thrown away at the end unless --folder is given; what a configuration
    says of another server does not count. Ctrl-C ends all. For production there are fairque worker and
    fairque scheduler.

    Example: fairque dev myapp.tasks --folder .fairque
    """
    from fairque.cli import developing, starting, working  # noqa: PLC0415 - --help and --version stay fast

    starting.start_logging(log_level)
    if socket is not None and supervisor_fd is not None:
        settings = developing.settings_of(config, queue, socket, concurrency)
        working.end_process(developing.work(settings, modules, supervisor_fd))
    options = {
        "--concurrency": concurrency,
        "--config": config,
        "--queue": queue,
        "--log-level": log_level,
    }
    developing.develop(modules, folder, options)
