"""Random histories of a queue against a model in plain Python, compared after every step.

No step depends on how fast the machine is: a lease is either an hour or over at once, a delay is an hour or
over at once, and time passes only where a rule waits for the server's clock. Ageing is so slow that priority
alone decides within a run.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from redis import Redis

from fairque.core.config import FairQueueConfig, QueueConfig, RedisConfig, Retention
from fairque.core.exceptions import (
    DependencyCycleError,
    LeaseLostError,
    TaskNotFoundError,
    TaskStateError,
    UnknownDependencyError,
)
from fairque.core.keys import escape
from fairque.core.models import Task, TaskState
from fairque.core.retry import Retry
from fairque.queue.queue import TaskQueue
from fairque.utils.embedded import EmbeddedServer
from tests.support.actions import BLINK, server_ms, sleep_past
from tests.support.faces import FACES, each, open_face
from tests.support.invariants import check_invariants
from tests.support.queue_model import ENDED, MAX_CRASHES, POLICIES, Model, ModelTask

USERS = ("a", "b", "a:b", "ü")
IDS = ("1", "2", "3:", "%3A", "5", "6")
AN_HOUR = 3600.0
AGEING = 1e7
CRITICAL, CRITICAL_BAND = 6, 4e15  # as in includes/lane.lua
MAX_RETRIES = 2
KEPT = 0.001  # seconds: an ended task is gone with the first cleanup that waits for it

settings.register_profile(
    "ci", max_examples=45, stateful_step_count=50, deadline=None, derandomize=True, print_blob=True
)
settings.register_profile("long", max_examples=1500, stateful_step_count=80, deadline=None, print_blob=True)
PROFILE = settings.get_profile(os.environ.get("FAIRQUE_HYPOTHESIS", "ci"))


@dataclass(frozen=True)
class Push:
    """What is pushed, without its payload."""

    user: str
    name: str
    priority: int
    delay: float | None
    depends_on: tuple[str, ...]
    policy: str

    def task(self) -> Task[Any]:
        return Task.create(
            user_id=self.user,
            task_id=self.name,
            priority=self.priority,
            delay=self.delay,
            depends_on=self.depends_on,
            on_upstream_failure=self.policy,  # type: ignore[arg-type]
            payload=[self.user, self.name],
        )


DELAY = st.sampled_from([None, None, None, 0, BLINK, AN_HOUR])
# What a task depends on: mostly on those before it, so that few pushes are cycles and most of them graphs.
EARLIER = st.lists(st.integers(0, len(IDS)), max_size=3)
ANY = st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True).map(tuple)
NO_IDS: tuple[str, ...] = ()
USER, ID, PRIORITY = st.sampled_from(USERS), st.sampled_from(IDS), st.integers(1, 6)
FREE = st.builds(Push, USER, ID, PRIORITY, DELAY, st.just(NO_IDS), st.just("wait"))


def linked(user: str, place: int, numbers: list[int], others: tuple[str, ...] | None, push: Any) -> Push:
    """A task that depends on some before it, or on any others if these are given."""
    names = tuple(dict.fromkeys(IDS[number % place] for number in numbers)) if place else NO_IDS
    priority, delay, policy = push
    return Push(user, IDS[place], priority, delay, names if others is None else others, policy)


ANY_OR_NONE = st.none() | st.none() | ANY
MORE = st.tuples(PRIORITY, DELAY, st.sampled_from(POLICIES))
LINKED = st.builds(
    linked,
    st.sampled_from(["a", "ü", "a:b", "a:b"]),
    st.integers(0, len(IDS) - 1),
    EARLIER,
    ANY_OR_NONE,
    MORE,
)
# All ids of a user, in one graph.
GRAPH = st.tuples(*(st.builds(linked, st.just("a"), st.just(i), EARLIER, st.none(), MORE) for i in range(6)))
MISSING = st.sampled_from(["wait", "wait", None])
# What a worker may do with its attempts.
EFFECTS = (
    *("finish", "finish", "release", "renew", "let lapse"),
    *("retry at once", "retry later", "give up", "unknown", "write", "write"),
)
# Which attempts a worker speaks for, counted from the latest; which task an operator names.
SOME = st.lists(st.integers(0, 9), min_size=1, max_size=4)
ONE = st.integers(0, len(USERS) * len(IDS))


@dataclass(frozen=True)
class Held:
    """An attempt as a worker holds it: maybe a zombie by now."""

    task: Task[Any]
    life: int


class QueueMachine(RuleBasedStateMachine):
    """One history. `face` and `server` are set by the test."""

    server: EmbeddedServer
    face: str
    numbers = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        prefix = f"machine-{os.getpid()}-{next(self.numbers)}"
        queue = QueueConfig(
            prefix=prefix,
            ageing_seconds=AGEING,
            lease_seconds=AN_HOUR,
            max_crashes=MAX_CRASHES,
            max_retries=MAX_RETRIES,
            push_retry_window=0,
            unknown_task_grace=BLINK,
            retention=Retention(finished=KEPT, failed=KEPT, canceled=KEPT),
        )
        redis = RedisConfig(unix_socket_path=self.server.socket_path)
        self.queue: TaskQueue = open_face(self.face, FairQueueConfig(redis=redis, queue=queue))
        self.raw = Redis(unix_socket_path=self.server.socket_path)
        self.root = f"{prefix}:{{default:0}}"
        self.model = Model(USERS)
        self.held: list[Held] = []  # every attempt that a worker may still speak for, zombies included

    def teardown(self) -> None:
        self.queue.close()
        keys: list[bytes] = self.raw.keys("machine-*")  # type: ignore[assignment]
        if keys:
            self.raw.delete(*keys)
        self.raw.close()

    # --- pushing ---

    @initialize(
        first=GRAPH,
        second=GRAPH,
        others=st.lists(FREE, min_size=2, max_size=6),
    )
    def begin(self, first: Sequence[Push], second: Sequence[Push], others: list[Push]) -> None:
        assert self.queue.pop("w") is None
        self.push([*first[::-1], *others], None)
        self.push([replace(push, user="ü") for push in second], None)

    @rule(tasks=st.lists(FREE | LINKED | LINKED, min_size=1, max_size=6), missing=MISSING)
    def push(self, tasks: list[Push], missing: Any) -> None:
        batch = [push.task() for push in tasks]
        first: dict[tuple[str, str], Push] = {}
        for push in tasks:
            first.setdefault((push.user, push.name), push)
        new = {key: push.depends_on for key, push in first.items() if key not in self.model.tasks}
        problem = self._problem(first, new, missing)
        if problem is not None:
            with pytest.raises(problem):
                self.queue.push_batch(batch, missing=missing)
            return
        handles = self.queue.push_batch(batch, missing=missing)
        pushed = server_ms(self.raw)
        assert [handle.created for handle in handles] == [
            first[push.user, push.name] is push and (push.user, push.name) in new for push in tasks
        ]
        self._arrive([push for key, push in first.items() if key in new])
        if any(push.delay == BLINK for push in tasks):
            sleep_past(self.raw, pushed + 5)

    def _problem(
        self,
        first: dict[tuple[str, str], Push],
        new: dict[tuple[str, str], tuple[str, ...]],
        missing: str | None,
    ) -> type[Exception] | None:
        """Why a push is refused: a cycle in the batch, an unknown task, or a cycle through known ones."""
        if any(Model(USERS).cycles({key: push.depends_on for key, push in first.items()})):
            return DependencyCycleError
        for (user, _), names in new.items():
            known = (self.model.tasks.keys() | new.keys()) if missing is None else None
            if known is not None and any((user, name) not in known for name in names):
                return UnknownDependencyError
        return DependencyCycleError if any(self.model.cycles(new)) else None

    def _arrive(self, pushed: Sequence[Push]) -> None:
        doomed, delayed = [], []
        for push in pushed:
            task = ModelTask(push.user, push.name, push.priority, next(self.model.ticks), policy=push.policy)
            task.life, task.is_late = next(self.model.lives), push.delay == AN_HOUR
            coming = {other.name for other in pushed if other.user == push.user}
            is_doomed = self.model.link(task, push.depends_on, coming)
            self.model.tasks[push.user, push.name] = task
            self.model.totals["pushed"] += 1
            if is_doomed:
                self.model.end(task, TaskState.CANCELED)
                doomed.append(task)
            elif task.is_blocked:
                task.state = TaskState.DEFERRED
            elif push.delay:
                task.state = TaskState.SCHEDULED
            if push.delay:
                delayed.append((task, push))
        self.model.release(doomed)
        for task, push in delayed:
            if push.delay == BLINK and task.state in {TaskState.SCHEDULED, TaskState.QUEUED}:
                # It is ready by the next step, and by a millisecond behind what was pushed with it.
                task.state, task.due = TaskState.SCHEDULED, True
            task.order = next(self.model.ticks)
        self.model.settle()

    # --- claiming ---

    @rule(
        limit=st.integers(1, 5),
        users=st.sampled_from([None, None, ["a"], ["a:b", "b"], ["ü", "stranger"], []]),
        steal=st.sampled_from([False, False, True]),
        short=st.sampled_from([False, False, True]),
        then=st.sampled_from(["nothing", "nothing", "finish", "finish", "give up", *EFFECTS]),
    )
    def claim_and(self, limit: int, users: list[str] | None, steal: bool, short: bool, then: str) -> None:
        batch = self.claim(limit, users, steal=steal, short=short)
        if batch and then != "nothing":
            self.perform(batch, then)

    def claim(self, limit: int, users: list[str] | None, *, steal: bool, short: bool) -> list[Held]:
        lease = BLINK if short else None
        if steal:
            limit = 1
            one = self.queue.steal("thief", users=users, lease=lease)
            taken = [] if one is None else [one]
        elif limit == 1:
            one = self.queue.pop("w", users=users, lease=lease)
            taken = [] if one is None else [one]
        else:
            taken = self.queue.pop_batch("w", limit, users=users, lease=lease)
        expected = self.model.claim(users, limit, steal=steal, short=short)
        assert [(t.user_id, t.task_id, t.attempt, t.failures) for t in taken] == [
            (t.user, t.name, t.attempt, t.failures) for t in expected
        ]
        assert [t.payload for t in taken] == [[t.user, t.name] for t in expected]
        if taken and short:
            sleep_past(self.raw, max(t.run.lease_expires_at or 0 for t in taken))
        batch = [Held(t, m.life) for t, m in zip(taken, expected, strict=True)]
        self.held += batch
        return batch

    # --- what workers do, zombies among them ---

    # One rule for all of it: hypothesis leaves rules out at random, and each history should have every kind.
    @precondition(lambda self: self.held)
    @rule(some=SOME, effect=st.sampled_from(EFFECTS), stale=st.sampled_from([False, False, True]))
    def work(self, some: list[int], effect: str, stale: bool) -> None:
        among = [held for held in self.held if stale or self._holder(held)] or self.held
        self.perform([among[-1 - number % len(among)] for number in some], effect)

    def perform(self, batch: list[Held], effect: str) -> None:
        match effect:
            case "finish":
                self.finish(batch)
            case "release":
                self.release(batch)
            case "write":
                for held in batch:
                    self.write(held)
            case "renew" | "let lapse":
                self.heartbeat(batch, short=effect == "let lapse")
            case "unknown":
                for held in batch[:2]:
                    self.hand_back(held)
            case _:
                for held in batch[:2]:
                    self.fail(held, effect)

    def _holder(self, held: Held) -> ModelTask | None:
        """The task if this attempt holds its lease, as the model sees it."""
        task = self._current(held)
        return task if task is not None and task.state is TaskState.STARTED else None

    def _current(self, held: Held) -> ModelTask | None:
        """The task if this is its last attempt, whatever became of it."""
        task = self.model.tasks.get((held.task.user_id or "", held.task.task_id))
        fits = task is not None and task.life == held.life and task.attempt == held.task.attempt
        return task if fits else None

    def finish(self, batch: list[Held]) -> None:
        lost, ended = [], []
        for held in batch:
            task = self._holder(held)
            if task is not None:
                self.model.end(task, TaskState.FINISHED)
                ended.append(task)
            elif (current := self._current(held)) is None or current.state is not TaskState.FINISHED:
                lost.append((held.task.user_id, held.task.task_id))
        self.model.release(ended)
        self.model.settle()
        self._refused(lost, lambda: self.queue.finish_batch((held.task, "done") for held in batch))

    def fail(self, held: Held, kind: str) -> None:
        task = self._holder(held)
        current = self._current(held)
        repeat = task is None and current is not None and current.failed_attempt == held.task.attempt
        retries = kind != "give up" and held.task.failures < MAX_RETRIES
        if task is not None:
            task.failures += 1
            task.failed_attempt = task.attempt
            task.overdue = False
            if retries:
                task.state, task.due, task.order = (
                    TaskState.SCHEDULED,
                    kind == "retry at once",
                    next(self.model.ticks),
                )
                self.model.totals["retried"] += 1
            else:
                task.failure_type = "invalid" if kind == "give up" else "failed"
                self.model.end(task, TaskState.FAILED)
                self.model.release([task])
        self.model.settle()
        error = Retry(delay=BLINK if kind == "retry at once" else AN_HOUR)
        failure_type = "invalid" if kind == "give up" else "failed"

        def fail() -> None:
            state = self.queue.fail(held.task, error, failure_type=failure_type)
            assert state is (TaskState.SCHEDULED if retries else TaskState.FAILED)

        fine = task is not None or repeat
        self._refused([] if fine else [(held.task.user_id, held.task.task_id)], fail)
        if task is not None and task.due:
            sleep_past(self.raw, server_ms(self.raw) + 3)

    def hand_back(self, held: Held) -> None:
        """Its function is not known: once it waits for a worker that does, twice in a row it fails."""
        task, current = self._holder(held), self._current(held)
        expected = None
        if current is not None and current.unknown_attempt == held.task.attempt:
            expected = TaskState.SCHEDULED  # said before
        elif current is not None and current.failed_attempt == held.task.attempt:
            expected = TaskState.FAILED
        if task is not None:
            task.overdue = False
            if task.unknown_attempt == task.attempt - 1:
                task.unknown_attempt, task.failed_attempt = None, task.attempt
                task.failure_type, expected = "invalid", TaskState.FAILED
                self.model.end(task, TaskState.FAILED)
                self.model.release([task])
            else:
                task.unknown_attempt, expected = task.attempt, TaskState.SCHEDULED
                task.state, task.due, task.order = TaskState.SCHEDULED, True, next(self.model.ticks)
                self.model.totals["unknown"] += 1
        self.model.settle()

        def hand_back() -> None:
            assert self.queue.fail(held.task, "not known", failure_type="unknown") is expected

        self._refused([] if expected else [(held.task.user_id, held.task.task_id)], hand_back)
        if task is not None and task.due:
            sleep_past(self.raw, server_ms(self.raw) + 3)

    def heartbeat(self, batch: list[Held], short: bool) -> None:
        lost = []
        for held in batch:
            task = self._holder(held)
            if task is None:
                lost.append((held.task.user_id, held.task.task_id))
            else:
                task.overdue = short
        lease = BLINK if short else AN_HOUR
        self._refused(lost, lambda: self.queue.heartbeat([held.task for held in batch], lease=lease))
        if short:
            sleep_past(self.raw, server_ms(self.raw) + 2)

    def release(self, batch: list[Held]) -> None:
        lost = []
        for held in batch:
            task = self._current(held)
            if task is not None and task.state is TaskState.STARTED:
                task.state, task.overdue = TaskState.QUEUED, False  # at its old place
                self.model.totals["released"] += 1
            elif not (task and task.state is TaskState.QUEUED and task.order == task.claimed_order):
                lost.append((held.task.user_id, held.task.task_id))
        self.model.settle()
        self._refused(lost, lambda: self.queue.release([held.task for held in batch]))

    def write(self, held: Held) -> None:
        """An attempt leaves data for the other tasks of its user; a later one overwrites it."""
        user, name = held.task.user_id or "", held.task.task_id
        key, value = f"by {name}", [name, held.life, held.task.attempt]
        holds = self._holder(held) is not None
        if holds:
            self.model.xcom[user][key] = value
        data = self.queue.commands.shards[0].xcom(user, attempt=held.task)
        self._refused([] if holds else [(user, name)], lambda: self.queue.run(data.push(key, value)))

    def _refused(self, lost: list[tuple[str | None, str]], effect: Any) -> None:
        if not lost:
            effect()
            return
        with pytest.raises(LeaseLostError) as caught:
            effect()
        assert list(caught.value.lost) == lost

    # --- the rest ---

    @rule(limit=st.sampled_from([1, 100, 100]))
    def reclaim(self, limit: int) -> None:
        overdue = [task for task in self.model.of(TaskState.STARTED) if task.overdue]
        taken = self.queue.reclaim(limit)
        assert len(taken) == min(limit, len(overdue))
        assert set(taken) <= {(task.user, task.name) for task in overdue}
        ended = []
        for user, name in taken:
            task = self.model.tasks[user, name]
            task.crashes, task.overdue = task.crashes + 1, False
            self.model.totals["reclaimed"] += 1
            if task.crashes >= MAX_CRASHES:
                task.failure_type = "poisoned"
                self.model.end(task, TaskState.FAILED)
                ended.append(task)
            else:
                task.state = TaskState.QUEUED  # at its old place
        self.model.release(ended)
        self.model.settle()

    @rule(limit=st.integers(1, 5), effect=st.sampled_from(["nothing", "write", "write", "finish"]))
    def crash(self, limit: int, effect: str) -> None:
        """A worker that is killed at once; its attempts stay around as zombies, also while others run."""
        zombies = self.claim(limit, None, steal=False, short=True)
        self.reclaim(100)
        if zombies and effect != "nothing":
            self.claim(5, None, steal=False, short=False)
            self.perform(zombies, effect)

    @rule(one=ONE, what=st.sampled_from(["cancel", "cascade", "requeue", "requeue", "requeue all"]))
    def operate(self, one: int, what: str) -> None:
        user, name = self._named(one)
        if what in {"cancel", "cascade"}:
            self.cancel(user, name, cascade=what == "cascade")
        elif what == "requeue":
            self.requeue(user, name)
        else:
            for task in self.model.of(TaskState.FAILED):
                self.requeue(task.user, task.name)

    def _named(self, one: int) -> tuple[str, str]:
        known = list(self.model.tasks)
        if one % 2 and (
            awaited := [key for key, task in self.model.tasks.items() if self.model.dependents(task)]
        ):
            return awaited[one % len(awaited)]
        return known[one] if one < len(known) else (USERS[one % 4], IDS[one % 6])

    def cancel(self, user: str, name: str, *, cascade: bool) -> None:
        task = self.model.tasks.get((user, name))
        if task is None:
            with pytest.raises(TaskNotFoundError):
                self.queue.cancel(user, name, cascade=cascade)
            return
        was_live = not task.state.is_terminal
        if cascade and task.state is not TaskState.FINISHED:
            task.spread = "all"
        if was_live:
            self.model.end(task, TaskState.CANCELED)
        if was_live or (cascade and task.state is not TaskState.FINISHED):
            self.model.release([task])
        self.model.settle()
        is_canceled = task.state is TaskState.CANCELED
        assert self.queue.cancel(user, name, cascade=cascade) is is_canceled

    @rule(one=ONE, names=ANY, missing=MISSING)
    def add_dependency(self, one: int, names: tuple[str, ...], missing: Any) -> None:
        waiting = [
            key for key, task in self.model.tasks.items() if self._refusal(task, *key, (), None) is None
        ]
        user, name = waiting[one % len(waiting)] if waiting and one % 4 else self._named(one)
        task = self.model.tasks.get((user, name))
        problem = self._refusal(task, user, name, names, missing)
        if problem is not None:
            with pytest.raises(problem):
                self.queue.add_dependency(user, name, names, missing=missing)
            return
        assert task is not None
        is_doomed = self.model.link(task, names)
        if is_doomed:
            self.model.end(task, TaskState.CANCELED)
            self.model.release([task])
        elif task.is_blocked:
            task.state, task.due = TaskState.DEFERRED, False
        self.model.settle()
        assert self.queue.add_dependency(user, name, names, missing=missing) is task.state

    def _refusal(
        self, task: ModelTask | None, user: str, name: str, names: tuple[str, ...], missing: str | None
    ) -> type[Exception] | None:
        if task is None:
            return TaskNotFoundError
        if task.state.is_terminal or task.state is TaskState.STARTED or task.attempt:
            return TaskStateError
        if missing is None and any((user, other) not in self.model.tasks for other in names):
            return UnknownDependencyError
        return DependencyCycleError if any(self.model.cycles({(user, name): names})) else None

    def requeue(self, user: str, name: str) -> None:
        task = self.model.tasks.get((user, name))
        if task is None or task.state is not TaskState.FAILED:
            with pytest.raises(TaskNotFoundError if task is None else TaskStateError):
                self.queue.requeue(user, name)
            return
        self.queue.requeue(task.user, task.name)
        task.failures = task.crashes = 0
        task.failure_type = task.spread = None
        self.model.take_place(task)
        self.model.totals["requeued"] += 1
        self.model.settle()

    @rule(limit=st.sampled_from([1, 1, 2, 100]), seldom=st.integers(0, 2))
    def cleanup(self, limit: int, seldom: int) -> None:
        if seldom:
            return
        sleep_past(self.raw, server_ms(self.raw) + 3)
        if self.model.edges():
            self.clean_all()
            return
        ended = self.model.of(*ENDED)
        assert self.queue.cleanup_expired_tasks(limit) == min(limit, len(ended))
        for task in ended:
            if self.queue.get(task.user, task.name) is None:
                del self.model.tasks[task.user, task.name]

    def clean_all(self) -> None:
        """Until nothing changes: in what order tasks go that hang together is nobody's business."""
        was_ready = {id(task) for task in self.model.of(TaskState.QUEUED)}
        self.model.clean()
        still = 0
        while still < 3:
            still = 0 if self.queue.cleanup_expired_tasks(100) else still + 1
            sleep_past(self.raw, server_ms(self.raw) + 2)
        new = [task for task in self.model.of(TaskState.QUEUED) if id(task) not in was_ready]
        for task in sorted(new, key=self._place):
            self.model.take_place(task)
        self.model.settle()

    def _place(self, task: ModelTask) -> float:
        """The tick by which a task got ready when several did, in an order that is left open."""
        lane, name = f"{self.root}:lane:{escape(task.user)}", escape(task.name)
        score = self.raw.zscore(lane, name)
        assert isinstance(score, float), f"{task} is not ready"
        return score + (CRITICAL_BAND if task.priority == CRITICAL else (task.priority - 1) * AGEING * 1e6)

    # --- after every step ---

    @invariant()
    def every_task_is_as_the_model_has_it(self) -> None:
        keys = list(itertools.product(USERS, IDS))
        for key, seen in zip(keys, each(self.queue, "get", keys), strict=True):
            task = self.model.tasks.get(key)
            if task is None:
                assert seen is None
                continue
            assert seen is not None
            assert (
                seen.state,
                seen.attempt,
                seen.failures,
                seen.crashes,
                seen.failure_type,
                seen.priority,
                set(seen.depends_on),
            ) == (
                task.state,
                task.attempt,
                task.failures,
                task.crashes,
                task.failure_type,
                task.priority,
                set(task.waits_for),
            )

    @invariant()
    def the_counters_are_as_the_model_has_them(self) -> None:
        stats = self.queue.stats()
        states = Counter(task.state for task in self.model.tasks.values())
        assert (stats.queued, stats.scheduled, stats.deferred, stats.started) == (
            states[TaskState.QUEUED],
            states[TaskState.SCHEDULED],
            states[TaskState.DEFERRED],
            states[TaskState.STARTED],
        )
        assert (stats.finished, stats.failed, stats.canceled) == (
            states[TaskState.FINISHED],
            states[TaskState.FAILED],
            states[TaskState.CANCELED],
        )
        assert stats.ready_users == len(self.model.ready)
        assert dict(stats.totals) == {name: n for name, n in self.model.totals.items() if n}

    @invariant()
    def every_user_is_as_the_model_has_it(self) -> None:
        seen = {user.user_id: user for user in self.queue.users()}
        for user in USERS:
            mine = [task for task in self.model.tasks.values() if task.user == user]
            if user not in seen:
                assert all(task.state.is_terminal for task in mine)
                continue
            stats = seen[user]
            states = Counter(task.state for task in mine)
            live = sum(not task.state.is_terminal for task in mine)
            assert (stats.queued, stats.scheduled, stats.deferred, stats.started, stats.live) == (
                states[TaskState.QUEUED],
                states[TaskState.SCHEDULED],
                states[TaskState.DEFERRED],
                states[TaskState.STARTED],
                live,
            )
            assert stats.eligible is (user in self.model.ready)
            assert stats.virtual_time == self.model.v[user]

    @invariant()
    def results_are_kept_for_those_that_may_read_them(self) -> None:
        for task in self.model.of(TaskState.FINISHED):
            if task.is_awaited:
                assert self.raw.exists(f"{self.root}:result:{escape(task.user)}:{escape(task.name)}")

    @invariant()
    def each_user_sees_what_its_attempts_have_written(self) -> None:
        for user in USERS:
            assert self.queue.xcom(user).pull_all() == self.model.xcom[user]

    @invariant()
    def the_shard_is_consistent(self) -> None:
        check_invariants(self.raw, self.root)


@pytest.mark.slow
@pytest.mark.parametrize("face", FACES)
def test_random_histories_match_the_model(server: EmbeddedServer, face: str) -> None:
    machine = type("Machine", (QueueMachine,), {"server": server, "face": face})
    case = machine.TestCase  # type: ignore[attr-defined]
    case.settings = settings(PROFILE, suppress_health_check=list(HealthCheck))
    case("runTest").runTest()
