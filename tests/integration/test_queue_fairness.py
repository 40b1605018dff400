"""Fair order among users, and the order of each user's own tasks."""

from __future__ import annotations

import itertools
import time
from collections import Counter

import pytest
from redis import Redis

from fairque.core.models import Priority
from fairque.queue.queue import TaskQueue
from tests.integration.conftest import OpenQueue
from tests.support.actions import drain, lapse, make, names, popped, push, server_ms, sleep_past

SMALL = [f"small-{i}" for i in range(9)]


def push_one_big_and_nine_small(queue: TaskQueue) -> None:
    push(queue, "A", *(f"A{i}" for i in range(5000)))
    for user in SMALL:
        push(queue, user, *(f"{user}/{i}" for i in range(10)))


def take(queue: TaskQueue, count: int, batch: int) -> list[str]:
    """The first `count` tasks in the order they come out, one consumer finishing as it goes."""
    taken: list[str] = []
    while len(taken) < count:
        tasks = queue.pop_batch("w", min(batch, count - len(taken)))
        taken += names(tasks)
        queue.finish_batch((task, None) for task in tasks)
    return taken


# --- among users ---


def test_nine_small_users_pass_a_backlog_of_five_thousand_in_exact_round_robin(queue: TaskQueue) -> None:
    push_one_big_and_nine_small(queue)
    order = take(queue, 200, 1)
    small = [place for place, name in enumerate(order) if name.startswith("small")]
    assert len(small) == 90
    assert small[-1] == 99
    for turn in range(10):
        expected = [f"A{turn}", *(f"{user}/{turn}" for user in SMALL)]
        assert order[turn * 10 : turn * 10 + 10] == expected
    assert order[100:] == [f"A{i}" for i in range(10, 110)]


@pytest.mark.parametrize("batch", [2, 3, 7, 10, 64, 200])
def test_batches_of_any_size_give_the_order_of_single_pops(queue: TaskQueue, batch: int) -> None:
    push_one_big_and_nine_small(queue)
    order = take(queue, 200, batch)
    expected = [
        name for turn in range(10) for name in [f"A{turn}", *(f"{user}/{turn}" for user in SMALL)]
    ] + [f"A{i}" for i in range(10, 110)]
    assert order == expected


def test_users_that_drain_within_a_batch_do_not_disturb_the_order(queue: TaskQueue) -> None:
    for number, user in enumerate("abcdefgh"):
        push(queue, user, *(f"{user}{i}" for i in range(number + 1)))
    expected = [
        f"{user}{turn}" for turn in range(8) for user in "abcdefgh"["abcdefgh".index("abcdefgh"[turn]) :]
    ]
    assert names(queue.pop_batch("w", 1000)) == expected


def test_a_new_user_waits_for_at_most_one_task_of_each_other(queue: TaskQueue) -> None:
    for user in "abcd":
        push(queue, user, *(f"{user}{i}" for i in range(50)))
    take(queue, 42, 1)
    push(queue, "new", "n0", "n1")
    order = take(queue, 10, 1)
    assert order.index("n0") <= 4
    assert order.index("n1") - order.index("n0") == 5


def test_idling_earns_no_credit(queue: TaskQueue) -> None:
    push(queue, "idler", "i-first")
    take(queue, 1, 1)
    push(queue, "busy", *(f"b{i}" for i in range(100)))
    take(queue, 50, 1)
    push(queue, "idler", *(f"i{i}" for i in range(10)))
    order = take(queue, 20, 1)
    # Fifty tasks of the other are not made up for: from here on they take turns.
    assert Counter(name[0] for name in order) == {"i": 10, "b": 10}
    assert all(left[0] != right[0] for left, right in itertools.pairwise(order))


def test_a_user_who_drains_and_returns_gets_no_credit(queue: TaskQueue) -> None:
    push(queue, "busy", *(f"b{i}" for i in range(100)))
    push(queue, "comes and goes", "c0")
    order = take(queue, 2, 1)
    assert order == ["b0", "c0"]
    for number in range(1, 10):
        # Each time it is alone with one task, and each time it waits for one of the other's.
        push(queue, "comes and goes", f"c{number}")
        order += take(queue, 2, 1)
    assert order == [name for i in range(10) for name in (f"b{i}", f"c{i}")]


def test_a_user_who_drains_and_returns_is_not_forgiven_its_debt(queue: TaskQueue) -> None:
    push(queue, "other", *(f"o{i}" for i in range(30)))
    push(queue, "dodger", *(f"d{i}" for i in range(10)))
    # A worker of its own serves the dodger ten times out of turn.
    for _ in range(10):
        queue.finish(popped(queue, users=["dodger"]))
    push(queue, "dodger", *(f"d{i}" for i in range(10, 20)))
    order = take(queue, 20, 1)
    assert order[:10] == [f"o{i}" for i in range(10)]
    assert Counter(name[0] for name in order[10:]) == {"o": 5, "d": 5}


