"""The command line. Each module holds the commands about one thing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fairque import __version__
from fairque.cli.acl import acl
from fairque.cli.demo import demo
from fairque.cli.dev import dev
from fairque.cli.graph import graph
from fairque.cli.looking import explain, stats, users
from fairque.cli.repair import repair
from fairque.cli.schedule import schedule
from fairque.cli.scheduler import scheduler
from fairque.cli.simulate import simulate
from fairque.cli.user import pause, resume, user
from fairque.cli.worker import worker
from fairque.core.exceptions import FairQueueError

ORDER = (
    *("dev", "worker", "scheduler", "schedule", "stats", "users", "user", "explain", "graph"),
    *("pause", "resume", "repair", "acl"),
)


class InOrder(TyperGroup):
    """Shows the commands in this order; typer would put the groups first."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: ORDER.index(name) if name in ORDER else 99)


app = typer.Typer(
    name="fairque",
    cls=InOrder,
    help="A task queue on Redis or Valkey that gives every user a fair share of the workers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# What a person got wrong ends with one line and this exit code, as a wrong option does.
USAGE_ERROR = 2


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


# One line each in the list of commands, where the first sentence of their help would be cut off.
IN_SHORT: dict[Callable[..., None], str] = {
    dev: "Run server, worker and scheduler; start anew on changes.",
    worker: "Run tasks until stopped.",
    scheduler: "Fire schedules until stopped.",
    stats: "Show where the tasks are, and whether users are served fairly.",
    users: "Show the users: what waits, what was served, what holds it back.",
    explain: "Tell why a task is not running, and when it may start.",
    graph: "Show what depends on a task, and what it depends on.",
    pause: "Start no more tasks of anybody, say during a migration.",
    resume: "Let a paused queue go on.",
    acl: "Print the ACL rule for a server's user with the least rights.",
    repair: "Make the queue whole again after a loss of data.",
    demo: "Watch real work of many users finish in fair order.",
    simulate: "Try out on paper what fair order does to your users' waits.",
}
for command, short in IN_SHORT.items():
    app.command(short_help=short)(command)
app.add_typer(user, short_help="Show, set or clear one user's share and limits; pause the user.")
app.add_typer(schedule, short_help="Push tasks at certain times: add, list, pause, trigger, remove.")
