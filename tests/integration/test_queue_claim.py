"""Claiming: pop, pop_batch and steal, with and without waiting."""

from __future__ import annotations

import time

import pytest
from redis import Redis

from fairque.core.exceptions import FairQueueError
from fairque.core.models import TaskState
from fairque.queue.queue import TaskQueue
from tests.support.actions import eventually, make, names, popped, push, server_ms
from tests.support.faces import Background


def blocked(raw: Redis) -> int:
    info = raw.info("clients")
    return int(info["blocked_clients"])


def waiting_pop(queue: TaskQueue, raw: Redis, **options: object) -> Background:
    """A pop in another thread that waits on the server by the time this returns."""
    before = blocked(raw)
    waiter = Background(lambda: (queue.pop("waiter", **options), time.perf_counter()))  # type: ignore[arg-type]
    eventually(lambda: blocked(raw) > before)
    return waiter


def test_nothing_comes_out_of_an_empty_queue(queue: TaskQueue) -> None:
    assert queue.pop("w") is None
    assert queue.pop_batch("w", 10) == []
    assert queue.steal("w") is None


def test_a_popped_task_is_leased_to_its_worker(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "t")
    task = popped(queue, "worker-7", lease=12.5)
    now = server_ms(raw)
    assert task.lease_expires_at is not None
    assert task.queued_at is not None
    assert task.started_at is not None
    assert 12_400 < task.lease_expires_at.timestamp() * 1000 - now <= 12_500
    assert task.queued_at <= task.started_at
    seen = queue.get("u", "t")
    assert seen is not None
    assert (seen.state, seen.worker_id, seen.attempt) == (TaskState.STARTED, "worker-7", 1)
    assert (seen.lease_expires_at, seen.started_at) == (task.lease_expires_at, task.started_at)
    assert queue.pop("w2") is None


def test_the_queue_decides_the_lease_where_none_is_given(queue: TaskQueue) -> None:
    push(queue, "u", "t")
    task = popped(queue)
    assert task.lease_expires_at is not None
    assert task.started_at is not None
    assert (task.lease_expires_at - task.started_at).total_seconds() == 30


def test_a_batch_gives_what_there_is_up_to_its_limit(queue: TaskQueue) -> None:
    push(queue, "u", *"abcde")
    assert names(queue.pop_batch("w", 3)) == ["a", "b", "c"]
    assert names(queue.pop_batch("w", 3)) == ["d", "e"]


def test_a_batch_may_be_a_thousand_tasks(queue: TaskQueue) -> None:
    push(queue, "u", *(str(i) for i in range(1001)))
    assert names(queue.pop_batch("w", 1000)) == [str(i) for i in range(1000)]


def test_users_limit_whose_tasks_come_out(queue: TaskQueue) -> None:
    for user in "abc":
        push(queue, user, f"{user}1", f"{user}2")
    assert names(queue.pop_batch("w", 10, users=["c", "b", "unknown", "c"])) == ["b1", "c1", "b2", "c2"]
    assert queue.pop("w", users=[]) is None
    assert queue.pop("w", users=["b"]) is None
    assert names(queue.pop_batch("w", 10)) == ["a1", "a2"]


def test_a_thousand_users_can_be_named(queue: TaskQueue) -> None:
    push(queue, "user-999", "t")
    users = [f"user-{i}" for i in range(1000)]
    assert popped(queue, users=users).task_id == "t"


def test_steal_picks_as_pop_does_and_is_counted(queue: TaskQueue) -> None:
    push(queue, "a", "a1", "a2")
    push(queue, "b", "b1")
    first = queue.steal("thief")
    assert first is not None
    assert (first.task_id, first.worker_id) == ("a1", "thief")
    second = queue.steal("thief", users=["a"])
    assert second is not None
    assert second.task_id == "a2"
    assert queue.steal("thief", users=["a"]) is None
    assert popped(queue).task_id == "b1"
    totals = queue.stats().totals
    assert (totals["started"], totals["stolen"]) == (3, 2)


def test_a_waiting_pop_is_woken_by_a_push_within_milliseconds(queue: TaskQueue, raw: Redis) -> None:
    delays = []
    for number in range(5):
        waiter = waiting_pop(queue, raw, block=20)
        pushed = time.perf_counter()
        queue.push(make("u", str(number)))
        task, came = waiter.value()
        assert task.task_id == str(number)
        delays.append(came - pushed)
    assert min(delays) < 0.02, delays


