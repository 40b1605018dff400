"""`fairque scheduler`."""

from __future__ import annotations

from typing import Annotated

import typer

from fairque.cli.options import ConfigOption, LogLevelOption, QueueOption, UrlOption, configuration


def scheduler(
    modules: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODULE…", help="Modules with @task(cron=…), e.g. myapp.tasks."),
    ] = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    log_level: LogLevelOption = "info",
) -> None:
    """Fire schedules until stopped (SIGTERM or Ctrl-C). Tasks are pushed; workers run them.

    Any number may run, on any machines: each time of a schedule is fired once, and when one of them dies the
    others have its work. Before that, the schedules of @task(cron=…) in the modules and of the configuration
    are put on the server. Without modules it fires all that is there.

    Exit codes: 0 stopped, 1 something went wrong, 2 a setting or a declared schedule is wrong, or the server
    was not there at the start.

    Example: fairque scheduler myapp.tasks --url redis://localhost:6379/0
    """
    from fairque.cli import firing, starting  # noqa: PLC0415 - --help and --version stay fast

    starting.start_logging(log_level)
    firing.fire(configuration(config, url, queue, process="scheduler"), modules or [])
