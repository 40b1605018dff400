"""Schedules: added, changed, looked at and removed; what is wrong is refused before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from redis import Redis

from fairque import (
    EncodeError,
    FairQueueConfig,
    PayloadTooLargeError,
    QueueFullError,
    Schedule,
    ScheduleExistsError,
    ScheduleNotFoundError,
    ScheduleValidationError,
    Task,
    TaskContext,
    TaskQueue,
    TaskScheduler,
    TaskState,
    TaskValidationError,
    UserPolicy,
    Worker,
    sequential,
    task,
)
from fairque.core.schedule import LONGEST_ID, Progress
from tests.integration.conftest import OpenQueue
from tests.support.actions import popped, push, server_ms
from tests.support.faces import Background, open_scheduler
from tests.support.scheduling import Steps, fire, go_back, key_of, pushed

DAILY = "0 9 * * *"
NEXT_CENTURY = datetime(2100, 1, 1, tzinfo=UTC)


@task(name="tests.schedules.report", max_retries=2)
def report(kind: str = "all", **options: Any) -> str:
    return kind


@task(name="tests.schedules.other")
def other() -> None: ...


@task(name="tests.schedules.tell")
def tell(context: TaskContext) -> list[Any]:
    return [context.schedule_id, context.fire_time and context.fire_time.timestamp()]


@pytest.fixture
def schedules(queue: TaskQueue) -> TaskScheduler:
    """The schedules of the test's queue, on both faces."""
    return open_scheduler(queue)


