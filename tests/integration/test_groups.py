"""Groups: the turns of a user go round its projects, as the turns of the queue go round its users."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from redis import Redis

from fairque.core.config import UserPolicy
from fairque.core.exceptions import TaskNotFoundError, TaskValidationError
from fairque.core.models import Priority, Task, TaskState
from fairque.queue.queue import TaskQueue
from tests.integration.conftest import OpenQueue
from tests.support.actions import drain, lapse, make, names, popped, push, server_ms, sleep_past
from tests.support.invariants import check_invariants

HOSTILE = [
    "a:b",
    ":",
    "%3A",
    "{x}",
    "*",
    "a b",
    '"quoted"',
    '","priority":1,"',
    "new\nline",
    "nul\0",
    "日本 🎌",
    "g" * 256,
    "lane",
    "\\",
]


def by_group(tasks: list[Task[Any]]) -> Counter[str | None]:
    return Counter(task.group for task in tasks)


def in_groups(queue: TaskQueue, user: str, **counts: int) -> None:
    for group, count in counts.items():
        push(queue, user, *(f"{group}{i}" for i in range(count)), group=group)


# --- turns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 5, 40])
def test_a_noisy_group_does_not_starve_its_siblings(queue: TaskQueue, batch: int) -> None:
    in_groups(queue, "u", noisy=500, small=5, tiny=2)
    order: list[str] = []
    while len(order) < 20:
        tasks = queue.pop_batch("w", batch)
        order += names(tasks)
        queue.finish_batch((task, None) for task in tasks)
    assert order[:6] == ["noisy0", "small0", "tiny0", "noisy1", "small1", "tiny1"]
    assert order[6:12] == ["noisy2", "small2", "noisy3", "small3", "noisy4", "small4"]
    assert order[12:20] == [f"noisy{i}" for i in range(5, 13)]


@pytest.mark.parametrize("batch", [2, 9, 30, 300])
def test_a_batch_takes_the_turns_of_many_groups_as_single_claims_do(queue: TaskQueue, batch: int) -> None:
    counts = {f"g{i}-": 1 + i * 7 % 5 for i in range(60)}
    for user in ("one by one", "batch"):
        in_groups(queue, user, **counts)
    single = [popped(queue, users=["one by one"]).task_id for _ in range(sum(counts.values()))]
    batches: list[str] = []
    while tasks := queue.pop_batch("w", batch, users=["batch"]):
        batches += names(tasks)
    assert batches == single


def test_a_new_group_waits_for_at_most_one_task_of_each_sibling(queue: TaskQueue) -> None:
    in_groups(queue, "u", a=50, b=50)
    for _ in range(40):
        queue.finish(popped(queue))
    in_groups(queue, "u", new=3)
    order = names(queue.pop_batch("w", 9))
    assert order.index("new0") <= 2
    assert order.index("new1") - order.index("new0") == 3


def test_a_user_gains_nothing_by_groups(queue: TaskQueue) -> None:
    in_groups(queue, "many", **{f"g{i}": 3 for i in range(10)})
    push(queue, "one", *(f"o{i}" for i in range(30)))
    assert Counter(task.user_id for task in queue.pop_batch("w", 20)) == {"many": 10, "one": 10}


def test_groups_of_users_with_one_name_are_apart(queue: TaskQueue) -> None:
    in_groups(queue, "a", g=4, h=1)
    in_groups(queue, "b", g=2)
    tasks = queue.pop_batch("w", 20)
    assert Counter((task.user_id, task.group) for task in tasks) == {
        ("a", "g"): 4,
        ("a", "h"): 1,
        ("b", "g"): 2,
    }
    assert names([task for task in tasks if task.user_id == "a"]) == ["g0", "h0", "g1", "g2", "g3"]


def test_what_has_no_group_is_a_group_of_its_own(queue: TaskQueue) -> None:
    push(queue, "u", *(f"none{i}" for i in range(4)))
    in_groups(queue, "u", g=2)
    assert names(queue.pop_batch("w", 9)) == ["none0", "g0", "none1", "g1", "none2", "none3"]


def test_a_user_that_begins_to_use_groups_keeps_its_backlog(queue: TaskQueue) -> None:
    push(queue, "u", *(f"old{i}" for i in range(100)))
    running = queue.pop_batch("w", 10)
    in_groups(queue, "u", g=3)
    assert names(queue.pop_batch("w", 6)) == ["old10", "g0", "old11", "g1", "old12", "g2"]
    queue.finish_batch((task, None) for task in running)
    assert names(drain(queue, 7)) == [f"old{i}" for i in range(13, 100)]


def test_more_groups_than_one_claim_reads_all_get_their_turn(queue: TaskQueue) -> None:
    queue.push_batch([make("u", f"{i}/{j}", group=f"g{i:04}") for i in range(700) for j in range(2)])
    first, second = queue.pop_batch("w", 1000), queue.pop_batch("w", 1000)
    assert names(first) == [f"{i}/0" for i in range(700)] + [f"{i}/1" for i in range(300)]
    assert names(second) == [f"{i}/1" for i in range(300, 700)]


def test_single_pops_and_batches_agree_where_groups_drain(queue: TaskQueue, open_queue: OpenQueue) -> None:
    expected = None
    for user, batch in (("x", 1), ("y", 3), ("z", 100)):
        in_groups(queue, user, a=7, b=1, c=3)
        push(queue, user, "n0", "n1")
        order: list[str] = []
        while tasks := queue.pop_batch("w", batch):
            order += names(tasks)
        expected = expected or order
        assert order == expected


def test_a_group_that_drains_and_returns_gets_no_credit_and_no_forgiveness(queue: TaskQueue) -> None:
    in_groups(queue, "u", busy=60)
    for number in range(8):
        push(queue, "u", f"brief{number}", group="brief")
        pair = names([popped(queue), popped(queue)])
        assert sorted(pair) == sorted([f"busy{number}", f"brief{number}"])
    assert by_group(queue.pop_batch("w", 9)) == {"busy": 9}
    push(queue, "u", *(f"late{i}" for i in range(9)), group="brief")
    counts = by_group(queue.pop_batch("w", 8))
    assert abs(counts["busy"] - counts["brief"]) <= 1


def test_groups_that_come_and_go_leave_little_behind(queue: TaskQueue, raw: Redis, root: str) -> None:
    for start in range(0, 3000, 100):
        queue.push_batch([make("u", f"{i}", group=f"job {i}") for i in range(start, start + 100)])
        tasks = queue.pop_batch("w", 100)
        assert len(tasks) == 100
        queue.finish_batch((task, None) for task in tasks)
    assert raw.zcard(f"{root}:idle_groups:u") <= 1000
    assert not raw.exists(f"{root}:groups:u")


# --- order within a group -----------------------------------------------------------------------------


def test_priority_orders_within_a_group_and_buys_no_turn(queue: TaskQueue) -> None:
    push(queue, "u", "low", group="a", priority=Priority.LOW)
    push(queue, "u", "high", group="a", priority=Priority.HIGH)
    push(queue, "u", "critical", group="a", priority=Priority.CRITICAL)
    push(queue, "u", "b0", "b1", "b2", group="b", priority=Priority.VERY_LOW)
    assert names(queue.pop_batch("w", 9)) == ["critical", "b0", "high", "b1", "low", "b2"]


# --- every transition ---------------------------------------------------------------------------------


def test_a_delayed_task_joins_its_group(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "later", group="g", delay=0.01)
    push(queue, "u", "n0", "n1")
    sleep_past(raw, server_ms(raw) + 12)
    assert names(queue.pop_batch("w", 9)) == ["n0", "later", "n1"]


def test_a_task_that_comes_back_comes_back_to_its_group(queue: TaskQueue, raw: Redis) -> None:
    in_groups(queue, "u", g=4, h=4)
    for how in ("release", "reclaim"):
        task = lapse(queue, raw) if how == "reclaim" else popped(queue)
        if how == "reclaim":
            queue.reclaim()
        else:
            queue.release(task)
            queue.release(task)  # said twice
        assert queue.explain("u", task.task_id).group == task.group
        assert queue.explain("u", task.task_id).ahead == 0
    assert by_group(queue.pop_batch("w", 9)) == {"g": 4, "h": 4}


def test_a_retry_and_a_requeued_task_come_back_to_their_group(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    in_groups(queue, "u", g=1, h=1)
    first, second = popped(queue), popped(queue)
    queue.fail(first, "no")
    queue.fail(second, "no", failure_type="invalid")
    raw.zadd(f"{root}:scheduled", {"u:g0": int(server_ms(raw) * 1000) - 1})  # its time has come
    queue.requeue("u", "h0")
    push(queue, "u", "n")
    assert by_group(queue.pop_batch("w", 9)) == {"g": 1, "h": 1, None: 1}


def test_a_canceled_task_leaves_its_group_and_the_last_one_its_users_turn(queue: TaskQueue) -> None:
    in_groups(queue, "u", g=2, h=1)
    push(queue, "u", "delayed", group="g", delay=3600)
    assert queue.cancel("u", "g0")
    assert queue.cancel("u", "h0")
    assert queue.cancel("u", "delayed")
    assert names(queue.pop_batch("w", 9)) == ["g1"]
    assert queue.cancel("u", "g1")  # it runs
    assert queue.stats().ready_users == 0
    assert queue.stats().canceled == 4


def test_canceling_the_whole_backlog_takes_the_user_out_of_the_ring(queue: TaskQueue) -> None:
    in_groups(queue, "u", g=1, h=1)
    for name in ("g0", "h0"):
        queue.cancel("u", name)
    assert queue.stats().ready_users == 0
    push(queue, "u", "again", group="g")
    assert popped(queue).task_id == "again"


def test_expired_and_lost_tasks_of_a_group_hold_nobody_up(queue: TaskQueue, raw: Redis, root: str) -> None:
    moment = server_ms(raw) / 1000 + 0.02
    push(queue, "u", *(f"e{i}" for i in range(60)), group="expired", expires_at=moment)
    push(queue, "u", "lost", group="lost")
    in_groups(queue, "u", good=3)
    push(queue, "v", "v0")
    raw.delete(f"{root}:task:u:lost")
    sleep_past(raw, moment * 1000 + 2)
    assert names(drain(queue, 4)) == ["v0", "good0", "good1", "good2"]
    stats = queue.stats()
    assert (stats.failed, stats.queued, stats.totals["lost"]) == (60, 0, 1)


def test_limits_hold_over_all_groups_of_a_user(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(max_concurrency=3, max_queued=10))
    in_groups(queue, "u", a=4, b=4)
    assert by_group(queue.pop_batch("w", 9)) == {"a": 2, "b": 1}
    assert queue.pop("w") is None


def test_a_paused_user_keeps_the_turns_of_its_groups(queue: TaskQueue) -> None:
    in_groups(queue, "u", a=3, b=3)
    popped(queue)
    queue.pause_user("u")
    in_groups(queue, "u", c=1)
    assert queue.pop("w") is None
    queue.resume_user("u")
    assert names(queue.pop_batch("w", 9))[:2] == ["b0", "c0"]


def test_the_group_is_told(queue: TaskQueue) -> None:
    handle = queue.push(Task.create(payload=1, group="made with"), user_id="u", group="pushed with")
    assert handle.info().group == "pushed with"
    task = popped(queue)
    assert task.group == "pushed with"
    assert queue.get("u", task.task_id) is not None
    queue.fail(task, "no", failure_type="invalid")
    assert [failed.group for failed in queue.failed_tasks()] == ["pushed with"]


# --- names --------------------------------------------------------------------------------------------


def test_any_name_may_name_a_group(queue: TaskQueue, raw: Redis, root: str) -> None:
    for user in ("u", "u:x"):
        for group in HOSTILE:
            push(queue, user, f"{group[:20]} 0", f"{group[:20]} 1", group=group)
    check_invariants(raw, root)
    for group in HOSTILE:
        assert queue.handle("u", f"{group[:20]} 0").state() is TaskState.QUEUED
        assert queue.explain("u:x", f"{group[:20]} 1").group == group
    tasks = queue.pop_batch("w", 1000)
    assert by_group(tasks) == dict.fromkeys(HOSTILE, 4)
    assert set(by_group(tasks[: 2 * len(HOSTILE)]).values()) == {2}
    queue.release(tasks)
    check_invariants(raw, root)
    for group in HOSTILE:
        assert queue.cancel("u", f"{group[:20]} 1")
    assert by_group(drain(queue, 9)) == dict.fromkeys(HOSTILE, 3)


@pytest.mark.parametrize("group", ["", "g" * 257, "\ud800", 5, b"g"])
def test_what_cannot_name_a_group_is_refused(queue: TaskQueue, group: Any) -> None:
    with pytest.raises(TaskValidationError, match="group"):
        queue.push(make("u", "t"), group=group)
    with pytest.raises(TaskNotFoundError):
        queue.explain("u", "t")
