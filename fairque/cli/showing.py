"""How the commands show things: to people as lines and tables, to machines as JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

    from fairque.core.records import UserStats

NONE = "-"
PIPED_WIDTH = 1000  # columns where no terminal limits them
UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
LONGEST_SHOWN = 36  # characters of an id in one line of a terminal; a UUID has as many


def plain(text: str) -> str:
    """An id without what would move the terminal's cursor: ids are any text."""
    return "".join(sign if sign.isprintable() else "�" for sign in text)


def emit(**fields: Any) -> None:
    """One JSON object; times are ISO 8601."""
    import msgspec  # noqa: PLC0415 - --help and --version stay fast

    typer.echo(msgspec.json.encode(fields))


def seconds(value: float | None) -> str:
    """A duration in the unit that suits it; from a minute on in two of them."""
    if value is None:
        return NONE
    for big, name, small, rest in UNITS:
        if value >= big:
            whole, left = divmod(int(value), big)
            return f"{whole:,} {name} {left // small} {rest}"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"


def count(number: int, what: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def state_of(user: UserStats) -> str:
    """What a user's ready work is waiting for, or that it has none."""
    if user.paused:
        return "paused"
    if user.eligible:
        return "eligible"
    if user.throttled:
        return "throttled"
    if user.queued > 0:
        return "at its limit"
    return "running" if user.started > 0 else "idle"


def user_row(user: UserStats) -> dict[str, Any]:
    """A user for machines."""
    import msgspec  # noqa: PLC0415 - --help and --version stay fast

    return {**msgspec.to_builtins(user), "state": state_of(user)}


def table(first: str, *, right: Sequence[str] = (), left: Sequence[str] = ()) -> Table:
    """A table without lines: a first column, then numbers on the right and text on the left."""
    from rich.table import Column, Table  # noqa: PLC0415 - not needed for --json

    widest = LONGEST_SHOWN if sys.stdout.isatty() else None
    found = Table(Column(first, overflow="fold", max_width=widest), box=None, pad_edge=False)
    for name in right:
        found.add_column(name, justify="right", no_wrap=True)
    for name in left:
        found.add_column(name, no_wrap=True)
    return found


def console() -> Console:
    """Where tables go: as wide as the terminal; one line for each row where there is none."""
    from rich.console import Console  # noqa: PLC0415 - not needed for --json

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)


def add_id(found: Table, name: str) -> None:
    """Another column of ids beside the first one."""
    widest = LONGEST_SHOWN if sys.stdout.isatty() else None
    found.add_column(name, overflow="fold", max_width=widest)


def print_users(rows: Iterable[tuple[UserStats, Mapping[str, str]]]) -> None:
    """A table of users: their cells by the names of the columns, and their states."""
    listed = list(rows)
    print_fitting(lambda shown: _of_users(listed, shown), list(listed[0][1]))


def print_fitting(build: Callable[[Sequence[str]], Table], names: Sequence[str]) -> None:
    """Print a table that `build` makes with columns.

    Those for which a terminal has no room are left out, from the end of the names, and named below.
    """
    target = console()
    room, everything = target.width, target.options.update(width=PIPED_WIDTH)
    shown = list(names)
    left_out: list[str] = []
    while target.measure(found := build(shown), options=everything).maximum > room and shown:
        left_out.insert(0, " ".join(shown.pop().split()))
    target.print(found)
    if left_out:
        typer.echo(f"No room for {', '.join(left_out)}: widen the terminal, or see --json.")


def _of_users(rows: Iterable[tuple[UserStats, Mapping[str, str]]], shown: Sequence[str]) -> Table:
    from rich.text import Text  # noqa: PLC0415 - not needed for --json

    found = table("user", right=shown, left=("state",))
    for user, cells in rows:
        # Text: not as markup.
        found.add_row(Text(plain(user.user_id)), *(cells[name] for name in shown), state_of(user))
    return found
