"""What a scenario works with: a server, a queue, a journal and a crew; and the checker at its end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redis import Redis

from fairque import Task, TaskQueue
from tests.chaos.checker import Report, judge, look
from tests.chaos.crew import Crew, Hand
from tests.chaos.journal import Journal
from tests.support.invariants import violations
from tests.support.servers import OwnServer
from tests.support.waiting import until

T = TypeVar("T")
ROOT = "fq:{default:0}"
LIVE = ("leases", "scheduled", "deferred", "ring", "throttled")


@dataclass
class Scene:
    """One scenario's.

    Args:
        server: Its server process.
        raw: A plain client of it.
        queue: The queue, as its users have it.
        journal: What is written down.
        crew: The workers.
        long: Whether the numbers are those of the table.
    """

    server: OwnServer
    raw: Redis
    queue: TaskQueue
    journal: Journal
    crew: Crew
    long: bool
    _numbers: Any = field(default_factory=itertools.count)

    def scale(self, short: T, table: T) -> T:
        """The short form's number, or that of the table."""
        return table if self.long else short

    def push(self, *tasks: Task[Any], **options: Any) -> list[str]:
        """Push tasks, noted before and after; their ids are unlike all others of the scenario."""
        return self.push_by(self.queue.push_batch, *tasks, **options)

    def push_by(
        self, push_batch: Callable[[list[Task[Any]]], object], *tasks: Task[Any], **options: Any
    ) -> list[str]:
        """The same in another way."""
        named = [task.with_options(task_id=f"t{next(self._numbers)}", **options) for task in tasks]
        ids = [task.task_id for task in named]
        self.journal.write("trying", [(name, 0) for name in ids])
        push_batch(named)
        self.journal.write("pushed", [(name, 0) for name in ids])
        return ids

    def kill(self, hand: Hand) -> None:
        """`kill -9` of a worker."""
        self.crew.kill(hand, self.raw, ROOT)

    def ended(self) -> int:
        """How many tasks have ended."""
        return sum(int(self.raw.zcard(f"{ROOT}:{place}")) for place in ("finished", "failed", "canceled"))

    def until_idle(self, within: float = 60) -> None:
        """Wait until no task is live."""
        until(self.is_idle, "all tasks have ended", within=within, every=0.05)

    def is_idle(self) -> bool:
        """Whether no task is live."""
        return not self.raw.exists(*(f"{ROOT}:{place}" for place in LIVE))

    def count_in_flight(self, hand: Hand) -> None:
        """Note what a worker that was killed or stopped was running."""
        self.crew.count_in_flight(hand, self.raw, ROOT)

    def started(self, *tasks: str) -> dict[str, list[float]]:
        """When the executions of each task began; of these tasks, if any are given."""
        found: dict[str, list[float]] = {}
        for entry in self.journal.entries("start"):
            if not tasks or entry.task in tasks:
                found.setdefault(entry.task, []).append(entry.at)
        return found

    def check(self) -> Report:
        """Fail if something was lost, doubled, stuck or repeated without need, or the shard is broken."""
        report = judge(self.journal.entries(), look(self.raw, ROOT))
        print(report)
        report.hold()
        problems = violations(self.raw, ROOT)
        assert not problems, problems[:10]
        return report
