"""`fairque worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from fairque.cli.options import ConfigOption, LogLevelOption, QueueOption, UrlOption, configuration


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
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            "-p",
            metavar="N",
            help="Start N workers under a supervisor, which replaces those that die. "
            "SIGHUP replaces them one by one.",
        ),
    ] = None,
    max_tasks: Annotated[
        int | None,
        typer.Option(
            "--max-tasks", metavar="N", help="End after N tasks, between tasks, to be started anew."
        ),
    ] = None,
    max_memory_mb: Annotated[
        int | None,
        typer.Option(
            "--max-memory-mb", metavar="MB", help="The same when a process occupies more memory (MiB)."
        ),
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            "--health-port", metavar="PORT", help="Answer GET /live and GET /ready there, for probes."
        ),
    ] = None,
    health_host: Annotated[
        str,
        typer.Option(
            "--health-host",
            metavar="HOST",
            help="The address of that port. Kubernetes asks from outside of the pod: 0.0.0.0, or ::.",
        ),
    ] = "127.0.0.1",
    log_level: LogLevelOption = "info",
    number: Annotated[int | None, typer.Option(hidden=True)] = None,
    supervisor_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run tasks until stopped (SIGTERM or Ctrl-C lets running ones end; a second one does not wait).

    The modules are imported from the current folder or the Python path, which registers their tasks.

    Exit codes: 0 stopped or done, 1 something went wrong, 2 a setting is wrong or the server was not there at
    the start, 3 --max-tasks or --max-memory-mb was reached: start it again.

    Example: fairque worker myapp.tasks --url redis://localhost:6379/0 --concurrency 20 --processes 4
    """
    from fairque.cli import starting, working  # noqa: PLC0415 - --help and --version stay fast

    starting.start_logging(log_level)
    settings = configuration(config, url, queue, process="worker")
    chosen = working.chosen(
        settings.worker,
        concurrency=concurrency,
        executor=executor,
        processes=processes,
        max_tasks=max_tasks,
        max_memory_mb=max_memory_mb,
    )
    probes = None if health_port is None else (health_host, health_port)
    if supervisor_fd is None and chosen.processes is not None:
        options = {
            "--config": config,
            "--url": url,
            "--queue": queue,
            "--concurrency": concurrency,
            "--executor": executor,
            "--max-tasks": max_tasks,
            "--max-memory-mb": max_memory_mb,
            "--log-level": log_level,
        }
        code = working.supervise(settings, chosen, modules, options, burst=burst, probes=probes)
    else:
        code = working.work(
            settings, chosen, modules, burst=burst, probes=probes, number=number, supervisor_fd=supervisor_fd
        )
    working.end_process(code)