@pytest.fixture
def blocking(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


def keys(raw: Redis, root: str) -> list[bytes]:
    found: list[bytes] = raw.keys(f"{root}:schedul*")  # type: ignore[assignment]
    return sorted(found)


def without_progress(schedule: Schedule) -> Any:
    """What was said of it."""
    plain = msgspec.structs.replace(schedule.task, task_id="", arguments=None, body=None, returns=Any)
    return msgspec.structs.replace(schedule, progress=Progress(), task=plain)


# --- adding -------------------------------------------------------------------------------------------


def test_what_is_added_comes_back_as_it_was(schedules: TaskScheduler, raw: Redis) -> None:
    before = int(server_ms(raw))
    added = schedules.add_schedule(
        " 30 9 * * 1-5 ",
        report("weekly", to=["a", "ü"]).with_options(priority=5, timeout=30, group="g"),
        user_id="acme",
        timezone="Europe/Berlin",
        schedule_id="weekly",
        catch_up="all",
        max_catch_up=7,
        jitter=timedelta(seconds=3),
        start=datetime(2020, 1, 1, tzinfo=UTC),
        end=NEXT_CENTURY,
        overlap="skip",
        metadata={"owner": "billing", "n": [1, None, {"ü": "🍵"}]},
    )
    found = schedules.get_schedule("acme", "weekly")
    for one in (added, found):
        assert (one.user_id, one.schedule_id, one.cron) == ("acme", "weekly", "30 9 * * 1-5")
        assert (one.timezone, one.catch_up, one.max_catch_up) == ("Europe/Berlin", "all", 7)
        assert (one.overlap, one.active, one.origin, one.every, one.at) == ("skip", True, "call", None, None)
        assert one.jitter == timedelta(seconds=3)
        assert (one.start, one.end) == (datetime(2020, 1, 1, tzinfo=UTC), NEXT_CENTURY)
        assert one.metadata == {"owner": "billing", "n": [1, None, {"ü": "🍵"}]}
        assert (one.task.function, one.task.priority, one.task.timeout) == ("tests.schedules.report", 5, 30)
        assert (one.task.group, one.task.max_retries) == ("g", 2)
        assert one.task.payload == {"args": ["weekly"], "kwargs": {"to": ["a", "ü"]}}
        assert (one.fired, one.skipped, one.failures) == (0, 0, 0)
        assert (one.last_fire_time, one.last_task_id, one.last_error, one.last_failed_at) == (None,) * 4
        assert one.created_at is not None
        assert before <= one.created_at.timestamp() * 1000 <= server_ms(raw)
        assert one.next_fire_time == one.next_fire_times(1)[0] > datetime.now(UTC)
    assert added.progress == found.progress


def test_a_task_for_a_handler_is_scheduled_too(schedules: TaskScheduler, queue: TaskQueue) -> None:
    schedules.add_schedule(
        task=Task.create(user_id="u", payload={"a": 1}), every=3600, schedule_id="s", active=False
    )
    assert schedules.get_schedule("u", "s").task.payload == {"a": 1}
    assert schedules.trigger_now("u", "s").task_id.startswith("s@")
    assert popped(queue).payload == {"a": 1}


def test_without_an_id_one_is_made_up(schedules: TaskScheduler) -> None:
    one, two = (schedules.add_schedule(DAILY, report(), user_id="u") for _ in range(2))
    assert one.schedule_id != two.schedule_id
    assert {found.schedule_id for found in schedules.list_schedules()} == {one.schedule_id, two.schedule_id}


def test_what_is_there_already_and_means_the_same_stays_as_it_is(
    schedules: TaskScheduler, queue: TaskQueue, raw: Redis, root: str
) -> None:
    def say() -> Schedule:
        return schedules.add_schedule(
            task=report("x"), every=60, user_id="u", schedule_id="s", metadata={"a": 1}
        )

    first = say()
    assert say().progress == first.progress
    go_back(raw, root, first, 90)
    assert pushed(fire(queue)) == 1
    known = schedules.get_schedule("u", "s")
    assert say().progress == known.progress
    paused = schedules.pause("u", "s")
    assert say().active is False, "one that is paused means the same"
    assert schedules.get_schedule("u", "s").progress == paused.progress


@pytest.mark.parametrize(
    "change",
    [
        {"expr": "0 8 * * *"},
        {"timezone": "Asia/Tokyo"},
        {"task": report("other")},
        {"task": report().with_options(priority=6)},
        {"task": other()},
        {"catch_up": "all"},
        {"max_catch_up": 5},
        {"overlap": "skip"},
        {"jitter": 1},
        {"start": NEXT_CENTURY},
        {"end": NEXT_CENTURY},
        {"metadata": {"a": 1}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_one_under_its_id_is_refused_or_takes_its_place_where_that_is_said(
    schedules: TaskScheduler, change: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"expr": DAILY, "task": report("x"), "user_id": "u", "schedule_id": "s"}
    first = schedules.add_schedule(**given)
    with pytest.raises(ScheduleExistsError, match=r"user 'u' has another schedule 's'.*replace=True") as seen:
        schedules.add_schedule(**given | change)
    assert (seen.value.user_id, seen.value.schedule_id) == ("u", "s")
    assert schedules.get_schedule("u", "s").progress == first.progress
    new = schedules.add_schedule(**given | change, replace=True)
    assert schedules.get_schedule("u", "s").progress == new.progress != first.progress
    assert new.created_at == first.created_at
    assert without_progress(new) == without_progress(schedules.get_schedule("u", "s"))
    assert schedules.add_schedule(**given | change).progress == new.progress


LONG = "x" * 2000
BAD: list[tuple[dict[str, Any], str]] = [
    ({"expr": None}, "give one of a cron expression, every and at, not none of them"),
    ({"every": 60}, "give one of a cron expression, every and at, not cron and every"),
    ({"at": NEXT_CENTURY}, "not cron and at"),
    ({"expr": "61 * * * *"}, "the minute field '61'"),
    ({"expr": "0 9 31 2 *"}, "never fires: no year has such a day"),
    ({"expr": "* * *"}, "has 3 fields"),
    ({"expr": ""}, "has 0 fields"),
    ({"expr": "@reboot"}, "@reboot' is not supported"),
    ({"expr": timedelta(hours=1)}, "cron must be a string"),
    ({"timezone": "Europe/Atlantis"}, "Europe/Atlantis"),
    ({"timezone": None}, "timezone must be a string"),
    ({"timezone": "../etc/passwd"}, "etc/passwd"),
    ({"expr": None, "every": 0.05}, "every must be from 100"),
    ({"expr": None, "every": -1}, "every must not be negative"),
    ({"expr": None, "every": float("nan")}, "every must be a finite number"),
    ({"expr": None, "every": "1h"}, "every must be seconds or a timedelta"),
    ({"expr": None, "at": datetime(2100, 1, 1)}, "at needs a time zone"),  # noqa: DTZ001
    ({"expr": None, "at": 1}, "would never fire: its at, or its end, has passed"),
    ({"start": NEXT_CENTURY, "end": datetime(2099, 1, 1, tzinfo=UTC)}, "end must not be before start"),
    ({"end": datetime(2020, 1, 1, tzinfo=UTC)}, "would never fire: its at, or its end, has passed"),
    ({"jitter": -1}, "jitter must not be negative"),
    ({"catch_up": "some"}, "catch_up must be one of latest, all, none, not 'some'"),
    ({"catch_up": None}, "catch_up must be one of"),
    ({"max_catch_up": 0}, "max_catch_up must be a whole number from 1 to 10,000, not 0"),
    ({"max_catch_up": 10_001}, "max_catch_up must be"),
    ({"max_catch_up": True}, "max_catch_up must be"),
    ({"overlap": "queue"}, "overlap must be one of allow, skip, not 'queue'"),
    ({"active": 1}, "active must be True or False, not 1"),
    ({"metadata": [1]}, "metadata must be a mapping, not list"),
    ({"metadata": {"a": object()}}, "metadata cannot be carried as JSON"),
    ({"metadata": {"a": "\ud800"}}, "metadata cannot be carried as JSON"),
    ({"metadata": {"a": "x" * 70_000}}, "metadata has 70,008 bytes, the limit is 65,536"),
    ({"schedule_id": ""}, "schedule_id is empty"),
    ({"schedule_id": 5}, "schedule_id must be a string"),
    ({"schedule_id": "x" * (LONGEST_ID + 1)}, "schedule_id has 231 characters, the limit is 230"),
    ({"schedule_id": "\ud800"}, "schedule_id is not valid unicode"),
    ({"user_id": None}, "the task has no user: give user_id"),
    ({"user_id": ""}, "user_id is empty"),
    ({"user_id": 5}, "user_id must be a string"),
    ({"task": None}, "a schedule pushes one Task, not NoneType"),
    ({"task": report}, "a schedule pushes one Task, not TaskFunction: call the task function"),
    ({"task": sequential(report(), report())}, "for a pipeline, schedule a task that pushes it"),
    ({"task": report().with_options(task_id="mine")}, "cannot have a task_id of its own"),
    ({"task": report().with_options(execute_after=NEXT_CENTURY)}, "cannot have execute_after"),
    ({"task": report().with_options(expires_at=NEXT_CENTURY)}, "cannot have expires_at"),
    ({"task": report().with_options(depends_on=["a"])}, "cannot have dependencies"),
    ({"task": report(report().output)}, "cannot have dependencies"),
]


@pytest.mark.parametrize(
    ("change", "words"), BAD, ids=lambda item: item[:50] if isinstance(item, str) else ""
)
def test_a_bad_value_is_refused_with_its_name_and_nothing_is_written(
    schedules: TaskScheduler, raw: Redis, root: str, change: dict[str, Any], words: str
) -> None:
    given: dict[str, Any] = {"expr": DAILY, "task": report(), "user_id": "u", "schedule_id": "s"}
    with pytest.raises(ScheduleValidationError) as seen:
        schedules.add_schedule(**given | change)
    assert words in str(seen.value)
    assert keys(raw, root) == []


def test_what_the_codec_cannot_carry_is_refused(schedules: TaskScheduler, raw: Redis, root: str) -> None:
    with pytest.raises(EncodeError, match="kind"):
        schedules.add_schedule(DAILY, report(object()), user_id="u")  # type: ignore[arg-type]
    assert keys(raw, root) == []


def test_a_payload_is_as_large_as_one_of_a_push_may_be(
    schedules: TaskScheduler, queue: TaskQueue, raw: Redis, root: str
) -> None:
    most = queue.config.queue.max_payload_bytes
    with pytest.raises(PayloadTooLargeError):
        schedules.add_schedule(DAILY, report("x" * most), user_id="u")
    assert keys(raw, root) == []
    large = "x" * (most - 100)
    for number in range(3):
        schedules.add_schedule(DAILY, report(large + str(number)), user_id="u", schedule_id=str(number))
    assert len(large) > 1024 * 1024 - 200
    found = schedules.list_schedules(user_id="u")
    assert [one.task.payload["args"] for one in found] == [[large + str(number)] for number in range(3)]
    schedules.trigger_now("u", "1")
    assert popped(queue).payload["args"] == [large + "1"]


@pytest.mark.parametrize(
    "odd",
    ["x" * LONGEST_ID, "🍵" * LONGEST_ID, "a:b", "a%3Ab", "{default:0}", "  ", "é\n\0", "a@b"],
    ids=ascii,
)
def test_any_text_is_a_user_and_an_id(
    schedules: TaskScheduler, queue: TaskQueue, raw: Redis, root: str, odd: str
) -> None:
    for user, name in ((odd, "s"), ("u", odd), (odd, odd)):
        schedules.add_schedule(task=report(), every=60, user_id=user, schedule_id=name)
        assert schedules.get_schedule(user, name).schedule_id == name
        go_back(raw, root, schedules.get_schedule(user, name), 60)
    found = {(one.user_id, one.schedule_id) for one in schedules.list_schedules()}
    assert found == {(odd, "s"), ("u", odd), (odd, odd)}
    assert {one.schedule_id for one in schedules.list_schedules(user_id=odd)} == {"s", odd}
    assert pushed(fire(queue)) == 3
    for _ in range(3):
        ran = popped(queue)
        assert ran.task_id.startswith(f"{ran.schedule_id}@")
        assert schedules.get_schedule(ran.user_id or "", ran.schedule_id or "").last_task_id == ran.task_id
    assert schedules.remove_schedule(odd, odd)
    assert len(schedules.list_schedules()) == 2


def test_many_are_added_together_and_two_of_one_id_are_refused(
    schedules: TaskScheduler, raw: Redis, root: str
) -> None:
    many = [
        Schedule.create(DAILY, report(), user_id=f"u{n % 3}", schedule_id=f"{n:03}", metadata={"n": n})
        for n in range(250)
    ]
    with pytest.raises(ScheduleValidationError, match="schedule '007' of user 'u1' is given twice"):
        schedules.add_schedules([*many, many[7]])
    with pytest.raises(ScheduleValidationError, match="add_schedules takes Schedules, not Task"):
        schedules.add_schedules([*many, report()])  # type: ignore[list-item]
    assert keys(raw, root) == []
    added = schedules.add_schedules(iter(many))
    assert [one.metadata["n"] for one in added] == list(range(250))
    assert len(schedules.add_schedules(many)) == 250
    assert schedules.add_schedules([]) == []
    assert raw.zcard(f"{root}:schedules") == raw.zcard(f"{root}:schedule_index") == 250


# --- changing -----------------------------------------------------------------------------------------


def test_other_times_count_from_now_on_and_everything_else_leaves_the_fire_time(
    schedules: TaskScheduler, raw: Redis, root: str
) -> None:
    first = schedules.add_schedule(task=report(), every=3600, user_id="u", schedule_id="s")
    first = go_back(raw, root, first, 1800)
    for change in (
        {"catch_up": "all"},
        {"max_catch_up": 3},
        {"overlap": "skip"},
        {"metadata": {"a": 1}},
        {"task": report("x")},
        {"every": 3600},
        {"active": True},
        {},
    ):
        assert schedules.update_schedule("u", "s", **change).next_fire_time == first.next_fire_time
    found = schedules.get_schedule("u", "s")
    assert (found.catch_up, found.max_catch_up, found.overlap) == ("all", 3, "skip")
    assert (found.metadata, found.task.payload["args"]) == ({"a": 1}, ["x"])
    before = int(server_ms(raw))
    changed = schedules.update_schedule("u", "s", every=60)
    assert changed.next_fire_time is not None
    assert before + 60_000 <= changed.next_fire_time.timestamp() * 1000 <= server_ms(raw) + 60_000
    assert schedules.get_schedule("u", "s").metadata == {"a": 1}


def test_an_interval_that_stays_counts_from_where_it_did(
    schedules: TaskScheduler, raw: Redis, root: str
) -> None:
    first = schedules.add_schedule(task=report(), every=3600, user_id="u", schedule_id="s")
    first = go_back(raw, root, first, 1800)
    assert schedules.update_schedule("u", "s", end=NEXT_CENTURY).next_fire_time == first.next_fire_time
    assert schedules.update_schedule("u", "s", jitter=1).next_fire_time == first.next_fire_time
    schedules.pause("u", "s")
    assert schedules.resume("u", "s").next_fire_time == first.next_fire_time


def test_a_schedule_changes_its_kind_and_what_has_no_meaning_any_more_goes(schedules: TaskScheduler) -> None:
    schedules.add_schedule(
        DAILY, report(), user_id="u", schedule_id="s", timezone="Asia/Tokyo", end=NEXT_CENTURY
    )
    found = schedules.update_schedule("u", "s", every=60)
    assert (found.cron, found.every, found.timezone) == (None, timedelta(seconds=60), "UTC")
    assert found.end == NEXT_CENTURY
    found = schedules.update_schedule("u", "s", at=NEXT_CENTURY)
    assert (found.every, found.at, found.end) == (None, NEXT_CENTURY, None)
    assert found.next_fire_times(3) == [NEXT_CENTURY]
    found = schedules.update_schedule("u", "s", expr=DAILY, timezone="Asia/Tokyo")
    assert (found.at, found.cron, found.next_fire_times(1)[0].hour) == (None, DAILY, 0)
    assert schedules.update_schedule("u", "s", expr="0 10 * * *").timezone == "Asia/Tokyo"
    assert schedules.update_schedule("u", "s", timezone="UTC").next_fire_times(1)[0].hour == 10


def test_what_cannot_be_changed_is_said_and_nothing_is(schedules: TaskScheduler) -> None:
    first = schedules.add_schedule(DAILY, report(), user_id="u", schedule_id="s")
    for change, words in (
        ({"cron": DAILY}, "a schedule has no 'cron' to change: change one of active, at, "),
        ({"overlap": "no"}, "overlap must be one of"),
        ({"every": 60, "at": NEXT_CENTURY}, "not every and at"),
        ({"expr": None}, "not none of them"),
        ({"at": 1}, "would never fire"),
        ({"task": None}, "a schedule pushes one Task"),
        ({"every": 60, "timezone": "Asia/Tokyo"}, "timezone 'Asia/Tokyo' has no meaning with every"),
    ):
        with pytest.raises(ScheduleValidationError) as seen:
            schedules.update_schedule("u", "s", **change)
        assert words in str(seen.value)
    assert schedules.get_schedule("u", "s").progress == first.progress


def test_an_unknown_schedule_is_named(schedules: TaskScheduler) -> None:
    schedules.add_schedule(DAILY, report(), user_id="u", schedule_id="s")
    for user, name in (("u", "t"), ("v", "s")):
        asks: list[Callable[[str, str], Any]] = [schedules.get_schedule, schedules.update_schedule]
        asks += [schedules.pause, schedules.resume, schedules.trigger_now, schedules.next_fire_times]
        for ask in asks:
            with pytest.raises(ScheduleNotFoundError, match=f"user '{user}' has no schedule '{name}'"):
                ask(user, name)
        assert schedules.remove_schedule(user, name) is False
    with pytest.raises(TaskValidationError, match="user_id must be a string"):
        schedules.get_schedule(5, "s")  # type: ignore[arg-type]
    with pytest.raises(TaskValidationError, match="schedule_id is empty"):
        schedules.remove_schedule("u", "")


def test_a_paused_one_does_not_fire_and_makes_up_for_nothing(
    schedules: TaskScheduler, queue: TaskQueue, raw: Redis, root: str
) -> None:
    first = schedules.add_schedule(
        task=report(), every=60, user_id="u", schedule_id="s", catch_up="all", metadata={"a": 1}
    )
    paused = schedules.pause("u", "s")
    assert (paused.active, paused.next_fire_time, paused.next_fire_times(3)) == (False, None, [])
    assert raw.zcard(f"{root}:schedules") == 0
    go_back(raw, root, paused, 600)
    assert fire(queue) == []
    resumed = schedules.resume("u", "s")
    assert (resumed.active, resumed.metadata) == (True, {"a": 1})
    assert resumed.next_fire_time is not None
    assert 0 < resumed.next_fire_time.timestamp() * 1000 - server_ms(raw) <= 60_000
    assert fire(queue) == []
    assert queue.stats().queued == 0
    assert resumed.created_at == first.created_at


def test_removing_one_forgets_it_and_leaves_its_tasks(
    schedules: TaskScheduler, queue: TaskQueue, raw: Redis, root: str
) -> None:
    schedules.add_schedule(task=report(), every=60, user_id="u", schedule_id="s")
    handle = schedules.trigger_now("u", "s")
    assert schedules.remove_schedule("u", "s") is True
    assert schedules.remove_schedule("u", "s") is False
    assert keys(raw, root) == []
    assert handle.state() is TaskState.QUEUED
    again = schedules.add_schedule(task=report(), every=60, user_id="u", schedule_id="s")
    assert (again.fired, again.last_task_id) == (0, None)


def test_two_who_change_one_schedule_both_get_their_way(blocking: TaskQueue, raw: Redis, root: str) -> None:
    schedules = TaskScheduler(blocking)
    schedules.add_schedule(DAILY, report(), user_id="u", schedule_id="s")
    commands = blocking.commands.of("u").schedules
    one = Steps(blocking, commands.change("u", "s", lambda known: known.changed(overlap="skip")))
    one.step()  # it has read the schedule
    schedules.update_schedule("u", "s", catch_up="all")
    assert one.step() == [False]
    assert one.finish().catch_up == "all"
    assert (found := schedules.get_schedule("u", "s")).overlap == "skip"
    assert found.catch_up == "all"

    one = Steps(blocking, commands.change("u", "s", lambda known: known.changed(active=False)))
    one.step()
    assert schedules.remove_schedule("u", "s")
    with pytest.raises(ScheduleNotFoundError):
        one.finish()
    assert keys(raw, root) == []


def test_a_change_does_not_undo_what_a_scheduler_fires_meanwhile(
    blocking: TaskQueue, raw: Redis, root: str
) -> None:
    schedules = TaskScheduler(blocking)
    first = schedules.add_schedule(task=report(), every=60, user_id="u", schedule_id="s")
    first = go_back(raw, root, first, 60)
    commands = blocking.commands.of("u").schedules
    one = Steps(blocking, commands.change("u", "s", lambda known: known.changed(metadata={"a": 1})))
    one.step()
    assert pushed(fire(blocking)) == 1
    one.finish()
    found = schedules.get_schedule("u", "s")
    assert (found.fired, found.metadata, fire(blocking)) == (1, {"a": 1}, [])
    assert found.progress.fire == (first.progress.fire or 0) + 60_000


def test_no_update_is_lost_among_many_clients(blocking: TaskQueue) -> None:
    schedules = TaskScheduler(blocking)
    schedules.add_schedule(DAILY, report(), user_id="u", schedule_id="s", metadata={"n": 0})
    commands = blocking.commands.of("u").schedules

    def count() -> None:
        for _ in range(15):
            blocking.run(
                commands.change(
                    "u", "s", lambda known: known.changed(metadata={"n": known.metadata["n"] + 1})
                )
            )

    for client in [Background(count) for _ in range(3)]:
        client.value()
    assert schedules.get_schedule("u", "s").metadata == {"n": 45}


def test_a_repeated_put_is_the_one_before(blocking: TaskQueue) -> None:
    """Its reply was lost: it says that it was carried out, though what was seen is not there any more."""
    schedules = TaskScheduler(blocking)
    schedules.add_schedule(DAILY, report(), user_id="u", schedule_id="s")
    commands = blocking.commands.of("u").schedules
    one = Steps(blocking, commands.change("u", "s", lambda known: known.changed(catch_up="all")))
    one.step()
    put = one.call
    assert blocking.manager.execute(put) == blocking.manager.execute(put) == [True]
    schedules.update_schedule("u", "s", catch_up="none")
    assert blocking.manager.execute(put) == [False]
    assert schedules.get_schedule("u", "s").catch_up == "none"


# --- looking ------------------------------------------------------------------------------------------


def test_a_user_whose_name_begins_another_s_is_apart(schedules: TaskScheduler) -> None:
    users = ["a", "ab", "a:", "a:b", "a;", "a%3A", "a%", "A", "aü"]
    for user in users:
        for name in ("1", "b:1"):
            schedules.add_schedule(DAILY, report(), user_id=user, schedule_id=name, active=name == "1")
    for user in users:
        found = schedules.list_schedules(user_id=user)
        assert [(one.user_id, one.schedule_id) for one in found] == [(user, "1"), (user, "b:1")]
        assert [one.schedule_id for one in schedules.list_schedules(user_id=user, active=False)] == ["b:1"]
        assert [one.schedule_id for one in schedules.list_schedules(user_id=user, limit=1)] == ["1"]
    assert len(schedules.list_schedules()) == 18
    assert schedules.list_schedules(user_id="nobody") == []


def test_lists_are_read_in_pages(schedules: TaskScheduler) -> None:
    for user, number in (("a", 150), ("b", 100), ("c", 1)):
        schedules.add_schedules(
            Schedule.create(DAILY, report(), user_id=user, schedule_id=f"{n:04}", active=n % 2 == 0)
            for n in range(number)
        )
    found = [(one.user_id, one.schedule_id) for one in schedules.list_schedules()]
    assert found == sorted(found)
    assert len(found) == len(set(found)) == 251
    assert [len(schedules.list_schedules(user_id=user)) for user in "abcd"] == [150, 100, 1, 0]
    assert len(schedules.list_schedules(active=False)) == 125
    assert len(schedules.list_schedules(active=True, user_id="a")) == 75
    for limit in (1, 99, 100, 101, 251, 300):
        assert len(schedules.list_schedules(limit=limit)) == min(limit, 251)
    assert len(schedules.list_schedules(active=False, limit=80)) == 80
    bad: list[Any] = [0, -1, True, 1.5]
    for limit in bad:
        with pytest.raises(ScheduleValidationError, match="limit must be a whole number from 1 on"):
            schedules.list_schedules(limit=limit)


def test_the_next_fire_times_are_those_at_which_it_fires(
    schedules: TaskScheduler, queue: TaskQueue, raw: Redis, root: str
) -> None:
    first = schedules.add_schedule(task=report(), every=60, user_id="u", schedule_id="s", catch_up="all")
    first = go_back(raw, root, first, 200)
    times = schedules.next_fire_times("u", "s", 3)
    fire(queue)
    assert [popped(queue).fire_time for _ in range(3)] == times
    assert schedules.next_fire_times("u", "s", 2)[0] > times[-1]
    assert schedules.next_fire_times("u", "s") == schedules.next_fire_times("u", "s", 1)
    once = schedules.add_schedule(task=report(), at=NEXT_CENTURY, user_id="u", schedule_id="once")
    assert schedules.next_fire_times("u", "once", 5) == once.next_fire_times(5) == [NEXT_CENTURY]
    for number in (0, -1, 10_001, "2", True):
        with pytest.raises(ScheduleValidationError, match="n must be a whole number from 1 to 10,000"):
            schedules.next_fire_times("u", "s", number)  # type: ignore[arg-type]


def test_each_schedule_is_in_the_shard_of_its_user(open_queue: OpenQueue, raw: Redis, prefix: str) -> None:
    queue = open_queue(shards=3)
    schedules = open_scheduler(queue)
    many = [Schedule.create(None, report(), every=60, user_id=f"u{n}", schedule_id="s") for n in range(30)]
    added = schedules.add_schedules(many)
    assert [one.user_id for one in added] == [f"u{n}" for n in range(30)]
    roots = [f"{prefix}:{{default:{shard}}}" for shard in range(3)]
    assert all(raw.zcard(f"{root}:schedule_index") > 0 for root in roots)
    assert {one.user_id for one in schedules.list_schedules()} == {f"u{n}" for n in range(30)}
    assert len(schedules.list_schedules(limit=20)) == 20
    for one in added:
        go_back(raw, queue.commands.of(one.user_id).keys.root, one, 60)
        assert schedules.list_schedules(user_id=one.user_id)[0].user_id == one.user_id
    assert pushed(fire(queue)) == 30
    assert queue.stats().queued == 30
    assert schedules.remove_schedule("u7", "s")
    assert len(schedules.list_schedules()) == 29


# --- by hand ------------------------------------------------------------------------------------------


def test_one_may_be_fired_by_hand_also_while_it_is_paused(schedules: TaskScheduler, queue: TaskQueue) -> None:
    first = schedules.add_schedule(DAILY, report("x"), user_id="u", schedule_id="s", overlap="skip")
    one, two = (schedules.trigger_now("u", "s") for _ in range(2))
    schedules.pause("u", "s")
    three = schedules.trigger_now("u", "s")
    assert len({one.task_id, two.task_id, three.task_id}) == 3
    found = schedules.get_schedule("u", "s")
    assert (found.fired, found.skipped, found.last_task_id, found.last_fire_time) == (
        3,
        0,
        three.task_id,
        None,
    )
    schedules.resume("u", "s")
    assert schedules.next_fire_times("u", "s") == first.next_fire_times()
    ran = popped(queue)
    assert (ran.task_id, ran.schedule_id, ran.payload["args"]) == (one.task_id, "s", ["x"])
    assert ran.fire_time is not None
    queue.finish(ran, "done")
    assert one.result(timeout=5) == "done"


def test_by_hand_a_full_user_and_a_full_queue_are_told_with_numbers(
    open_queue: OpenQueue, raw: Redis, root: str
) -> None:
    queue = open_queue(max_queued=3)
    schedules = open_scheduler(queue)
    queue.set_policy("u", UserPolicy(max_queued=2))
    schedules.add_schedule(DAILY, report(), user_id="u", schedule_id="s")
    push(queue, "u", "a", "b")
    with pytest.raises(QueueFullError, match="user 'u' has 2 waiting tasks and the limit is 2") as seen:
        schedules.trigger_now("u", "s")
    assert (seen.value.user_id, seen.value.limit, seen.value.current, seen.value.coming) == ("u", 2, 2, 1)
    push(queue, "v", "c")
    schedules.add_schedule(DAILY, report(), user_id="w", schedule_id="s")
    with pytest.raises(QueueFullError, match="the queue has 3 waiting tasks and the limit is 3"):
        schedules.trigger_now("w", "s")
    assert queue.stats().queued == 3
    popped(queue)
    assert schedules.trigger_now("w", "s").created


def test_a_lost_reply_to_a_firing_by_hand_pushes_once(blocking: TaskQueue) -> None:
    schedules = TaskScheduler(blocking)
    schedules.add_schedule(DAILY, report(), user_id="u", schedule_id="s")
    steps = Steps(blocking, blocking.commands.of("u").schedules.fire_by_hand("u", "s"))
    steps.step()
    blocking.manager.execute(steps.call)
    receipt = steps.finish()
    assert (blocking.stats().queued, schedules.get_schedule("u", "s").fired) == (1, 1)
    assert schedules.get_schedule("u", "s").last_task_id == receipt.task.task_id


def test_a_running_task_knows_its_schedule_and_its_fire_time(
    config: FairQueueConfig, raw: Redis, root: str
) -> None:
    with TaskQueue(config) as queue:
        schedules = TaskScheduler(queue)
        added = schedules.add_schedule(task=tell(), every=60, user_id="u", schedule_id="s:1")
        at = go_back(raw, root, added, 75).next_fire_time
        assert at is not None
        fire(queue)
        handle = queue.handle("u", schedules.get_schedule("u", "s:1").last_task_id or "")
        own = queue.push(tell(), user_id="u")
        with Worker(config, concurrency=1):
            assert handle.result(timeout=10) == ["s:1", at.timestamp()]
            assert own.result(timeout=10) == [None, None]
        info = handle.info()
        assert (info.schedule_id, info.fire_time) == ("s:1", at)
        assert info.created_at is not None
        assert info.created_at >= at


# --- what is stored -----------------------------------------------------------------------------------


def test_what_is_at_its_default_is_not_stored(schedules: TaskScheduler, raw: Redis, root: str) -> None:
    added = schedules.add_schedule(DAILY, report(), user_id="u", schedule_id="s")
    definition = raw.hget(key_of(root, added), "definition")
    assert json.loads(definition or b"") == {"timing": {"cron": DAILY}}


def test_the_schedulers_of_a_queue_share_it_and_leave_it_open(config: FairQueueConfig) -> None:
    with TaskQueue(config) as queue:
        with TaskScheduler(queue) as scheduler:
            scheduler.add_schedule(DAILY, report(), user_id="u", schedule_id="s")
        with TaskScheduler(config) as scheduler:
            assert scheduler.get_schedule("u", "s").cron == DAILY
        assert queue.stats().queued == 0
