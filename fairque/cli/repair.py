"""`fairque repair`: making a queue whole again after a loss of data."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from fairque.cli.options import ConfigOption, JsonOption, QueueOption, UrlOption, configuration
from fairque.cli.showing import count, emit

if TYPE_CHECKING:
    from fairque.core.records import RepairReport

STILL_WRONG = 1  # the exit code
FIRST_WORD = 1.0  # seconds until progress is told
ON_TERMINAL, IN_LOG = 0.2, 10.0  # seconds between two lines of it


class Progress:
    """Tells on stderr how far long work has come: in one line of a terminal, else in a new one at times."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._due = time.monotonic() + FIRST_WORD
        self._shown = ""

    def __call__(self, what: str, done: int) -> None:
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + (ON_TERMINAL if self._on_terminal else IN_LOG)
        text = f"{what}: {done:,}"
        self._write(text)
        self._shown = text

    def end(self) -> None:
        """Take the line away."""
        if self._shown and self._on_terminal:
            self._write("")
            sys.stderr.write("\r")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r{text:<{len(self._shown)}}" if self._on_terminal else f"{text}\n")
        sys.stderr.flush()


def repair(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look: tell what is wrong, and change nothing.")
    ] = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find what a loss of data has left behind, and make everything follow from the tasks again.

    Run it after a server came back with an older or a damaged append-only file, after a failover that lost
    writes, or after keys were deleted by hand or evicted. Workers and pushes may go on meanwhile. No task is
    lost whose record is there: one in no place is queued again. What names no task is removed.

    Exits with 1 where something is wrong afterwards; after --dry-run, where anything is wrong.

    Example: fairque repair --dry-run --url redis://localhost:6379/0
    """
    from fairque.queue.queue import TaskQueue  # noqa: PLC0415 - --help and --version stay fast

    progress = Progress()
    with TaskQueue(configuration(config, url, queue)) as tasks:
        root = tasks.commands.where
        try:
            found = tasks.run(tasks.commands.repair(dry_run=dry_run, progress=progress))
        finally:
            progress.end()
    if as_json:
        import msgspec  # noqa: PLC0415

        emit(queue=root, is_clean=found.is_clean, **msgspec.to_builtins(found))
    else:
        _tell(root, found)
    if found.remaining:
        raise typer.Exit(STILL_WRONG)


def _tell(root: str, found: RepairReport) -> None:
    typer.echo(f"{root}: looked at {count(found.tasks, 'task')} of {count(found.users, 'user')}")
    for problem in found.problems:
        typer.echo(f"  {problem}")
    if found.is_clean:
        typer.echo("Nothing is wrong.")
    elif found.dry_run:
        typer.echo("Nothing was changed: fairque repair without --dry-run mends what can be.")
    elif found.remaining:
        typer.echo(f"Still wrong: {found.remaining:,}. Run fairque repair again; report what stays then.")
    else:
        typer.echo("What can be mended is.")
