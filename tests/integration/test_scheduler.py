"""The scheduler at work: it fires in time, wakes for what is new, waits for its server, and ends at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from redis import Redis

from fairque import (
    AsyncTaskQueue,
    AsyncTaskScheduler,
    ConfigurationError,
    FairQueueConfig,
    Schedule,
    ScheduleValidationError,
    TaskQueue,
    TaskScheduler,
    UnsafeServerError,
    Worker,
    task,
)
from fairque.core.registry import registry
from tests.support.actions import server_ms
from tests.support.faces import Background
from tests.support.invariants import check_invariants
from tests.support.scheduling import go_back
from tests.support.servers import own_server
from tests.support.waiting import until

AT_ONCE = 1.0  # seconds; a wake-up takes a few milliseconds, and the longest sleep is five seconds


@task(name="tests.scheduler.tick")
def tick() -> str:
    return "tick"


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


@pytest.fixture
def scheduler(config: FairQueueConfig) -> Iterator[TaskScheduler]:
    with TaskScheduler(config) as scheduler:
        yield scheduler


def configured(config: FairQueueConfig, **settings: Any) -> FairQueueConfig:
    """The test's configuration with this section `scheduler`."""
    whole = config.model_dump(exclude_unset=True)
    return FairQueueConfig.model_validate(whole | {"scheduler": settings})


def soon(raw: Redis, seconds: float) -> datetime:
    return datetime.fromtimestamp(server_ms(raw) / 1000 + seconds, UTC)


def is_asleep(raw: Redis, root: str) -> bool:
    """Whether a scheduler listens for what is sooner; it looks at what is due at once after that."""
    ((_, listening),) = raw.pubsub_numsub(f"{root}:schedules")
    return bool(listening)


# --- it fires -----------------------------------------------------------------------------------------


def test_it_fires_in_the_background_until_it_is_stopped(scheduler: TaskScheduler, queue: TaskQueue) -> None:
    scheduler.add_schedule(task=tick(), every=0.1, user_id="u", schedule_id="s")
    scheduler.start()
    until(lambda: queue.stats().queued >= 5, "it fires")
    scheduler.stop()
    found = scheduler.get_schedule("u", "s")
    assert queue.stats().queued == found.fired
    ran = queue.pop_batch("w", found.fired)
    times = [one.fire_time for one in ran]
    assert all(later - sooner == found.every for sooner, later in pairwise(times))  # type: ignore[operator]


def test_the_asyncio_face_fires_on_the_loop(config: FairQueueConfig) -> None:
    async def scenario() -> None:
        async with AsyncTaskQueue(config) as queue, AsyncTaskScheduler(queue) as scheduler:
            await scheduler.add_schedule(task=tick(), every=0.1, user_id="u", schedule_id="s")
            running = asyncio.create_task(scheduler.run())
            for number in range(3):
                ran = await queue.pop("w", block=5)
                assert ran is not None, number
            with pytest.raises(RuntimeError, match="works already"):
                await scheduler.run()
            scheduler.stop()
            await asyncio.wait_for(running, AT_ONCE)
            running = asyncio.create_task(scheduler.run())
            await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(scenario())


def test_workers_run_what_schedulers_of_the_same_queue_push(queue: TaskQueue) -> None:
    with Worker(queue), TaskScheduler(queue) as scheduler:
        scheduler.start()
        added = scheduler.add_schedule(task=tick(), every=0.1, user_id="u", schedule_id="s")
        until(lambda: queue.stats().totals.get("finished", 0) >= 3, "tasks finish")
        assert scheduler.remove_schedule("u", added.schedule_id)


def test_several_schedulers_fire_each_time_once(config: FairQueueConfig, queue: TaskQueue) -> None:
    schedulers = [TaskScheduler(config) for _ in range(3)]
    for number in range(10):
        schedulers[0].add_schedule(
            task=tick(), every=0.1, user_id="u", schedule_id=str(number), catch_up="all"
        )
    for scheduler in schedulers:
        scheduler.start()
    until(lambda: queue.stats().queued >= 100, "they fire")
    for scheduler in schedulers:
        scheduler.stop()
    fired = {one.schedule_id: one for one in schedulers[0].list_schedules()}
    for scheduler in schedulers:
        scheduler.close()
    ran = queue.pop_batch("w", 1000)
    for name, one in fired.items():
        times = [run.fire_time for run in ran if run.schedule_id == name]
        assert len(times) == one.fired
        assert all(later - sooner == one.every for sooner, later in pairwise(times))  # type: ignore[operator]


