"""`fairque simulate`."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairque.cli.options import JsonOption
from fairque.core.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fairque.core.user_policy import UserPolicy
    from fairque.simulator.trace import Arrival

LIGHTEST, HEAVIEST = 0.001, 1000.0
DEFAULT_SLOTS = 8


def simulate(  # noqa: PLR0917 - typer passes them by name
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Your tasks: .csv with a header line, or .jsonl with an object a line. Fields: time and "
            "cost in seconds, user, and optionally group. Without it a trace is generated.",
        ),
    ] = None,
    slots: Annotated[
        int, typer.Option("--slots", metavar="N", help="Tasks that run at once.")
    ] = DEFAULT_SLOTS,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME",
            help="fifo, round-robin, fair-tasks or fair-time; repeat it. All, if none.",
        ),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="USER=W",
            help="A user's share in the fair policies (1), e.g. acme=2; repeat it.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Draw waits and lag: .png, .svg or .pdf (fairque[plot])."
        ),
    ] = None,
    save_trace: Annotated[
        Path | None,
        typer.Option("--save-trace", metavar="FILE", help="Write the trace that was run: .csv or .jsonl."),
    ] = None,
    users: Annotated[
        int | None,
        typer.Option("--users", metavar="N", help="How many there are (100)."),
    ] = None,
    tasks: Annotated[
        int | None, typer.Option("--tasks", metavar="N", help="Of all users together (20,000).")
    ] = None,
    zipf: Annotated[
        float | None,
        typer.Option(
            "--zipf",
            metavar="Z",
            help="How unequal the users are: the r-th has 1/r^Z times the tasks of the first (1.1).",
        ),
    ] = None,
    arrivals: Annotated[
        str | None,
        typer.Option(
            "--arrivals",
            metavar="HOW",
            help="poisson: each task on its own; bursty: a user pushes n tasks in √n bursts (bursty).",
        ),
    ] = None,
    load: Annotated[
        float | None,
        typer.Option(
            "--load",
            metavar="X",
            help="Work over what the slots can do while it arrives; above 1 the backlog only grows (0.95).",
        ),
    ] = None,
    tail: Annotated[
        float | None,
        typer.Option(
            "--tail",
            metavar="A",
            help="Exponent of the costs' Pareto distribution: the smaller, the longer the longest (2.0).",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="The same seed gives the same trace (1).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try out on paper what fair order does to your users' waits: no server, no workers, just arithmetic.

    A trace of tasks runs through four policies: one FIFO for all; round-robin over users; and FairQueue's
    order with each task costing one (fair-tasks) or the time that it runs (fair-time).

    Waits are shown by class of user: users by the work they offer, biggest first; those that make up the
    first half of it are heavy, up to nine tenths medium, the rest small.

    Jain's index tells how even the service was among users that waited at the same time: 1 is even, 1/n is
    one of n served alone. It is taken over windows of ten starts for each waiting user.

    Worst lag is the most that the service of two users, divided by their weights, drifted apart while both
    had tasks waiting. fair-tasks bounds it in tasks and fair-time in seconds; the bound is in brackets.

    The options from --users to --seed shape the trace that is generated where there is no --trace.

    Example: fairque simulate --trace tasks.csv --slots 20 --weight acme=2 --plot out.png
    """
    from fairque.simulator.compare import compare  # noqa: PLC0415 - --help and --version stay fast
    from fairque.simulator.generate import check_limits  # noqa: PLC0415
    from fairque.simulator.orders import check_names  # noqa: PLC0415
    from fairque.simulator.plot import check_plot, draw  # noqa: PLC0415
    from fairque.simulator.trace import write_trace  # noqa: PLC0415

    names = check_names(policy or [])
    check_limits("slots", slots)
    if plot is not None:
        check_plot(plot)
    shape = {
        "users": users,
        "tasks": tasks,
        "zipf": zipf,
        "arrivals": arrivals,
        "load": load,
        "tail": tail,
        "seed": seed,
    }
    work = _trace(trace, slots, {name: value for name, value in shape.items() if value is not None})
    policies = _policies(weight or [], work)
    if save_trace is not None:
        write_trace(save_trace, work)
    with _progress(len(work) * len(names)) as on_progress:
        comparison = compare(work, names, slots, policies, on_progress)
    if plot is not None:
        draw(comparison, plot)
    _print(comparison, as_json=as_json)


def _trace(file: Path | None, slots: int, shape: dict[str, Any]) -> Sequence[Arrival]:
    from fairque.simulator.generate import Workload, generate  # noqa: PLC0415
    from fairque.simulator.trace import read_trace  # noqa: PLC0415

    if file is None:
        return generate(Workload(slots=slots, **shape))
    if shape:
        raise ConfigurationError(
            f"--{next(iter(shape))} shapes a generated trace: leave it out, or --trace {file}"
        )
    return read_trace(file)


def _policies(options: Sequence[str], work: Sequence[Arrival]) -> dict[str, UserPolicy]:
    from fairque.core.user_policy import UserPolicy  # noqa: PLC0415

    users = {arrival.user for arrival in work} if options else set()
    policies = {}
    for option in options:
        user, _, text = option.rpartition("=")
        try:
            weight = float(text)
        except ValueError:
            weight = 0.0
        if not user or not LIGHTEST <= weight <= HEAVIEST:
            limits = f"a weight from {LIGHTEST:g} to {HEAVIEST:,.0f}"
            raise ConfigurationError(f"--weight {option}: must be USER=WEIGHT with {limits}, e.g. acme=2")
        if user not in users:
            raise ConfigurationError(f"--weight {option}: the trace has no user {user!r}")
        policies[user] = UserPolicy(weight=weight)
    return policies


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr, gone at the end."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Simulating", total=total)
        yield lambda count: progress.advance(bar, count)


def _print(comparison: Any, *, as_json: bool) -> None:
    from rich.console import Console  # noqa: PLC0415

    from fairque.simulator.report import show, to_json  # noqa: PLC0415

    if as_json:
        typer.echo(to_json(comparison))
    else:
        show(comparison, Console())
