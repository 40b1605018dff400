"""How the demo shows itself: live on a terminal, as plain lines elsewhere, or as one JSON object."""

from __future__ import annotations

import json
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fairque.demo.report import JAIN_TASKS, Comparison, RunReport, small_users

if TYPE_CHECKING:
    from types import TracebackType

    from fairque.demo.watch import Progress, Run

TITLES = {"fifo": "Run 1 of 2: one FIFO for all", "fair": "Run 2 of 2: fair by user"}
ROOM = 7  # lines of the live display that are no users
SECONDS_PER_LINE = 2.0  # of plain progress


class Show(Protocol):
    """What the demo tells while it runs. A context manager, so that a display is cleared up."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def begin(self, sizes: Mapping[str, int], workers: int) -> None:
        """The input is known; workers are starting."""

    def update(self, kind: str, run: Run) -> None:
        """News of a run."""

    def end(self, kind: str, report: RunReport) -> None:
        """A run is over."""

    def compare(self, comparison: Comparison) -> None:
        """The outcome, last of all."""
