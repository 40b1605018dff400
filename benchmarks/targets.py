"""`python -m benchmarks.targets RESULTS.json`: what FairQueue is to reach, and whether a run reached it.

All targets are ratios of medians of one run, so that they hold on slow machines as on fast ones.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from rich.console import Console
from rich.table import Table

from benchmarks.own import at_size
from benchmarks.report import in_markdown, number
from benchmarks.results import Found, Results

if TYPE_CHECKING:
    from collections.abc import Callable

    Reference: TypeAlias = Callable[[Results], Found | None]

COLUMNS = ["target", "required", "measured", "met"]
QUICK = "A quick look: no figures to quote."

# Whose task is off the server before it has run: there is nothing to find, to cancel, or to take over if its
# worker dies. Memory is compared with the others: RQ, arq, SAQ, streaQ, Docket, BullMQ and ArdiQ have a
# key for each task, Dramatiq a field of a hash, Taskiq and BlitzQ an entry of a stream; all until it has run.
KEEPS_NO_RECORD = {
    "huey",  # the worker pops the task from a list
    "celery",  # it is acknowledged, and so deleted, before it runs (`task_acks_late` is off by default)
}


@dataclass(frozen=True)
class Target:
    """A ratio of one of FairQueue's medians to something of the same run."""

    what: str
    case: str
    metric: str
    sense: Literal["≥", "≤"]
    limit: float
    reference: Reference

    def row(self, results: Results) -> list[str]:
        """Target, required, measured, met."""
        own, reference = results.value(self.case, self.metric), self.reference(results)
        required = f"{self.sense} {self.limit:.2f}x"
        if own is None or reference is None or not reference.value:
            return [self.what, required, "not measured", "not measured"]
        ratio = own / reference.value
        is_met = ratio >= self.limit if self.sense == "≥" else ratio <= self.limit
        return [self.what, required, f"{ratio:.2f}x{_of(own, reference)}", "yes" if is_met else "no"]


def _of(own: float, reference: Found) -> str:
    """What a ratio is made of, unless it was measured as a ratio."""
    return f" ({number(own)} : {number(reference.value)} {reference.name})" if reference.name else ""


def established(case: str, metric: str) -> Reference:
    """The best of the established peers."""
    return lambda results: results.best(case, metric, lambda name: results.group(name) == "established")


def best_of(case: str, metric: str, *names: str) -> Reference:
    """The best of some peers."""
    return lambda results: results.best(case, metric, lambda name: name in names)


def own(case: str, metric: str, name: str) -> Reference:
    """Another of FairQueue's medians."""

    def found(results: Results) -> Found | None:
        value = results.value(case, metric)
        return None if value is None else Found(value, name)

    return found


def itself(_results: Results) -> Found:
    """Where what was measured is a ratio already."""
    return Found(1.0, "")


def any_start(results: Results) -> Found | None:
    """The shortest 99th percentile of all peers."""
    return results.best("roundtrip", "start p99", lambda _name: True)


def leanest(results: Results) -> Found | None:
    """Of the peers that have the task on the server until it has run."""
    return results.best("memory", "queued", lambda name: name not in KEEPS_NO_RECORD)


def _drained(users: int, tasks: int) -> str:
    return at_size("drain", users, tasks)


TARGETS = (
    Target(
        "drain-async, rate : best established",
        "drain-async",
        "rate",
        "≥",
        5,
        established("drain-async", "rate"),
    ),
    Target(
        "drain-async, rate : better of blitzq and ardiq",
        "drain-async",
        "rate",
        "≥",
        1.2,
        best_of("drain-async", "rate", "blitzq", "ardiq"),
    ),
    Target("floor, worker's drain : drain", "floor", "worker's drain : drain", "≥", 0.5, itself),
    Target(
        "drain-plain, rate : best established",
        "drain-plain",
        "rate",
        "≥",
        3,
        established("drain-plain", "rate"),
    ),
    Target(
        "drain-plain, rate : blitzq", "drain-plain", "rate", "≥", 1, best_of("drain-plain", "rate", "blitzq")
    ),
    Target("floor, push : bare", "floor", "push : bare", "≥", 0.85, itself),
    Target("floor, bulk push : push", "floor", "bulk push : push", "≥", 0.6, itself),
    Target("push, bulk : blitzq", "push", "bulk", "≥", 1, best_of("push", "bulk", "blitzq")),
    Target(
        "floor, start p50 : two bare round trips + 0.5 ms",
        "floor",
        "start p50 : two bare + 0.5 ms",
        "≤",
        1,
        itself,
    ),
    Target("roundtrip, start p99 : best peer", "roundtrip", "start p99", "≤", 1, any_start),
    Target("memory, queued : leanest peer with a record of the task", "memory", "queued", "≤", 1.2, leanest),
    Target(
        "drain-async, CPU : best established",
        "drain-async",
        "CPU",
        "≤",
        1 / 3,
        established("drain-async", "CPU"),
    ),
    Target(
        "drain-async, CPU : blitzq", "drain-async", "CPU", "≤", 1, best_of("drain-async", "CPU", "blitzq")
    ),
    Target(
        "scale, drain of 100,000 tasks: 100,000 users : 10 users",
        "scale",
        _drained(100_000, 100_000),
        "≥",
        0.7,
        own("scale", _drained(10, 100_000), "10 users"),
    ),
    Target(
        "scale, drain of 10 users: 1,000,000 tasks : 1,000 tasks",
        "scale",
        _drained(10, 1_000_000),
        "≥",
        0.8,
        own("scale", _drained(10, 1_000), "1,000 tasks"),
    ),
    Target("processes, 2 : 1", "processes", "2 : 1", "≥", 1.8, itself),
)


def rows(results: Results) -> list[list[str]]:
    """The table without its head."""
    return [target.row(results) for target in TARGETS]


def markdown(results: Results) -> str:
    """A section for documents."""
    note = f"{QUICK}\n\n" if results.is_quick else ""
    return f"## targets\n\n{note}{in_markdown([COLUMNS, *rows(results)])}\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.targets", description=(__doc__ or "").split(": ")[1]
    )
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="as --json wrote it")
    results = Results.read(parser.parse_args().results)
    table = Table(
        *COLUMNS, title=f"targets. {QUICK}" if results.is_quick else "targets", title_justify="left"
    )
    for row in rows(results):
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