def test_all_shards_are_tended(make_config: Callable[..., FairQueueConfig]) -> None:
    with TaskQueue(make_config(shards=3)) as queue, TaskScheduler(queue) as scheduler:
        scheduler.add_schedules(
            Schedule.create(None, tick(), every=0.2, user_id=f"u{n}", schedule_id="s") for n in range(12)
        )
        scheduler.start()
        until(lambda: all(one.fired for one in scheduler.list_schedules()), "all have fired")
        scheduler.stop()


# --- it wakes -----------------------------------------------------------------------------------------


def test_it_is_woken_by_a_schedule_that_is_due_sooner_than_all_before(
    scheduler: TaskScheduler, queue: TaskQueue, raw: Redis, root: str
) -> None:
    scheduler.add_schedule("@yearly", tick(), user_id="u", schedule_id="late")
    scheduler.start()
    until(lambda: is_asleep(raw, root), "it sleeps")
    late: list[float] = []
    for number in range(5):
        at = soon(raw, 0.1)
        scheduler.add_schedule(task=tick(), at=at, user_id="u", schedule_id=str(number))
        until(lambda: queue.stats().queued == len(late) + 1, "it fires", within=AT_ONCE)
        found = scheduler.get_schedule("u", str(number))
        ran = queue.handle("u", found.last_task_id or "").info()
        assert ran.created_at is not None
        assert found.at is not None
        late.append((ran.created_at - found.at).total_seconds() * 1000)
    print(f"fired {', '.join(f'{one:.0f}' for one in late)} ms after their time")
    assert min(late) >= 0
    assert sorted(late)[2] < 100
    scheduler.stop()


@pytest.mark.parametrize("change", ["update", "resume"])
def test_it_is_woken_by_a_change(scheduler: TaskScheduler, queue: TaskQueue, change: str) -> None:
    scheduler.add_schedule(task=tick(), every=3600, user_id="u", schedule_id="s")
    scheduler.add_schedule(task=tick(), every=0.1, user_id="u", schedule_id="paused", active=False)
    scheduler.start()
    until(lambda: scheduler.get_schedule("u", "s").fired == 0, "it is there")
    if change == "update":
        scheduler.update_schedule("u", "s", every=0.1)
    else:
        scheduler.resume("u", "paused")
    until(lambda: queue.stats().queued > 1, "it fires", within=2 * AT_ONCE)
    scheduler.stop()


def test_it_looks_again_within_seconds_though_nothing_is_said(
    scheduler: TaskScheduler, queue: TaskQueue, raw: Redis, root: str
) -> None:
    """As where the server's clock was set forward."""
    added = scheduler.add_schedule(task=tick(), every=3600, user_id="u", schedule_id="s")
    scheduler.start()
    until(lambda: is_asleep(raw, root), "it sleeps")
    go_back(raw, root, added, 3601)
    until(lambda: queue.stats().queued == 1, "it fires", within=8)
    scheduler.stop()


# --- it ends ------------------------------------------------------------------------------------------


def test_stop_ends_it_at_once_and_it_can_be_started_again(
    scheduler: TaskScheduler, queue: TaskQueue, raw: Redis, root: str
) -> None:
    scheduler.stop()
    scheduler.add_schedule(task=tick(), every=3600, user_id="u", schedule_id="s")
    for _ in range(3):
        scheduler.start()
        with pytest.raises(RuntimeError, match="the scheduler works already"):
            scheduler.start()
        until(lambda: is_asleep(raw, root), "it sleeps")
        with pytest.raises(RuntimeError, match="the scheduler works already"):
            scheduler.run()
        began = time.monotonic()
        scheduler.stop()
        assert time.monotonic() - began < AT_ONCE
        until(lambda: not is_asleep(raw, root), "its connections are closed")
    scheduler.start()
    scheduler.stop()  # before it has begun
    assert threading.active_count() < 20


