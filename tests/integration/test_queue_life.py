"""The rest of a task's life: fail, retry, dead letters, requeue, cancel, release, reclaim, cleanup."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from fairque.core.exceptions import TaskNotFoundError, TaskStateError, TaskValidationError
from fairque.core.models import Priority, TaskState
from fairque.core.retry import Retry
from fairque.queue.queue import TaskQueue
from tests.integration.conftest import OpenQueue
from tests.support.actions import BLINK, drain, lapse, names, popped, push, server_ms, sleep_past
from tests.support.invariants import Shard


def wait_until_due(queue: TaskQueue, raw: Redis, user: str, name: str) -> None:
    due = queue.handle(user, name).info().due_at
    assert due is not None
    sleep_past(raw, due.timestamp() * 1000 + 1)


# --- fail and retry ---


def test_a_failed_attempt_is_retried_and_then_goes_to_the_dead_letter_queue(
    queue: TaskQueue, raw: Redis
) -> None:
    push(queue, "u", "t", max_retries=2)
    for attempt in (1, 2):
        task = popped(queue)
        assert (task.attempt, task.failures) == (attempt, attempt - 1)
        assert queue.fail(task, Retry(delay=0.001, reason=f"try {attempt}")) is TaskState.SCHEDULED
        assert queue.handle("u", "t").state() is TaskState.SCHEDULED
        wait_until_due(queue, raw, "u", "t")
    last = popped(queue)
    assert queue.fail(last, ValueError("the end")) is TaskState.FAILED
    info = queue.handle("u", "t").info()
    assert (info.state, info.attempt, info.failures) == (TaskState.FAILED, 3, 3)
    assert (info.failure_type, info.error) == ("failed", "ValueError: the end")
    assert [(a.attempt, a.type, a.error) for a in info.history] == [
        (1, "failed", "Retry: try 1"),
        (2, "failed", "Retry: try 2"),
        (3, "failed", "ValueError: the end"),
    ]
    assert names(queue.failed_tasks()) == ["t"]
    totals = queue.stats().totals
    assert (totals["retried"], totals["failed"], totals["started"]) == (2, 1, 3)


def test_a_retry_waits_for_as_long_as_the_task_asked(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "t")
    before = server_ms(raw)
    queue.fail(popped(queue), Retry(delay=90))
    due = queue.handle("u", "t").info().due_at
    assert due is not None
    assert 89_990 < due.timestamp() * 1000 - before < 92_000


def test_the_queue_decides_how_often_where_the_task_does_not(open_queue: OpenQueue) -> None:
    queue = open_queue(max_retries=0)
    push(queue, "u", "default")
    push(queue, "u", "own", max_retries=1)
    default, own = queue.pop_batch("w", 2)
    assert queue.fail(default, "no") is TaskState.FAILED
    assert queue.fail(own, "no") is TaskState.SCHEDULED


@pytest.mark.parametrize("failure_type", ["invalid", "expired", "poisoned"])
def test_what_another_attempt_cannot_mend_is_not_retried(queue: TaskQueue, failure_type: str) -> None:
    push(queue, "u", "t", max_retries=5)
    assert queue.fail(popped(queue), "no", failure_type=failure_type) is TaskState.FAILED
    assert queue.handle("u", "t").info().failure_type == failure_type


def test_a_timeout_is_retried_and_named(queue: TaskQueue) -> None:
    push(queue, "u", "t", max_retries=1)
    assert queue.fail(popped(queue), TimeoutError("5 s"), failure_type="timeout") is TaskState.SCHEDULED
    assert queue.handle("u", "t").info().history[0].type == "timeout"


def test_an_exception_is_kept_with_its_traceback(queue: TaskQueue) -> None:
    push(queue, "u", "t", max_retries=0)
    with pytest.raises(LookupError) as caught:
        _look_for_somebody()
    queue.fail(popped(queue), caught.value)
    entry = queue.handle("u", "t").info().history[0]
    assert entry.error == "LookupError: nobody at home"
    assert "_look_for_somebody" in entry.traceback
    assert entry.traceback.endswith("LookupError: nobody at home\n")
    assert entry.ended_at.year > 2020


def _look_for_somebody() -> None:
    raise LookupError("nobody at home")


class _UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even its message")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("half a pair \ud83d"), r"ValueError: half a pair \ud83d"),
        (ValueError('quote " slash / back \\ nul \0 line \n tab \t del \x7f'), None),
        (ValueError("日本語 🎌"), "ValueError: 日本語 🎌"),
        (_UnspeakableError(), "_UnspeakableError"),
        ("x" * 5000, "x" * 1000),
        ("", ""),
    ],
)
def test_any_error_can_be_kept(queue: TaskQueue, error: Any, text: str | None) -> None:
    push(queue, "u", "t", max_retries=0)
    queue.fail(popped(queue), error)
    info = queue.handle("u", "t").info()
    expected = f"ValueError: {error}" if text is None else text
    assert info.error == info.history[0].error == expected


def test_the_history_keeps_the_last_ten(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "t", max_retries=20)
    for number in range(12):
        queue.fail(popped(queue), Retry(delay=0.001, reason=str(number)))
        wait_until_due(queue, raw, "u", "t")
    info = queue.handle("u", "t").info()
    assert [a.attempt for a in info.history] == list(range(3, 13))
    assert info.failures == 12


def test_a_retried_task_keeps_its_priority_and_takes_the_place_of_its_due_time(
    queue: TaskQueue, raw: Redis
) -> None:
    push(queue, "u", "low", priority=Priority.LOW)
    queue.fail(popped(queue), Retry(delay=0.001))
    push(queue, "u", "normal")
    wait_until_due(queue, raw, "u", "low")
    push(queue, "u", "low-later", priority=Priority.LOW)
    assert names(queue.pop_batch("w", 3)) == ["normal", "low", "low-later"]


@pytest.mark.parametrize("failure_type", ["", "x" * 41])
def test_a_failure_type_is_a_word(queue: TaskQueue, failure_type: str) -> None:
    push(queue, "u", "t")
    task = popped(queue)
    with pytest.raises(TaskValidationError, match="failure_type must be a word of up to 40"):
        queue.fail(task, "no", failure_type=failure_type)
    assert queue.handle("u", "t").state() is TaskState.STARTED


# --- the dead letter queue ---


def test_a_requeued_task_runs_again_with_new_retries_and_its_history(queue: TaskQueue) -> None:
    push(queue, "u", "t", max_retries=0)
    queue.fail(popped(queue), "first life")
    handle = queue.requeue("u", "t")
    assert (handle.user_id, handle.task_id, handle.created) == ("u", "t", False)
    info = handle.info()
    assert (info.state, info.failures, info.failure_type, info.error) == (TaskState.QUEUED, 0, None, None)
    assert queue.failed_tasks() == []
    task = popped(queue)
    assert (task.attempt, task.failures, task.payload) == (2, 0, "t")
    queue.finish(task, "second life")
    assert handle.result(0) == "second life"
    assert [a.error for a in handle.info().history] == ["first life"]
    assert queue.stats().totals["requeued"] == 1


def test_only_a_failed_task_can_be_requeued(queue: TaskQueue) -> None:
    push(queue, "u", "queued")
    push(queue, "u", "later", delay=60)
    push(queue, "v", "started", "finished")
    queue.finish(queue.pop_batch("w", 2, users=["v"])[1])
    push(queue, "w", "canceled")
    queue.cancel("w", "canceled")
    for user, name, state in [
        ("u", "queued", "QUEUED"),
        ("u", "later", "SCHEDULED"),
        ("v", "started", "STARTED"),
        ("v", "finished", "FINISHED"),
        ("w", "canceled", "CANCELED"),
    ]:
        with pytest.raises(TaskStateError, match=f"is {state}: only a FAILED task"):
            queue.requeue(user, name)
        assert queue.handle(user, name).state().value == state
    with pytest.raises(TaskNotFoundError):
        queue.requeue("u", "unknown")


def test_the_dead_letter_queue_is_paged_with_the_latest_first(queue: TaskQueue, raw: Redis) -> None:
    for number in range(7):
        user = "even" if number % 2 == 0 else "odd"
        push(queue, user, str(number))
        queue.fail(popped(queue), f"no {number}", failure_type="invalid")
        sleep_past(raw, server_ms(raw) + 1)
    page = queue.failed_tasks(limit=3)
    assert names(page) == ["6", "5", "4"]
    assert (page[0].user_id, page[0].error, page[0].payload) == ("even", "no 6", "6")
    assert (page[0].state, page[0].failure_type) == (TaskState.FAILED, "invalid")
    assert names(queue.failed_tasks(limit=3, offset=3)) == ["3", "2", "1"]
    assert names(queue.failed_tasks(limit=3, offset=6)) == ["0"]
    assert queue.failed_tasks(limit=3, offset=7) == []
    assert names(queue.failed_tasks("odd")) == ["5", "3", "1"]
    assert names(queue.failed_tasks("even", limit=2)) == ["6", "4"]
    assert names(queue.failed_tasks("even", limit=2, offset=2)) == ["2", "0"]
    assert queue.failed_tasks("even", limit=2, offset=4) == []
    assert queue.failed_tasks("nobody") == []


# --- cancel ---


def test_a_waiting_task_is_canceled_wherever_it_waits(queue: TaskQueue) -> None:
    push(queue, "u", "ready")
    push(queue, "u", "later", delay=60)
    for name in ("ready", "later"):
        assert queue.cancel("u", name) is True
        assert queue.handle("u", name).state() is TaskState.CANCELED
        assert queue.cancel("u", name) is True
    assert queue.pop("w") is None
    assert queue.stats().totals["canceled"] == 2


def test_a_running_task_is_canceled_and_frees_its_slot(queue: TaskQueue) -> None:
    push(queue, "u", "t")
    popped(queue)
    assert queue.handle("u", "t").cancel() is True
    assert queue.handle("u", "t").state() is TaskState.CANCELED
    assert [(user.started, user.live) for user in queue.users()] == [(0, 0)]


def test_an_ended_task_cannot_be_canceled(queue: TaskQueue) -> None:
    push(queue, "u", "finished", "failed")
    a, b = queue.pop_batch("w", 2)
    queue.finish(a, "result")
    queue.fail(b, "no", failure_type="invalid")
    assert queue.cancel("u", "finished") is False
    assert queue.cancel("u", "failed") is False
    assert queue.handle("u", "finished").result(0) == "result"
    assert queue.handle("u", "failed").state() is TaskState.FAILED


def test_canceling_one_task_leaves_the_order_of_the_rest(queue: TaskQueue) -> None:
    push(queue, "u", *"abcde")
    queue.cancel("u", "a")
    queue.cancel("u", "c")
    assert names(drain(queue)) == ["b", "d", "e"]


# --- release and reclaim ---


def test_released_tasks_take_their_old_places(queue: TaskQueue) -> None:
    push(queue, "u", *"abcde")
    tasks = queue.pop_batch("w", 3)
    queue.release([tasks[2], tasks[0]])
    assert names(queue.pop_batch("w", 10)) == ["a", "c", "d", "e"]
    a = queue.get("u", "a")
    assert a is not None
    assert (a.attempt, a.failures, a.crashes, a.history) == (2, 0, 0, ())


def test_a_reclaimed_task_takes_its_old_place_and_counts_a_crash(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", *"abc")
    lapse(queue, raw, "victim")
    assert queue.reclaim() == [("u", "a")]
    assert queue.reclaim() == []
    assert names(queue.pop_batch("w", 3)) == ["a", "b", "c"]
    info = queue.handle("u", "a").info()
    assert (info.attempt, info.crashes, info.failures) == (2, 1, 0)
    assert [(e.attempt, e.type, e.worker) for e in info.history] == [(1, "crashed", "victim")]
    assert queue.stats().totals["reclaimed"] == 1


def test_reclaim_takes_no_more_than_its_limit(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", *"abcde")
    tasks = queue.pop_batch("w", 5, lease=0.001)
    assert tasks[0].run.lease_expires_at is not None
    sleep_past(raw, tasks[0].run.lease_expires_at)
    assert len(queue.reclaim(limit=2)) == 2
    assert len(queue.reclaim(limit=2)) == 2
    assert len(queue.reclaim(limit=2)) == 1


def test_a_living_lease_is_not_reclaimed(queue: TaskQueue) -> None:
    push(queue, "u", "t")
    popped(queue, lease=3600)
    assert queue.reclaim() == []


def test_a_task_one_crash_from_poisoned_is_the_last_of_its_batch(open_queue: OpenQueue, raw: Redis) -> None:
    queue = open_queue(max_crashes=2)
    push(queue, "u", "a", "suspect", "c", "d")
    batch = queue.pop_batch("w", 2, lease=BLINK)
    queue.finish(batch[0])
    assert batch[1].run.lease_expires_at is not None
    sleep_past(raw, batch[1].run.lease_expires_at)
    assert queue.reclaim() == [("u", "suspect")]
    push(queue, "t", "first")  # a tie, which names decide
    assert names(queue.pop_batch("w", 10)) == ["first", "suspect"]
    assert names(queue.pop_batch("w", 10)) == ["c", "d"]


def test_a_task_that_kills_its_workers_is_poisoned(open_queue: OpenQueue, raw: Redis) -> None:
    queue = open_queue(max_crashes=2)
    push(queue, "u", "bad")
    push(queue, "v", "good")
    lapse(queue, raw)
    queue.reclaim()
    assert popped(queue, users=["v"]).task_id == "good"
    lapse(queue, raw)
    assert queue.reclaim() == [("u", "bad")]
    info = queue.handle("u", "bad").info()
    assert (info.state, info.failure_type, info.crashes) == (TaskState.FAILED, "poisoned", 2)
    assert [entry.type for entry in info.history] == ["crashed", "poisoned"]
    assert queue.stats().failed == 1
    # Requeueing forgives its crashes.
    queue.requeue("u", "bad")
    lapse(queue, raw)
    queue.reclaim()
    assert queue.handle("u", "bad").state() is TaskState.QUEUED


def test_handing_a_task_back_is_not_a_crash_however_often(open_queue: OpenQueue) -> None:
    queue = open_queue(max_crashes=1)
    push(queue, "u", "t")
    for _ in range(5):
        queue.release([popped(queue)])
    assert queue.handle("u", "t").state() is TaskState.QUEUED
    assert queue.stats().totals["released"] == 5


# --- cleanup ---


def test_each_state_is_kept_for_its_own_retention(open_queue: OpenQueue, raw: Redis, root: str) -> None:
    queue = open_queue(push_retry_window=0, retention={"finished": 0.05, "failed": 60, "canceled": 0.05})
    push(queue, "u", "finished", "failed", "canceled", "alive")
    a, b, _ = queue.pop_batch("w", 3)
    queue.finish(a, "result")
    queue.fail(b, "no", failure_type="invalid")
    queue.cancel("u", "canceled")
    ended = server_ms(raw)
    sleep_past(raw, ended + 51)
    assert queue.cleanup_expired_tasks() == 2
    assert queue.get("u", "finished") is None
    assert queue.get("u", "canceled") is None
    assert queue.handle("u", "failed").state() is TaskState.FAILED
    assert queue.handle("u", "alive").state() is TaskState.QUEUED
    assert Shard(raw, root).parts["task"] == {"u:failed", "u:alive"}
    assert Shard(raw, root).parts["run"] == {"u:failed"}


def test_cleanup_removes_no_more_than_its_limit(open_queue: OpenQueue, raw: Redis) -> None:
    queue = open_queue(push_retry_window=0, retention={"finished": 0, "failed": 0, "canceled": 0})
    push(queue, "u", *"abcdefg")
    drain(queue, 2)
    push(queue, "u", "x", "y")
    queue.cancel("u", "x")
    queue.fail(popped(queue), "no", failure_type="invalid")
    sleep_past(raw, server_ms(raw) + 1)
    assert [queue.cleanup_expired_tasks(limit=4) for _ in range(4)] == [4, 4, 1, 0]


def test_a_user_without_tasks_is_forgotten_an_hour_later_and_not_before(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    push(queue, "idle", "t")
    push(queue, "busy", "t")
    queue.finish(popped(queue, users=["idle"]))
    queue.cleanup_expired_tasks()
    assert sorted(user.user_id for user in queue.users()) == ["busy", "idle"]
    raw.zadd(f"{root}:users", {"idle": server_ms(raw) - 3_600_001})
    queue.cleanup_expired_tasks()
    assert [user.user_id for user in queue.users()] == ["busy"]
    push(queue, "idle", "t2")
    assert sorted(user.user_id for user in queue.users()) == ["busy", "idle"]
