"""What the times of a run say: waits, total time, fairness. Pure."""

from __future__ import annotations

import heapq
import math
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from fairque.demo.tasks import FileMeasure

NOISE_PERCENT = 3.0
# Jain's index looks at users with at least so many tasks: a share of two or three tasks cannot be even.
JAIN_TASKS = 10


@dataclass(frozen=True, slots=True)
class TaskTimes:
    """When a task was queued, started and ended: milliseconds by the server's clock."""

    owner: str
    queued_at: int
    started_at: int
    finished_at: int | None
    error: str | None = None  # of a task that failed

    @property
    def wait(self) -> int:
        """From queued to started."""
        return self.started_at - self.queued_at


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run. Waits in milliseconds; those of the small users over all their tasks together.

    Attributes:
        seconds: From the first push to the last end.
        cpu_seconds: Processor time of the workers and the server together.
        queueing_seconds: The part of it that was not spent inside tasks.
    """

    seconds: float
    cpu_seconds: float
    queueing_seconds: float
    small_users_wait_p50_ms: int
    small_users_wait_p99_ms: int
    jain_index: float
    longest_waits_ms: Mapping[str, int]
    finished: int
    errors: Sequence[str]


class Found(NamedTuple):
    """A function, and where it is."""

    complexity: int
    name: str
    path: str
    line: int


class Findings(NamedTuple):
    """What all files together hold; `invalid` ones are no Python."""

    lines: int
    functions: int
    invalid: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both runs, and what the tasks of the fair one found.

    Attributes:
        sizes: How many files each user has, biggest first.
        workers: How many worker processes served both runs.
    """

    sizes: Mapping[str, int]
    workers: int
    fifo: RunReport
    fair: RunReport
    measures: Sequence[FileMeasure]

    @property
    def files(self) -> int:
        return sum(self.sizes.values())

    @property
    def finished(self) -> int:
        """Tasks of both runs."""
        return self.fifo.finished + self.fair.finished

    @property
    def errors(self) -> list[str]:
        """Of the failed tasks of both runs."""
        return [*self.fifo.errors, *self.fair.errors]

    @property
    def overhead_percent(self) -> float:
        """How much longer the fair run took."""
        return (self.fair.seconds / self.fifo.seconds - 1) * 100

    @property
    def queueing_overhead_percent(self) -> float:
        """How much more processor time the fair run used for queueing, in percent of all that FIFO used.

        The tasks' own time is left out: the order they run in cannot change it, but other programs on the
        machine do, and by more than queueing costs altogether.
        """
        return (self.fair.queueing_seconds - self.fifo.queueing_seconds) / self.fifo.cpu_seconds * 100

    @property
    def was_disturbed(self) -> bool:
        """Whether the total times differ by more than queueing explains."""
        return abs(self.overhead_percent - self.queueing_overhead_percent) > NOISE_PERCENT

    @property
    def findings(self) -> Findings:
        """What the files hold, in numbers."""
        return Findings(
            lines=sum(measure.lines for measure in self.measures),
            functions=sum(len(measure.functions) for measure in self.measures),
            invalid=sum(measure.error is not None for measure in self.measures),
        )

    def most_complex(self, count: int) -> list[Found]:
        """The most complex functions."""
        found = (
            Found(function.complexity, function.name, measure.path, function.line)
            for measure in self.measures
            for function in measure.functions
        )
        return heapq.nlargest(count, found)


def report(
    times: Sequence[TaskTimes], sizes: Mapping[str, int], *, cpu_seconds: float, task_seconds: float
) -> RunReport:
    """The report of a run whose tasks have all ended.

    Args:
        times: Of all its tasks.
        sizes: How many tasks each user has.
        cpu_seconds: Processor time of workers and server.
        task_seconds: The part of it that was spent inside tasks.
    """
    small = small_users(sizes)
    waits = [task.wait for task in times if task.owner in small]
    began, ended = min(task.queued_at for task in times), max(task.finished_at or 0 for task in times)
    errors = [task.error for task in times if task.error is not None]
    longest: dict[str, int] = dict.fromkeys(sizes, 0)
    for task in times:
        longest[task.owner] = max(longest[task.owner], task.wait)
    return RunReport(
        seconds=(ended - began) / 1000,
        cpu_seconds=cpu_seconds,
        queueing_seconds=cpu_seconds - task_seconds,
        small_users_wait_p50_ms=percentile(waits, 50),
        small_users_wait_p99_ms=percentile(waits, 99),
        jain_index=jain_index(times, sizes),
        longest_waits_ms=longest,
        finished=len(times) - len(errors),
        errors=errors,
    )


def small_users(sizes: Mapping[str, int]) -> set[str]:
    """The users with no more tasks than the median user."""
    median = statistics.median(sizes.values())
    return {user for user, size in sizes.items() if size <= median}


def percentile(values: Collection[int], percent: int) -> int:
    """By nearest rank: the least value that is not below `percent` % of them."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def jain_index(times: Iterable[TaskTimes], sizes: Mapping[str, int]) -> float:
    """How evenly the users were served while all of them had work: 1 is even, 1/n is one of n served alone.

    A user's service is how many of its tasks started, counted from the run's first start until one of the
    users has nothing left to start. Users with fewer than `JAIN_TASKS` tasks are left out, or that would be
    over after a few starts. (Jain, Chiu and Hawe 1984: the sum's square over n times the sum of squares.)
    """
    left = {user: size for user, size in sizes.items() if size >= JAIN_TASKS} or dict(sizes)
    served = Counter(dict.fromkeys(left, 0))
    for task in sorted(times, key=lambda task: task.started_at):
        if task.owner in left:
            served[task.owner] += 1
            left[task.owner] -= 1
            if left[task.owner] == 0:
                break
    return sum(served.values()) ** 2 / (len(served) * sum(count**2 for count in served.values()))
