"""The live display: a progress line, and a table of the users that redraws in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from fairque.demo.show import TITLES, PlainShow, ending, introduction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from fairque.demo.progress import Progress, UserProgress
    from fairque.demo.report import RunReport

FRAME = 8  # lines of the screen that are left to other things than users
LONG_WAIT = 1.0  # seconds


class LiveShow(PlainShow):
    """For terminals. What has been drawn live is replaced by one line when a run ends."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def begin(self, sizes: Mapping[str, int], workers: int) -> None:
        self._console.print(introduction(sizes, workers))
        self._live.update(Text("starting the server and the workers …", style="dim"), refresh=True)

    def update(self, run: str, progress: Progress) -> None:
        self._live.update(_picture(run, progress, self._console.height - FRAME), refresh=True)

    def end(self, run: str, report: RunReport) -> None:
        self._live.update(Text(), refresh=True)
        self._console.print(ending(run, report))


def _picture(run: str, progress: Progress, room: int) -> Group:
    return Group(_progress_line(run, progress), _users(progress.users, room))


def _progress_line(run: str, progress: Progress) -> Table:
    total = sum(user.size for user in progress.users)
    line = Table.grid(
        Column(no_wrap=True), Column(ratio=1), Column(no_wrap=True), padding=(0, 1), expand=True
    )
    line.add_row(
        Text(TITLES[run], style="bold cyan"),
        ProgressBar(total, progress.done),
        f"{progress.done:,}/{total:,} files {progress.seconds:5.1f} s",
    )
    return line


def _users(users: Sequence[UserProgress], room: int) -> Table:
    table = Table(
        Column("user", no_wrap=True),
        Column("", width=20),
        Column("done", justify="right", width=5),
        Column("waiting", justify="right", width=7),
        Column("share", justify="right", width=5),
        Column("wait", justify="right", width=6),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for user in _chosen(users, room):
        if isinstance(user, int):
            table.add_row(Text(f"… {user} more users", style="dim"))
        else:
            table.add_row(*_row(user))
    return table


def _chosen(users: Sequence[UserProgress], room: int) -> Iterator[UserProgress | int]:
    """As many as there is room for: the biggest, how many are left out, and the smallest."""
    room = max(room, 5)
    if len(users) <= room:
        yield from users
        return
    top = (room - 1) // 2
    bottom = room - 1 - top
    yield from users[:top]
    yield len(users) - top - bottom
    yield from users[-bottom:]


def _row(user: UserProgress) -> list[Text | ProgressBar]:
    is_done = user.done == user.size
    wait = Text(f"{user.longest_wait:.1f} s", style="red" if user.longest_wait > LONG_WAIT else "green")
    return [
        Text(user.user, style="green" if is_done else ""),
        ProgressBar(user.size, user.done, width=20),
        Text(f"{user.done:,}"),
        Text(f"{user.waiting:,}" if user.waiting else "-"),
        Text(f"{user.share:.0%}" if user.share else "-"),
        wait,
    ]
