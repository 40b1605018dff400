"""No stale effects: an attempt that lost its lease changes nothing, whatever it tries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from fairque.core.exceptions import LeaseLostError, TaskValidationError
from fairque.core.models import Task, TaskState
from fairque.queue.queue import TaskQueue
from tests.integration.conftest import OpenQueue
from tests.support.actions import lapse, make, names, popped, push, sleep_past
from tests.support.invariants import Shard

# Every way in which an attempt can try to have an effect.
EFFECTS: dict[str, Callable[[TaskQueue, Task[Any]], object]] = {
    "finish": lambda queue, task: queue.finish(task, "stale"),
    "finish_batch": lambda queue, task: queue.finish_batch([(task, "stale")]),
    "fail": lambda queue, task: queue.fail(task, "stale"),
    "fail_for_good": lambda queue, task: queue.fail(task, "stale", failure_type="invalid"),
    "heartbeat": lambda queue, task: queue.heartbeat([task], lease=100),
    "release": lambda queue, task: queue.release([task]),
    "xcom": lambda queue, task: queue.run(
        queue.commands.shards[0].xcom("u", attempt=task).push("key", "stale")
    ),
}


def reclaimed(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = lapse(queue, raw)
    queue.reclaim()
    return task


def run_again_by_another(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = reclaimed(queue, raw)
    assert popped(queue, "another").attempt == 2
    return task


def finished_by_another(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = reclaimed(queue, raw)
    queue.finish(popped(queue, "another"), "good")
    return task


def canceled(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = popped(queue)
    assert queue.cancel("u", "t")
    return task


def released(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = popped(queue)
    queue.release([task])
    return task


def released_and_run_again(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = released(queue, raw)
    popped(queue, "another")
    return task


def retried(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = popped(queue)
    assert queue.fail(task, "once") is TaskState.SCHEDULED
    return task


def requeued_and_run_again(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = popped(queue)
    queue.fail(task, "once", failure_type="invalid")
    queue.requeue("u", "t")
    popped(queue, "another")
    return task


def cleaned_up(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = canceled(queue, raw)
    ended = queue.handle("u", "t").info().finished_at
    assert ended is not None
    sleep_past(raw, ended.timestamp() * 1000 + 2)
    assert queue.cleanup_expired_tasks() == 1
    return task


def pushed_again_after_cleanup(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = cleaned_up(queue, raw)
    assert queue.push(make("u", "t")).created
    return task


def run_in_a_second_life(queue: TaskQueue, raw: Redis) -> Task[Any]:
    # The new attempt has the number of the old one: only place and moment tell them apart.
    task = pushed_again_after_cleanup(queue, raw)
    assert popped(queue, "another").attempt == task.attempt == 1
    return task


def run_again_after_a_failover_that_forgot_the_claim(queue: TaskQueue, raw: Redis) -> Task[Any]:
    # The replica that takes over has the keys as they were before: number and place come again.
    mine = f"{queue.commands.shards[0].keys.root}*"
    replicated = {key: raw.dump(key) or b"" for key in raw.scan_iter(mine)}
    task = popped(queue)
    raw.delete(*raw.scan_iter(mine))
    for key, value in replicated.items():
        raw.restore(key, 0, value)
    again = popped(queue, "another")
    assert (again.attempt, again.run.place) == (task.attempt, task.run.place)
    return task


LOSSES = [
    reclaimed,
    run_again_by_another,
    finished_by_another,
    canceled,
    released,
    released_and_run_again,
    retried,
    requeued_and_run_again,
    cleaned_up,
    pushed_again_after_cleanup,
    run_in_a_second_life,
    run_again_after_a_failover_that_forgot_the_claim,
]

# The repeats of what this attempt did itself are harmless, by promise; and to hand back what lies at its old
# place already is such a repeat, whoever laid it there.
OWN_REPEATS = {
    ("retried", "fail"),
    ("retried", "fail_for_good"),
    ("released", "release"),
    ("reclaimed", "release"),
}


def picture(raw: Redis, root: str) -> dict[str, Any]:
    return {name: value for name, value in vars(Shard(raw, root)).items() if name != "now"}


@pytest.fixture
def fast(open_queue: OpenQueue) -> TaskQueue:
    """Ended tasks are gone with the next cleanup."""
    return open_queue(push_retry_window=0.001, retention={"finished": 100, "failed": 100, "canceled": 0.001})


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("effect", EFFECTS)
def test_an_attempt_without_its_lease_has_no_effect(
    fast: TaskQueue, raw: Redis, root: str, loss: Callable[[TaskQueue, Redis], Task[Any]], effect: str
) -> None:
    push(fast, "u", "t")
    task = loss(fast, raw)
    before = picture(raw, root)
    if (loss.__name__, effect) in OWN_REPEATS:
        EFFECTS[effect](fast, task)
    else:
        with pytest.raises(LeaseLostError) as caught:
            EFFECTS[effect](fast, task)
        assert (caught.value.user_id, caught.value.task_id, caught.value.attempt) == ("u", "t", 1)
        assert caught.value.lost == (("u", "t"),)
    after = picture(raw, root)
    # `release` hands on a wake-up even if nothing was released: its sender may have swallowed one.
    for state in (before, after):
        state.pop("wake_tokens"), state["singles"].discard("wake")
    assert after == before


def test_a_repeated_finish_by_the_same_attempt_is_harmless(queue: TaskQueue) -> None:
    push(queue, "u", "t")
    task = popped(queue)
    queue.finish(task, "first")
    queue.finish(task, "second")
    assert queue.handle("u", "t").result(0) == "first"
    assert queue.stats().totals["finished"] == 1


@pytest.mark.parametrize("failure_type", ["failed", "invalid"])
def test_a_repeated_fail_by_the_same_attempt_is_harmless(queue: TaskQueue, failure_type: str) -> None:
    push(queue, "u", "t")
    task = popped(queue)
    first = queue.fail(task, "no", failure_type=failure_type)
    assert queue.fail(task, "no", failure_type=failure_type) is first
    info = queue.handle("u", "t").info()
    assert info.state is first
    assert info.failures == 1
    assert len(info.history) == 1


def test_finish_after_fail_and_fail_after_finish_are_refused(queue: TaskQueue) -> None:
    push(queue, "u", "a", "b")
    a, b = queue.pop_batch("w", 2)
    queue.fail(a, "no", failure_type="invalid")
    with pytest.raises(LeaseLostError):
        queue.finish(a, "yes")
    queue.finish(b, "yes")
    with pytest.raises(LeaseLostError):
        queue.fail(b, "no")
    assert queue.handle("u", "a").state() is TaskState.FAILED
    assert queue.handle("u", "b").result(0) == "yes"


def test_one_stale_task_of_a_batch_does_not_stop_the_others(queue: TaskQueue) -> None:
    push(queue, "u", *"abcd")
    a, b, c, d = queue.pop_batch("w", 4)
    queue.cancel("u", "b")
    queue.cancel("u", "d")
    with pytest.raises(LeaseLostError) as caught:
        queue.heartbeat([a, b, c, d])
    assert caught.value.lost == (("u", "b"), ("u", "d"))
    with pytest.raises(LeaseLostError) as caught:
        queue.finish_batch([(a, 1), (b, 2), (c, 3), (d, 4)])
    assert caught.value.lost == (("u", "b"), ("u", "d"))
    assert queue.handle("u", "a").result(0) == 1
    assert queue.handle("u", "c").result(0) == 3


def test_one_stale_task_does_not_stop_the_release_of_the_others(queue: TaskQueue) -> None:
    push(queue, "u", *"abc")
    a, b, c = queue.pop_batch("w", 3)
    queue.cancel("u", "b")
    with pytest.raises(LeaseLostError) as caught:
        queue.release([a, b, c])
    assert caught.value.lost == (("u", "b"),)
    assert names(queue.pop_batch("w", 3)) == ["a", "c"]


def test_the_same_task_twice_in_one_batch_is_finished_once(queue: TaskQueue) -> None:
    push(queue, "u", "t")
    task = popped(queue)
    queue.finish_batch([(task, "first"), (task, "second")])
    assert queue.handle("u", "t").result(0) == "first"
    assert queue.stats().totals["finished"] == 1


@pytest.mark.parametrize("priority", [1, 3, 6])
def test_the_same_task_released_twice_is_handed_back_once(queue: TaskQueue, priority: int) -> None:
    push(queue, "u", "t", priority=priority)
    task = popped(queue)
    queue.release([task, task])
    queue.release([task])
    stats = queue.stats()
    assert (stats.queued, stats.totals["released"]) == (1, 1)
    popped(queue, "another")
    with pytest.raises(LeaseLostError):
        queue.release([task])


def test_one_attempt_cannot_speak_for_another_task(queue: TaskQueue) -> None:
    push(queue, "u", "a", "b")
    a, b = queue.pop_batch("w", 2)
    impostor = a.with_options(task_id="b")
    with pytest.raises(LeaseLostError):
        queue.finish(impostor, "mine")
    with pytest.raises(LeaseLostError):
        queue.finish(a.with_options(user_id="v"), "mine")
    queue.finish_batch([(a, 1), (b, 2)])


def test_a_task_that_was_not_popped_cannot_be_ended(queue: TaskQueue) -> None:
    task = make("u", "t")
    queue.push(task)
    for effect in EFFECTS.values():
        with pytest.raises(TaskValidationError, match="was not popped from the queue"):
            effect(queue, task)
    assert queue.handle("u", "t").state() is TaskState.QUEUED


def test_an_expired_lease_that_nobody_reclaimed_can_still_be_finished(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "t")
    queue.finish(lapse(queue, raw), "late, and still the only attempt")
    assert queue.reclaim() == []
    assert queue.handle("u", "t").state() is TaskState.FINISHED


def test_a_heartbeat_keeps_a_lease_from_being_reclaimed(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "t")
    task = lapse(queue, raw)
    queue.heartbeat([task], lease=60)
    assert queue.reclaim() == []
    renewed = queue.handle("u", "t").info().lease_expires_at
    assert renewed is not None
    assert task.lease_expires_at is not None
    assert (renewed - task.lease_expires_at).total_seconds() > 59
    queue.finish(task)


def test_a_heartbeat_of_nothing_is_nothing(queue: TaskQueue) -> None:
    queue.heartbeat([])
    queue.release([])
    queue.finish_batch([])
    assert queue.stats().workers == 0