def test_a_stop_before_run_lets_it_end_at_once(scheduler: TaskScheduler) -> None:
    scheduler.stop()
    running = Background(scheduler.run)
    running.value(within=5)
    running = Background(scheduler.run)
    until(running.is_alive, "it runs")
    time.sleep(0.1)
    assert running.is_alive(), "the stop held for one run"
    scheduler.stop()
    running.value(within=5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(scheduler: TaskScheduler, raw: Redis, root: str, number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def end() -> None:
        until(lambda: is_asleep(raw, root), "it runs")
        os.kill(os.getpid(), number)

    killer = Background(end)
    scheduler.run()
    killer.value()
    assert signal.getsignal(number) is before


def test_closing_a_scheduler_stops_it_and_leaves_the_queue_it_was_given(queue: TaskQueue) -> None:
    with TaskScheduler(queue) as scheduler:
        scheduler.add_schedule(task=tick(), every=0.1, user_id="u", schedule_id="s")
        scheduler.start()
        until(lambda: queue.stats().queued > 0, "it fires")
    fired = scheduler.get_schedule("u", "s").fired
    assert queue.stats().queued == fired


# --- its server goes away -----------------------------------------------------------------------------


def test_it_outlives_its_server_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="fairque")
    with own_server("--appendonly", "yes", "--appendfsync", "always") as server:
        redis = server.config().redis.model_copy(update={"retry_window": 0.1})
        config = FairQueueConfig(redis=redis)
        with TaskQueue(server.config()) as queue, TaskScheduler(config) as scheduler:
            scheduler.start()
            scheduler.add_schedule(task=tick(), every=0.1, user_id="u", schedule_id="s", catch_up="all")
            until(lambda: queue.stats().queued >= 2, "it fires")
            server.stop()
            time.sleep(1.0)
            server.start()
            back = time.monotonic()
            until(lambda: queue.stats().queued >= 15, "it makes up for all")
            assert time.monotonic() - back < 6
            scheduler.stop()
            found = scheduler.get_schedule("u", "s")
            times = [one.fire_time for one in queue.pop_batch("w", 1000)]
            assert len(times) == found.fired
            assert all(later - sooner == found.every for sooner, later in pairwise(times))  # type: ignore[operator]
    told = [record.getMessage() for record in caplog.records if record.name == "fairque.scheduler"]
    assert len([line for line in told if "cannot use the server and keeps trying" in line]) == 1
    assert len([line for line in told if "can use the server again" in line]) == 1


def test_it_may_start_before_its_server(caplog: pytest.LogCaptureFixture) -> None:
    with own_server() as server:
        config = configured(
            server.config(), schedules={"s": {"user_id": "u", "task": "tests.scheduler.tick", "every": 0.1}}
        )
        server.stop()
        with TaskScheduler(config) as scheduler:
            scheduler.start()
            time.sleep(0.5)
            began = time.monotonic()
            scheduler.stop()
            assert time.monotonic() - began < AT_ONCE, "it ends though the server is away"
            scheduler.start()
            time.sleep(0.3)
            server.start()
            with TaskQueue(config) as queue:
                until(lambda: queue.stats().queued > 0, "it fires")
            scheduler.stop()


def test_a_server_that_may_drop_tasks_is_refused() -> None:
    with own_server("--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb") as server:
        scheduler = TaskScheduler(server.config())
        with pytest.raises(UnsafeServerError):
            scheduler.run()
        scheduler.start()
        assert scheduler._background.join(10)
        with pytest.raises(UnsafeServerError):
            scheduler.stop()
        scheduler.close()


# --- what is declared ---------------------------------------------------------------------------------


@pytest.fixture
def declaring() -> Iterator[None]:
    """Forgets the functions that the test registers: other tests' workers would declare them."""
    known = dict(registry._functions)
    yield
    registry._functions.clear()
    registry._functions.update(known)


def declared(cron: str = "* * * * * *", **options: Any) -> None:
    """The module that declares it is loaded, again with changes."""

    @task(name="tests.scheduler:declared", cron=cron, user_id="u", **options)  # type: ignore[untyped-decorator]
    def one(number: int = 5) -> int:
        return number


@pytest.mark.usefixtures("declaring")
def test_what_code_declares_is_there_once_however_many_start(
    config: FairQueueConfig, queue: TaskQueue
) -> None:
    declared("@yearly", timezone="Asia/Tokyo", catch_up="none", overlap="skip")
    schedulers = [TaskScheduler(config) for _ in range(3)]
    workers = [Worker(config) for _ in range(2)]
    both: list[Any] = [*schedulers, *workers]
    for one in both:
        one.start()
    until(schedulers[0].list_schedules, "it is there")
    (found,) = schedulers[0].list_schedules()
    assert (found.user_id, found.schedule_id, found.cron) == ("u", "tests.scheduler:declared", "@yearly")
    assert (found.timezone, found.catch_up, found.overlap) == ("Asia/Tokyo", "none", "skip")
    assert (found.origin, found.task.function) == ("code", "tests.scheduler:declared")
    for one in both:
        one.stop()
    assert schedulers[0].list_schedules()[0].progress == found.progress
    for scheduler in schedulers:
        scheduler.close()


@pytest.mark.usefixtures("declaring")
def test_what_a_worker_declares_a_scheduler_fires_and_it_runs(
    config: FairQueueConfig, queue: TaskQueue
) -> None:
    declared()
    with Worker(config), TaskScheduler(config) as scheduler:
        until(scheduler.list_schedules, "the worker has declared it")
        assert queue.stats().totals.get("pushed", 0) == 0, "a worker fires nothing"
        scheduler.start()
        until(lambda: queue.stats().totals.get("finished", 0) > 0, "it has run")
        found = scheduler.get_schedule("u", "tests.scheduler:declared")
        assert queue.handle("u", found.last_task_id or "").result(timeout=5) == 5
        scheduler.stop()


@pytest.mark.usefixtures("declaring")
def test_a_changed_declaration_changes_the_schedule_and_a_pause_stays(
    config: FairQueueConfig, queue: TaskQueue
) -> None:
    def start() -> Schedule:
        with TaskScheduler(config) as scheduler:
            scheduler.start()
            until(scheduler.list_schedules, "it is there")
            revision = scheduler.list_schedules()[0].progress.revision
            # The next schedule that is put is put after what is declared, if that changes at all.
            until(lambda: scheduler.list_schedules()[0].cron == cron, "it is as declared")
            scheduler.stop()
            assert revision
            return scheduler.list_schedules()[0]

    cron = "@yearly"
    declared(cron)
    first = start()
    assert start().progress == first.progress
    with TaskScheduler(config) as scheduler:
        scheduler.pause("u", first.schedule_id)
    assert start().active is False
    declared(cron := "@daily")
    changed = start()
    assert (changed.active, changed.next_fire_time, changed.created_at) == (False, None, first.created_at)
    with TaskScheduler(config) as scheduler:
        assert scheduler.resume("u", first.schedule_id).next_fire_time is not None
    assert start().active is True


@pytest.mark.usefixtures("declaring")
def test_a_declared_function_that_needs_arguments_is_named_and_nothing_starts(
    config: FairQueueConfig, scheduler: TaskScheduler
) -> None:
    @task(name="tests.scheduler:needy", cron="@daily", user_id="u")
    def needy(number: int) -> int:
        return number

    words = r"tests\.scheduler:needy cannot be scheduled by @task\(cron=…\): .*'number'"
    with pytest.raises(ScheduleValidationError, match=words):
        scheduler.run()
    with pytest.raises(ScheduleValidationError, match=words):
        Worker(config).run()
    scheduler.start()
    assert scheduler._background.join(10)
    with pytest.raises(ScheduleValidationError, match=words):
        scheduler.stop()
    assert scheduler.list_schedules() == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cron": "61 * * * *", "user_id": "u"}, "the minute field '61'"),
        ({"cron": "@daily"}, "the task has no user"),
        ({"cron": "@daily", "user_id": "u", "timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"cron": "@daily", "user_id": "u", "catch_up": "x"}, "catch_up must be one of"),
        ({"cron": "@daily", "user_id": "u", "overlap": "x"}, "overlap must be one of"),
        ({"user_id": "u"}, "user_id is for the schedule of @task"),
        ({"timezone": "Asia/Tokyo"}, "timezone is for the schedule of @task"),
        ({"catch_up": "all"}, "catch_up is for the schedule of @task"),
        ({"overlap": "skip"}, "overlap is for the schedule of @task"),
    ],
    ids=str,
)
def test_a_wrong_declaration_is_refused_where_it_stands(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ScheduleValidationError) as seen:
        task(name="tests.scheduler:wrong", **options)(lambda: None)
    assert words in str(seen.value)
    assert "tests.scheduler:wrong" not in registry


def test_what_a_configuration_declares_is_put_and_fired(config: FairQueueConfig, queue: TaskQueue) -> None:
    schedules = {
        "function": {"user_id": "u", "task": "tests.scheduler.tick", "every": 0.1, "metadata": {"a": 1}},
        "handler": {"user_id": "v", "payload": {"a": [1]}, "every": 0.2, "priority": 6, "timeout": 5},
        "late": {
            "user_id": "u",
            "task": "tests.scheduler.needs",
            "args": [1],
            "kwargs": {"b": "x"},
            "cron": "0 9 * * *",
            "timezone": "Asia/Tokyo",
            "active": False,
        },
    }
    with TaskScheduler(configured(config, schedules=schedules)) as scheduler:
        scheduler.start()
        until(lambda: {one.user_id for one in queue.users(10)} == {"u", "v"}, "they fire")
        scheduler.stop()
        found = {one.schedule_id: one for one in scheduler.list_schedules()}
    assert {one.origin for one in found.values()} == {"config"}
    assert found["function"].metadata == {"a": 1}
    assert (found["late"].active, found["late"].fired, found["late"].timezone) == (False, 0, "Asia/Tokyo")
    assert found["late"].task.payload == {"args": [1], "kwargs": {"b": "x"}}
    popped = queue.pop_batch("w", 1, users=["v"])
    assert (popped[0].payload, popped[0].priority, popped[0].timeout) == ({"a": [1]}, 6, 5)


def test_a_one_off_of_a_configuration_may_have_passed(config: FairQueueConfig, queue: TaskQueue) -> None:
    """The program starts again after it."""
    schedules = {"once": {"user_id": "u", "payload": 1, "at": datetime(2020, 1, 1, tzinfo=UTC)}}
    with TaskScheduler(configured(config, schedules=schedules)) as scheduler:
        scheduler.start()
        until(scheduler.list_schedules, "it is there")
        assert scheduler.list_schedules()[0].next_fire_time is None
        scheduler.stop()
    assert queue.stats().queued == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cron": "61 * * * *"}, "the minute field '61'"),
        ({"cron": None}, "give one of a cron expression, every and at"),
        ({"every": 5}, "not cron and every"),
        ({"timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"user_id": ""}, "user_id"),
        ({"overlap": "x"}, "overlap"),
        ({"max_catch_up": 0}, "max_catch_up"),
        ({"every": 0.01, "cron": None}, "every must be from 100"),
        ({"colour": "red"}, "colour"),
        ({"start": "2030-01-01T00:00:00"}, "start"),
        ({"metadata": {"a": "x" * 70_000}}, "metadata has"),
    ],
    ids=lambda item: str(item)[:40],
)
def test_a_wrong_schedule_of_a_configuration_is_named(
    config: FairQueueConfig, change: dict[str, Any], words: str, tmp_path: Any
) -> None:
    import yaml  # noqa: PLC0415 - here only

    given = {"user_id": "u", "payload": 1, "cron": "@daily", **change}
    file = tmp_path / "fairque.yaml"
    file.write_text(yaml.safe_dump({"scheduler": {"schedules": {"nightly": given}}}))
    with pytest.raises(ConfigurationError) as seen:
        FairQueueConfig.from_yaml(file)
    assert "scheduler.schedules" in str(seen.value)
    assert "nightly" in str(seen.value)
    assert words in str(seen.value)


@pytest.mark.usefixtures("declaring")
def test_one_id_declared_twice_is_refused(config: FairQueueConfig, queue: TaskQueue) -> None:
    """Each start would put the one in place of the other."""
    declared("@yearly")
    schedules = {"tests.scheduler:declared": {"user_id": "u", "payload": 1, "cron": "@daily"}}
    with TaskScheduler(configured(config, schedules=schedules)) as scheduler:
        with pytest.raises(ScheduleValidationError, match="is given twice"):
            scheduler.run()
        assert scheduler.list_schedules() == []


def test_a_shard_that_cannot_be_used_holds_up_no_other(
    make_config: Callable[..., FairQueueConfig], raw: Redis
) -> None:
    with TaskQueue(make_config(shards=2)) as queue, TaskScheduler(queue) as scheduler:
        roots = [shard.keys.root for shard in queue.commands.shards]
        raw.set(f"{roots[0]}:schedules", "spoilt by hand")
        users = {queue.commands.of(f"u{n}").keys.root: f"u{n}" for n in range(50)}
        scheduler.start()
        scheduler.add_schedule(task=tick(), every=0.1, user_id=users[roots[1]], schedule_id="s")
        until(lambda: scheduler.get_schedule(users[roots[1]], "s").fired > 1, "the other shard fires")
        raw.delete(f"{roots[0]}:schedules")
        scheduler.add_schedule(task=tick(), every=0.1, user_id=users[roots[0]], schedule_id="s")
        until(lambda: scheduler.get_schedule(users[roots[0]], "s").fired > 1, "so does this one again")
        scheduler.stop()
        for root in roots:
            check_invariants(raw, root)
