"""How a batch is cut into pushes: what is independent by size, a graph so that it arrives as a whole.

A graph that one script can take is one push. A larger one comes in several, in topological order: what
would be ready waits behind a gate, which the last push opens.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from fairque.core.graph import Graph
from fairque.core.keys import GATE, escape, member

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fairque.core.models import Task

# Tasks, their bytes and their dependencies in one script: bounds how long the server is busy with it.
CHUNK = 200
CHUNK_BYTES = 4 * 1024 * 1024
CHUNK_EDGES = 2_000
WHOLE_GRAPH = 1_000  # tasks of a graph that is pushed by one script
WHOLE_GRAPH_EDGES = 5_000
MOST_COUNTED = 10_000  # users of a batch in several chunks for whom the first asks whether there is room
MOST_CHECKED = 10_000  # dependencies outside of a batch that its first push asks for
GATE_MS = 600_000  # a graph whose push goes no further for so long is given up


@dataclass(slots=True)
class Part:
    """One script's part of a batch.

    Attributes:
        places: Which tasks of the batch it brings.
        depends_on: Ids by member, escaped; also of tasks that an earlier part brought.
        gate: Holds the graph until a part `opens` it.
        check: In the first part: what later ones depend on outside of the batch, as `depends_on`.
    """

    places: list[int] = field(default_factory=list)
    depends_on: dict[str, list[str]] = field(default_factory=dict)
    gate: str | None = None
    opens: bool = False
    check: dict[str, list[str]] = field(default_factory=dict)

    def link(self, task: Task[Any], more: Sequence[str] = ()) -> None:
        """Say what a task depends on."""
        links = [*more, *map(escape, task.depends_on)]
        if links:
            self.depends_on.setdefault(_name(task), links)

    def options(self, missing: str | None) -> dict[str, Any]:
        """What its push says of dependencies."""
        return {
            "depends_on": self.depends_on or None,
            "missing": missing,
            "gate": self.gate,
            "gate_ms": GATE_MS if self.gate else None,
            "opens": self.opens or None,
            "check": None if missing == "wait" else self.check or None,
        }


def parts_of(tasks: Sequence[Task[Any]], sizes: Sequence[int]) -> tuple[list[Part], list[Part]]:
    """The parts of a batch that may come in any order, and those that come one after the other.

    Raises:
        DependencyCycleError: Tasks of the batch would wait for each other.
    """
    if not any(task.depends_on for task in tasks):
        return [Part(run) for run in cut_by_size(range(len(tasks)), sizes)], []
    tasks = _without_repeats(tasks)
    by_user: dict[str | None, list[int]] = defaultdict(list)
    for place, task in enumerate(tasks):
        by_user[task.user_id].append(place)
    graphs = {user: _order(tasks, places) for user, places in by_user.items()}
    edges = sum(len(task.depends_on) for task in tasks)
    if len(tasks) <= WHOLE_GRAPH and edges <= WHOLE_GRAPH_EDGES and sum(sizes) <= CHUNK_BYTES:
        whole = Part(list(range(len(tasks))))
        for task in tasks:
            whole.link(task)
        return [whole], []
    together, in_order = [], []
    for user, places in by_user.items():
        if any(tasks[place].depends_on for place in places):
            in_order += _gated([tasks[place] for place in graphs[user]], graphs[user], sizes)
        else:
            together += [Part(run) for run in cut_by_size(places, sizes)]
    (together or in_order)[0].check = _outside(tasks)
    return together, in_order


def _without_repeats(tasks: Sequence[Task[Any]]) -> list[Task[Any]]:
    """The tasks; of several with one id the first one counts, so the others depend on nothing.

    What they depend on would else be written down for the first one, unchecked: they might even wait for each
    other.
    """
    seen: set[tuple[str | None, str]] = set()
    found = []
    for task in tasks:
        is_repeat = (task.user_id, task.task_id) in seen
        seen.add((task.user_id, task.task_id))
        found.append(replace(task, depends_on=()) if is_repeat else task)
    return found


def rest_by_user(tasks: Sequence[Task[Any]], first: Part) -> dict[str, int]:
    """How many tasks of each user come with other parts than the first, and are not in it already."""
    keys = [(task.user_id, task.task_id) for task in tasks]
    coming = set(keys).difference([keys[place] for place in first.places])
    users = Counter([user or "" for user, _ in coming])
    return {escape(user): number for user, number in users.most_common(MOST_COUNTED)}


def cut_by_size(
    places: Sequence[int], sizes: Sequence[int], *, most: int = CHUNK, most_bytes: int = CHUNK_BYTES
) -> Iterator[list[int]]:
    """The places in runs, cut before what would exceed the number or the bytes of one script."""
    run: list[int] = []
    total = 0
    for place in places:
        if run and (len(run) == most or total + sizes[place] > most_bytes):
            yield run
            run, total = [], 0
        run.append(place)
        total += sizes[place]
    if run:
        yield run


def _order(tasks: Sequence[Task[Any]], places: Sequence[int]) -> list[int]:
    """A user's tasks so that each comes after those it depends on."""
    place_of: dict[str, int] = {}
    graph: Graph[str] = Graph()
    for place in places:
        graph.add(tasks[place].task_id)
        place_of.setdefault(tasks[place].task_id, place)
    graph.depend_all(
        (task_id, dependency)
        for task_id, place in place_of.items()
        for dependency in tasks[place].depends_on
        if dependency in place_of
    )
    ordered = [place_of[task_id] for task_id in graph.order()]
    return ordered + sorted(set(places) - set(ordered))  # repeats of an id change nothing, and come last


