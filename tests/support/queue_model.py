"""The queue in plain Python, as the design has it: what the state machine compares the real one with.

A task knows what it depends on, and whether it still waits for that. All else follows from there: nothing is
kept that could drift, so the model says in a few lines what the scripts need two indexes for.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairque.core.keys import escape
from fairque.core.models import TaskState

MAX_CRASHES = 2
POLICIES = ("wait", "cancel", "run")  # the order in which dependents are told of an end
ENDED = (TaskState.FINISHED, TaskState.FAILED, TaskState.CANCELED)


@dataclass
class ModelTask:
    """What the model knows of one task."""

    user: str
    name: str
    priority: int
    order: int  # a tick: the order in which places were taken
    state: TaskState = TaskState.QUEUED
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    failure_type: str | None = None
    overdue: bool = False  # its lease has run out
    due: bool = False  # scheduled, and its time has come
    is_late: bool = False  # was pushed with a delay that nobody sees the end of
    failed_attempt: int | None = None
    unknown_attempt: int | None = None  # the last one that was put off: its worker did not know the function
    life: int = 0
    claimed_order: int = 0  # its place when its last attempt began
    policy: str = "wait"
    waits_for: dict[str, bool] = field(
        default_factory=dict
    )  # what it depends on: whether it still waits for it
    is_awaited: bool = False  # when it ended, others depended on it: its result is kept as long as it is
    spread: str | None = None  # how its end takes others with it: `waiting` ones, or `all`

    @property
    def place(self) -> tuple[int, int]:
        return (-self.priority, self.order)

    @property
    def is_blocked(self) -> bool:
        return any(self.waits_for.values())


@dataclass
class Model:
    """Users, virtual times, and each task in one state."""

    users: tuple[str, ...]
    tasks: dict[tuple[str, str], ModelTask] = field(default_factory=dict)
    v: dict[str, float] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)  # the users in the ring
    floor: float = 0.0
    totals: Counter[str] = field(default_factory=Counter)
    xcom: dict[str, dict[str, Any]] = field(default_factory=dict)  # by user
    ticks: Any = field(default_factory=lambda: itertools.count(1))
    lives: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.v = dict.fromkeys(self.users, 0.0)
        self.xcom = {user: {} for user in self.users}

    def of(self, *states: TaskState) -> list[ModelTask]:
        return [task for task in self.tasks.values() if task.state in states]

    def lane(self, user: str) -> list[ModelTask]:
        mine = [task for task in self.of(TaskState.QUEUED) if task.user == user]
        return sorted(mine, key=lambda task: task.place)

    def settle(self) -> None:
        """In the ring if and only if there is ready work; who enters starts at the floor or its debt."""
        now_ready = {user for user in self.users if self.lane(user)}
        floor = min((self.v[user] for user in self.ready), default=self.floor)
        for user in now_ready - self.ready:
            self.v[user] = max(self.v[user], floor)
        self.ready = now_ready

    def take_place(self, task: ModelTask) -> None:
        task.state, task.order = TaskState.QUEUED, next(self.ticks)

    def promote(self) -> None:
        for task in sorted(self.of(TaskState.SCHEDULED), key=lambda task: task.order):
            if task.due:
                task.state, task.due = TaskState.QUEUED, False  # it has its tick since it was scheduled
        self.settle()

    def claim(self, users: list[str] | None, limit: int, *, steal: bool, short: bool) -> list[ModelTask]:
        self.promote()
        taken: list[ModelTask] = []
        among = self.ready if users is None else self.ready & set(users)
        lanes = {user: self.lane(user) for user in among}
        served = None
        while len(taken) < limit and any(lanes.values()):
            user = min((u for u in lanes if lanes[u]), key=lambda u: (self.v[u], u.encode()))
            task = lanes[user].pop(0)
            served = self.v[user] if served is None else max(served, self.v[user])
            self.v[user] += 1
            task.state, task.attempt, task.overdue = TaskState.STARTED, task.attempt + 1, short
            task.claimed_order = task.order
            taken.append(task)
            if task.crashes >= MAX_CRASHES - 1:
                break  # it should run alone
        if served is not None:
            self.floor = max(self.floor, served)
        self.settle()
        self.totals["started"] += len(taken)
        self.totals["stolen"] += len(taken) if steal else 0
        return taken

    def end(self, task: ModelTask, state: TaskState) -> None:
        task.state, task.overdue, task.due = state, False, False
        task.is_awaited = self._may_be_read(task)
        self.totals[state.value.lower()] += 1

    # --- dependencies ---

    def cycles(self, new: Mapping[tuple[str, str], Sequence[str]]) -> Iterator[tuple[str, str]]:
        """The tasks that would wait for themselves, if these had these dependencies too."""
        for (user, name), dependencies in new.items():
            reached = list(dependencies)
            for other in reached:  # grows as it is walked
                known = self.tasks.get((user, other))
                near = [*new.get((user, other), ())]
                if known is not None and known.state is TaskState.DEFERRED:
                    near += [up for up, waits in known.waits_for.items() if waits]
                reached += [up for up in near if up not in reached]
            if name in reached:
                yield user, name

    def link(self, task: ModelTask, dependencies: Iterable[str], coming: Container[str] = ()) -> bool:
        """Note what it depends on, or comes with. Returns whether it is to be canceled at once."""
        is_doomed = False
        for name in dependencies:
            other = None if name in coming else self.tasks.get((task.user, name))
            has_failed = other is not None and other.state in {TaskState.FAILED, TaskState.CANCELED}
            has_finished = other is not None and other.state is TaskState.FINISHED
            is_met = has_finished or (has_failed and task.policy == "run")
            task.waits_for.setdefault(name, not is_met)
            is_doomed = is_doomed or (has_failed and task.policy == "cancel")
        return is_doomed

    def dependents(self, task: ModelTask) -> list[ModelTask]:
        """Those that wait for it, in the order in which they are told of its end."""
        waiting = [
            other
            for other in self.of(TaskState.DEFERRED)
            if other.user == task.user and other.waits_for.get(task.name)
        ]
        return sorted(waiting, key=lambda other: (POLICIES.index(other.policy), escape(other.name).encode()))

    def release(self, ended: list[ModelTask]) -> None:
        """Tell those that wait for these tasks, in turn, what has become of them."""
        ended = list(ended)
        for task in ended:  # grows as it is walked
            for other in self.dependents(task):
                if task.state is TaskState.FINISHED or (other.policy == "run" and task.spread != "all"):
                    self.meet(other, task.name)
                elif task.spread == "all" or other.policy == "cancel" or task.spread == "waiting":
                    other.spread = "all" if task.spread == "all" else other.spread
                    self.end(other, TaskState.CANCELED)
                    ended.append(other)

    def meet(self, task: ModelTask, dependency: str) -> None:
        task.waits_for[dependency] = False
        if task.is_blocked:
            return
        if task.is_late:
            task.state = TaskState.SCHEDULED
        else:
            self.take_place(task)

    def edges(self) -> bool:
        """Whether any ended task hangs together with another one."""
        named = {(task.user, name) for task in self.tasks.values() for name in task.waits_for}
        return any(task.waits_for or (task.user, task.name) in named for task in self.of(*ENDED))

    def clean(self) -> None:
        """Forget what has ended, until only what others may still read is left."""
        size = -1
        while size != len(self.tasks):
            size = len(self.tasks)
            for task in self.of(*ENDED):
                if self.dependents(task):
                    task.spread = task.spread or "waiting"
                    self.release([task])
            for task in self.of(*ENDED):
                if not self._may_be_read(task):
                    del self.tasks[task.user, task.name]

    def _may_be_read(self, task: ModelTask) -> bool:
        return any(
            other.user == task.user
            and task.name in other.waits_for
            and other.state not in {TaskState.FINISHED, TaskState.CANCELED}
            for other in self.tasks.values()
        )
