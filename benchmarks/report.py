"""The results as tables for the terminal and for Markdown, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.running import CONCURRENCY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.cases import Case, Metric
    from benchmarks.rounds import Result, Rounds

MANY_DIGITS, SOME_DIGITS = 100, 10
GROUPS = {"established": "the best established peer", "newcomer": "the best newcomer"}


class Report:
    """The results of one run.

    Args:
        machine: What it ran on.
        rounds: Who took part.
        results: What they did.
    """

    def __init__(self, machine: dict[str, Any], rounds: Rounds, results: Sequence[Result]) -> None:
        self.machine = machine
        self.rounds = rounds
        self.results = results
        self.cases: list[Case] = list(dict.fromkeys(result.case for result in results))

    def of(self, case: Case) -> list[Result]:
        """The results of one case."""
        return [result for result in self.results if result.case is case]

    def lines(self) -> list[str]:
        """Machine, settings and versions."""
        peers = [self._line(result.peer.name) for result in self.of(self.cases[0])]
        tasks = ", ".join(f"{count} at once for {kind} functions" for kind, count in CONCURRENCY.items())
        return [
            ", ".join(f"{key}: {value}" for key, value in self.machine.items()),
            f"One worker, {tasks}",
            *peers,
        ]

    def _line(self, name: str) -> str:
        peer = next(peer for peer in self.rounds.peers if peer.name == name)
        if name in self.rounds.refused:
            return f"{name}: {self.rounds.refused[name]}"
        versions = self.rounds.environments[name].versions
        shown = [word.split("==")[0].split("@")[0].split("[")[0] for word in peer.requirements]
        chosen = [f"{key} {versions[key]}" for key in ("python", "node", name, *shown) if key in versions]
        return f"{name}: {', '.join(dict.fromkeys(chosen))}; pushes many by {peer.bulk}; {peer.settings}"

    def rows(self, case: Case) -> list[list[str]]:
        """A row for each peer with its medians, then FairQueue against the best."""
        rows = [
            [result.peer.name, *(number(result.median(name)) for name in case.metrics), result.reason or ""]
            for result in self.of(case)
        ]
        for group, title in GROUPS.items():
            ratios = [self.ratio(case, name, metric, group) for name, metric in case.metrics.items()]
            if any(ratios):
                rows.append([f"fairque : {title}", *ratios, ""])
        return rows

    def ratio(self, case: Case, name: str, metric: Metric, group: str) -> str:
        """How many times as good as the best of a group FairQueue is, and which that is."""
        medians = [(result.median(name), result.peer) for result in self.of(case)]
        own = next((value for value, peer in medians if peer.group == "own"), None)
        others = [(value, peer.name) for value, peer in medians if value and peer.group == group]
        if not own or not others or metric.better == "neither":
            return ""
        best, best_name = max(others) if metric.better == "more" else min(others)
        return f"{own / best if metric.better == 'more' else best / own:.2f}x {best_name}"

    def tables(self) -> list[Table]:
        """For the terminal, one for each case."""
        tables = []
        for case in self.cases:
            table = Table(title=case.name, title_justify="left")
            columns, *rows = self.grid(case)
            for column in columns:
                table.add_column(column)
            for row in rows:
                table.add_row(*row)
            tables.append(table)
        return tables

    def grid(self, case: Case) -> list[list[str]]:
        """A table with its head; a metric a row where there is one peer."""
        grid = [_columns(case), *self.rows(case)]
        return [list(row) for row in zip(*grid, strict=True)] if case.is_own else grid

    def markdown(self) -> str:
        """The same for documents."""
        parts = ["\n".join(f"- {line}" for line in self.lines())]
        parts += [f"## {case.name}\n\n{in_markdown(self.grid(case))}" for case in self.cases]
        return "\n\n".join(parts) + "\n"

    def data(self) -> dict[str, Any]:
        """All that was measured, and what with."""
        return {
            "machine": self.machine,
            "concurrency": CONCURRENCY,
            "peers": {peer.name: self._peer(peer.name) for peer in self.rounds.peers},
            "cases": {case.name: self._case(case) for case in self.cases},
        }

    def _peer(self, name: str) -> dict[str, Any]:
        peer = next(peer for peer in self.rounds.peers if peer.name == name)
        environment = self.rounds.environments.get(name)
        return {
            "group": peer.group,
            "bulk": peer.bulk,
            "settings": peer.settings,
            "versions": dict(environment.versions) if environment else None,
            "reason": self.rounds.refused.get(name),
        }

    def _case(self, case: Case) -> dict[str, Any]:
        units = {
            name: {"unit": metric.unit, "better": metric.better} for name, metric in case.metrics.items()
        }
        peers = {
            result.peer.name: {
                "rounds": result.rounds,
                "medians": {name: result.median(name) for name in case.metrics},
                "reason": result.reason,
            }
            for result in self.of(case)
        }
        return {"metrics": units, "peers": peers}


def _columns(case: Case) -> list[str]:
    titles = [
        f"{name}, {metric.unit}" if metric.unit and metric.better != "neither" else name
        for name, metric in case.metrics.items()
    ]
    return ["peer", *titles, "note"]


def in_markdown(grid: Sequence[list[str]]) -> str:
    """A table; its first row is the head."""
    head, *rows = grid
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def number(value: float | None) -> str:
    """With as many digits as mean something."""
    if value is None:
        return "—"
    if value >= MANY_DIGITS or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= SOME_DIGITS else f"{value:.2f}"