def test_a_waiting_pop_returns_empty_when_its_time_is_up(queue: TaskQueue) -> None:
    start = time.monotonic()
    assert queue.pop("w", block=0.15) is None
    assert 0.15 <= time.monotonic() - start < 1
    start = time.monotonic()
    assert queue.pop_batch("w", 5, block=0) == []
    assert time.monotonic() - start < 0.5


def test_a_waiting_pop_wakes_when_a_scheduled_task_is_due(queue: TaskQueue, raw: Redis) -> None:
    handle = queue.push(make("u", "t", delay=0.3))
    due = handle.info().due_at
    assert due is not None
    task = popped(queue, block=20)
    assert 0 <= server_ms(raw) - due.timestamp() * 1000 < 150
    assert task.task_id == "t"


def test_a_waiting_pop_learns_of_a_task_that_is_due_earlier_than_it_knew(
    queue: TaskQueue, raw: Redis
) -> None:
    queue.push(make("u", "late", delay=600))
    waiter = waiting_pop(queue, raw, block=20)
    start = time.perf_counter()
    queue.push(make("u", "soon", delay=0.2))
    task, came = waiter.value()
    assert task.task_id == "soon"
    assert 0.15 < came - start < 1


def test_a_waiting_pop_is_woken_by_a_retry_a_release_a_requeue_and_a_reclaim(
    queue: TaskQueue, raw: Redis
) -> None:
    push(queue, "u", "t")
    task = popped(queue)

    waiter = waiting_pop(queue, raw, block=20)
    queue.release([task])
    task, _ = waiter.value()
    assert task.attempt == 2

    waiter = waiting_pop(queue, raw, block=20)
    queue.fail(task, "hopeless", failure_type="invalid")
    queue.requeue("u", "t")
    task, _ = waiter.value()
    assert task.attempt == 3

    queue.heartbeat([task], lease=0.001)
    waiter = waiting_pop(queue, raw, block=20)
    eventually(lambda: queue.reclaim() == [("u", "t")])
    task, _ = waiter.value()
    assert task.attempt == 4

    waiter = waiting_pop(queue, raw, block=20)
    queue.release([task])
    assert waiter.value()[0].attempt == 5


def test_every_waiter_gets_a_task_of_one_batch(queue: TaskQueue, raw: Redis) -> None:
    before = blocked(raw)
    waiters = [Background(lambda: queue.pop("w", block=20)) for _ in range(8)]
    eventually(lambda: blocked(raw) == before + 8)
    start = time.monotonic()
    push(queue, "u", *"abcdefgh")
    assert sorted(waiter.value().task_id for waiter in waiters) == list("abcdefgh")
    assert time.monotonic() - start < 1


def test_a_waiter_for_some_users_does_not_swallow_the_wake_ups_of_others(
    queue: TaskQueue, raw: Redis
) -> None:
    picky = waiting_pop(queue, raw, block=20, users=["mine"])
    anybody = waiting_pop(queue, raw, block=20)
    start = time.monotonic()
    push(queue, "other", "o")
    task, _ = anybody.value()
    assert task.task_id == "o"
    assert time.monotonic() - start < 0.5
    assert picky.is_alive()
    start = time.monotonic()
    push(queue, "mine", "m")
    task, _ = picky.value()
    assert task.task_id == "m"
    assert time.monotonic() - start < 0.5


def test_a_waiter_for_some_users_finds_its_own_among_the_work_of_others(queue: TaskQueue) -> None:
    push(queue, "other", *(str(i) for i in range(50)))
    waiter = Background(lambda: queue.pop("picky", users=["mine"], block=20))
    start = time.monotonic()
    push(queue, "mine", "m")
    assert waiter.value().task_id == "m"
    assert time.monotonic() - start < 0.5
    assert queue.stats().queued == 50


def test_two_waiters_for_different_users_each_get_their_own(queue: TaskQueue, raw: Redis) -> None:
    left = waiting_pop(queue, raw, block=20, users=["left"])
    right = waiting_pop(queue, raw, block=20, users=["right"])
    start = time.monotonic()
    push(queue, "right", "r")
    push(queue, "left", "l")
    assert left.value()[0].task_id == "l"
    assert right.value()[0].task_id == "r"
    assert time.monotonic() - start < 0.5


