"""Cases of FairQueue alone: what its server can do at most, how it grows, and what processes bring."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis import Redis

from benchmarks.cases import LONG, MANY, RATE, TIME, Metric, Roundtrip, drain, percentile
from benchmarks.floor import RawConnection, Scripts, measure
from benchmarks.own_tasks import burn, nothing
from benchmarks.running import ROOT, Work, end
from benchmarks.tasks import MARKS
from fairque import TaskQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.cases import Values
    from benchmarks.running import Bench

RATIO = Metric("", "more")
TURNS, IN_A_TURN = 20, 100  # of what is compared one by one
CLAIMS = 300  # at most, and half of the tasks
DRAINED = 20_000  # of a large backlog


class Floor:
    """What the scripts do when nothing else is in the way, and right beside it what FairQueue makes of them.

    The machine's speed drifts: only what was measured within seconds of each other makes a ratio.
    """

    name = "floor"
    is_own = True
    metrics: Mapping[str, Metric] = {
        "push": RATE,
        "bulk push : push": RATIO,
        "drain": RATE,
        "worker's drain : drain": RATIO,
        "drain, 100 users": RATE,
        "bare script, raw": Metric("round trips/s", "more"),
        "bare script, redis-py": Metric("round trips/s", "more"),
        "push one by one": RATE,
        "push : bare": RATIO,
        "start p50": TIME,
        "start p50 : two bare + 0.5 ms": Metric("", "less"),
    }

    def run(self, bench: Bench) -> Values:
        url, count = bench.server.url, bench.scaled(MANY)
        bulk = bench.produce("many", kind="async", count=count, seconds=LONG)
        bench.begin()
        one = measure(url, count, users=1)
        bench.begin()
        worker = drain(bench, "async", count)
        bench.begin()
        many = measure(url, count, users=100)
        bench.begin()
        bare, push = one_by_one(url)
        bench.begin()
        start = Roundtrip().run(bench)["start p50"]
        return {
            "push": one["push"],
            "bulk push : push": bulk["count"] / bulk["seconds"] / one["push"],
            "drain": one["drain"],
            "worker's drain : drain": worker["rate"] / one["drain"],
            "drain, 100 users": many["drain"],
            "bare script, raw": one["bare"],
            "bare script, redis-py": bare,
            "push one by one": push,
            "push : bare": push / bare,
            "start p50": start,
            "start p50 : two bare + 0.5 ms": start / (2 * 1000 / bare + 0.5),
        }


def one_by_one(url: str) -> tuple[float, float]:
    """Bare scripts by redis-py, and pushes, a second; in turn, so that what drifts hits both."""
    times = {"bare": 0.0, "push": 0.0}
    with TaskQueue(url) as queue, Redis.from_url(url) as client:
        script = client.script_load("#!lua\nreturn 1")
        actions: dict[str, Callable[[], object]] = {
            "bare": lambda: client.evalsha(script, 1, "key", "argument"),
            "push": lambda: queue.push(nothing("x" * 100), user_id="acme"),
        }
        for action in actions.values():
            action()
        for _ in range(TURNS):
            for name, action in actions.items():
                began = time.perf_counter()
                for _ in range(IN_A_TURN):
                    action()
                times[name] += time.perf_counter() - began
    return TURNS * IN_A_TURN / times["bare"], TURNS * IN_A_TURN / times["push"]


def at_size(what: str, users: int, tasks: int) -> str:
    """The name of what is measured with so many users and tasks."""
    return f"{users:,} users, {tasks:,} tasks: {what}"


class Scale:
    """How draining, and a claim, slow down as users and tasks grow in number."""

    name = "scale"
    is_own = True
    USERS: tuple[tuple[int, int], ...] = ((10, 100_000), (1_000, 100_000), (100_000, 100_000))
    TASKS: tuple[tuple[int, int], ...] = ((10, 1_000), (10, 100_000), (10, 1_000_000))
    sizes = tuple(dict.fromkeys(USERS + TASKS))
    metrics: Mapping[str, Metric] = {
        at_size(what, users, tasks): metric
        for users, tasks in sizes
        for what, metric in (("drain", RATE), ("claim p50", TIME), ("claim p99", TIME))
    }

    def run(self, bench: Bench) -> Values:
        values: Values = {}
        for users, tasks in self.sizes:
            bench.begin()
            queued = bench.scaled(tasks)
            bench.produce("many", kind="async", count=queued, users=users, seconds=LONG)
            claims = claim_times(bench.server.url, min(CLAIMS, queued // 2))
            values[at_size("claim p50", users, tasks)] = percentile(claims, 50)
            values[at_size("claim p99", users, tasks)] = percentile(claims, 99)
            values[at_size("drain", users, tasks)] = self._drain(bench, queued - len(claims) - 1)
        return values

    @staticmethod
    def _drain(bench: Bench, queued: int) -> float:
        count = min(DRAINED, queued)
        with bench.worker("async") as work:
            work.wait(count)
        times = bench.times()[:count]
        return (count - 1) / (times[-1] - times[0]) * 1e9


def claim_times(url: str, count: int) -> list[float]:
    """Ms of round trips that claim one task each; one more task is claimed before."""
    with TaskQueue(url) as queue:
        queue.pop("floor")
        line, claim = RawConnection(url), Scripts(queue, 1).claim(1)
        times = []
        for _ in range(count):
            began = time.perf_counter()
            line.send(claim)
            line.reply()
            times.append((time.perf_counter() - began) * 1000)
        line.close()
    return times


class Processes:
    """What a second worker process brings where plain functions keep the cores busy."""

    name = "processes"
    is_own = True
    metrics: Mapping[str, Metric] = {"1 process": RATE, "2 processes": RATE, "2 : 1": RATIO}

    def run(self, bench: Bench) -> Values:
        rates = [self._rate(bench, processes) for processes in (1, 2)]
        return {"1 process": rates[0], "2 processes": rates[1], "2 : 1": rates[1] / rates[0]}

    @staticmethod
    def _rate(bench: Bench, processes: int) -> float:
        bench.begin()
        count = max(500, bench.scaled(1_500))  # enough for the second process to have started
        with TaskQueue(bench.server.url) as queue:
            queue.push_batch([burn() for _ in range(count)], user_id="acme")
        with supervised(bench, processes) as work:
            work.wait(count)
        times = bench.times()
        ends = count // 10  # one process may start, or end, before the other
        return (count - 2 * ends) / (times[-1 - ends] - times[ends]) * 1e9


@contextmanager
def supervised(bench: Bench, processes: int) -> Iterator[Work]:
    """`fairque worker` with some processes."""
    command = [sys.executable, "-m", "fairque", "worker", "benchmarks.own_tasks", "--url", bench.server.url]
    command += ["--concurrency", "4", "--processes", str(processes)]
    variables = {**os.environ, MARKS: str(bench.marks), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile(mode="w+") as log:
        process = subprocess.Popen(  # noqa: S603 — our own command
            command,
            env=variables,
            cwd=bench.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            yield Work(bench, process, log)
        finally:
            end(process)


OWN_CASES = (Floor(), Scale(), Processes())
