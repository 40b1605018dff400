"""A comparison as a picture: waits by class, and lag against its bound. Needs the extra `plot`.

The one in the documentation: `fairque simulate --plot docs/img/simulate.png`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fairque.core.exceptions import ConfigurationError
from fairque.simulator.measure import CLASSES, UNITS

if TYPE_CHECKING:
    from pathlib import Path

    from fairque.simulator.compare import Comparison
    from fairque.simulator.lag import Unit
    from fairque.simulator.orders import OrderName

FORMATS = (".pdf", ".png", ".svg")
COLORS: dict[OrderName, str] = {
    "fifo": "#9a9a9a",
    "round-robin": "#d9a441",
    "fair-tasks": "#2f7fb8",
    "fair-time": "#1d4e79",
}
LEAST_WAIT = 0.01  # seconds; a logarithmic axis has no zero
GROUP = 0.8  # of the width between two classes is bars


def check_plot(file: Path) -> None:
    """Tell before a long run that its picture could not be drawn.

    Raises:
        ConfigurationError: matplotlib is missing, or the name says no known format.
    """
    if file.suffix not in FORMATS:
        raise ConfigurationError(f"--plot {file}: its name must end in {', '.join(FORMATS)}")
    if not file.parent.is_dir():
        raise ConfigurationError(f"--plot {file}: there is no folder {file.parent}")
    if find_spec("matplotlib") is None:
        raise ConfigurationError(
            "--plot needs matplotlib, which is not installed: pip install 'fairque[plot]'"
        )


def draw(comparison: Comparison, file: Path) -> None:
    """Write the picture; the file's name says in which format.

    Raises:
        ConfigurationError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    waits, *lags = figure.subplots(1, 3, width_ratios=(2, 1, 1))
    _draw_waits(waits, comparison)
    for axes, unit in zip(lags, UNITS, strict=True):
        _draw_lag(axes, comparison, unit)
    try:
        figure.savefig(file, dpi=110)
    except OSError as error:
        raise ConfigurationError(f"--plot {file}: cannot be written: {error.strerror}") from error


def _draw_waits(axes: Any, comparison: Comparison) -> None:
    """For each class a bar of each order from its median wait to the 99th percentile, with a mark at both."""
    width = GROUP / len(comparison.measured)
    for place, one in enumerate(comparison.measured):
        middle = (place - (len(comparison.measured) - 1) / 2) * width
        found = [
            (number + middle, one.waits[name]) for number, name in enumerate(CLASSES) if name in one.waits
        ]
        spots = [spot for spot, _ in found]
        low = [max(waits.p50, LEAST_WAIT) for _, waits in found]
        high = [max(waits.p99, LEAST_WAIT) for _, waits in found]
        heights = [top - bottom for bottom, top in zip(low, high, strict=True)]
        color = COLORS[one.policy]
        axes.bar(spots, heights, width * 0.85, bottom=low, color=color, alpha=0.55, label=one.policy)
        axes.hlines(low + high, *_ends(spots * 2, width * 0.85), color=color, linewidth=2)
    axes.set_yscale("log")
    least, most = axes.dataLim.intervaly
    axes.set_ylim(least / 1.5, most * 3)  # room for the legend
    labels = [f"{name}\n{comparison.offered.users[name]:,} users" for name in CLASSES]
    axes.set_xticks(range(len(CLASSES)), labels)
    axes.set_title("Wait for a slot, median to 99th percentile, seconds", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, frameon=False, ncols=2)


def _ends(spots: list[float], width: float) -> tuple[list[float], list[float]]:
    return [spot - width / 2 for spot in spots], [spot + width / 2 for spot in spots]


def _draw_lag(axes: Any, comparison: Comparison, unit: Unit) -> None:
    """A bar for each order, and a line at its bound where it has one."""
    names = [one.policy for one in comparison.measured]
    lags = [one.fairness[unit].lag for one in comparison.measured]
    bars = axes.bar(names, [lag.worst or 0 for lag in lags], 0.7, color=[COLORS[name] for name in names])
    axes.bar_label(
        bars, [f"{lag.worst:.3g}" if lag.worst is not None else "none" for lag in lags], fontsize=8
    )
    for place, lag in enumerate(lags):
        if lag.bound is not None:
            axes.hlines(lag.bound, place - 0.45, place + 0.45, color="#c0392b", linewidth=2, label="bound")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(
        0, 10 * max((value for lag in lags for value in (lag.worst, lag.bound) if value), default=1)
    )
    axes.tick_params(axis="x", rotation=40)
    axes.set_title(f"Worst lag of two users, {unit}", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    if any(lag.bound is not None for lag in lags):
        axes.legend(fontsize=8, frameon=False)