def test_a_task_past_its_expiry_fails_instead_of_running(queue: TaskQueue, raw: Redis) -> None:
    past = server_ms(raw) / 1000 - 1
    push(queue, "u", "a", "b", expires_at=past)
    push(queue, "u", "c", expires_at=past + 600)
    assert popped(queue).task_id == "c"
    expired = queue.get("u", "a")
    assert expired is not None
    assert (expired.state, expired.failure_type, expired.attempt) == (TaskState.FAILED, "expired", 0)
    assert expired.error == "its expires_at passed before an attempt could start"
    assert [entry.type for entry in expired.history] == ["expired"]
    totals = queue.stats().totals
    assert (totals["expired"], totals["failed"], totals["started"]) == (2, 2, 1)


def test_expired_tasks_cost_their_user_no_turn(queue: TaskQueue, raw: Redis) -> None:
    past = server_ms(raw) / 1000 - 1
    push(queue, "a", *"123", expires_at=past)
    push(queue, "a", "a1", "a2")
    push(queue, "b", "b1", "b2")
    assert names(queue.pop_batch("w", 10)) == ["a1", "b1", "a2", "b2"]


def test_a_long_run_of_expired_tasks_does_not_hide_the_one_behind_it(queue: TaskQueue, raw: Redis) -> None:
    past = server_ms(raw) / 1000 - 1
    push(queue, "u", *(str(i) for i in range(450)), expires_at=past)
    push(queue, "u", "good")
    assert popped(queue, block=5).task_id == "good"


def test_many_due_tasks_are_promoted_in_order(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", *(str(i) for i in range(450)), delay=0.05)
    last = queue.handle("u", "449").info().due_at
    assert last is not None
    eventually(lambda: server_ms(raw) > last.timestamp() * 1000 + 1)
    taken: list[str] = []
    while len(taken) < 450:
        taken += names(queue.pop_batch("w", 100, block=5))
    assert taken == [str(i) for i in range(450)]


def test_a_task_whose_record_was_deleted_by_hand_is_dropped_and_counted(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    push(queue, "u", "a", "b", "c")
    raw.delete(f"{root}:task:u:a")
    assert popped(queue).task_id == "b"
    stats = queue.stats()
    assert (stats.queued, stats.started, stats.totals["lost"]) == (1, 1, 1)


def test_a_lost_record_within_a_batch_takes_nobody_elses_place(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    push(queue, "u", *"abcdef")
    raw.delete(f"{root}:task:u:b", f"{root}:task:u:d")
    assert names(queue.pop_batch("w", 3)) == ["a", "c", "e"]
    assert names(queue.pop_batch("w", 3)) == ["f"]


def test_a_claim_that_breaks_off_at_a_damaged_record_takes_no_task_out_of_its_lane(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    push(queue, "u", "a", "b", "c")
    raw.set(f"{root}:task:u:c", '{"expires_at":\n')
    with pytest.raises(FairQueueError):
        queue.pop_batch("w", 3)
    assert raw.zrange(f"{root}:lane:u", 0, -1) == [b"a", b"b", b"c"]
    raw.delete(f"{root}:task:u:c")
    assert names(queue.pop_batch("w", 3)) == ["a", "b"]


@pytest.mark.parametrize("where", ["scheduled", "leases"])
def test_a_lost_record_is_dropped_wherever_the_task_was(
    queue: TaskQueue, raw: Redis, root: str, where: str
) -> None:
    push(queue, "u", "t", **({"delay": 0.001} if where == "scheduled" else {}))
    if where == "leases":
        popped(queue, lease=0.001)
    raw.delete(f"{root}:task:u:t")
    if where == "leases":
        eventually(lambda: queue.reclaim() == [("u", "t")])
    else:
        eventually(lambda: queue.pop("w") is None and queue.stats().scheduled == 0)
    assert queue.stats().totals["lost"] == 1
    assert queue.get("u", "t") is None
    assert not raw.exists(f"{root}:run:u:t")
    assert queue.push(make("u", "t")).created
    assert popped(queue).task_id == "t"
