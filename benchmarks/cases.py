"""What is measured of all peers; `own.py` has the cases of FairQueue alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from benchmarks.running import LULL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.environments import Kind
    from benchmarks.running import Bench

MANY = 20_000  # tasks
CHUNK = 100  # tasks in a push of the mixed case
PROBES, SLOW = (100, 1000), 300  # tasks of the probes; tasks a second below which the first one will do
DRAINING = 4.0  # seconds that a drain should take at most
LONG = 1e9  # seconds: a push that is not cut short

Values: TypeAlias = "dict[str, float]"


@dataclass(frozen=True)
class Metric:
    """One number of a case: its unit, and which is better. `count`s are no result and are not compared."""

    unit: str
    better: Literal["more", "less", "neither"]


RATE, TIME = Metric("tasks/s", "more"), Metric("ms", "less")
COUNT = Metric("tasks", "neither")


class Case(Protocol):
    """One kind of measurement. `run` returns a value for each metric, or raises `CannotRunError`.

    With `is_own` only FairQueue takes part.
    """

    name: str
    is_own: bool
    metrics: Mapping[str, Metric]

    def run(self, bench: Bench) -> Values: ...


class Push:
    """How fast a producer pushes, with no worker: one by one, and many at once; at most 5 s each."""

    name = "push"
    is_own = False
    metrics: Mapping[str, Metric] = {"one by one": RATE, "bulk": RATE, "tasks in bulk": COUNT}

    def run(self, bench: Bench) -> Values:
        kind, count = bench.peer.kind, bench.scaled(MANY)
        one = bench.produce("one", kind=kind, count=count // 4)
        bench.begin()
        bulk = bench.produce("many", kind=kind, count=count)
        return {
            "one by one": one["count"] / one["seconds"],
            "bulk": bulk["count"] / bulk["seconds"],
            "tasks in bulk": bulk["count"],
        }


class Drain:
    """How fast one worker runs tasks that do nothing and were there before it started."""

    is_own = False
    metrics: Mapping[str, Metric] = {"rate": RATE, "CPU": Metric("s/10,000 tasks", "less"), "tasks": COUNT}

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self.name = f"drain-{kind}"

    def run(self, bench: Bench) -> Values:
        bench.peer.need(self.kind)
        return drain(bench, self.kind, worthwhile(bench, self.kind))


class Roundtrip:
    """How long a task takes to start, and its result to be there, when nothing else is to do."""

    name = "roundtrip"
    is_own = False
    metrics: Mapping[str, Metric] = {
        "start p50": TIME,
        "start p99": TIME,
        "result p50": TIME,
        "result p99": TIME,
        "results": COUNT,
    }

    def run(self, bench: Bench) -> Values:
        kind = bench.peer.kind
        with bench.worker(kind, results="awaited"):
            trips = bench.produce(
                "roundtrip", kind=kind, count=bench.scaled(200), results="awaited", seconds=8.0 * bench.scale
            )
        return {
            "start p50": percentile(trips["starts"], 50),
            "start p99": percentile(trips["starts"], 99),
            "result p50": percentile(trips["results"], 50),
            "result p99": percentile(trips["results"], 99),
            "results": len(trips["results"]),
        }


class Mixed:
    """How fast tasks of 1 KiB go through while one process pushes them and another runs them."""

    name = "mixed"
    is_own = False
    metrics: Mapping[str, Metric] = {"rate": RATE, "tasks": COUNT}

    def run(self, bench: Bench) -> Values:
        kind = bench.peer.kind
        count = worthwhile(bench, kind)
        bench.begin()
        with bench.worker(kind, results="kept", result_bytes=100) as work:
            order: dict[str, Any] = {
                "size": 1024,
                "chunk": CHUNK,
                "users": 100,
                "results": "kept",
                "seconds": LONG,
            }
            pushed = bench.produce("mixed", kind=kind, count=count, **order)
            work.wait(count + 1)  # the first one showed that the worker works
        return {"rate": count / (bench.times()[-1] - pushed["first"]) * 1e9, "tasks": count}


class Memory:
    """What a queued task and a kept result cost the server."""

    name = "memory"
    is_own = False
    metrics: Mapping[str, Metric] = {
        "queued": Metric("bytes/task", "less"),
        "result": Metric("bytes/task", "less"),
        "tasks": COUNT,
    }

    def run(self, bench: Bench) -> Values:
        kind = bench.peer.kind
        count = worthwhile(bench, kind)
        bench.begin()
        empty = bench.server.memory()
        bench.produce("many", kind=kind, count=count, results="kept", seconds=LONG)
        queued = bench.server.memory()
        with bench.worker(kind, results="kept", result_bytes=100) as work:
            work.wait(count)
            time.sleep(LULL)
        kept = bench.server.memory()
        return {"queued": (queued - empty) / count, "result": (kept - empty) / count, "tasks": count}


def worthwhile(bench: Bench, kind: Kind) -> int:
    """How many tasks this peer drains in about four seconds, found by small drains; `MANY` at most."""
    if kind not in bench.counts:
        for probe in PROBES:
            rate = drain(bench, kind, probe)["rate"]
            bench.counts[kind] = min(MANY, max(PROBES[0], round(rate * DRAINING)))
            bench.begin()
            if rate < SLOW:
                break
    return bench.scaled(bench.counts[kind])


def drain(bench: Bench, kind: Kind, count: int) -> Values:
    """Push tasks, let a worker run them, and look at the times and at the CPU."""
    bench.produce("many", kind=kind, count=count, seconds=LONG)
    with bench.worker(kind) as work:
        work.wait(1, pause=0.001)
        before = work.cpu()
        work.wait(count)
        time.sleep(LULL)
        used = work.cpu() - before
    times = bench.times()
    rate = (count - 1) / (times[-1] - times[0]) * 1e9
    return {"rate": rate, "CPU": used / count * 10_000, "tasks": count}


def percentile(values: Sequence[float], percent: int) -> float:
    """Interpolated among the values; the value itself if there is one."""
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


CASES: tuple[Case, ...] = (Push(), Drain("async"), Drain("plain"), Roundtrip(), Mixed(), Memory())
