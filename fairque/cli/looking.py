"""`fairque stats`: looking at a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from fairque.cli.options import ConfigOption, JsonOption, QueueOption, UrlOption, configuration

if TYPE_CHECKING:
    from fairque.core.records import QueueStats, UserStats

SHOWN_USERS = 20


def stats(
    config: ConfigOption = None, url: UrlOption = None, queue: QueueOption = None, as_json: JsonOption = False
) -> None:
    """Show how many tasks are where, and whose they are.

    Example: fairque stats --url redis://localhost:6379/0 --json
    """
    import msgspec  # noqa: PLC0415 - --help and --version stay fast

    from fairque.queue.queue import TaskQueue  # noqa: PLC0415

    with TaskQueue(configuration(config, url, queue)) as tasks:
        numbers, users, root = tasks.stats(), tasks.users(SHOWN_USERS), tasks.commands.keys.root
    if as_json:
        rows = [msgspec.to_builtins(user) for user in users]
        typer.echo(msgspec.json.encode({"queue": root, **msgspec.to_builtins(numbers), "top_users": rows}))
    else:
        _show_stats(root, numbers, users)


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