def test_a_debt_outlives_an_empty_queue(queue: TaskQueue) -> None:
    push(queue, "dodger", *(f"d{i}" for i in range(10)))
    push(queue, "other", "o")
    for _ in range(10):
        queue.finish(popped(queue, users=["dodger"]))
    queue.cancel("other", "o")
    assert queue.pop("w") is None
    # The last one served had been charged nine when its tenth was picked: a newcomer enters there.
    push(queue, "third", *(f"t{i}" for i in range(3)))
    push(queue, "dodger", *(f"d{i}" for i in range(10, 13)))
    assert take(queue, 6, 1) == ["t0", "d10", "t1", "d11", "t2", "d12"]


def test_a_newcomer_enters_at_the_floor_when_the_queue_was_empty(queue: TaskQueue) -> None:
    push(queue, "old", *(f"o{i}" for i in range(40)))
    take(queue, 40, 10)
    push(queue, "new", *(f"n{i}" for i in range(4)))
    push(queue, "old", *(f"o{i}" for i in range(40, 43)))
    # It is not owed forty tasks: one, for the turn in which the other was served last.
    assert take(queue, 7, 1) == ["n0", "n1", "o40", "n2", "o41", "n3", "o42"]


def test_the_floor_never_steps_back(queue: TaskQueue) -> None:
    push(queue, "ahead", *(f"a{i}" for i in range(10)))
    push(queue, "behind", "b")
    for _ in range(10):
        queue.finish(popped(queue, users=["ahead"]))
    # The last one served stands far behind what was served before it.
    assert take(queue, 1, 1) == ["b"]
    push(queue, "new", *(f"n{i}" for i in range(4)))
    push(queue, "ahead", *(f"a{i}" for i in range(10, 13)))
    assert take(queue, 7, 1) == ["n0", "a10", "n1", "a11", "n2", "a12", "n3"]


def test_a_picky_worker_keeps_the_order_among_the_users_it_picks(queue: TaskQueue) -> None:
    for user in "abc":
        push(queue, user, *(f"{user}{i}" for i in range(4)))
    assert names(queue.pop_batch("w", 5, users=["c", "a"])) == ["a0", "c0", "a1", "c1", "a2"]
    # The rest goes to the one that was passed over first.
    assert take(queue, 4, 1) == ["b0", "b1", "b2", "c2"]


def test_a_task_that_comes_back_is_charged_for_each_attempt(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "crasher", "c")
    push(queue, "other", *(f"o{i}" for i in range(5)))
    for _ in range(2):
        task = lapse(queue, raw)
        assert task.user_id == "crasher"
        queue.reclaim()
        assert popped(queue).user_id == "other"
    assert {user.user_id: user.virtual_time for user in queue.users()} == {"crasher": 2, "other": 2}


def test_service_never_differs_by_more_than_a_task_whoever_pushes_when(queue: TaskQueue) -> None:
    users = "abcde"
    for number, user in enumerate(users):
        push(queue, user, *(f"{user}{i}" for i in range(100 * (number + 1))))
    served: Counter[str] = Counter()
    for name in take(queue, 400, 1):
        served[name[0]] += 1
        assert max(served.values()) - min(served[user] for user in users) <= 1


def test_equal_users_take_turns_in_the_order_of_their_names(queue: TaskQueue) -> None:
    users = ["b", "a", "é", "Z", "🎌", "aa", "~", "\x7f"]
    for user in users:
        push(queue, user, f"{user}0", f"{user}1")
    single = [popped(queue).user_id for _ in users]
    batch = [task.user_id for task in queue.pop_batch("w", len(users))]
    assert single == batch


# --- within one user ---


def test_the_order_of_pushing_is_kept_whatever_the_ids(queue: TaskQueue) -> None:
    ids = [str(number * 7919 % 1000) for number in range(1000)]
    push(queue, "u", *ids)
    for single in ("z", "a", "m"):
        queue.push(make("u", single))
    assert names(drain(queue, 100)) == [*ids, "z", "a", "m"]


def test_priorities_order_a_users_tasks(queue: TaskQueue) -> None:
    for priority in (3, 1, 6, 2, 5, 4):
        push(queue, "u", f"{priority}a", f"{priority}b", priority=priority)
    for priority in (3, 1, 6, 2, 5, 4):
        push(queue, "u", f"{priority}c", priority=priority)
    assert names(drain(queue, 5)) == [
        f"{priority}{letter}" for priority in (6, 5, 4, 3, 2, 1) for letter in "abc"
    ]


def test_priority_buys_no_larger_share(queue: TaskQueue) -> None:
    push(queue, "humble", *(f"h{i}" for i in range(5)), priority=Priority.VERY_LOW)
    push(queue, "loud", *(f"l{i}" for i in range(5)), priority=Priority.CRITICAL)
    order = take(queue, 10, 1)
    assert order == [name for i in range(5) for name in (f"h{i}", f"l{i}")]


