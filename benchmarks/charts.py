"""`python -m benchmarks.charts RESULTS.json FOLDER`: the results of a run as SVG.

The same results give the same files, byte for byte. Color only repeats what names and marks say.
"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.own import Scale, at_size
from benchmarks.report import number
from benchmarks.results import OWN, Results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.results import Found

# Blue and orange of the palette of Okabe and Ito, and a grey between them: apart for every kind of eyes.
COLORS = {"own": "#0072b2", "newcomer": "#e69f00", "established": "#9a9a9a"}
GROUPS = "Blue: FairQueue. Grey: established peers. Orange: newcomers."
WIDTH, ROW, AROUND = 9.0, 0.27, 1.45  # inches: a picture, a peer's row, what is not rows
ROOM = 1.22  # of the longest bar, for its number
THOUSANDS = "{x:,.15g}"
NOTE = 140  # characters in a line under a chart
LOOK: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fairque",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # the first two are equally wide
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#808080",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Panel:
    """One metric of one case, the best peer on top."""

    title: str
    case: str
    metric: str


@dataclass(frozen=True)
class Bars:
    """Panels side by side, of bars."""

    name: str
    title: str
    panels: tuple[Panel, ...]

    def draw(self, results: Results) -> Figure | None:
        """The picture; None if nothing of it was measured."""
        ordered = [results.ordered(panel.case, panel.metric) for panel in self.panels]
        if not any(ordered):
            return None
        figure = _figure(self.title, max(len(found) for found in ordered))
        axes = figure.subplots(1, len(self.panels), squeeze=False)[0]
        for place, panel, found in zip(axes, self.panels, ordered, strict=True):
            place.set_title(
                f"{panel.title}, {results.unit(panel.case, panel.metric)}".rstrip(", "), loc="left"
            )
            _bars(place, results, found)
        notes = [left_out(results, panel.title, panel.case, panel.metric) for panel in self.panels]
        _explain(figure, results, [GROUPS, *notes])
        return figure


class Roundtrip:
    """From the median to the 99th percentile, on a logarithmic axis: some poll, others are woken."""

    name = "roundtrip"
    title = "From a push to an idle queue until …"
    panels = (("the task starts, ms", "start"), ("its result is there, ms", "result"))

    def draw(self, results: Results) -> Figure | None:
        ordered = [results.ordered(self.name, f"{what} p50") for _, what in self.panels]
        if not any(ordered):
            return None
        figure = _figure(self.title, max(len(found) for found in ordered))
        axes = figure.subplots(1, len(self.panels), sharex=True)
        for place, (title, what), found in zip(axes, self.panels, ordered, strict=True):
            place.set_title(title, loc="left")
            _ranges(place, results, found, results.values(self.name, f"{what} p99"))
        spans = [place.dataLim.intervalx for place, found in zip(axes, ordered, strict=True) if found]
        axes[0].set_xlim(min(low for low, _ in spans) / 2, max(high for _, high in spans) * 8)  # with room
        notes = [left_out(results, title, self.name, f"{what} p50") for title, what in self.panels]
        _explain(
            figure, results, ["Dot: median. Diamond: 99th percentile. Logarithmic axis.", GROUPS, *notes]
        )
        return figure


class Growth:
    """FairQueue's drain rate as users and tasks grow in number."""

    name = "scale"
    title = "One worker of FairQueue, tasks/s"

    def draw(self, results: Results) -> Figure | None:
        panels = [
            ("100,000 queued tasks, of so many users", growth(results, Scale.USERS, 0)),
            ("10 users, so many queued tasks", growth(results, Scale.TASKS, 1)),
        ]
        if not any(points for _, points in panels):
            return None
        figure = _figure(self.title, 8)
        for place, (title, points) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
            place.set_title(title, loc="left")
            place.plot(*zip(*points, strict=True), "o-", color=COLORS["own"])
            place.set_xscale("log")
            place.set_xticks([x for x, _ in points], [f"{x:,}" for x, _ in points])
            place.minorticks_off()
            place.margins(x=0.15)
            place.set_ylim(0, max(y for _, points in panels for _, y in points) * ROOM)
            place.yaxis.set_major_formatter(THOUSANDS)
            place.grid(axis="y")
            for x, y in points:
                place.annotate(number(y), (x, y), (0, 7), textcoords="offset points", ha="center")
        _explain(figure, results, [])
        return figure


