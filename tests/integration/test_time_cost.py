"""`cost: time`: users are charged for the seconds that their tasks run.

No test waits for a task: `ran()` lets an attempt have begun earlier than it did.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import msgspec
import pytest
from redis import Redis

from fairque.core.config import UserPolicy
from fairque.core.exceptions import LeaseLostError
from fairque.core.fair_order import FIRST_ESTIMATE
from fairque.core.models import Task
from fairque.queue.queue import TaskQueue
from tests.integration.conftest import OpenQueue
from tests.support.actions import make, names, popped, push, sleep_past

BEGAN: list[float] = []  # time.monotonic() at the start of the test
NEAR = 0.02  # seconds that a test takes between two of its steps, unless others keep the machine busy


@pytest.fixture
def queue(open_queue: OpenQueue) -> TaskQueue:
    return open_queue(cost="time")


@pytest.fixture
def ran(raw: Redis, root: str) -> Any:
    def ran(task: Task[Any], seconds: float) -> Task[Any]:
        key = f"{root}:run:{task.user_id}:{task.task_id}"
        raw.hincrby(key, "started_at", -round(seconds * 1000))
        return task

    return ran


def of_function(user: str, name: str, function: str, **options: Any) -> Task[Any]:
    task = make(user, name, **options)
    header = msgspec.structs.replace(task.header, function=function)
    return msgspec.structs.replace(task, header=header, arguments=((), {}))


def charged(queue: TaskQueue, user: str = "u") -> float:
    stats = queue.user_stats(user)
    assert stats is not None
    return stats.virtual_time


@pytest.fixture(autouse=True)
def _clock() -> None:
    BEGAN[:] = [time.monotonic()]


def about(seconds: float) -> Any:
    """As near as the real time allows that has passed in the test: it is charged, too."""
    return pytest.approx(seconds, abs=max(NEAR, time.monotonic() - BEGAN[0]))


# --- what is charged ----------------------------------------------------------------------------------


def test_a_user_of_whom_nothing_is_known_is_charged_a_first_estimate(queue: TaskQueue) -> None:
    push(queue, "u", "a", "b")
    popped(queue)
    assert charged(queue) == FIRST_ESTIMATE


@pytest.mark.parametrize("seconds", [0.0, 0.05, 3.0, 5000.0])
def test_an_attempt_costs_what_it_ran_in_the_end(queue: TaskQueue, ran: Any, seconds: float) -> None:
    push(queue, "u", "a", "b")
    queue.finish(ran(popped(queue), seconds))
    assert charged(queue) == about(max(seconds, 0.001))
    stats = queue.user_stats("u")
    assert stats is not None
    assert stats.worker_seconds == about(seconds)


def test_the_next_estimate_is_a_moving_average(queue: TaskQueue, ran: Any) -> None:
    push(queue, "u", *"abcd")
    queue.finish(ran(popped(queue), 1.0))
    before = charged(queue)
    second = popped(queue)
    assert charged(queue) - before == about(1.0)
    queue.finish(ran(second, 2.0))
    before = charged(queue)
    popped(queue)
    assert charged(queue) - before == about(1.2)


def test_each_function_is_estimated_by_itself_and_a_new_one_by_the_users_others(
    queue: TaskQueue, ran: Any
) -> None:
    queue.push_batch(
        [of_function("u", f"{i}", name) for i, name in enumerate(["slow", "fast"] * 2 + ["new"])]
    )
    queue.finish(ran(popped(queue), 10.0))
    queue.finish(ran(popped(queue), 0.1))
    charges = []
    for _ in range(3):
        before = charged(queue)
        popped(queue)
        charges.append(charged(queue) - before)
    assert charges == [about(10.0), about(0.1), about(10.0 - 0.2 * 9.9)]


def test_functions_without_number_are_estimated_together(queue: TaskQueue, raw: Redis, root: str) -> None:
    queue.push_batch([of_function("u", f"{i}", f"f{i}") for i in range(150)])
    tasks = queue.pop_batch("w", 150)
    queue.finish_batch((task, None) for task in tasks)
    assert raw.hlen(f"{root}:costs:u") <= 101


def test_weights_divide_the_seconds(queue: TaskQueue, ran: Any) -> None:
    queue.set_policy("u", UserPolicy(weight=4.0))
    push(queue, "u", "a", "b")
    queue.finish(ran(popped(queue), 8.0))
    assert charged(queue) == about(2.0)


def test_short_tasks_get_as_many_seconds_as_long_ones(queue: TaskQueue, ran: Any) -> None:
    takes = {"long": 5.0, "short": 0.5}
    for user in takes:
        push(queue, user, *(f"{i}" for i in range(200)))
    used: Counter[str] = Counter()
    for _ in range(110):
        task = popped(queue)
        assert task.user_id is not None
        queue.finish(ran(task, takes[task.user_id]))
        used[task.user_id] += takes[task.user_id]  # type: ignore[assignment]
    assert abs(used["long"] - used["short"]) <= 5.5


# --- while it runs, and however it ends ---------------------------------------------------------------


def test_a_long_attempt_is_charged_as_it_runs(queue: TaskQueue, ran: Any) -> None:
    push(queue, "u", "a", "b")
    task = ran(popped(queue), 0.05)
    queue.heartbeat(task)
    assert charged(queue) == FIRST_ESTIMATE  # it is within its estimate
    queue.heartbeat(ran(task, 7.0))
    assert charged(queue) == about(7.05)
    queue.heartbeat([task, task])
    assert charged(queue) == about(7.05)
    queue.finish(task)
    assert charged(queue) == about(7.05)


def test_an_attempt_is_settled_once_however_often_it_is_told(queue: TaskQueue, ran: Any) -> None:
    push(queue, "u", "a", "b", "c")
    task = ran(popped(queue), 3.0)
    queue.finish_batch([(task, None), (task, None)])
    queue.finish(task)
    assert charged(queue) == about(3.0)
    task = ran(popped(queue), 1.0)
    queue.fail(task, "no", failure_type="invalid")
    queue.fail(task, "no", failure_type="invalid")
    assert charged(queue) == about(4.0)


@pytest.mark.parametrize("how", ["release", "cancel", "fail", "retry"])
def test_an_attempt_that_ends_otherwise_costs_what_it_ran(queue: TaskQueue, ran: Any, how: str) -> None:
    push(queue, "u", "a", "b")
    task = ran(popped(queue), 2.0)
    match how:
        case "release":
            queue.release(task)
            queue.release(task)
        case "cancel":
            queue.cancel("u", "a")
            queue.cancel("u", "a")
        case "fail":
            queue.fail(task, "no", failure_type="invalid")
        case _:
            queue.fail(task, "no")
    assert charged(queue) == about(2.0)
    stats = queue.user_stats("u")
    assert stats is not None
    assert stats.worker_seconds == about(2.0)
    with pytest.raises(LeaseLostError):
        queue.heartbeat(task)
    assert charged(queue) == about(2.0)


def test_an_attempt_cut_short_teaches_nothing_of_its_function(queue: TaskQueue, ran: Any) -> None:
    push(queue, "u", "a", "b")
    queue.release(ran(popped(queue), 50.0))
    before = charged(queue)
    popped(queue)
    assert charged(queue) - before == pytest.approx(FIRST_ESTIMATE)


def test_a_lost_lease_is_charged_to_its_end_and_not_longer(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "a", "b")
    task = popped(queue, lease=0.2)
    assert task.run.lease_expires_at is not None
    sleep_past(raw, task.run.lease_expires_at + 150)  # nobody looks for a while
    queue.reclaim()
    assert charged(queue) == pytest.approx(0.2, abs=0.002)


def test_a_refund_is_at_most_the_charge_though_the_weight_has_changed(queue: TaskQueue, ran: Any) -> None:
    push(queue, "u", *"abc")
    queue.finish(ran(popped(queue), 100.0))
    queue.set_policy("u", UserPolicy(weight=10.0))
    task = popped(queue)  # charged 100 s at weight 10
    assert charged(queue) == about(110.0)
    queue.set_policy("u", UserPolicy(weight=0.1))
    queue.finish(ran(task, 0.0))
    assert charged(queue) == about(100.0)


@pytest.mark.parametrize("weight", [1e-300, 1e300])
def test_a_charge_and_its_refund_at_extreme_weights_leave_no_debt(
    queue: TaskQueue, ran: Any, weight: float
) -> None:
    queue.set_policy("u", UserPolicy(weight=weight))
    push(queue, "u", *(f"{i}" for i in range(20)))
    for _ in range(19):
        queue.finish(ran(popped(queue), 0.5))
        assert 0 <= charged(queue) <= 19e9
    # Somebody new waits for one task at most.
    push(queue, "new", "n")
    assert "n" in {popped(queue).task_id, popped(queue).task_id}


def test_clients_of_both_costs_can_share_a_queue(open_queue: OpenQueue, ran: Any) -> None:
    by_time, by_tasks = open_queue(cost="time"), open_queue(cost="tasks")
    push(by_time, "u", *"abcd")
    by_tasks.finish(ran(popped(by_time), 3.0))
    assert charged(by_time) == about(3.0)
    by_time.finish(ran(popped(by_tasks), 3.0))
    assert charged(by_time) == about(4.0)
    # A task that was released from one is charged by the other.
    by_time.release(ran(popped(by_time), 1.0))
    by_tasks.release(popped(by_tasks))
    assert charged(by_time) == about(6.0)


# --- groups -------------------------------------------------------------------------------------------


def test_groups_share_their_users_seconds(queue: TaskQueue, ran: Any) -> None:
    takes = {"long": 5.0, "short": 0.5}
    for group in takes:
        push(queue, "u", *(f"{group}{i}" for i in range(200)), group=group)
    used: Counter[str] = Counter()
    for _ in range(110):
        task = popped(queue)
        assert task.group is not None
        queue.finish(ran(task, takes[task.group]))
        used[task.group] += takes[task.group]  # type: ignore[assignment]
    assert abs(used["long"] - used["short"]) <= 11


def test_a_group_is_refunded_nothing_that_it_was_not_charged(queue: TaskQueue, ran: Any) -> None:
    push(queue, "u", *(f"old{i}" for i in range(30)))
    queue.finish(ran(popped(queue), 1000.0))
    running = queue.pop_batch("w", 5)  # charged a thousand seconds each, before there were groups
    push(queue, "u", *(f"new{i}" for i in range(30)), group="g")
    queue.finish_batch((task, None) for task in running)
    served: Counter[str | None] = Counter()
    for _ in range(10):
        task = popped(queue)
        queue.finish(ran(task, 1.0))
        served[task.group] += 1
    assert abs(served["g"] - served[None]) <= 2


def test_a_refund_to_a_group_is_kept_when_it_drains(queue: TaskQueue, ran: Any) -> None:
    push(queue, "u", *(f"b{i}" for i in range(9)), group="b")
    queue.finish(ran(popped(queue), 10.0))  # ten seconds are the estimate, and where b stands
    push(queue, "u", "a0", "a1", group="a")
    running = queue.pop_batch("w", 3)
    assert names(running) == ["a0", "b1", "a1"]
    push(queue, "u", "a2", group="a")
    queue.finish_batch((task, None) for task in running if task.group == "a")  # they took no time at all
    queue.cancel("u", "a2")
    push(queue, "u", "a3", group="a")
    # It enters where b stands, and not where it had stood before the refund.
    assert set(names(queue.pop_batch("w", 2))) == {"a3", "b2"}
