"""Random histories of schedules against a model in plain Python, compared after every step.

Time is virtual: to let half hours pass, the times of all schedules are put that much earlier. What the
machine itself takes is seconds, which nothing here depends on. A scheduler may stop between reading what is
due and firing it, and go on later, again, or never.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis import Redis

from fairque import (
    FairQueueConfig,
    QueueConfig,
    QueueFullError,
    RedisConfig,
    Schedule,
    ScheduleExistsError,
    ScheduleNotFoundError,
    ScheduleValidationError,
    Task,
    TaskQueue,
    TaskScheduler,
    UserPolicy,
)
from fairque.utils.embedded import EmbeddedServer
from tests.support.actions import server_ms
from tests.support.invariants import check_invariants
from tests.support.schedule_model import WAITING, Model, Said
from tests.support.scheduling import Steps, go_back

USERS, IDS = ("a", "ab"), ("1", "2:")
LIMITED = "ab"
HALF_HOUR = 1800.0
GRACE = 600_000  # milliseconds; above what a run takes, and below half an hour
NAME = st.tuples(st.sampled_from(USERS), st.sampled_from(IDS))
ACTIVE = st.sampled_from([True, True, True, False])
SAID = st.builds(
    Said,
    every=st.sampled_from([1, 1, 2, 3, 10]),
    catch_up=st.sampled_from(["latest", "all", "none"]),
    max_catch_up=st.sampled_from([1, 3, 100, 150]),
    overlap=st.sampled_from(["allow", "allow", "skip"]),
    end=st.none() | st.none() | st.integers(0, 40),
)
LONG = os.environ.get("FAIRQUE_HYPOTHESIS") == "long"
PROFILE = settings(
    max_examples=1500 if LONG else 40,
    stateful_step_count=50,
    deadline=None,
    derandomize=not LONG,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Stopped:
    """A scheduler that has read what is due: what it has seen of it, and when."""

    steps: Steps
    call: Any
    seen: dict[tuple[str, str], tuple[int, int | None]]
    clock: int


class ScheduleMachine(RuleBasedStateMachine):
    server: EmbeddedServer

    @initialize()
    def begin(self) -> None:
        redis = RedisConfig(unix_socket_path=self.server.socket_path)
        self.raw = Redis(unix_socket_path=self.server.socket_path)
        self.queue = TaskQueue(FairQueueConfig(redis=redis, queue=QueueConfig(prefix="machine")))
        self.root = self.queue.commands.shards[0].keys.root
        self.commands = self.queue.commands.shards[0].schedules
        self.schedules = TaskScheduler(self.queue)
        self.queue.set_policy(LIMITED, UserPolicy(max_queued=WAITING))
        self.model = Model(LIMITED)
        self.began = server_ms(self.raw)
        self.passed = 0.0  # seconds that were let pass
        self.times: dict[int, float] = {}  # of tasks by their number: for when they are, in milliseconds
        self.stopped: list[Stopped] = []

    def teardown(self) -> None:
        if hasattr(self, "raw"):
            self.queue.close()
            keys: list[bytes] = self.raw.keys("machine:*")  # type: ignore[assignment]
            if keys:
                self.raw.delete(*keys)
            self.raw.close()

    # --- changing ---

    def real(self, half_hours: float) -> float:
        """When a virtual time is, in milliseconds of the server's clock."""
        return self.began + (half_hours * HALF_HOUR - self.passed) * 1000

    def moment(self, half_hours: float | None) -> datetime | None:
        """An end lies between two times."""
        if half_hours is None:
            return None
        return datetime.fromtimestamp(round(self.real(half_hours + 0.5)) / 1000, UTC)

    def given(self, name: tuple[str, str], said: Said, *, active: bool) -> dict[str, Any]:
        return {
            "task": Task.create(payload=name),
            "user_id": name[0],
            "schedule_id": name[1],
            "every": said.every * HALF_HOUR,
            "catch_up": said.catch_up,
            "max_catch_up": said.max_catch_up,
            "overlap": said.overlap,
            "end": self.moment(said.end),
            "active": active,
        }

    @rule(name=NAME, said=SAID, active=ACTIVE, replace=st.booleans())
    def add(self, name: tuple[str, str], said: Said, active: bool, replace: bool) -> None:
        known = self.model.schedules.get(name)
        given = self.given(name, said, active=active)
        if known is not None and known.said == said:
            assert self.schedules.add_schedule(**given, replace=replace).active is known.active
        elif known is not None and not replace:
            with pytest.raises(ScheduleExistsError):
                self.schedules.add_schedule(**given)
        elif self.model.would_end(name, said, active=active):
            with pytest.raises(ScheduleValidationError):
                self.schedules.add_schedule(**given, replace=replace)
        else:
            self.schedules.add_schedule(**given, replace=replace)
            self.model.put(name, said, active=active)

    @rule(
        name=NAME,
        said=SAID,
        fields=st.sets(st.sampled_from(["every", "catch_up", "max_catch_up", "overlap", "end"])),
    )
    def update(self, name: tuple[str, str], said: Said, fields: set[str]) -> None:
        known = self.model.schedules.get(name)
        every = self.given(name, said, active=True)
        changes = {field: every[field] for field in sorted(fields)}
        if known is None:
            with pytest.raises(ScheduleNotFoundError):
                self.schedules.update_schedule(*name, **changes)
            return
        new = Said(**{field: getattr(said if field in fields else known.said, field) for field in vars(said)})
        if self.model.would_end(name, new, active=known.active):
            with pytest.raises(ScheduleValidationError):
                self.schedules.update_schedule(*name, **changes)
            return
        self.schedules.update_schedule(*name, **changes)
        self.model.put(name, new, active=known.active)

    @rule(name=NAME, active=st.booleans())
    def pause_or_resume(self, name: tuple[str, str], active: bool) -> None:
        change = self.schedules.resume if active else self.schedules.pause
        known = self.model.schedules.get(name)
        if known is None:
            with pytest.raises(ScheduleNotFoundError):
                change(*name)
            return
        change(*name)
        self.model.put(name, known.said, active=active)

    @rule(name=NAME)
    def remove(self, name: tuple[str, str]) -> None:
        assert self.schedules.remove_schedule(*name) is (name in self.model.schedules)
        self.model.schedules.pop(name, None)

    # --- time, and what it brings ---

    @rule(half_hours=st.sampled_from([1, 1, 1, 2, 3, 7, 30, 300]))
    def time_passes(self, half_hours: int) -> None:
        self.model.clock += half_hours
        # A little more each time: no two times of the virtual clock are one of the real clock.
        seconds = half_hours * HALF_HOUR + 0.001
        self.passed += half_hours * HALF_HOUR
        for one in self.schedules.list_schedules():
            go_back(self.raw, self.root, one, seconds)

    def in_turn(self) -> list[tuple[str, str]]:
        """The names of those that are due, in the order in which a scheduler sees them."""
        call = self.commands.fire_due(GRACE)
        due = self.queue.manager.execute(next(call))[2]  # type: ignore[arg-type]
        return [(one.user_id, one.schedule_id) for one in due]

    def shoot(self, names: list[tuple[str, str]]) -> None:
        for name in names:
            before = self.model.pushed
            self.model.shoot(name)
            self.note(before)

    def note(self, before: int) -> None:
        for tasks in self.model.waiting.values():
            self.times |= {task.number: self.real(task.fire) for task in tasks if task.number > before}

    @rule()
    def a_scheduler_fires(self) -> None:
        names = self.in_turn()
        assert sorted(names) == sorted(self.model.due())
        shots, _ = self.queue.run(self.commands.fire_due(GRACE))
        assert len(shots) == len(names)
        self.shoot(names)
        assert self.queue.run(self.commands.fire_due(GRACE))[0] == []

    @precondition(lambda self: self.model.due())
    @rule()
    def a_scheduler_stops_when_it_has_read_what_is_due(self) -> None:
        steps = Steps(self.queue, self.commands.fire_due(GRACE))
        steps.step()
        seen = {name: (one.revision, one.fire) for name, one in self.model.schedules.items()}
        names = {name: seen[name] for name in self.in_turn()}
        self.stopped.append(Stopped(steps, steps.call, names, self.model.clock))

    @precondition(lambda self: self.stopped)
    @rule(number=st.integers(0, 9))
    def one_that_stopped_goes_on(self, number: int) -> None:
        self.goes_on(self.stopped[-1 - number % min(3, len(self.stopped))])

    @precondition(lambda self: self.model.due())
    @rule(number=st.integers(0, 9), other=SAID)
    def a_change_comes_between_reading_and_firing(self, number: int, other: Said) -> None:
        self.a_scheduler_stops_when_it_has_read_what_is_due()
        due = self.model.due()
        self.update(due[number % len(due)], other, {"catch_up"})
        self.goes_on(self.stopped.pop())

    def goes_on(self, zombie: Stopped) -> None:
        replies = self.queue.manager.execute(zombie.call)
        # Many tasks come in several scripts: this is the first.
        for (name, seen), reply in zip(zombie.seen.items(), replies, strict=False):
            one = self.model.schedules.get(name)
            is_as_seen = one is not None and (one.revision, one.fire) == seen
            if is_as_seen and zombie.clock == self.model.clock:
                self.shoot([name])
            else:
                assert reply == -1

    # --- tasks ---

    @rule(name=NAME)
    def trigger(self, name: tuple[str, str]) -> None:
        if name not in self.model.schedules:
            with pytest.raises(ScheduleNotFoundError):
                self.schedules.trigger_now(*name)
            return
        before = self.model.pushed
        if self.model.by_hand(name):
            self.schedules.trigger_now(*name)
            self.note(before)
        else:
            with pytest.raises(QueueFullError):
                self.schedules.trigger_now(*name)

    @rule(user=st.sampled_from(USERS))
    def the_tasks_of_a_user_run(self, user: str) -> None:
        expected = self.model.waiting.pop(user, [])
        ran: list[Task[Any]] = []
        while popped := self.queue.pop_batch("w", 1000, users=[user]):
            ran += popped
            self.queue.finish_batch((task, None) for task in popped)
        wanted = sorted((task.schedule, self.times[task.number]) for task in expected)
        got = sorted(
            (task.schedule_id or "", task.fire_time.timestamp() * 1000) for task in ran if task.fire_time
        )
        assert [name for name, _ in got] == [name for name, _ in wanted]
        for (_, time), (_, other) in zip(got, wanted, strict=True):
            assert self.is_about(time, other)
        assert len({task.task_id for task in ran}) == len(expected)

    def is_about(self, time: float, other: float) -> bool:
        """Up to what the machine takes."""
        return abs(time - other) < GRACE

    # --- comparing ---

    @invariant()
    def every_schedule_is_as_the_model_has_it(self) -> None:
        found = {(one.user_id, one.schedule_id): one for one in self.schedules.list_schedules()}
        assert found.keys() == self.model.schedules.keys()
        for name, one in found.items():
            self.compare(one, name)
        for user in USERS:
            mine = [one.schedule_id for one in self.schedules.list_schedules(user_id=user)]
            assert mine == [name for owner, name in found if owner == user]

    def compare(self, one: Schedule, name: tuple[str, str]) -> None:
        known = self.model.schedules[name]
        assert (one.active, one.fired, one.skipped) == (known.active, known.fired, known.skipped), name
        assert one.failures == known.failures, name
        assert (one.progress.fire is None) is (known.fire is None), name
        if one.progress.fire is not None and known.fire is not None:
            assert self.is_about(one.progress.fire, self.real(known.fire)), name

    @invariant()
    def as_many_tasks_wait(self) -> None:
        live = {user.user_id: user.queued for user in self.queue.users()}
        assert {user: n for user, n in live.items() if n} == {
            user: len(tasks) for user, tasks in self.model.waiting.items() if tasks
        }

    @invariant()
    def the_shard_is_consistent(self) -> None:
        check_invariants(self.raw, self.root)


@pytest.mark.slow
def test_random_histories_match_the_model(server: EmbeddedServer) -> None:
    machine = type("Machine", (ScheduleMachine,), {"server": server})
    case = machine.TestCase  # type: ignore[attr-defined]
    case.settings = PROFILE
    case("runTest").runTest()