def _gated(tasks: Sequence[Task[Any]], places: Sequence[int], sizes: Sequence[int]) -> list[Part]:
    """A user's tasks, in topological order, in parts behind a gate."""
    gate_id = _gate_of(tasks)
    gate = f"{escape(tasks[0].user_id or '')}:{gate_id}"
    within = {task.task_id for task in tasks}
    parts = [Part(gate=gate)]
    edges = total = 0
    for task, place in zip(tasks, places, strict=True):
        is_full = len(parts[-1].places) == CHUNK or total + sizes[place] > CHUNK_BYTES
        if parts[-1].places and (is_full or edges + len(task.depends_on) > CHUNK_EDGES):
            parts.append(Part(gate=gate))
            edges = total = 0
        first, *others = _slices(task)
        # What depends on another task of the graph is held by that, if it comes in one part.
        is_held = not others and any(dependency in within for dependency in task.depends_on)
        parts[-1].places.append(place)
        parts[-1].link(first, [] if is_held else [gate_id])
        for other in others:
            parts.append(Part(gate=gate))
            parts[-1].link(other, [gate_id])
        total, edges = (
            (0, CHUNK_EDGES) if others else (total + sizes[place], edges + len(task.depends_on) + 1)
        )
    parts[-1].opens = True
    return parts


def _gate_of(tasks: Sequence[Task[Any]]) -> str:
    """By the graph's tasks, so that a push that is repeated goes on with the one before it."""
    digest = hashlib.sha1(usedforsecurity=False)
    for task in tasks:
        digest.update(_name(task).encode() + b"\n")
    return GATE.decode() + digest.hexdigest()


def _slices(task: Task[Any]) -> list[Task[Any]]:
    """The task with as many of its dependencies as go into one part, and with the next ones, and so on."""
    starts = range(0, max(1, len(task.depends_on)), CHUNK_EDGES)
    return [replace(task, depends_on=task.depends_on[start : start + CHUNK_EDGES]) for start in starts]


def _outside(tasks: Sequence[Task[Any]]) -> dict[str, list[str]]:
    """What the tasks depend on outside of the batch, each once."""
    within = {(task.user_id, task.task_id) for task in tasks}
    seen: set[tuple[str | None, str]] = set()
    found: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        for dependency in task.depends_on:
            key = (task.user_id, dependency)
            if key not in within and key not in seen and len(seen) < MOST_CHECKED:
                seen.add(key)
                found[_name(task)].append(escape(dependency))
    return dict(found)


def _name(task: Task[Any]) -> str:
    return member(task.user_id or "", task.task_id)