def test_critical_is_strictly_first_in_first_out_and_first_of_its_user_only(queue: TaskQueue) -> None:
    push(queue, "a", "a-high-0", "a-high-1", priority=Priority.VERY_HIGH)
    push(queue, "b", "b0", "b1", "b2", "b3")
    push(queue, "a", "a-crit-z", "a-crit-m", "a-crit-a", priority=Priority.CRITICAL)
    assert take(queue, 9, 1) == [
        "a-crit-z",
        "b0",
        "a-crit-m",
        "b1",
        "a-crit-a",
        "b2",
        "a-high-0",
        "b3",
        "a-high-1",
    ]


def test_critical_stays_ahead_of_everything_however_old(open_queue: OpenQueue) -> None:
    # With no ageing at all, age alone orders the rest; CRITICAL is still first.
    queue = open_queue(ageing_seconds=0)
    push(queue, "u", "low", priority=Priority.VERY_LOW)
    push(queue, "u", "very-high", priority=Priority.VERY_HIGH)
    push(queue, "u", "critical", priority=Priority.CRITICAL)
    assert names(drain(queue)) == ["critical", "low", "very-high"]


def test_waiting_lifts_a_low_priority_over_newer_higher_ones(open_queue: OpenQueue) -> None:
    queue = open_queue(ageing_seconds=0.1)
    push(queue, "u", "low", priority=Priority.LOW)
    start = time.monotonic()
    push(queue, "u", "normal-at-once", priority=Priority.NORMAL)
    time.sleep(0.11)  # one level of priority
    push(queue, "u", "normal-later", priority=Priority.NORMAL)
    push(queue, "u", "high", priority=Priority.HIGH)
    if time.monotonic() - start < 0.2:  # a machine that slept longer has aged "low" past "high" as well
        assert names(drain(queue)) == ["normal-at-once", "high", "low", "normal-later"]
    else:
        order = names(drain(queue))
        assert order.index("low") < order.index("normal-later")


def test_ageing_orders_by_push_time_and_priority_alone(open_queue: OpenQueue, raw: Redis) -> None:
    # A level of priority is worth 50 ms; places are fixed at the push, and nothing reorders them later.
    queue = open_queue(ageing_seconds=0.05)
    order: list[tuple[float, str]] = []
    for number in range(40):
        priority = number * 7 % 5 + 1
        queue.push(make("u", str(number), priority=priority))
        info = queue.handle("u", str(number)).info()
        order.append((float(info.run.place), str(number)))
        assert info.queued_at is not None
        expected = info.queued_at.timestamp() * 1e6 - (priority - 1) * 50_000
        assert abs(expected - order[-1][0]) < 1001
        sleep_past(raw, server_ms(raw) + 3)
    assert names(drain(queue, 7)) == [name for _, name in sorted(order)]


def test_equal_delays_keep_their_order(queue: TaskQueue, raw: Redis) -> None:
    ids = [str(number * 7919 % 500) for number in range(500)]
    push(queue, "u", *ids, delay=0.05)
    last = queue.handle("u", ids[-1]).info().due_at
    assert last is not None
    sleep_past(raw, last.timestamp() * 1000 + 1)
    assert names(drain(queue, 33)) == ids


def test_tasks_of_one_batch_for_one_moment_keep_their_order(queue: TaskQueue, raw: Redis) -> None:
    ids = [str(number * 7919 % 100) for number in range(100)]
    moment = server_ms(raw) / 1000 + 0.1
    queue.push_batch([make("u", name, execute_after=moment) for name in ids])
    sleep_past(raw, moment * 1000 + 2)
    assert names(drain(queue, 33)) == ids


def test_a_delayed_task_takes_the_place_of_its_due_time(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "second", delay=0.03)
    push(queue, "u", "third", delay=0.06)
    push(queue, "u", "first")
    sleep_past(raw, server_ms(raw) + 100)
    push(queue, "u", "fourth")
    assert names(drain(queue)) == ["first", "second", "third", "fourth"]


def test_the_order_survives_a_clock_that_steps_back(queue: TaskQueue, raw: Redis, root: str) -> None:
    push(queue, "u", "a")
    # As after a failover to a server whose clock is behind: the last tick lies in the future.
    ahead = int(server_ms(raw) * 1000) + 3_600_000_000
    raw.hset(f"{root}:clock", "tick", str(ahead))
    push(queue, "u", "b", "c")
    push(queue, "u", "d")
    assert names(drain(queue)) == ["a", "b", "c", "d"]
    assert int(raw.hget(f"{root}:clock", "tick") or 0) == ahead + 3


def test_equal_users_are_served_in_the_order_of_their_bytes_whatever_they_have_in_common(
    queue: TaskQueue,
) -> None:
    users = ["a" * n for n in (1, 2, 3, 255, 256)] + ["a" * n + "b" for n in (1, 127, 254)]
    users += ["é", "日本", "🎌" * 256, "🎌" * 255 + "🎍", "🎌" * 128, "Z", "~", "a" * 100 + "é"]
    queue.push_batch([make(user, name) for user in users for name in "abc"])
    in_order = sorted(users, key=str.encode)
    for among in (None, users, in_order[::-1]):
        tasks = queue.pop_batch("w", len(users), users=among)
        assert [task.user_id for task in tasks] == in_order