CHARTS = (
    Bars(
        "drain",
        "One worker drains tasks that do nothing (longer is better)",
        (Panel("async functions", "drain-async", "rate"), Panel("plain functions", "drain-plain", "rate")),
    ),
    Bars(
        "push",
        "One producer pushes tasks of 100 bytes (longer is better)",
        (Panel("one by one", "push", "one by one"), Panel("in bulk", "push", "bulk")),
    ),
    Roundtrip(),
    Bars(
        "mixed",
        "Tasks of 1 KiB are pushed while a worker runs them (longer is better)",
        (Panel("from push to start", "mixed", "rate"),),
    ),
    Bars(
        "memory",
        "Memory of the server (shorter is better)",
        (
            Panel("a queued task", "memory", "queued"),
            Panel("a finished one with its result", "memory", "result"),
        ),
    ),
    Bars(
        "cpu",
        "CPU time of the worker and the server for 10,000 tasks that do nothing (shorter is better)",
        (Panel("async functions", "drain-async", "CPU"), Panel("plain functions", "drain-plain", "CPU")),
    ),
    Growth(),
)


def left_out(results: Results, title: str, case: str, *metrics: str) -> str:
    """Whom a panel leaves out, as a sentence; empty if nobody."""
    names = results.missing(case, *metrics)
    return f"Left out of “{title}”: {', '.join(names)}." if names else ""


def growth(results: Results, sizes: Sequence[tuple[int, int]], axis: int) -> list[tuple[int, float]]:
    """Drain rates by the number of users (axis 0) or of tasks (1), as far as they were measured."""
    rates = [(size[axis], results.value("scale", at_size("drain", *size))) for size in sizes]
    return [(size, rate) for size, rate in rates if rate is not None]


def origin(results: Results) -> str:
    """What the numbers come from."""
    machine, rounds = results.data["machine"], results.data["settings"]["rounds"]
    part = results.data["settings"]["scale"]
    quick = f" A quick look, with {part:.0%} of the tasks: no figures to quote." if results.is_quick else ""
    median = f"Medians of {rounds} rounds" if rounds > 1 else "One round"
    return (
        f"{median}, {machine['cores']} cores for all processes and the server; "
        f"{machine['server']}, Python {machine['python']}.{quick}"
    )


def _figure(title: str, rows: int) -> Figure:
    figure = Figure(figsize=(WIDTH, AROUND + ROW * rows), layout="constrained")
    FigureCanvasSVG(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _explain(figure: Figure, results: Results, notes: Sequence[str]) -> None:
    """Say under a chart what it is made of, and who is not in it."""
    sentences = " ".join(dict.fromkeys(note for note in [origin(results), *notes] if note))
    figure.supxlabel(
        "\n".join(textwrap.wrap(sentences, NOTE)), x=0.01, ha="left", fontsize=8, color="#505050"
    )


def _rows(axes: Any, results: Results, found: Sequence[Found]) -> list[str]:
    """Name the rows, FairQueue's in bold; the color of each."""
    axes.set_yticks(range(len(found)), [one.name for one in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    for label, one in zip(axes.get_yticklabels(), found, strict=True):
        label.set_fontweight("bold" if one.name == OWN else "normal")
    return [COLORS[results.group(one.name)] for one in found]


def _bars(axes: Any, results: Results, found: Sequence[Found]) -> None:
    colors = _rows(axes, results, found)
    bars = axes.barh(range(len(found)), [one.value for one in found], 0.72, color=colors)
    axes.bar_label(bars, [number(one.value) for one in found], padding=3)
    axes.set_xlim(0, max((one.value for one in found), default=1) * ROOM)
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter(THOUSANDS)


def _ranges(axes: Any, results: Results, found: Sequence[Found], ends: dict[str, float]) -> None:
    colors = _rows(axes, results, found)
    for row, (one, color) in enumerate(zip(found, colors, strict=True)):
        end = ends.get(one.name, one.value)
        axes.plot([one.value, end], [row, row], color=color, linewidth=2)
        axes.plot([one.value], [row], "o", color=color)
        axes.plot([end], [row], "D", markersize=5, markerfacecolor="white", color=color)
        text = f"{number(one.value)}, {number(end)}"
        axes.annotate(text, (max(one.value, end), row), (7, 0), textcoords="offset points", va="center")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(THOUSANDS)


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw all charts of which something was measured."""
    files = []
    with mpl.rc_context(LOOK):
        for chart in CHARTS:
            figure = chart.draw(results)
            if figure is not None:
                files.append(folder / f"{chart.name}.svg")
                figure.savefig(files[-1], metadata={"Date": None, "Creator": None})
    return files


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.charts", description="Draw the results of a run."
    )
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="as --json wrote it")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for the SVG files; made if need be")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for file in draw(Results.read(options.results), options.folder):
        print(file)  # noqa: T201 — what it has made


if __name__ == "__main__":
    main()
