"""Any unicode string of 1 to 256 characters is a user's name, a task's id and a worker's name."""

from __future__ import annotations

import itertools

import pytest
from redis import Redis

from fairque.core.exceptions import (
    LeaseLostError,
    ResultTimeoutError,
    TaskCanceledError,
    TaskFailedError,
    TaskNotFoundError,
    TaskStateError,
)
from fairque.core.models import TaskState
from fairque.core.retry import Retry
from fairque.queue.queue import TaskQueue
from tests.support.actions import drain, lapse, make, names, popped, push
from tests.support.faces import Background
from tests.support.invariants import check_invariants

HELL = {
    "space": " ",
    "spaces around": " a b ",
    "quotes": "\"'`",
    "commas": "a,b,,c",
    "colons": "a:b::c:",
    "only a colon": ":",
    "braces": "{a}{}",
    "open brace": "{",
    "percent": "100%",
    "escaped colon": "%3A",
    "doubly escaped": "%253A",
    "percent s": "%s%d%n",
    "backslash": "a\\b\\",
    "newline": "a\nb",
    "carriage return": "a\r\nb",
    "only a newline": "\n",
    "tab": "a\tb",
    "NUL": "a\0b",
    "only NUL": "\0",
    "escape": "\x1b[31m",
    "delete": "\x7f",
    "emoji": "🎌👨‍👩‍👧",
    "combining": "e\u0301",
    "right to left": "שלום",
    "byte order mark": "\ufeffa",
    "line separator": "a\u2028b",
    "last character": "\U0010ffff",
    "glob": "*?[a-z]",
    "lua": "]] return 1 --[[",
    "json": '{"a": [1, null]}',
    "key": "fq:{default:0}:ring",
    "number": "0",
    "nan": "nan",
    "minus": "-1",
    "inf": "+inf",
    "256": "x" * 256,
    "256 emoji": "🎌" * 256,
    "256 colons": ":" * 256,
    "256 newlines": "\n" * 256,
}
NAMES = list(HELL.values())


@pytest.mark.parametrize("case", HELL)
def test_a_name_goes_through_every_operation(queue: TaskQueue, raw: Redis, root: str, case: str) -> None:
    name = HELL[case]
    handle = queue.push(make(name, name))
    assert (handle.user_id, handle.task_id, handle.created) == (name, name, True)
    assert not queue.push(make(name, name)).created
    assert handle.state() is TaskState.QUEUED
    [stats] = queue.users()
    assert (stats.user_id, stats.queued, stats.eligible) == (name, 1, True)

    task = popped(queue, name)
    assert (task.user_id, task.task_id, task.payload, task.worker_id) == (name, name, name, name)
    queue.heartbeat([task])
    queue.release([task])
    check_invariants(raw, root)
    with pytest.raises(LeaseLostError) as lost:
        queue.finish(task)
    assert lost.value.lost == ((name, name),)

    assert queue.pop("w", users=["somebody"]) is None
    task = lapse(queue, raw, name)
    assert queue.reclaim() == [(name, name)]
    task = popped(queue, name, users=[name])
    assert queue.fail(task, Retry(delay=0.001)) is TaskState.SCHEDULED
    assert queue.handle(name, name).info().worker_id == name
    check_invariants(raw, root)

    task = popped(queue, name, block=5)
    assert queue.fail(task, name, failure_type="invalid") is TaskState.FAILED
    with pytest.raises(TaskFailedError) as failed:
        handle.result(0)
    assert (failed.value.user_id, failed.value.task_id, failed.value.error) == (name, name, name)
    assert [(t.user_id, t.task_id) for t in queue.failed_tasks(name)] == [(name, name)]
    assert [(t.user_id, t.task_id) for t in queue.failed_tasks()] == [(name, name)]

    queue.requeue(name, name)
    with pytest.raises(ResultTimeoutError):
        handle.result(0)
    stolen = queue.steal(name, users=[name])
    assert stolen is not None
    waiter = Background(lambda: handle.result(10))
    queue.finish_batch([(stolen, name)])
    assert waiter.value() == name
    with pytest.raises(TaskStateError) as wrong:
        queue.requeue(name, name)
    assert (wrong.value.user_id, wrong.value.task_id) == (name, name)

    canceled = queue.push(make(name, name + "2" if len(name) < 256 else name[:-1]))
    assert canceled.cancel()
    with pytest.raises(TaskCanceledError):
        canceled.result(0)


@pytest.mark.parametrize("case", HELL)
def test_an_unknown_task_is_named_as_it_was_asked_for(queue: TaskQueue, case: str) -> None:
    name = HELL[case]
    for ask in (
        lambda: queue.cancel(name, name),
        lambda: queue.requeue(name, name),
        lambda: queue.handle(name, name).state(),
        lambda: queue.handle(name, name).info(),
        lambda: queue.handle(name, name).result(0),
    ):
        with pytest.raises(TaskNotFoundError) as caught:
            ask()
        assert (caught.value.user_id, caught.value.task_id) == (name, name)


def test_names_that_look_alike_when_joined_stay_apart(queue: TaskQueue) -> None:
    parts = [
        "a",
        "b",
        ":",
        "%",
        "%3A",
        "a:",
        ":b",
        "a:b",
        "a%3Ab",
        "a%253Ab",
        "a:b:a",
        "::",
        "a%",
        "%25",
        "3A",
        "a%3",
    ]
    pairs = list(itertools.product(parts, parts))
    handles = queue.push_batch([make(user, name) for user, name in pairs])
    assert all(handle.created for handle in handles)
    assert queue.stats().queued == len(pairs) == 256
    assert {user.user_id: user.queued for user in queue.users(limit=1000)} == dict.fromkeys(parts, 16)
    for user in parts[:3]:
        assert sorted(names(queue.pop_batch("w", 1000, users=[user]))) == sorted(parts)
    taken = drain(queue, 7)
    assert sorted((task.user_id or "", task.task_id) for task in taken) == sorted(pairs[48:])


def test_all_names_live_together_in_one_queue(queue: TaskQueue) -> None:
    for user in NAMES:
        push(queue, user, *NAMES)
    assert queue.stats().queued == len(NAMES) ** 2
    seen = [user.user_id for user in queue.users(limit=1000)]
    assert sorted(seen) == sorted(NAMES)
    order = drain(queue, 100)
    # One task of each user in turn, and each user's in the order they were pushed.
    turns = len(NAMES)
    for turn, name in enumerate(NAMES):
        served = order[turn * turns : (turn + 1) * turns]
        assert sorted(task.user_id or "" for task in served) == sorted(NAMES)
        assert {task.task_id for task in served} == {name}


def test_keys_are_printable_whatever_the_names(queue: TaskQueue, raw: Redis, prefix: str) -> None:
    for name in NAMES:
        queue.push(make(name, name))
        queue.finish(popped(queue))
    keys = [key.decode() for key in raw.keys(f"{prefix}*")]  # type: ignore[union-attr]
    assert [key for key in keys if any(ord(sign) < 32 or ord(sign) == 127 for sign in key)] == []
