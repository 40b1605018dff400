"""What the queue tells: why a task does not run, how users fare, and how fair the service was."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from fairque.core.config import UserPolicy
from fairque.core.exceptions import TaskNotFoundError
from fairque.core.records import UserStats
from fairque.queue.queue import TaskQueue
from tests.support.actions import drain, make, names, popped, push, server_ms, sleep_past

NEVER = 1e-4  # a rate of one in three hours: only the burst matters


def of(queue: TaskQueue, user: str) -> UserStats:
    stats = queue.user_stats(user)
    assert stats is not None
    return stats


def ages(raw: Redis, root: str, user: str, task: str, seconds: float) -> None:
    """Let a running attempt have begun earlier than it did."""
    raw.hincrby(f"{root}:run:{user}:{task}", "started_at", -round(seconds * 1000))


@pytest.fixture
def within_a_minute(raw: Redis) -> None:
    """Not just before a minute ends: what is counted by the minute is read in the same one."""
    if server_ms(raw) % 60_000 > 57_000:
        sleep_past(raw, server_ms(raw) // 60_000 * 60_000 + 60_000)


# --- explain ------------------------------------------------------------------------------------------


def test_a_queued_task_is_told_who_is_ahead(queue: TaskQueue) -> None:
    push(queue, "u", *(f"{i}:%" for i in range(9)))
    push(queue, "a", "x")
    queue.finish(popped(queue, users=["u"]))
    found = queue.explain("u", "8:%")
    assert (found.user_id, found.task_id, found.state, found.limit) == ("u", "8:%", "QUEUED", None)
    assert found.ahead == 7
    assert found.ahead_ids == ("1:%", "2:%", "3:%", "4:%", "5:%")
    assert (found.users_ahead, found.ready_users) == (1, 2)
    assert found.reason == ("1 of 2 ready users have their turn before its user; 7 are before it in its lane")
    assert queue.explain("u", "1:%").ahead_ids == ()


def test_priority_decides_who_is_ahead(queue: TaskQueue) -> None:
    push(queue, "u", "low", priority=1)
    push(queue, "u", "critical", priority=6)
    assert queue.explain("u", "low").ahead_ids == ("critical",)
    assert queue.explain("u", "critical").ahead == 0


def test_groups_are_told(queue: TaskQueue) -> None:
    push(queue, "u", "a0", "a1", group="a")
    push(queue, "u", "b0", group="b")
    push(queue, "u", "n0")
    found = queue.explain("u", "b0")
    assert (found.group, found.groups_ahead, found.ahead) == ("b", 2, 0)
    assert "which takes turns with 2 other groups of its user" in found.reason
    assert queue.explain("u", "n0").group is None
    assert queue.explain("u", "n0").groups_ahead == 0
    assert queue.explain("u", "a1").ahead_ids == ("a0",)


def test_each_limit_is_named(queue: TaskQueue) -> None:
    queue.set_policy("capped", UserPolicy(max_concurrency=1))
    queue.set_policy("slow", UserPolicy(rate=NEVER, burst=1))
    for user in ("capped", "slow", "paused"):
        push(queue, user, "a", "b")
    queue.pause_user("paused")
    assert len(queue.pop_batch("w", 9)) == 2
    found = {user: queue.explain(user, "b") for user in ("capped", "slow", "paused")}
    assert {user: what.limit for user, what in found.items()} == {
        "capped": "max_concurrency",
        "slow": "rate",
        "paused": "paused",
    }
    assert all(what.users_ahead is None for what in found.values())
    assert "runs as many tasks as its max_concurrency allows: 1" in found["capped"].reason
    assert "its user is paused, and starts nothing until it is resumed" in found["paused"].reason
    assert "may start 0.0001 tasks a second" in found["slow"].reason
    until = found["slow"].until
    assert until is not None
    assert timedelta(hours=2.7) < until - datetime.now(UTC) < timedelta(hours=2.8)
    assert found["slow"].estimated_start is not None
    assert abs(found["slow"].estimated_start - until) < timedelta(seconds=1)
    assert found["paused"].estimated_start is None
    queue.pause()
    assert {queue.explain(user, "b").limit for user in found} == {"queue_paused"}
    queue.resume()


def test_a_share_is_told_and_binds_nobody_by_itself(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(max_concurrency="25%"))
    push(queue, "u", "a")
    found = queue.explain("u", "a")
    assert found.limit is None
    assert "which may use 25% of the slots while others can use them" in found.reason


def test_a_user_that_is_passed_over_for_its_share_is_told_so(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(max_concurrency="25%"))
    push(queue, "u", *"abcd")
    assert len(queue.pop_batch("w", 2)) == 2  # alone it may have them all
    push(queue, "v", "x", "y")
    found = queue.explain("u", "d")
    assert found.limit == "share"
    assert found.reason == (
        "its user has 2 of the 2 slots in use and may have 25% of them: others that can use the next one go "
        "first; 1 is before it in its lane"
    )
    assert queue.explain("v", "x").limit is None
    assert [task.user_id for task in queue.pop_batch("w", 2)] == ["v", "v"]
    assert queue.explain("u", "d").limit is None  # alone again


@pytest.mark.parametrize(
    ("error", "told"),
    [("x" * 300 + "\nmore", f"failed: {'x' * 200}…"), ("é\n\0", "failed: é"), ("", "failed")],
)
def test_a_failed_task_is_explained_by_the_beginning_of_its_error(
    queue: TaskQueue, error: str, told: str
) -> None:
    queue.push(make("u", "a"), max_retries=0)
    queue.fail(popped(queue), error)
    assert queue.explain("u", "a").reason.startswith(f"it failed ({told}) and is in")


def test_tasks_in_every_other_state_are_explained(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "finished", "failed", "canceled", "running")
    push(queue, "u", "scheduled", delay=3600)
    tasks = {task.task_id: task for task in queue.pop_batch("w", 9)}
    queue.finish(tasks["finished"])
    queue.fail(tasks["failed"], "no", failure_type="invalid")
    queue.cancel("u", "canceled")
    found = {name: queue.explain("u", name) for name in [*tasks, "scheduled"]}
    assert {name: what.state.lower() for name, what in found.items()} == {
        "finished": "finished",
        "failed": "failed",
        "canceled": "canceled",
        "running": "started",
        "scheduled": "scheduled",
    }
    assert found["finished"].reason == "it has ended: FINISHED"
    assert found["failed"].reason == (
        "it failed (invalid: no) and is in the dead letter queue: requeue(…) runs it again"
    )
    assert found["running"].reason.startswith("it is running on worker w, attempt 1; without a heartbeat")
    assert found["scheduled"].until == queue.handle("u", "scheduled").info().due_at
    with pytest.raises(TaskNotFoundError):
        queue.explain("u", "never")
    with pytest.raises(TaskNotFoundError):
        queue.explain("nobody", "never")


def test_explaining_changes_nothing(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "a", "b", group="g")
    before = {key: raw.dump(key) for key in raw.keys("*")}
    queue.explain("u", "b")
    queue.stats()
    queue.users()
    queue.get_policy("u")
    assert {key: raw.dump(key) for key in raw.keys("*")} == before


def test_the_start_is_estimated_from_the_pace_of_the_last_minutes(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    push(queue, "u", *(f"{i}" for i in range(101)))
    push(queue, "other", *(f"{i}" for i in range(101)))
    assert queue.explain("u", "100").estimated_start is None  # nothing has started yet
    for _ in range(10):
        queue.finish(popped(queue))
    # As if those ten had taken ten seconds.
    found: list[bytes] = raw.keys(f"{root.replace('{', '?').replace('}', '?')}:service:*")  # type: ignore[assignment]
    raw.hset(min(found), "since", str(int(server_ms(raw)) - 10_000))
    start = queue.explain("u", "100").estimated_start
    assert start is not None
    wait = (start - datetime.now(UTC)).total_seconds()
    assert wait == pytest.approx(192, rel=0.1)  # both have 96 tasks before it is done


# --- users --------------------------------------------------------------------------------------------


def test_a_users_numbers(queue: TaskQueue, raw: Redis, root: str) -> None:
    queue.set_policy("u", UserPolicy(weight=2.5))
    push(queue, "u", *"abcdef")
    push(queue, "u", "later", delay=3600)
    tasks = queue.pop_batch("w", 2)
    stolen = queue.steal("w")
    assert stolen is not None
    ages(raw, root, "u", "a", 4.0)
    queue.finish(tasks[0])
    queue.fail(tasks[1], "no", failure_type="invalid")
    stats = of(queue, "u")
    assert (stats.queued, stats.started, stats.scheduled, stats.failed, stats.live) == (3, 1, 1, 1, 5)
    assert (stats.served, stats.stolen, stats.weight, stats.paused, stats.eligible) == (
        3,
        1,
        2.5,
        False,
        True,
    )
    assert stats.worker_seconds == pytest.approx(4.0, abs=0.05)
    assert stats.throttled_seconds == 0
    assert stats.virtual_time == pytest.approx(3 / 2.5)
    queue.pause_user("u")
    assert (of(queue, "u").paused, of(queue, "u").eligible) == (True, False)
    assert queue.user_stats("unknown") is None
    assert queue.stats().totals["stolen"] == 1


def test_users_are_listed_with_policies_of_all_layers(open_queue: Any) -> None:
    queue = open_queue(users={"default": UserPolicy(weight=3.0), "b": UserPolicy(paused=True)})
    queue.set_policy("c", UserPolicy(weight=5.0))
    for user in "abc":
        push(queue, user, "t")
    assert [(user.user_id, user.weight, user.paused) for user in queue.users()] == [
        ("a", 3.0, False),
        ("b", 3.0, True),
        ("c", 5.0, False),
    ]


def test_waits_are_told_in_percentiles(queue: TaskQueue, raw: Redis, root: str) -> None:
    push(queue, "u", *(f"{i}" for i in range(100)))
    # Ninety have waited for ten seconds, ten for a minute and forty seconds.
    places: list[bytes] = raw.zrange(f"{root}:lane:u", 0, -1)  # type: ignore[assignment]
    for number, name in enumerate(places):
        raw.zincrby(f"{root}:lane:u", -(100e6 if number < 10 else 10e6), name)
    assert of(queue, "u").wait_p50 is None
    assert len(queue.pop_batch("w", 100)) == 100
    stats = of(queue, "u")
    assert stats.wait_p50 == pytest.approx(10, rel=0.12)
    assert stats.wait_p95 == pytest.approx(100, rel=0.12)
    assert stats.wait_p99 == pytest.approx(100, rel=0.12)


@pytest.mark.parametrize("priority", [1, 3, 5, 6])
def test_a_priority_does_not_count_as_waiting(queue: TaskQueue, priority: int) -> None:
    push(queue, "u", "a", priority=priority)
    popped(queue)
    p99 = of(queue, "u").wait_p99
    assert p99 is not None
    assert p99 < 1


def test_a_delay_does_not_count_as_waiting(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "a", delay=0.2)
    popped(queue, block=5)
    p99 = of(queue, "u").wait_p99
    assert p99 is not None
    assert p99 < 0.15


# --- the queue ----------------------------------------------------------------------------------------


def test_the_queues_numbers(queue: TaskQueue) -> None:
    queue.set_policy("slow", UserPolicy(rate=NEVER, burst=1))
    queue.set_policy("heavy", UserPolicy(weight=0.5))
    for user in ("slow", "heavy", "light"):
        push(queue, user, *(f"{i}" for i in range(4)))
    assert len(queue.pop_batch("w", 3)) == 3
    stats = queue.stats()
    assert (stats.queued, stats.started, stats.users) == (9, 3, 3)
    assert (stats.ready_users, stats.throttled_users, stats.paused) == (2, 1, False)
    assert stats.virtual_time_spread == 1.0  # two seconds' worth against one


@pytest.mark.usefixtures("within_a_minute")
def test_equal_service_has_a_jain_index_of_one(queue: TaskQueue) -> None:
    assert queue.stats().jain_index is None
    for user, weight in (("a", 1.0), ("b", 3.0)):
        queue.set_policy(user, UserPolicy(weight=weight))
        push(queue, user, *(f"{i}" for i in range(50)))
    for _ in range(40):
        queue.finish(popped(queue))
    assert queue.stats().jain_index == pytest.approx(1.0, abs=0.01)


@pytest.mark.usefixtures("within_a_minute")
def test_service_for_one_of_many_has_a_jain_index_of_one_in_so_many(queue: TaskQueue) -> None:
    for user in "abcd":
        push(queue, user, *(f"{i}" for i in range(10)))
    for _ in range(8):
        queue.finish(popped(queue, users=["c"]))
    assert queue.stats().jain_index == pytest.approx(0.25)
    # One who drained counts with what it was served; those who left unserved count no more.
    queue.cancel("a", "0")
    for user in "abd":
        queue.pause_user(user)
    assert queue.stats().jain_index == pytest.approx(1.0)


def test_stats_survive_everything_at_once(queue: TaskQueue) -> None:
    for weight in (1e-300, 1e300):
        queue.set_policy(f"{weight}", UserPolicy(weight=weight, rate=1e6))
        push(queue, f"{weight}", "a", "b")
    drain(queue)
    time.sleep(0.002)
    stats = queue.stats()
    assert stats.jain_index is not None
    assert 0 < stats.jain_index <= 1
    assert names(queue.pop_batch("w", 9)) == []
    assert all(user.served == 2 for user in queue.users())
