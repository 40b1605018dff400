"""The outcome of the demo: for readers, and as JSON."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from fairque.demo.report import JAIN_TASKS, small_users

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairque.demo.report import Comparison, RunReport

MOST_COMPLEX = 5  # for readers; JSON gets twice as many


def summary(comparison: Comparison) -> RenderableType:
    """The comparison, what it means, and what the tasks found."""
    return Group(_table(comparison), *_notes(comparison), "", _found(comparison), _functions(comparison))


def _table(comparison: Comparison) -> Table:
    fifo, fair = comparison.fifo, comparison.fair
    table = _plain_table(
        Column("", min_width=22),
        Column("one FIFO", justify="right", min_width=8),
        Column("fair", justify="right", min_width=8, style="bold"),
        Column(""),
    )
    biggest = next(iter(comparison.sizes))
    waits = {
        "small users' wait, p50": (fifo.small_users_wait_p50_ms, fair.small_users_wait_p50_ms),
        "small users' wait, p99": (fifo.small_users_wait_p99_ms, fair.small_users_wait_p99_ms),
        f"longest wait of {biggest}": (fifo.longest_waits_ms[biggest], fair.longest_waits_ms[biggest]),
    }
    for what, (before, after) in waits.items():
        shorter = before / max(after, 1)
        remark = Text(f"{shorter:.0f} times shorter", style="green") if shorter > 1.5 else ""  # noqa: PLR2004 - rounds to 2
        table.add_row(what, _seconds(before / 1000), _seconds(after / 1000), remark)
    index = (f"{run.jain_index:.3f}" for run in (fifo, fair))
    table.add_row("evenness of service", *index, "Jain's index, 1 is even")
    change = f"{comparison.overhead_percent:+.1f} %"
    table.add_row("total time", _seconds(fifo.seconds), _seconds(fair.seconds), change)
    change = f"{comparison.queueing_overhead_percent:+.1f} % of all processor time"
    table.add_row("queueing", _seconds(fifo.queueing_seconds), _seconds(fair.queueing_seconds), change)
    return table


def _notes(comparison: Comparison) -> Iterator[Text]:
    small = small_users(comparison.sizes)
    tasks = sum(comparison.sizes[user] for user in small)
    most = max(comparison.sizes[user] for user in small)
    yield Text(
        f"Small users are the {len(small)} with at most {most} files ({tasks} in all). A wait is from push "
        "to start, by the server's clock. Evenness compares the starts of all users with at least "
        f"{JAIN_TASKS} files, until the first of them has nothing left to start. Queueing is the processor "
        "time of workers and server outside of tasks.",
        style="dim",
    )
    if comparison.was_disturbed:
        yield Text(
            "The total times differ by more than queueing explains: something else was busy on this machine. "
            "On a quiet one they are alike.",
            style="yellow",
        )
    if comparison.errors:
        count = len(comparison.errors)
        yield Text(f"{count} tasks failed, the first with: {comparison.errors[0]}", style="bold red")


def _found(comparison: Comparison) -> Text:
    found = comparison.findings
    files = "1 file is" if found.invalid == 1 else f"{found.invalid} files are"
    invalid = f"; {files} invalid on purpose" if found.invalid else ""
    return Text(f"Found {found.functions:,} functions in {found.lines:,} lines{invalid}:")


def _functions(comparison: Comparison) -> Table:
    table = _plain_table(
        Column("complexity", justify="right", no_wrap=True, min_width=10),
        Column("function", overflow="ellipsis", no_wrap=True),
        Column("file", overflow="ellipsis", no_wrap=True, style="dim"),
    )
    for function in comparison.most_complex(MOST_COMPLEX):
        table.add_row(str(function.complexity), function.name, f"{function.path}:{function.line}")
    return table


def _plain_table(*columns: Column) -> Table:
    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON has it. Finished and failed tasks are those of both runs."""
    found = comparison.findings
    return {
        "python": platform.python_version(),
        "files": comparison.files,
        "users": len(comparison.sizes),
        "small_users": len(small_users(comparison.sizes)),
        "workers": comparison.workers,
        "tasks_finished": comparison.finished,
        "tasks_failed": len(comparison.errors),
        "fifo": _run(comparison.fifo),
        "fair": _run(comparison.fair),
        "overhead_percent": round(comparison.overhead_percent, 2),
        "queueing_overhead_percent": round(comparison.queueing_overhead_percent, 2),
        "disturbed": comparison.was_disturbed,
        "lines": found.lines,
        "functions": found.functions,
        "invalid_files": found.invalid,
        "most_complex": [
            {
                "function": function.name,
                "file": function.path,
                "line": function.line,
                "complexity": function.complexity,
            }
            for function in comparison.most_complex(2 * MOST_COMPLEX)
        ],
        "errors": comparison.errors[:MOST_COMPLEX],
    }


def _run(run: RunReport) -> dict[str, Any]:
    return {
        "seconds": run.seconds,
        "cpu_seconds": round(run.cpu_seconds, 3),
        "queueing_cpu_seconds": round(run.queueing_seconds, 3),
        "small_users_wait_p50_ms": run.small_users_wait_p50_ms,
        "small_users_wait_p99_ms": run.small_users_wait_p99_ms,
        "jain_index": round(run.jain_index, 4),
    }
