"""Firing: each fire time once, whoever comes, however late; what cannot push is recorded and stops nobody."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from redis import Redis

from fairque import (
    FairQueueConfig,
    Schedule,
    ScheduleValidationError,
    ServerOutOfMemoryError,
    TaskQueue,
    TaskScheduler,
    UserPolicy,
    task,
)
from fairque.core.schedule import fire_times
from fairque.queue.firing import AGAIN_MS, Shot, aim
from fairque.scheduler import tending
from tests.integration.conftest import OpenQueue
from tests.support.actions import drain, names, popped, push, server_ms, sleep_past
from tests.support.faces import Background
from tests.support.invariants import check_invariants
from tests.support.scheduling import GRACE, Steps, fire, go_back, ids_of, key_of, pushed, task_ids, write
from tests.support.servers import own_server
from tests.support.waiting import until

DAY = 86_400.0


@task(name="tests.firing.report")
def report(kind: str = "all") -> str:
    return kind


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


@pytest.fixture
def schedules(queue: TaskQueue) -> TaskScheduler:
    return TaskScheduler(queue)


Missed = Callable[..., Schedule]


@pytest.fixture
def missed(schedules: TaskScheduler, raw: Redis, root: str) -> Missed:
    """Adds a schedule of every minute that nobody has fired for some seconds."""

    def add(
        name: str = "s", *, seconds: float, user_id: str = "u", every: float = 60, **options: Any
    ) -> Schedule:
        given = {"task": report(), "every": every, "user_id": user_id, "schedule_id": name, **options}
        added = schedules.add_schedule(**given)
        return go_back(raw, root, added, seconds)

    return add


def times_of(schedule: Schedule, raw: Redis) -> list[int]:
    """All its fire times so far."""
    return schedule.timing.latest(schedule.progress.fire or 0, int(server_ms(raw)), 100_000)


def put_due(raw: Redis, root: str, schedule: Schedule, due: float) -> None:
    raw.zadd(f"{root}:schedules", {key_of(root, schedule).removeprefix(f"{root}:schedule:"): due})


# --- exactly once -------------------------------------------------------------------------------------


def test_what_is_due_pushes_its_task_and_is_due_next_at_its_next_time(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    was = missed(seconds=60.5)
    (at,) = times_of(was, raw)
    (shot,) = fire(queue)
    found = schedules.get_schedule("u", "s")
    (expected,) = ids_of(was, [at])
    assert (shot.pushed, shot.problem, list(shot.tasks)) == (1, "", [expected])
    assert (found.fired, found.last_task_id, found.failures) == (1, expected, 0)
    assert (found.progress.last_fire, found.progress.fire) == (at, at + 60_000)
    assert task_ids(raw, root, "u") == [expected]
    ran = popped(queue)
    assert (ran.task_id, ran.schedule_id, ran.payload["args"]) == (expected, "s", [])
    assert ran.fire_time == datetime.fromtimestamp(at / 1000, UTC)
    assert fire(queue) == []


def test_what_is_not_due_yet_does_not_fire(queue: TaskQueue, missed: Missed, raw: Redis, root: str) -> None:
    missed(seconds=30)
    assert queue.run(queue.commands.shards[0].schedules.fire_due(GRACE))[0] == []
    _, pause = queue.run(queue.commands.shards[0].schedules.fire_due(GRACE))
    assert pause is not None
    assert 20 < pause <= 30


def test_the_script_refuses_a_firing_before_its_time(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    """A scheduler whose clock is wrong asks for it: only the server's counts."""
    was = missed(seconds=30)
    known = schedules.get_schedule("u", "s")
    shot = aim(known, int(server_ms(raw)) + 60_000, GRACE)
    assert list(shot.tasks) == ids_of(was, [known.progress.fire or 0])
    assert _shoot(queue, shot) == [-1]
    assert schedules.get_schedule("u", "s").progress == known.progress
    assert queue.stats().queued == 0


def _shoot(queue: TaskQueue, *shots: Shot) -> list[Any]:
    """Send shots to the script as they are."""
    commands = queue.commands.shards[0].schedules
    options = commands._options(**commands._fire_options)
    args = [options, *(part for shot in shots for part in shot.arguments)]
    reply: list[Any] = queue.manager.execute(commands._call("fire", args, list))
    return reply


