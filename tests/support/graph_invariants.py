"""What must hold of dependencies: a task is deferred exactly while it has an open blocker."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

# As in includes/dependencies.lua.
OPEN, MET = 0, 1
OVER, SETTLED, WAIT, CANCEL, RUN = -1, 0, 1, 2, 3
ENDED = frozenset({"finished", "failed", "canceled"})

Scores = dict[str, float]


@dataclass
class Graph:
    """The keys of a shard that tell of dependencies."""

    blocker_names: list[str]
    dependent_names: list[str]
    blockers: dict[str, Scores] = field(default_factory=dict)
    dependents: dict[str, Scores] = field(default_factory=dict)
    releasing: set[str] = field(default_factory=set)
    gates: set[str] = field(default_factory=set)

    @classmethod
    def ask(cls, pipe: Any, root: str, parts: dict[str, set[str]]) -> Self:
        graph = cls(sorted(parts["blockers"]), sorted(parts["dependents"]))
        for task in graph.blocker_names:
            pipe.zrange(f"{root}:blockers:{task}", 0, -1, withscores=True)
        for task in graph.dependent_names:
            pipe.zrange(f"{root}:dependents:{task}", 0, -1, withscores=True)
        pipe.zrange(f"{root}:releasing", 0, -1)
        pipe.zrange(f"{root}:gates", 0, -1)
        return graph

    def read(self, replies: deque[Any]) -> Self:
        self.blockers = {task: _scores(replies.popleft()) for task in self.blocker_names}
        self.dependents = {task: _scores(replies.popleft()) for task in self.dependent_names}
        self.releasing = {name.decode() for name in replies.popleft()}
        self.gates = {name.decode() for name in replies.popleft()}
        return self

    def violations(self, where: dict[str, str]) -> list[str]:
        """`where` has the place of each task."""
        found = [*self._deferred(where), *self._upstream(where), *self._downstream(where)]
        found += [
            f"{task!r} is to release dependents, and has none"
            for task in self.releasing
            if task not in self.dependents and not _is_gate(task)
        ]
        return found

    def _deferred(self, where: dict[str, str]) -> Iterator[str]:
        for task, place in where.items():
            is_blocked = OPEN in self.blockers.get(task, {}).values()
            if place == "deferred" and not is_blocked:
                yield f"{task!r} is deferred, and nothing blocks it: {self.blockers.get(task)}"
            if place not in {"deferred", "canceled"} and is_blocked:
                yield f"{task!r} is in {place}, and waits for {self.blockers[task]}"

    def _upstream(self, where: dict[str, str]) -> Iterator[str]:
        for task, blockers in self.blockers.items():
            user, _, name = task.partition(":")
            place = where.get(task)
            if place is None:
                yield f"blockers:{task} without a task"
            for dependency, score in blockers.items():
                other = f"{user}:{dependency}"
                edge = self.dependents.get(other, {}).get(name)
                if score == OPEN and place == "deferred":
                    yield from self._waiting(task, other, where.get(other), edge)
                if score == MET and other in where and edge not in {SETTLED, OVER}:
                    yield f"{task!r} has met {other!r}, which has the edge {edge}"

    def _waiting(self, task: str, other: str, place: str | None, edge: float | None) -> Iterator[str]:
        """Nothing waits for what has ended, unless that failed or was canceled and its policy is to wait."""
        if edge not in {WAIT, CANCEL, RUN}:
            yield f"{task!r} waits for {other!r}, which has the edge {edge}"
        is_over = place == "finished" or (place in ENDED and edge != WAIT)
        if is_over and other not in self.releasing:
            yield f"{task!r} waits for {other!r}, which is {place}, by the edge {edge}"

    def _downstream(self, where: dict[str, str]) -> Iterator[str]:
        for task, dependents in self.dependents.items():
            user = task.partition(":")[0]
            for dependent in dependents:
                if f"{user}:{dependent}" not in where:
                    yield f"dependents:{task} names {dependent!r}, which is no task"
            if task not in where and not any(score > SETTLED for score in dependents.values()):
                yield f"dependents:{task} without a task, and nothing waits for it: {dependents}"


def _is_gate(task: str) -> bool:
    return task.partition(":")[2].startswith("%%")


def _scores(entries: list[tuple[bytes, float]]) -> Scores:
    return {name.decode(): score for name, score in entries}
