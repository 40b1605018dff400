"""What a user may do at most: tasks at the same time, a share of the slots, a rate, waiting tasks."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from redis import Redis

from fairque.core.config import UserPolicy
from fairque.core.exceptions import QueueFullError
from fairque.core.models import Task, TaskState
from fairque.queue.queue import TaskQueue
from tests.integration.conftest import OpenQueue
from tests.support.actions import BLINK, drain, eventually, lapse, make, names, popped, push, sleep_past
from tests.support.faces import Background
from tests.support.invariants import check_invariants

NEVER = 1e-4  # a rate of one in three hours: only the burst matters


def by_user(tasks: list[Task[Any]]) -> Counter[str]:
    return Counter(task.user_id or "" for task in tasks)


def throttled(queue: TaskQueue) -> int:
    return queue.stats().throttled_users


# --- max_concurrency ----------------------------------------------------------------------------------


def test_no_more_tasks_run_at_once_than_allowed_whoever_claims(open_queue: OpenQueue) -> None:
    queue, other = open_queue(), open_queue()
    queue.set_policy("u", UserPolicy(max_concurrency=3))
    push(queue, "u", *(f"{i}" for i in range(20)))
    assert len(queue.pop_batch("w1", 2)) == 2
    assert len(other.pop_batch("w2", 9)) == 1
    assert other.pop("w3") is None
    assert other.pop("w3", users=["u"]) is None
    assert queue.steal("w3") is None
    assert queue.stats().ready_users == 0


def test_the_cap_holds_while_many_workers_claim_and_finish_at_once(open_queue: OpenQueue) -> None:
    producer = open_queue()
    producer.set_policy("u", UserPolicy(max_concurrency=2))
    push(producer, "u", *(f"{i}" for i in range(60)))
    push(producer, "free", *(f"{i}" for i in range(60)))
    seen: list[int] = []

    def work(worker: str) -> int:
        queue, done = open_queue(), 0
        while tasks := queue.pop_batch(worker, 3, block=0.3):
            stats = queue.user_stats("u")
            seen.append(stats.started if stats else 0)
            queue.finish_batch((task, None) for task in tasks)
            done += len(tasks)
        return done

    workers = [Background(work, f"w{i}") for i in range(3)]
    assert sum(worker.value() for worker in workers) == 120
    assert max(seen) <= 2


@pytest.mark.parametrize("how", ["finish", "fail", "retry", "cancel", "release", "reclaim"])
def test_whatever_ends_an_attempt_frees_its_slot_and_wakes_a_worker(
    open_queue: OpenQueue, raw: Redis, how: str
) -> None:
    queue, worker = open_queue(), open_queue()
    queue.set_policy("u", UserPolicy(max_concurrency=1))
    push(queue, "u", "first", "second")
    task = lapse(queue, raw) if how == "reclaim" else popped(queue)
    waiting = Background(lambda: worker.pop("w", block=20))
    time.sleep(0.1)
    began = time.monotonic()
    match how:
        case "finish":
            queue.finish(task)
        case "fail":
            queue.fail(task, "no", failure_type="invalid")
        case "retry":
            queue.fail(task, "no", failure_type="timeout")
            assert queue.handle("u", "first").state() is TaskState.SCHEDULED
        case "cancel":
            queue.cancel("u", "first")
        case "release":
            queue.release(task)
        case _:
            assert queue.reclaim() == [("u", "first")]
    expected = "first" if how in {"release", "reclaim"} else "second"
    assert waiting.value().task_id == expected
    assert time.monotonic() - began < 0.5
    assert queue.pop("w") is None or how in {"release", "reclaim"}


def test_a_cap_holds_after_a_crash_until_the_lease_is_over(queue: TaskQueue, raw: Redis) -> None:
    queue.set_policy("u", UserPolicy(max_concurrency=2))
    push(queue, "u", *"abcd")
    lapse(queue, raw)
    assert names(queue.pop_batch("w", 9)) == ["b"]
    assert queue.pop("w") is None  # nobody has noticed the crash
    queue.reclaim()
    assert names(queue.pop_batch("w", 9)) == ["a"]
    assert queue.pop("w") is None


def test_a_cap_lowered_below_what_runs_lets_that_go_on_and_starts_nothing(queue: TaskQueue) -> None:
    push(queue, "u", *"abcdefgh")
    running = queue.pop_batch("w", 5)
    queue.set_policy("u", UserPolicy(max_concurrency=2))
    for task in running[:3]:
        assert queue.pop("w") is None
        queue.finish(task)
    assert queue.pop("w") is None
    queue.finish(running[3])
    assert names(queue.pop_batch("w", 9)) == ["f"]
    queue.update_policy("u", max_concurrency=3)
    assert names(queue.pop_batch("w", 9)) == ["g"]
    queue.update_policy("u", max_concurrency=None)
    assert names(queue.pop_batch("w", 9)) == ["h"]


def test_one_users_cap_leaves_the_slots_to_the_others(queue: TaskQueue) -> None:
    queue.set_policy("capped", UserPolicy(max_concurrency=1))
    for user in ("capped", "free"):
        push(queue, user, *(f"{i}" for i in range(9)))
    assert by_user(queue.pop_batch("w", 6)) == {"capped": 1, "free": 5}


# --- a share of the slots -----------------------------------------------------------------------------


def test_a_share_binds_while_others_could_use_the_slot(queue: TaskQueue) -> None:
    queue.set_policy("half", UserPolicy(weight=100.0, max_concurrency="50%"))
    for user in ("half", "other"):
        push(queue, user, *(f"{i}" for i in range(30)))
    assert by_user(queue.pop_batch("w", 10)) == {"half": 5, "other": 5}
    assert by_user([popped(queue) for _ in range(10)]) == {"half": 5, "other": 5}


def test_a_share_does_not_bind_where_nobody_else_could_use_the_slot(queue: TaskQueue) -> None:
    queue.set_policy("quarter", UserPolicy(max_concurrency="25%"))
    push(queue, "quarter", *(f"{i}" for i in range(12)))
    push(queue, "other", "o")
    assert by_user(queue.pop_batch("w", 4)) == {"quarter": 3, "other": 1}
    # Somebody comes: the next slots are not for the one that has more than its share.
    push(queue, "other", *(f"{i}" for i in range(5)))
    assert by_user([popped(queue) for _ in range(5)]) == {"other": 5}


def test_paused_and_capped_users_do_not_make_a_share_bind(queue: TaskQueue) -> None:
    queue.set_policy("share", UserPolicy(max_concurrency="1%"))
    queue.pause_user("paused")
    queue.set_policy("capped", UserPolicy(max_concurrency=1))
    for user in ("share", "paused", "capped"):
        push(queue, user, *(f"{i}" for i in range(5)))
    assert by_user(queue.pop_batch("w", 9)) == {"share": 5, "capped": 1}


def test_among_users_beyond_their_shares_the_fair_order_decides(queue: TaskQueue) -> None:
    for user in "ab":
        queue.set_policy(user, UserPolicy(max_concurrency="10%"))
        push(queue, user, *(f"{i}" for i in range(10)))
    assert by_user(queue.pop_batch("w", 12)) == {"a": 6, "b": 6}


def test_a_share_looks_past_any_number_of_users_that_have_theirs(queue: TaskQueue) -> None:
    queue.set_policy("late", UserPolicy(weight=1e-3))
    push(queue, "late", "l0", "l1")
    assert popped(queue).user_id == "late"
    for number in range(40):
        queue.set_policy(f"{number}", UserPolicy(max_concurrency="1%"))
        push(queue, f"{number}", "a", "b")
    assert len(by_user(queue.pop_batch("w", 40))) == 40
    assert popped(queue).task_id == "l1"  # its turn is last, and all before it have their share


def test_who_is_passed_over_among_some_users_keeps_its_place_among_all(queue: TaskQueue) -> None:
    queue.set_policy("a", UserPolicy(max_concurrency="50%"))
    for user in ("a", "ahead", "other"):
        push(queue, user, *(f"{i}" for i in range(100)))
    for _ in range(50):  # a worker of its own puts this user far ahead of all
        queue.finish(popped(queue, users=["ahead"]))
    running = popped(queue, users=["a"])
    # With that slot in use a second one is beyond the share, and for this worker only the one ahead is left.
    queue.finish(popped(queue, users=["a", "ahead"]))
    queue.finish(running)
    assert by_user([popped(queue) for _ in range(3)])["a"] >= 1
    assert by_user(queue.pop_batch("w", 20, users=["a", "other"])) == {"a": 10, "other": 10}


@pytest.mark.parametrize("percent", [7, 28, 29, 57, 58])
def test_a_share_of_a_hundred_slots_is_exactly_its_percentage(queue: TaskQueue, percent: int) -> None:
    queue.set_policy("u", UserPolicy(weight=1e6, max_concurrency=f"{percent}%"))
    for user in ("u", "other"):
        push(queue, user, *(f"{i}" for i in range(100)))
    assert by_user(queue.pop_batch("w", 100)) == {"u": percent, "other": 100 - percent}


def test_a_whole_share_never_binds(queue: TaskQueue) -> None:
    queue.set_policy("all", UserPolicy(weight=3.0, max_concurrency="100%"))
    for user in ("all", "other"):
        push(queue, user, *(f"{i}" for i in range(20)))
    assert by_user(queue.pop_batch("w", 20)) == {"all": 15, "other": 5}


# --- rate and burst -----------------------------------------------------------------------------------


def test_a_burst_may_start_at_once_and_then_the_rate_holds(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(rate=NEVER, burst=3))
    push(queue, "u", *"abcde")
    push(queue, "other", "o")
    assert by_user(queue.pop_batch("w", 9)) == {"u": 3, "other": 1}
    assert queue.pop("w") is None
    stats = queue.stats()
    assert (stats.ready_users, stats.throttled_users, stats.queued) == (0, 1, 2)
    # What ends frees no token.
    queue.cancel("u", "a")
    queue.cancel("u", "b")
    assert queue.pop("w", users=["u"]) is None


@pytest.mark.parametrize(("rate", "at_once"), [(NEVER, 1), (2.5, 3), (7.0, 7)])
def test_without_a_burst_one_seconds_worth_may_start_at_once(
    queue: TaskQueue, rate: float, at_once: int
) -> None:
    queue.set_policy("u", UserPolicy(rate=rate))
    push(queue, "u", *(f"{i}" for i in range(20)))
    assert len(queue.pop_batch("w", 20)) == at_once


def test_a_rate_is_kept_over_time_and_wakes_a_waiting_worker(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(rate=10.0, burst=1))
    push(queue, "u", *(f"{i}" for i in range(20)))
    began = time.monotonic()
    starts = []
    for _ in range(4):
        queue.finish(popped(queue, block=5))
        starts.append(time.monotonic() - began)
    # Three gaps of 100 ms; an idle server looks for waits that are over every 100 ms only.
    assert 0.29 < starts[-1] < 0.9


def test_a_bucket_fills_again_while_the_user_is_idle(queue: TaskQueue, raw: Redis) -> None:
    queue.set_policy("u", UserPolicy(rate=20.0, burst=2))
    push(queue, "u", *"abcdefgh")
    assert len(queue.pop_batch("w", 9)) == 2
    time.sleep(0.25)
    assert len(queue.pop_batch("w", 9)) == 2  # not five: the bucket holds two
    assert throttled(queue) == 1


def test_a_raised_rate_counts_at_once_for_a_worker_that_waits(open_queue: OpenQueue) -> None:
    queue, worker = open_queue(), open_queue()
    queue.set_policy("u", UserPolicy(rate=NEVER, burst=1))
    push(queue, "u", "a", "b")
    popped(queue)
    waiting = Background(lambda: worker.pop("w", block=20))
    time.sleep(0.1)
    began = time.monotonic()
    queue.set_policy("u", UserPolicy(rate=4.0, burst=1))
    assert waiting.value().task_id == "b"
    assert time.monotonic() - began < 0.8


@pytest.mark.parametrize("how", ["no rate", "larger burst", "clear"])
def test_a_limit_that_is_lifted_lets_the_backlog_go_at_once(open_queue: OpenQueue, how: str) -> None:
    queue, worker = open_queue(), open_queue()
    queue.set_policy("u", UserPolicy(rate=NEVER, burst=1))
    push(queue, "u", "a", "b", "c")
    popped(queue)
    assert queue.pop("w") is None
    waiting = Background(lambda: worker.pop("w", block=20))
    time.sleep(0.1)
    began = time.monotonic()
    match how:
        case "no rate":
            queue.set_policy("u", UserPolicy())
        case "larger burst":
            queue.set_policy("u", UserPolicy(rate=NEVER, burst=2))
        case _:
            queue.clear_policy("u")
    assert waiting.value().task_id == "b"
    assert time.monotonic() - began < 0.5
    assert throttled(queue) == (1 if how == "larger burst" else 0)


def test_a_lowered_rate_makes_nobody_wait_longer_than_it_says(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(rate=1000.0, burst=1000))
    push(queue, "u", *(f"{i}" for i in range(300)))
    assert len(queue.pop_batch("w", 250)) == 250
    queue.set_policy("u", UserPolicy(rate=5.0, burst=1))
    began = time.monotonic()
    popped(queue, block=5)
    assert time.monotonic() - began < 0.7


def test_a_rate_set_on_a_user_that_runs_counts_from_then_on(queue: TaskQueue) -> None:
    push(queue, "u", *(f"{i}" for i in range(20)))
    assert len(queue.pop_batch("w", 10)) == 10
    queue.set_policy("u", UserPolicy(rate=NEVER, burst=2))
    assert len(queue.pop_batch("w", 10)) == 2


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e-306, 1e-9])
def test_the_slowest_rate_still_is_one(queue: TaskQueue, rate: float) -> None:
    queue.set_policy("u", UserPolicy(rate=rate))
    push(queue, "u", "a", "b", "c")
    assert names(queue.pop_batch("w", 9)) == ["a"]
    assert queue.pop("w") is None
    assert throttled(queue) == 1
    assert queue.explain("u", "c").limit == "rate"
    began = time.monotonic()
    assert queue.pop("w", block=0.05) is None
    assert time.monotonic() - began >= 0.05
    queue.set_policy("u", UserPolicy(rate=rate, burst=3))
    assert queue.get_policy("u") == UserPolicy(rate=rate, burst=3)
    assert names(queue.pop_batch("w", 9)) == ["b", "c"]


@pytest.mark.parametrize("rate", [1e6, 1e300, 1.7e308])
def test_the_fastest_rate_limits_nothing(queue: TaskQueue, rate: float) -> None:
    queue.set_policy("u", UserPolicy(rate=rate))
    push(queue, "u", *(f"{i}" for i in range(150)))
    assert len(queue.pop_batch("w", 100)) == 100
    assert len(queue.pop_batch("w", 100)) == 50


def test_a_throttled_user_whose_tasks_are_gone_is_throttled_no_longer(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(rate=NEVER, burst=1))
    push(queue, "u", "a", "b")
    popped(queue)
    assert throttled(queue) == 1
    queue.cancel("u", "b")
    assert throttled(queue) == 0
    push(queue, "u", "c")
    assert throttled(queue) == 1  # draining fills no bucket
    assert queue.pop("w") is None


def test_a_paused_user_is_not_throttled_and_is_again_when_it_goes_on(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(rate=NEVER, burst=1))
    push(queue, "u", "a", "b")
    popped(queue)
    queue.pause_user("u")
    assert throttled(queue) == 0
    queue.resume_user("u")
    assert throttled(queue) == 1
    assert queue.pop("w") is None


def test_a_cap_and_a_rate_hold_both(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(rate=NEVER, burst=3, max_concurrency=2))
    push(queue, "u", *"abcdef")
    running = queue.pop_batch("w", 9)
    assert names(running) == ["a", "b"]
    assert throttled(queue) == 0  # the cap holds it back
    queue.finish_batch((task, None) for task in running)
    assert names(queue.pop_batch("w", 9)) == ["c"]
    assert throttled(queue) == 1


def test_every_attempt_uses_a_token(queue: TaskQueue, raw: Redis) -> None:
    queue.set_policy("u", UserPolicy(rate=NEVER, burst=3))
    push(queue, "u", "a")
    queue.release(popped(queue))
    lapse(queue, raw)
    queue.reclaim()
    popped(queue)
    push(queue, "u", "b")
    assert queue.pop("w") is None


def test_many_users_that_were_throttled_all_come_back(queue: TaskQueue, raw: Redis, root: str) -> None:
    for number in range(230):  # more than one claim lets back
        queue.set_policy(f"{number}", UserPolicy(rate=4.0, burst=1))
    queue.push_batch([make(f"{number}", name) for number in range(230) for name in "ab"])
    taken = queue.pop_batch("w", 500)
    assert throttled(queue) == 230
    last: list[bytes] = raw.zrange(f"{root}:throttled", -1, -1)  # type: ignore[assignment]
    sleep_past(raw, float(raw.zscore(f"{root}:throttled", last[0]) or 0) + 1)
    while len(taken) < 460:
        tasks = queue.pop_batch("w", 500, block=5)
        assert tasks
        taken += tasks
    assert by_user(taken) == {f"{number}": 2 for number in range(230)}


def test_throttled_time_is_counted(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(rate=20.0, burst=1))
    push(queue, "u", *"abc")
    for _ in "abc":
        popped(queue, block=5)
    stats = queue.user_stats("u")
    assert stats is not None
    assert 0.08 < stats.throttled_seconds < 0.4


def test_a_user_that_nobody_lets_back_in_time_is_not_counted_as_throttled_after_it(
    queue: TaskQueue,
) -> None:
    queue.set_policy("u", UserPolicy(rate=50.0, burst=1))
    push(queue, "u", "a", "b")
    popped(queue)
    time.sleep(0.3)  # its rate held it back for 20 ms of them; then no worker came
    stats = queue.user_stats("u")
    assert stats is not None
    assert stats.throttled_seconds < 0.1
    popped(queue)
    stats = queue.user_stats("u")
    assert stats is not None
    assert stats.throttled_seconds < 0.1


# --- max_queued ---------------------------------------------------------------------------------------


def refused(queue: TaskQueue, tasks: list[Task[Any]]) -> tuple[str | None, int, int]:
    with pytest.raises(QueueFullError) as caught:
        queue.push_batch(tasks)
    return caught.value.user_id, caught.value.limit, caught.value.current


def task_keys(raw: Redis, root: str) -> int:
    found: list[bytes] = raw.keys("*")  # type: ignore[assignment]
    return sum(key.startswith(f"{root}:task:".encode()) for key in found)


@pytest.mark.parametrize("user", ["u", "a:b c", " ", "  x ", "%3A\n\0", "日本 🎌", "default"])
def test_a_push_beyond_the_limit_is_refused_and_writes_nothing(
    queue: TaskQueue, raw: Redis, root: str, user: str
) -> None:
    queue.set_policy(user, UserPolicy(max_queued=2))
    push(queue, user, "a", "b")
    with pytest.raises(QueueFullError) as caught:
        queue.push(make(user, "c"))
    assert (caught.value.user_id, caught.value.limit, caught.value.current) == (user, 2, 2)
    assert "2 waiting tasks and the limit is 2" in str(caught.value)
    assert task_keys(raw, root) == 2
    push(queue, "another", *"abc")
    assert len(drain(queue)) == 5


@pytest.mark.parametrize("size", [4, 450])
def test_a_push_that_can_never_fit_is_told_apart_from_one_that_may_fit_later(
    queue: TaskQueue, size: int
) -> None:
    queue.set_policy("a b:c", UserPolicy(max_queued=3))
    push(queue, "a b:c", "x")
    with pytest.raises(QueueFullError, match="adds 3 and the limit is 3: push again when some") as later:
        queue.push_batch([make("a b:c", str(number)) for number in range(3)])
    with pytest.raises(QueueFullError, match=f"adds {size} and the limit is 3: it never fits") as never:
        queue.push_batch([make("a b:c", str(number)) for number in range(size)])
    for error, coming in ((later.value, 3), (never.value, size)):
        assert (error.user_id, error.limit, error.current, error.coming) == ("a b:c", 3, 1, coming)


def test_running_tasks_do_not_wait_and_scheduled_ones_do(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(max_queued=2))
    push(queue, "u", "a")
    push(queue, "u", "b", delay=3600)
    assert refused(queue, [make("u", "c")]) == ("u", 2, 2)
    popped(queue)
    push(queue, "u", "c")
    assert refused(queue, [make("u", "d", delay=1)]) == ("u", 2, 2)
    queue.cancel("u", "b")
    push(queue, "u", "d")


def test_what_comes_back_by_itself_is_never_refused(queue: TaskQueue, raw: Redis) -> None:
    queue.set_policy("u", UserPolicy(max_queued=1))
    for name in "abc":
        push(queue, "u", name)
        popped(queue, lease=BLINK if name == "a" else 60)
    push(queue, "u", "d")
    failing = queue.handle("u", "b").info()
    queue.fail(failing, "no", failure_type="invalid")
    queue.release(queue.handle("u", "c").info())
    sleep_past(raw, raw.time()[0] * 1000 + 2)
    eventually(lambda: queue.reclaim() == [("u", "a")])
    queue.requeue("u", "b")
    assert refused(queue, [make("u", "e")]) == ("u", 1, 4)
    assert sorted(names(drain(queue))) == ["a", "b", "c", "d"]


def test_a_repeated_push_is_accepted_when_full(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(max_queued=3))
    push(queue, "u", "a", "b", "c")
    handles = queue.push_batch([make("u", name) for name in "abc"])
    assert [handle.created for handle in handles] == [False, False, False]
    assert not queue.push(make("u", "a")).created
    queue.finish(popped(queue))
    assert not queue.push(make("u", "a")).created  # it has ended, and is still known
    assert refused(queue, [make("u", name) for name in "abcde"]) == ("u", 3, 2)
    assert [handle.created for handle in queue.push_batch([make("u", name) for name in "abcd"])] == [
        *[False] * 3,
        True,
    ]


def test_duplicates_within_a_batch_count_once(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(max_queued=2))
    handles = queue.push_batch([make("u", name) for name in "aabbab"])
    assert [handle.created for handle in handles] == [True, False, True, False, False, False]


def test_a_batch_is_refused_as_a_whole_also_for_one_of_its_users(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    queue.set_policy("full", UserPolicy(max_queued=1))
    tasks = [make("free", "a"), make("full", "b"), make("free", "c"), make("full", "d")]
    assert refused(queue, tasks) == ("full", 1, 0)
    assert task_keys(raw, root) == 0
    assert queue.user_stats("free") is None


@pytest.mark.parametrize("size", [201, 450])
def test_a_batch_of_several_round_trips_is_refused_as_a_whole(
    queue: TaskQueue, raw: Redis, root: str, size: int
) -> None:
    queue.set_policy("u", UserPolicy(max_queued=size - 1))
    tasks = [make("u", f"{i}") for i in range(size)]
    assert refused(queue, tasks) == ("u", size - 1, 0)
    assert task_keys(raw, root) == 0
    queue.push_batch(tasks[1:])
    assert refused(queue, tasks) == ("u", size - 1, size - 1)
    # All of it known: a repeat. It is accepted although nothing more has room.
    assert not any(handle.created for handle in queue.push_batch(tasks[1:]))
    check_invariants(raw, root)


def test_a_batch_that_begins_with_a_known_task_is_no_repeat(queue: TaskQueue, raw: Redis, root: str) -> None:
    queue.set_policy("u", UserPolicy(max_queued=220))
    tasks = [make("u", f"{i}") for i in range(250)]
    queue.push(tasks[0])
    assert refused(queue, tasks) == ("u", 220, 1)
    assert task_keys(raw, root) == 1


def test_duplicates_in_a_batch_of_several_round_trips_count_once(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(max_queued=210))
    tasks = [make("u", f"{i}") for i in range(210)]
    handles = queue.push_batch([*tasks, *tasks])
    assert sum(handle.created for handle in handles) == 210


def test_the_user_that_comes_last_in_a_large_batch_is_looked_at_first(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    queue.set_policy("late", UserPolicy(max_queued=1))
    tasks = [*(make("early", f"{i}") for i in range(400)), make("late", "a"), make("late", "b")]
    assert refused(queue, tasks) == ("late", 1, 0)
    assert task_keys(raw, root) == 0


def test_the_queue_as_a_whole_can_be_full(open_queue: OpenQueue, raw: Redis, root: str) -> None:
    queue = open_queue(max_queued=3)
    push(queue, "a", "1")
    push(queue, "b", "1", "2", delay=60)
    assert refused(queue, [make("c", "1")]) == (None, 3, 3)
    assert not queue.push(make("a", "1")).created
    running = popped(queue)
    push(queue, "c", "1")
    assert refused(queue, [make("a", "2")]) == (None, 3, 3)
    queue.release(running)
    assert refused(queue, [make("a", "2")]) == (None, 3, 4)
    # Producers may have limits of their own.
    push(open_queue(), "a", "2")
    assert task_keys(raw, root) == 5


def test_a_raised_limit_counts_at_the_next_push(open_queue: OpenQueue) -> None:
    queue = open_queue(users={"default": UserPolicy(max_queued=1)})
    push(queue, "u", "a")
    assert refused(queue, [make("u", "b")]) == ("u", 1, 1)
    queue.set_policy("u", UserPolicy(max_queued=None))
    push(queue, "u", *"bcdef")
    queue.clear_policy("u")
    assert refused(queue, [make("u", "g")]) == ("u", 1, 6)
