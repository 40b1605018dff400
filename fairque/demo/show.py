"""How the demo shows itself: live on a terminal, as plain lines elsewhere, or as one JSON object."""

from __future__ import annotations

import json
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console

from fairque.demo.summary import as_json, summary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from fairque.demo.progress import Progress
    from fairque.demo.report import Comparison, RunReport

TITLES = {"fifo": "Run 1 of 2: one FIFO for all", "fair": "Run 2 of 2: fair by user"}
SECONDS_PER_LINE = 2.0


class Show(Protocol):
    """What the demo tells while it runs. Its block ends before `compare`, and clears up the display."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def begin(self, sizes: Mapping[str, int], workers: int) -> None:
        """The input is known; workers are starting."""

    def update(self, run: str, progress: Progress) -> None:
        """How far a run ("fifo" or "fair") is."""

    def end(self, run: str, report: RunReport) -> None:
        """A run is over."""

    def compare(self, comparison: Comparison) -> None:
        """The outcome."""


class JsonShow:
    """Nothing but one JSON object on standard output, at the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def begin(self, sizes: Mapping[str, int], workers: int) -> None:
        pass

    def update(self, run: str, progress: Progress) -> None:
        pass

    def end(self, run: str, report: RunReport) -> None:
        pass

    def compare(self, comparison: Comparison) -> None:
        sys.stdout.write(json.dumps(as_json(comparison), indent=2) + "\n")


class PlainShow(JsonShow):
    """A line every few seconds, for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._files = 0
        self._next_line = 0.0

    def begin(self, sizes: Mapping[str, int], workers: int) -> None:
        self._files = sum(sizes.values())
        self._console.print(introduction(sizes, workers))

    def update(self, run: str, progress: Progress) -> None:
        if not self._next_line:
            self._console.print(f"{TITLES[run]} …")
        if progress.seconds < self._next_line:
            return
        self._next_line = progress.seconds + SECONDS_PER_LINE
        served = sum(1 for user in progress.users if user.done)
        self._console.print(
            f"  {progress.seconds:5.1f} s: {progress.done:5,} of {self._files:,} files, "
            f"{served:2} of {len(progress.users)} users have results"
        )

    def end(self, run: str, report: RunReport) -> None:
        self._next_line = 0.0
        self._console.print(ending(run, report))

    def compare(self, comparison: Comparison) -> None:
        self._console.print(summary(comparison))


def introduction(sizes: Mapping[str, int], workers: int) -> str:
    """What is about to happen."""
    version = ".".join(map(str, sys.version_info[:2]))
    biggest = next(iter(sizes))
    files = sum(sizes.values())
    return (
        f"[bold]FairQueue demo[/]: {workers} worker processes parse and measure the {files:,} source files "
        f"of Python {version}'s standard library. Its {len(sizes)} packages are the users. The biggest, "
        f"[bold]{biggest}[/], pushes its {sizes[biggest]:,} files first; the others come after it, the "
        "smallest last.\n"
    )


def ending(run: str, report: RunReport) -> str:
    """One line for a run that is over."""
    return f"[green]✓[/] {TITLES[run]}: {report.finished:,} files in {report.seconds:.1f} s"


def show_on_terminal() -> Show:
    """The live display, or plain lines where standard output is no terminal."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a locale without these characters gets question marks
    console = Console(highlight=False)
    if not console.is_terminal:
        return PlainShow(console)
    from fairque.demo.live import LiveShow  # noqa: PLC0415 - builds on this module

    return LiveShow(console)
