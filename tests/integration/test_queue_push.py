"""Pushing: what arrives, what a repeat does, what a batch costs."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from fairque.core.exceptions import TaskNotFoundError
from fairque.core.models import Priority, Task, TaskState
from fairque.queue.queue import TaskQueue
from tests.integration.conftest import OpenQueue
from tests.support.actions import drain, make, names, popped, push, server_ms, sleep_past


def calls_of(raw: Redis, command: str) -> int:
    stats: dict[str, Any] = raw.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_a_pushed_task_comes_out_as_it_went_in(queue: TaskQueue) -> None:
    task = Task.create(
        user_id="acme",
        task_id="t-1",
        payload={"image": "cat.png", "sizes": [100, 200], "note": None},
        priority=Priority.HIGH,
        max_retries=7,
        timeout=2.5,
        expires_at=4_000_000_000,
    )
    handle = queue.push(task)
    assert (handle.user_id, handle.task_id, handle.created) == ("acme", "t-1", True)
    taken = popped(queue)
    assert (taken.user_id, taken.task_id) == ("acme", "t-1")
    assert taken.payload == {"image": "cat.png", "sizes": [100, 200], "note": None}
    assert taken.priority is Priority.HIGH
    assert (taken.max_retries, taken.timeout) == (7, 2.5)
    assert taken.expires_at == datetime.fromtimestamp(4_000_000_000, UTC)
    assert taken.state is TaskState.STARTED
    assert (taken.attempt, taken.failures, taken.worker_id) == (1, 0, "w")


def test_options_given_to_push_replace_those_of_the_task(queue: TaskQueue) -> None:
    task = Task.create(user_id="a", task_id="t", priority=Priority.LOW, max_retries=1)
    handle = queue.push(
        task, user_id="b", task_id="u", priority=6, max_retries=0, timeout=timedelta(seconds=3)
    )
    assert (handle.user_id, handle.task_id) == ("b", "u")
    info = handle.info()
    assert (info.priority, info.max_retries, info.timeout) == (Priority.CRITICAL, 0, 3.0)
    assert queue.get("a", "t") is None


def test_an_id_is_made_where_none_is_given(queue: TaskQueue) -> None:
    first, second = (queue.push(Task.create(user_id="u")) for _ in range(2))
    assert first.task_id != second.task_id
    assert first.created
    assert second.created


def test_a_repeated_push_changes_nothing(queue: TaskQueue) -> None:
    queue.push(Task.create(user_id="u", task_id="t", payload="first"))
    again = queue.push(Task.create(user_id="u", task_id="t", payload="second", priority=6))
    assert not again.created
    assert again.info().payload == "first"
    assert again.info().priority is Priority.NORMAL
    assert names(drain(queue)) == ["t"]
    assert queue.stats().totals["pushed"] == 1


def test_one_id_may_be_used_by_two_users(queue: TaskQueue) -> None:
    assert queue.push(make("u", "t")).created
    assert queue.push(make("v", "t")).created
    assert queue.stats().queued == 2


@pytest.mark.parametrize("state", [TaskState.SCHEDULED, TaskState.QUEUED, TaskState.STARTED])
def test_a_repeat_of_a_live_task_is_known_in_every_state(queue: TaskQueue, state: TaskState) -> None:
    task = make("u", "t", delay=60) if state is TaskState.SCHEDULED else make("u", "t")
    queue.push(task)
    if state is TaskState.STARTED:
        popped(queue)
    assert not queue.push(make("u", "t")).created
    assert queue.handle("u", "t").state() is state


def test_a_repeat_of_an_ended_task_is_known_and_does_not_run_it_again(queue: TaskQueue) -> None:
    push(queue, "u", "finished", "failed", "canceled")
    queue.finish(popped(queue), "result")
    queue.fail(popped(queue), "broken", failure_type="invalid")
    queue.cancel("u", "canceled")
    for name in ("finished", "failed", "canceled"):
        assert not queue.push(make("u", name)).created
    assert queue.pop("w") is None
    assert queue.handle("u", "finished").result(0) == "result"


def test_a_finished_task_stays_known_for_the_retry_window_even_where_nothing_is_kept(
    open_queue: OpenQueue, raw: Redis, root: str
) -> None:
    queue = open_queue(push_retry_window=0.25, retention={"finished": 0, "failed": 0, "canceled": 0})
    queue.push(make("u", "t"))
    queue.finish(popped(queue), "result")
    ended = server_ms(raw)
    assert queue.cleanup_expired_tasks() == 0
    assert not queue.push(make("u", "t")).created
    assert not raw.exists(f"{root}:result:u:t")
    sleep_past(raw, ended + 250)
    assert queue.cleanup_expired_tasks() == 1
    assert queue.get("u", "t") is None
    assert queue.push(make("u", "t")).created
    assert popped(queue).attempt == 1


def test_a_batch_gives_a_handle_for_each_task_in_order(queue: TaskQueue) -> None:
    queue.push(make("a", "3"))
    handles = queue.push_batch([make("a", "1"), make("b", "2"), make("a", "3"), make("a", "1")])
    assert [(h.user_id, h.task_id, h.created) for h in handles] == [
        ("a", "1", True),
        ("b", "2", True),
        ("a", "3", False),
        ("a", "1", False),
    ]
    assert queue.stats().queued == 3


def test_an_empty_batch_pushes_nothing(queue: TaskQueue) -> None:
    assert queue.push_batch([]) == []
    assert queue.stats().totals == {}


def test_a_batch_takes_its_user_from_the_call(queue: TaskQueue) -> None:
    handles = queue.push_batch([Task.create(task_id="1"), Task.create(task_id="2")], user_id="u")
    assert [h.user_id for h in handles] == ["u", "u"]


def test_a_thousand_tasks_are_at_most_ten_round_trips(queue: TaskQueue, raw: Redis) -> None:
    queue.push(make("warm", "up"))
    before = calls_of(raw, "evalsha"), calls_of(raw, "eval")
    handles = queue.push_batch([make("u", str(i)) for i in range(1000)])
    after = calls_of(raw, "evalsha"), calls_of(raw, "eval")
    assert all(handle.created for handle in handles)
    assert after[0] - before[0] == 5
    assert after[1] == before[1]
    assert names(queue.pop_batch("w", 1000, users=["u"])) == [str(i) for i in range(1000)]


def test_delayed_tasks_are_scheduled_until_they_are_due(queue: TaskQueue, raw: Redis) -> None:
    before = server_ms(raw)
    handle = queue.push(make("u", "t", delay=0.2))
    info = handle.info()
    assert info.state is TaskState.SCHEDULED
    assert info.due_at is not None
    assert 199 <= info.due_at.timestamp() * 1000 - before < 1200
    assert queue.pop("w") is None
    sleep_past(raw, info.due_at.timestamp() * 1000 + 1)
    assert popped(queue).task_id == "t"


def test_a_delay_is_measured_by_the_server(queue: TaskQueue, raw: Redis) -> None:
    # However wrong the client's clock is, `delay` counts from when the server saw the push.
    handle = queue.push(Task.create(user_id="u", delay=timedelta(hours=1)))
    due = handle.info().due_at
    assert due is not None
    assert abs(due.timestamp() * 1000 - server_ms(raw) - 3_600_000) < 2000


def test_execute_after_in_the_past_is_ready_now(queue: TaskQueue) -> None:
    queue.push(make("u", "t", execute_after=datetime(2001, 1, 1, tzinfo=UTC)))
    assert popped(queue).task_id == "t"


@pytest.mark.parametrize("years", [1, 86, 100, 140])
def test_a_task_may_be_scheduled_for_the_far_future(queue: TaskQueue, years: int) -> None:
    due = time.time() + years * 365 * 86400
    handle = queue.push(make("u", "t", execute_after=due))
    info = handle.info()
    assert info.state is TaskState.SCHEDULED
    assert info.due_at is not None
    assert abs(info.due_at.timestamp() - due) < 1
    assert queue.pop("w") is None
    assert handle.cancel()


def test_the_longest_delay_is_two_hundred_years(queue: TaskQueue) -> None:
    handle = queue.push(make("u", "t", delay=timedelta(days=73_000)))
    assert handle.state() is TaskState.SCHEDULED
    assert handle.info().state is TaskState.SCHEDULED


def test_a_popped_task_can_be_pushed_on_under_another_id(queue: TaskQueue) -> None:
    queue.push(Task.create(user_id="u", task_id="t", payload=[1, 2]))
    task = popped(queue)
    assert queue.push(task, task_id="t2", user_id="v").created
    queue.finish(task)
    assert popped(queue).payload == [1, 2]


def test_a_handle_on_an_unknown_task_says_so(queue: TaskQueue) -> None:
    handle = queue.handle("nobody", "nothing")
    with pytest.raises(TaskNotFoundError, match="'nothing' of user 'nobody'"):
        handle.state()
    with pytest.raises(TaskNotFoundError):
        handle.info()
    with pytest.raises(TaskNotFoundError):
        handle.cancel()
    assert queue.get("nobody", "nothing") is None