def test_of_two_schedulers_that_see_the_same_the_second_finds_it_done(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed
) -> None:
    for number in range(5):
        missed(str(number), seconds=61)
    one, two = (Steps(queue, queue.commands.shards[0].schedules.fire_due(GRACE)) for _ in range(2))
    one.step()
    two.step()
    assert one.step() == [1] * 5
    assert two.step() == [-1] * 5
    assert [shot.pushed for shot in two.value[0]] == [None] * 5
    assert queue.stats().queued == 5


@pytest.fixture
def forgetful(make_config: Callable[..., FairQueueConfig]) -> Iterator[TaskQueue]:
    """Nobody knows a task any more as soon as it has finished."""
    with TaskQueue(make_config(retention={"finished": 0.001}, push_retry_window=0)) as queue:
        yield queue


def test_a_firing_that_comes_again_or_late_does_nothing(
    forgetful: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    """A zombie: stopped between reading and firing, and its call repeated."""
    queue = forgetful
    was = missed(seconds=61)
    zombie = Steps(queue, queue.commands.shards[0].schedules.fire_due(GRACE))
    zombie.step()
    late = zombie.call
    assert queue.manager.execute(late) == [1]
    assert names(drain(queue)) == ids_of(was, [was.progress.fire or 0])
    until(lambda: queue.cleanup_expired_tasks() == 1, "nobody knows the task any more")
    go_back(raw, root, schedules.get_schedule("u", "s"), 59.9)
    assert queue.manager.execute(late) == [-1]
    assert pushed(fire(queue)) == 1
    assert queue.manager.execute(late) == [-1]
    schedules.pause("u", "s")
    assert queue.manager.execute(late) == [-1]
    schedules.resume("u", "s")
    assert queue.manager.execute(late) == [-1]
    schedules.remove_schedule("u", "s")
    assert queue.manager.execute(late) == [-1]
    schedules.add_schedule(task=report(), every=60, user_id="u", schedule_id="s")
    assert queue.manager.execute(late) == [-1]
    assert queue.stats().queued == 1


@pytest.mark.parametrize("change", ["update", "pause", "remove", "replace"])
def test_a_firing_that_a_change_overtakes_does_nothing(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, change: str
) -> None:
    missed(seconds=61)
    one = Steps(queue, queue.commands.shards[0].schedules.fire_due(GRACE))
    one.step()
    match change:
        case "update":
            schedules.update_schedule("u", "s", task=report("new"))
        case "pause":
            schedules.pause("u", "s")
        case "remove":
            schedules.remove_schedule("u", "s")
        case "replace":
            schedules.add_schedule("@daily", report(), user_id="u", schedule_id="s", replace=True)
    assert one.step() == [-1]
    left = fire(queue)
    assert pushed(left) == (1 if change == "update" else 0)
    if change == "update":
        assert popped(queue).payload["args"] == ["new"]


def test_many_who_fire_at_once_push_everything_once(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    expected: set[str] = set()
    for number in range(60):
        was = missed(f"{number:02}", seconds=60 * (number % 5) + 61, catch_up="all")
        expected |= set(ids_of(was, times_of(was, raw)))

    def race() -> int:
        with TaskQueue(queue.config) as own:
            return pushed(fire(own))

    racers = [Background(race) for _ in range(6)]
    assert sum(racer.value() for racer in racers) == len(expected) == sum(range(1, 6)) * 12
    assert set(task_ids(raw, root, "u")) == expected
    assert sum(found.fired for found in schedules.list_schedules()) == len(expected)


# --- catching up --------------------------------------------------------------------------------------


def test_the_latest_of_the_missed_times_is_made_up_for(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    was = missed(seconds=10 * 60 + 30)
    times = times_of(was, raw)
    assert len(times) == 10
    assert pushed(fire(queue)) == 1
    assert task_ids(raw, root, "u") == ids_of(was, times[-1:])
    found = schedules.get_schedule("u", "s")
    assert (found.progress.last_fire, found.progress.fire) == (times[-1], times[-1] + 60_000)


def test_none_of_them_is(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    was = missed(seconds=10 * 60 + 30, catch_up="none")
    times = times_of(was, raw)
    (shot,) = fire(queue)
    assert (shot.pushed, shot.problem) == (0, "")
    found = schedules.get_schedule("u", "s")
    assert (found.fired, found.failures, found.progress.fire) == (0, 0, times[-1] + 60_000)
    assert found.progress.last_fire == times[-1]
    go_back(raw, root, found, 60 - (server_ms(raw) - times[-1]) / 1000 + 0.5)  # half a second late
    assert pushed(fire(queue)) == 1


def test_all_of_them_are_in_their_order(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    was = missed(seconds=10 * 60 + 30, catch_up="all")
    times = times_of(was, raw)
    assert pushed(fire(queue)) == 10
    assert task_ids(raw, root, "u") == ids_of(was, times)
    assert schedules.get_schedule("u", "s").progress.fire == times[-1] + 60_000


def test_no_more_than_the_last_so_many(queue: TaskQueue, missed: Missed, raw: Redis, root: str) -> None:
    was = missed(seconds=10 * 60 + 30, catch_up="all", max_catch_up=4)
    assert pushed(fire(queue)) == 4
    assert task_ids(raw, root, "u") == ids_of(was, times_of(was, raw)[-4:])


def test_very_many_come_in_several_scripts_and_none_twice(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    was = missed(seconds=700 * 60 + 30, catch_up="all", max_catch_up=500)
    times = times_of(was, raw)
    shots = fire(queue)
    assert [shot.pushed for shot in shots] == [200, 200, 100]
    assert task_ids(raw, root, "u") == ids_of(was, times[-500:])
    found = schedules.get_schedule("u", "s")
    assert (found.fired, found.progress.fire) == (500, times[-1] + 60_000)


def test_large_ones_come_in_scripts_of_few(queue: TaskQueue, missed: Missed) -> None:
    missed(seconds=10 * 60 + 30, catch_up="all", task=report("x" * 1_000_000))
    for number in range(6):
        missed(f"other {number}", seconds=61, task=report("x" * 1_000_000))
    one = Steps(queue, queue.commands.shards[0].schedules.fire_due(GRACE))
    while not one.is_done:
        one.step()
        if not one.is_done:
            assert sum(len(arg) for arg in one.call.args if isinstance(arg, bytes)) < 5_000_000
    assert pushed(one.value[0]) + pushed(fire(queue)) == 16


def test_a_calendar_s_missed_times_are_those_of_its_clock(
    queue: TaskQueue, schedules: TaskScheduler, raw: Redis, root: str
) -> None:
    added = schedules.add_schedule(
        "0 9 * * *", report(), user_id="u", schedule_id="s", timezone="Europe/Berlin", catch_up="all"
    )
    was = go_back(raw, root, added, 400 * DAY)
    times = times_of(was, raw)
    assert len(times) in {399, 400, 401}
    assert {datetime.fromtimestamp(time / 1000, UTC).hour for time in times} == {7, 8}
    assert pushed(fire(queue)) == 100
    assert task_ids(raw, root, "u") == ids_of(was, times[-100:])
    assert task_ids(raw, root, "u")[0].endswith("0000Z")


@pytest.mark.parametrize("catch_up", ["latest", "none", "all"])
def test_what_is_in_time_is_not_missed(
    queue: TaskQueue, missed: Missed, raw: Redis, root: str, catch_up: Any
) -> None:
    """A scheduler that is busy for a moment takes no run away, however short the interval."""
    was = missed(seconds=0.65, every=0.1, catch_up=catch_up)
    shots = fire(queue, grace=60_000)
    assert pushed(shots) >= 6
    ids = task_ids(raw, root, "u")
    assert ids == ids_of(was, [(was.progress.fire or 0) + 100 * number for number in range(len(ids))])


def test_a_downtime_makes_one_of_many_schedules_no_other_late(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed
) -> None:
    for number in range(250):
        missed(f"{number:03}", seconds=60 * 50 + 30, user_id=f"u{number % 7}")
    shots = fire(queue)
    assert (len(shots), pushed(shots), queue.stats().queued) == (250, 250, 250)


# --- jitter -------------------------------------------------------------------------------------------


def test_jitter_makes_later_by_less_than_that_and_everyone_agrees(
    config: FairQueueConfig, schedules: TaskScheduler, raw: Redis, root: str
) -> None:
    added = schedules.add_schedules(
        Schedule.create(None, report(), every=60, jitter=10, user_id="u", schedule_id=f"{n:03}")
        for n in range(200)
    )
    delays = []
    for one in added:
        due = raw.zscore(f"{root}:schedules", f"u:{one.schedule_id}")
        delays.append((due or 0) - (one.progress.fire or 0))
        assert one.next_fire_time == one.next_fire_times(1)[0]
    assert min(delays) >= 0
    assert max(delays) < 10_000
    assert len(set(delays)) > 150
    assert 3_500 < sum(delays) / len(delays) < 6_500
    with TaskQueue(config) as other:
        again = TaskScheduler(other).list_schedules()
    # Whoever moves it on comes to the same: it follows from the names and the time.
    for one, known in zip(added, again, strict=True):
        fire_time = known.progress.fire or 0
        key = f"u:{one.schedule_id}"
        assert known.timing.delay_of(fire_time, key) == one.timing.delay_of(fire_time, key)


def test_before_its_jitter_has_passed_a_schedule_waits(
    queue: TaskQueue, schedules: TaskScheduler, raw: Redis, root: str
) -> None:
    added = schedules.add_schedule(task=report(), every=3600, jitter=600, user_id="u", schedule_id="s")
    fire_time = added.progress.fire or 0
    delay = added.timing.delay_of(fire_time, "u:s")
    now = int(server_ms(raw))
    back = fire_time - now + delay // 2  # its time has come, and its delay has not passed
    moved = msgspec.structs.replace(added.progress, fire=fire_time - back)
    write(raw, root, msgspec.structs.replace(added, progress=moved))
    put_due(raw, root, added, now + delay // 2)
    assert fire(queue) == []
    put_due(raw, root, added, now)
    assert pushed(fire(queue)) == 1


def test_after_a_downtime_jitter_lets_only_the_latest_fire(schedules: TaskScheduler, raw: Redis) -> None:
    """Also where that is not due yet: then it is the one before, not all of them."""
    rng = random.Random(5)
    for number in range(300):
        one = Schedule.create(
            None, report(), every=60, jitter=rng.choice([1, 30, 59]), user_id="u", schedule_id=f"{number}"
        )
        start = 1_700_000_000_000
        progress = msgspec.structs.replace(one.progress, fire=start)
        one = msgspec.structs.replace(one, timing=one.timing.anchored(start - 60_000), progress=progress)
        now = start + rng.randint(3_600_000, 7_200_000)
        times, last = fire_times(one, now, GRACE)
        key = f"u:{number}"
        due = [
            time
            for time in one.timing.latest(start, now, 1000)
            if time + one.timing.delay_of(time, key) <= now
        ]
        assert times == [due[-1]] == [last]
        every = msgspec.structs.replace(one, catch_up="all", max_catch_up=50)
        assert set(fire_times(every, now, GRACE)[0]) <= set(due[-50:])
        assert len(fire_times(every, now, GRACE)[0]) >= 49


@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_jitter_longer_than_the_interval_takes_no_run_away(catch_up: Any) -> None:
    """A scheduler that is always there fires each time, in order, none before it is due."""
    one = Schedule.create(None, report(), every=1, jitter=5, user_id="u", schedule_id="s", catch_up=catch_up)
    start = 1_700_000_000_000
    one = msgspec.structs.replace(one, timing=one.timing.anchored(start - 1000))
    next_fire, now = start, start
    fired: list[int] = []
    while len(fired) < 200:
        now = max(now, next_fire + one.timing.delay_of(next_fire, "u:s"))
        progress = msgspec.structs.replace(one.progress, fire=next_fire)
        times, last = fire_times(msgspec.structs.replace(one, progress=progress), now, GRACE)
        assert all(time + one.timing.delay_of(time, "u:s") <= now for time in times)
        fired += times
        next_fire = one.timing.after(last) or 0
    assert fired == [start + 1000 * number for number in range(len(fired))]


# --- beginning and end --------------------------------------------------------------------------------


def test_one_with_a_start_fires_first_then(
    queue: TaskQueue, schedules: TaskScheduler, raw: Redis, root: str
) -> None:
    start = datetime.now(UTC) + timedelta(hours=1)
    added = schedules.add_schedule(task=report(), every=60, start=start, user_id="u", schedule_id="s")
    assert added.next_fire_time == added.start
    was = go_back(raw, root, added, 3600 + 61)
    assert pushed(fire(queue)) == 1
    assert task_ids(raw, root, "u") == ids_of(was, [(was.progress.fire or 0) + 60_000])


def test_one_with_an_end_fires_last_then_and_stays_to_be_looked_at(
    queue: TaskQueue, schedules: TaskScheduler, raw: Redis, root: str
) -> None:
    end = datetime.now(UTC) + timedelta(seconds=150)
    added = schedules.add_schedule(
        task=report(), every=60, end=end, user_id="u", schedule_id="s", catch_up="all"
    )
    go_back(raw, root, added, 1000)
    assert pushed(fire(queue)) == 2
    found = schedules.get_schedule("u", "s")
    assert (found.active, found.fired, found.next_fire_time, found.next_fire_times(2)) == (True, 2, None, [])
    assert raw.zcard(f"{root}:schedules") == 0
    assert schedules.update_schedule("u", "s", metadata={"a": 1}).next_fire_time is None
    assert schedules.resume("u", "s").next_fire_time is None
    assert schedules.update_schedule("u", "s", end=None).next_fire_time is not None


def test_a_one_off_fires_once(queue: TaskQueue, schedules: TaskScheduler, raw: Redis, root: str) -> None:
    at = datetime.fromtimestamp(server_ms(raw) / 1000 + 0.1, UTC)
    given: dict[str, Any] = {"task": report(), "at": at, "user_id": "u", "schedule_id": "s"}
    added = schedules.add_schedule(**given)
    sleep_past(raw, added.progress.fire or 0)
    assert pushed(fire(queue)) == 1
    assert fire(queue) == []
    found = schedules.get_schedule("u", "s")
    assert (found.fired, found.next_fire_time, found.last_fire_time) == (1, None, added.at)
    assert schedules.add_schedule(**given).fired == 1, "the program that adds it starts again"
    with pytest.raises(ScheduleValidationError, match="would never fire"):
        schedules.add_schedule(**given | {"at": at - timedelta(seconds=1)}, replace=True)
    assert names(drain(queue)) == [found.last_task_id]


def test_a_missed_one_off_is_made_up_for_unless_it_is_said_not_to(
    queue: TaskQueue, schedules: TaskScheduler, raw: Redis, root: str
) -> None:
    for catch_up in ("latest", "all", "none"):
        at = datetime.now(UTC) + timedelta(hours=1)
        added = schedules.add_schedule(
            task=report(), at=at, user_id="u", schedule_id=catch_up, catch_up=catch_up
        )
        go_back(raw, root, added, 2 * DAY)
    assert pushed(fire(queue)) == 2
    assert [one.fired for one in schedules.list_schedules()] == [1, 1, 0]


# --- no two at once -----------------------------------------------------------------------------------


def test_skip_pushes_nothing_while_the_last_task_is_live(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    missed(seconds=61, overlap="skip")

    def next_time() -> list[int | None]:
        go_back(raw, root, schedules.get_schedule("u", "s"), 59.95)
        return [shot.pushed for shot in fire(queue)]

    assert [shot.pushed for shot in fire(queue)] == [1]
    assert next_time() == [0], "it is queued"
    running = popped(queue)
    assert next_time() == [0], "it runs"
    queue.fail(running, "again")
    assert next_time() == [0], "it will be retried"
    found = schedules.get_schedule("u", "s")
    assert (found.fired, found.skipped, found.failures) == (1, 3, 0)
    queue.cancel("u", running.task_id)
    assert next_time() == [1], "it was canceled"
    queue.finish(popped(queue))
    assert next_time() == [1], "it has finished"
    queue.fail(popped(queue), "no", failure_type="invalid")
    assert next_time() == [1], "it has failed"
    last = schedules.get_schedule("u", "s").last_task_id or ""
    queue.finish(popped(queue))
    raw.hset(f"{root}:schedule:u:s", "last_task", "unknown")
    assert next_time() == [1], "nobody knows it"
    assert schedules.get_schedule("u", "s").last_task_id != last


@pytest.mark.parametrize("options", [{"group": "g"}, {"delay": 3600}], ids=str)
def test_skip_finds_a_task_wherever_it_waits(
    queue: TaskQueue, missed: Missed, options: dict[str, Any]
) -> None:
    missed(seconds=61, overlap="skip", task=report().with_options(**options))
    assert pushed(fire(queue)) == 1
    missed("t", seconds=61, overlap="skip", task=report().with_options(**options), catch_up="all")
    assert pushed(fire(queue)) == 1


def test_skip_makes_up_for_one_of_many_missed_times(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    was = missed(seconds=500 * 60 + 30, overlap="skip", catch_up="all", max_catch_up=300)
    assert [shot.pushed for shot in fire(queue)] == [1, 0]
    found = schedules.get_schedule("u", "s")
    assert (found.fired, found.skipped) == (1, 299)
    assert task_ids(raw, root, "u") == ids_of(was, times_of(was, raw)[-300:-299])


# --- what cannot push ---------------------------------------------------------------------------------


def test_a_full_user_is_recorded_and_tried_again_at_its_next_time_and_others_fire(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    queue.set_policy("full", UserPolicy(max_queued=1))
    push(queue, "full", "a")
    was = missed("f", seconds=61, user_id="full")
    for number in range(3):
        missed(str(number), seconds=61)
    shots = fire(queue)
    assert pushed(shots) == 3
    problem = "user 'full' has 1 waiting tasks and the limit is 1: push again when some have run"
    assert [shot.problem for shot in shots if shot.problem] == [
        f"{problem}, or raise max_queued of its policy"
    ]
    found = schedules.get_schedule("full", "f")
    assert (found.fired, found.failures, found.last_task_id) == (0, 1, None)
    assert (found.last_error or "").startswith(problem)
    assert found.last_failed_at is not None
    assert abs(found.last_failed_at.timestamp() * 1000 - server_ms(raw)) < 60_000
    assert found.progress.fire == (was.progress.fire or 0) + 60_000
    assert fire(queue) == []
    assert names(queue.pop_batch("w", 1, users=["full"])) == ["a"]
    go_back(raw, root, found, 60)
    assert pushed(fire(queue)) == 1
    found = schedules.get_schedule("full", "f")
    assert (found.fired, found.failures) == (1, 1)


def test_the_last_time_of_a_schedule_is_tried_again_where_there_was_no_room(
    queue: TaskQueue, schedules: TaskScheduler, raw: Redis, root: str
) -> None:
    queue.set_policy("full", UserPolicy(max_queued=1))
    push(queue, "full", "a")
    once = schedules.add_schedule(
        task=report(), at=server_ms(raw) / 1000 + 60, user_id="full", schedule_id="o"
    )
    once = go_back(raw, root, once, 61)
    (shot,) = fire(queue)
    assert shot.problem.startswith("user 'full' has 1 waiting tasks and the limit is 1")
    found = schedules.get_schedule("full", "o")
    assert (found.failures, found.progress.fire) == (1, once.progress.fire)
    due = raw.zscore(f"{root}:schedules", "full:o")
    assert due is not None
    assert 50_000 < due - server_ms(raw) <= 60_000
    assert fire(queue) == []
    assert names(queue.pop_batch("w", 1, users=["full"])) == ["a"]
    raw.zadd(f"{root}:schedules", {"full:o": once.progress.fire or 0})
    assert pushed(fire(queue)) == 1
    found = schedules.get_schedule("full", "o")
    assert (found.fired, found.failures, found.next_fire_time) == (1, 1, None)


def test_a_full_queue_takes_what_fits(
    open_queue: OpenQueue, make_config: Callable[..., FairQueueConfig], raw: Redis, root: str
) -> None:
    with TaskQueue(make_config(max_queued=5)) as queue:
        schedules = TaskScheduler(queue)
        push(queue, "other", "a", "b")
        for number in range(5):
            added = schedules.add_schedule(
                task=report(), every=60, user_id=f"u{number}", schedule_id=str(number)
            )
            go_back(raw, root, added, 61 + (5 - number))
        shots = fire(queue)
        assert [shot.pushed for shot in shots] == [1, 1, 1, 0, 0]
        assert shots[3].problem.startswith("the queue has 5 waiting tasks and the limit is 5")
        assert queue.stats().queued == 5
        assert [one.failures for one in schedules.list_schedules()] == [0, 0, 0, 1, 1]


def test_more_missed_runs_than_a_user_may_have_are_refused_together(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed
) -> None:
    queue.set_policy("u", UserPolicy(max_queued=5))
    missed(seconds=10 * 60 + 30, catch_up="all")
    (shot,) = fire(queue)
    assert "this push adds 10 and the limit is 5: it never fits" in shot.problem
    assert (queue.stats().queued, schedules.get_schedule("u", "s").failures) == (0, 1)


DAMAGE: dict[str, Callable[[Redis, str], Any]] = {
    "definition": lambda raw, key: raw.hset(key, "definition", "{"),
    "definition of another kind": lambda raw, key: raw.hset(key, "definition", "[1]"),
    "definition without times": lambda raw, key: raw.hset(key, "definition", '{"timing":{}}'),
    "no definition": lambda raw, key: raw.hdel(key, "definition"),
    "zone": lambda raw, key: raw.hset(
        key, "definition", '{"timing":{"cron":"* * * * *","timezone":"Mars/Olympus"}}'
    ),
    "cron": lambda raw, key: raw.hset(key, "definition", '{"timing":{"cron":"0 0 31 2 *"}}'),
    "overlap": lambda raw, key: raw.hset(key, "definition", '{"timing":{"every":60000},"overlap":"x"}'),
    "record": lambda raw, key: raw.hset(key, "task", "nonsense"),
    "no record": lambda raw, key: raw.hdel(key, "task"),
    "header": lambda raw, key: raw.hset(key, "task", '{"priority":"high"}\n[]'),
    "bytes": lambda raw, key: raw.hset(key, "definition", b"\xff\xfe"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_recorded_and_looked_at_again_later_and_others_fire(
    queue: TaskQueue,
    missed: Missed,
    raw: Redis,
    root: str,
    damage: str,
) -> None:
    schedules = TaskScheduler(queue)
    missed("bad", seconds=120)
    missed("good", seconds=61)
    key = f"{root}:schedule:u:bad"
    whole: dict[bytes, bytes] = raw.hgetall(key)  # type: ignore[assignment]
    DAMAGE[damage](raw, key)
    before = server_ms(raw)
    shots = fire(queue)
    assert [(shot.schedule.schedule_id, shot.pushed) for shot in shots] == [("bad", 0), ("good", 1)]
    assert shots[0].problem
    assert (
        before + AGAIN_MS - 1 <= (raw.zscore(f"{root}:schedules", "u:bad") or 0) <= server_ms(raw) + AGAIN_MS
    )
    bad = schedules.get_schedule("u", "bad")
    assert (bad.failures, bad.fired, bad.last_error) == (1, 0, shots[0].problem)
    assert bad.defect == shots[0].problem
    assert {one.schedule_id for one in schedules.list_schedules()} == {"bad", "good"}
    assert bad.progress.fire == int(whole[b"fire"])
    for change in (schedules.update_schedule, schedules.pause, schedules.resume):
        with pytest.raises(
            ScheduleValidationError, match=r"cannot be changed.*add_schedule with replace=True"
        ):
            change("u", "bad")
    with pytest.raises(ScheduleValidationError):
        schedules.trigger_now("u", "bad")
    # Once it can be read again, it fires, also for the time that it could not.
    for name, value in whole.items():
        raw.hset(key, name, value)
    put_due(raw, root, bad, 1 + int(whole[b"fire"]))
    assert pushed(fire(queue)) == 1
    again = schedules.get_schedule("u", "bad")
    assert again.fired == 1
    raw.hdel(key, "definition")
    new = schedules.add_schedule(task=report(), every=60, user_id="u", schedule_id="bad", replace=True)
    assert (new.defect, new.next_fire_time is not None) == (None, True)
    assert schedules.remove_schedule("u", "bad")


def test_one_whose_record_is_gone_is_forgotten(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    """By eviction, or by hand: a scheduler would be busy with it for ever."""
    for number in range(150):
        missed(f"{number:03}", seconds=120)
    raw.delete(*(f"{root}:schedule:u:{number:03}" for number in range(150)))
    missed("good", seconds=61)
    commands = queue.commands.shards[0].schedules
    for _ in range(3):
        queue.run(commands.fire_due(GRACE))
    assert task_ids(raw, root, "u") == [schedules.get_schedule("u", "good").last_task_id]
    assert raw.zcard(f"{root}:schedules") == 1
    check_invariants(raw, root)


@pytest.mark.parametrize("text", ["", "x", "-3", "nan", "inf", "1.5", None])
def test_one_whose_fire_time_is_lost_goes_on_from_now(
    queue: TaskQueue, missed: Missed, raw: Redis, root: str, text: str | None
) -> None:
    schedules = TaskScheduler(queue)
    missed(seconds=600, catch_up="all")
    key = f"{root}:schedule:u:s"
    raw.hdel(key, "fire") if text is None else raw.hset(key, "fire", text)
    (shot,) = fire(queue)
    found = schedules.get_schedule("u", "s")
    assert (shot.pushed, found.failures, found.last_error) == (0, 1, "it was due without a fire time")
    assert found.next_fire_time is not None
    assert 0 < found.next_fire_time.timestamp() * 1000 - server_ms(raw) <= 60_000
    assert schedules.pause("u", "s").next_fire_time is None


@pytest.mark.parametrize("text", ["", "x", "1e400", "nan"])
def test_spoilt_numbers_stop_nothing(
    queue: TaskQueue, missed: Missed, raw: Redis, root: str, text: str
) -> None:
    schedules = TaskScheduler(queue)
    for name, options in (("a", {}), ("b", {"overlap": "skip", "catch_up": "all"})):
        missed(name, seconds=200, **options)
        for field in ("fired", "failures", "skipped", "last_fire", "last_failed_at"):
            raw.hset(f"{root}:schedule:u:{name}", field, text)
    assert len(schedules.list_schedules()) == 2
    assert pushed(fire(queue)) == 2
    assert queue.stats().queued == 2


def test_a_due_time_before_the_fire_time_pushes_nothing_early(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed, raw: Redis, root: str
) -> None:
    was = missed(seconds=30)
    put_due(raw, root, was, 5)
    (shot,) = fire(queue)
    assert shot.pushed == 0
    found = schedules.get_schedule("u", "s")
    assert found.progress.fire == was.progress.fire == raw.zscore(f"{root}:schedules", "u:s")


# --- pauses, turns, memory ----------------------------------------------------------------------------


def test_a_paused_queue_and_a_paused_user_are_pushed_to_and_run_nothing(
    queue: TaskQueue, missed: Missed
) -> None:
    queue.pause()
    queue.pause_user("v")
    missed(seconds=61)
    missed(seconds=61, user_id="v")
    assert pushed(fire(queue)) == 2
    assert queue.pop_batch("w", 5) == []
    queue.resume()
    assert [ran.user_id for ran in queue.pop_batch("w", 5)] == ["u"]
    queue.resume_user("v")
    assert [ran.user_id for ran in queue.pop_batch("w", 5)] == ["v"]


def test_what_a_schedule_pushes_waits_its_turn(
    queue: TaskQueue, missed: Missed, raw: Redis, root: str
) -> None:
    push(queue, "busy", *map(str, range(6)))
    push(queue, "u", "first", "second")
    missed(seconds=10 * 60 + 30, catch_up="all")
    missed("urgent", seconds=61, task=report().with_options(priority=6))
    assert pushed(fire(queue)) == 11
    order = drain(queue)
    assert [ran.user_id for ran in order[:12]] == ["busy", "u"] * 6
    assert [ran.task_id for ran in order if ran.user_id == "u"][1:3] == ["first", "second"]
    assert order[1].schedule_id == "urgent"
    times = [ran.fire_time for ran in order if ran.schedule_id == "s"]
    assert times == sorted(times)  # type: ignore[type-var]


def test_a_delay_counts_from_the_push(queue: TaskQueue, missed: Missed) -> None:
    missed(seconds=61, task=report().with_options(delay=3600))
    assert pushed(fire(queue)) == 1
    stats = queue.stats()
    assert (stats.queued, stats.scheduled) == (0, 1)


def test_a_task_that_is_there_already_is_not_pushed_again(
    queue: TaskQueue, schedules: TaskScheduler, missed: Missed
) -> None:
    """A schedule that is removed and added again at once may come to a time that it has fired before."""
    was = missed(seconds=61)
    push(queue, "u", ids_of(was, [was.progress.fire or 0])[0])
    (shot,) = fire(queue)
    assert (shot.pushed, queue.stats().queued) == (0, 1)
    assert schedules.get_schedule("u", "s").fired == 0


def test_a_full_server_takes_no_schedule_and_firing_goes_on_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tending, "LONGEST_PAUSE", 0.2)
    with own_server("--maxmemory-policy", "noeviction") as server, TaskQueue(server.config()) as queue:
        raw, root = server.client(), queue.commands.shards[0].keys.root
        schedules = TaskScheduler(queue)
        added = schedules.add_schedule(task=report(), every=60, user_id="u", schedule_id="s")
        gone = schedules.add_schedule(task=report(), every=60, user_id="u", schedule_id="gone")
        was = go_back(raw, root, added, 61)
        raw.config_set("maxmemory", "1mb")
        for refused in (
            lambda: schedules.add_schedule(task=report(), every=60, user_id="u", schedule_id="t"),
            lambda: schedules.update_schedule("u", "s", every=5),
            lambda: schedules.trigger_now("u", "s"),
            lambda: fire(queue),
        ):
            with pytest.raises(ServerOutOfMemoryError):
                refused()
        assert [one.schedule_id for one in schedules.list_schedules()] == ["gone", "s"]
        assert schedules.remove_schedule("u", gone.schedule_id)
        schedules.start()
        try:
            raw.config_set("maxmemory", "0")
            until(lambda: queue.stats().queued == 1, "it fires")
        finally:
            schedules.stop()
        assert names(drain(queue)) == ids_of(was, [was.progress.fire or 0])
        check_invariants(raw, root)
        raw.close()
