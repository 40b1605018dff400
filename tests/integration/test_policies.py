"""Users' policies: from the configuration and set live, and how shares and pauses take effect."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from redis import Redis

from fairque.core.calls import single
from fairque.core.config import FairQueueConfig, UserPolicy
from fairque.core.exceptions import ConfigurationError, TaskValidationError
from fairque.queue.queue import TaskQueue
from tests.integration.conftest import OpenQueue
from tests.support.actions import drain, make, names, popped, push, server_ms, sleep_past
from tests.support.faces import Background
from tests.support.invariants import check_invariants

AN_HOUR = 3600.0


def serve(queue: TaskQueue, count: int, batch: int = 1) -> Counter[str]:
    """How many of the next `count` tasks are whose."""
    served: Counter[str] = Counter()
    while count > 0:
        tasks = queue.pop_batch("w", min(batch, count))
        assert tasks, "the queue gave nothing"
        served.update(task.user_id for task in tasks if task.user_id)
        queue.finish_batch((task, None) for task in tasks)
        count -= len(tasks)
    return served


# --- layers -------------------------------------------------------------------------------------------


def test_without_any_policy_the_built_in_one_counts(queue: TaskQueue) -> None:
    assert queue.get_policy("nobody knows") == UserPolicy()
    assert queue.users() == []


def test_layers_decide_field_by_field_live_over_configured_over_default(open_queue: OpenQueue) -> None:
    queue = open_queue(
        users={
            "default": UserPolicy(weight=2.0, max_queued=9, max_concurrency=5),
            "acme": UserPolicy(max_concurrency="50%", rate=4.0, burst=8),
        }
    )
    queue.set_policy("acme", UserPolicy(rate=1.0))
    policy = queue.get_policy("acme")
    assert policy == UserPolicy(weight=2.0, max_concurrency="50%", rate=1.0, burst=8, max_queued=9)
    assert queue.get_policy("other") == UserPolicy(weight=2.0, max_concurrency=5, max_queued=9)


def test_a_live_policy_can_take_a_limit_away_that_is_configured(open_queue: OpenQueue) -> None:
    queue = open_queue(users={"default": UserPolicy(max_concurrency=1), "u": UserPolicy(rate=1.0, burst=1)})
    push(queue, "u", *"abcd")
    assert names(queue.pop_batch("w", 9)) == ["a"]
    queue.set_policy("u", UserPolicy(max_concurrency=None))
    assert queue.pop("w") is None  # the rate still holds
    assert queue.update_policy("u", rate=None, burst=None) == UserPolicy()
    assert names(queue.pop_batch("w", 9)) == ["b", "c", "d"]


def test_clearing_goes_back_to_the_configuration(open_queue: OpenQueue) -> None:
    queue = open_queue(users={"u": UserPolicy(weight=3.0)})
    queue.set_policy("u", UserPolicy(weight=5.0, paused=True))
    queue.pause_user("u")
    queue.clear_policy("u")
    assert queue.get_policy("u") == UserPolicy(weight=3.0)


def test_setting_replaces_the_live_policy_and_updating_changes_parts_of_it(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(weight=2.0, max_queued=7))
    assert queue.update_policy("u", weight=4.0) == UserPolicy(weight=4.0, max_queued=7)
    queue.set_policy("u", UserPolicy(max_concurrency="25%"))
    assert queue.update_policy("u", max_queued=3) == UserPolicy(max_concurrency="25%", max_queued=3)
    assert queue.update_policy("u", max_concurrency=2) == UserPolicy(max_concurrency=2, max_queued=3)
    assert queue.get_policy("u") == UserPolicy(max_concurrency=2, max_queued=3)


def test_an_update_keeps_what_the_configuration_says_out_of_the_live_policy(open_queue: OpenQueue) -> None:
    before = open_queue(users={"u": UserPolicy(weight=3.0, max_queued=5)})
    before.update_policy("u", max_queued=6)
    after = open_queue(users={"u": UserPolicy(weight=7.0, max_queued=5)})
    assert after.get_policy("u") == UserPolicy(weight=7.0, max_queued=6)


def test_a_rate_can_be_removed_together_with_the_burst_that_hangs_on_it(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(rate=1e-3, burst=1))
    push(queue, "u", "a", "b")
    assert names(queue.pop_batch("w", 2)) == ["a"]
    assert queue.update_policy("u", rate=None) == UserPolicy()
    assert names(queue.pop_batch("w", 2)) == ["b"]


def test_a_burst_can_be_set_where_the_rate_is_configured(open_queue: OpenQueue) -> None:
    queue = open_queue(users={"u": UserPolicy(rate=1e-3)})
    assert queue.update_policy("u", burst=3) == UserPolicy(rate=1e-3, burst=3)
    push(queue, "u", *"abcd")
    assert names(queue.pop_batch("w", 9)) == ["a", "b", "c"]


def test_a_wrong_update_changes_nothing(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(weight=2.0))
    with pytest.raises(ConfigurationError, match="burst has no effect without rate"):
        queue.update_policy("u", burst=3)
    with pytest.raises(ConfigurationError, match=r"wieght: unknown key \(did you mean weight\?\)"):
        queue.update_policy("u", wieght=3.0)
    with pytest.raises(TaskValidationError, match="set_policy takes a UserPolicy, not dict"):
        queue.set_policy("u", {"weight": 3.0})  # type: ignore[arg-type]
    with pytest.raises(TaskValidationError, match="user_id is empty"):
        queue.pause_user("")
    assert queue.get_policy("u") == UserPolicy(weight=2.0)


@pytest.mark.parametrize(
    "value", [10**15, 2**53, 10**20, 10**400], ids=lambda value: f"{len(str(value))} digits"
)
@pytest.mark.parametrize("field", ["max_concurrency", "max_queued", "burst"])
def test_a_huge_limit_is_a_limit_or_is_refused(queue: TaskQueue, field: str, value: int) -> None:
    try:
        policy = UserPolicy(**{"rate": 1.0, field: value})  # type: ignore[arg-type]
    except ConfigurationError:
        assert value > 2**53
        return
    assert value <= 2**53
    queue.set_policy("u", policy)
    assert queue.get_policy("u") == policy
    push(queue, "u", "a", "b")
    assert queue.explain("u", "b").limit is None
    assert popped(queue).task_id == "a"


def test_two_updates_at_once_both_take_effect(open_queue: OpenQueue) -> None:
    one, two = open_queue(), open_queue()
    one.set_policy("u", UserPolicy())

    def raise_often(queue: TaskQueue, field: str) -> None:
        for number in range(1, 31):
            queue.update_policy("u", **{field: number})

    others = [Background(raise_often, one, "max_queued"), Background(raise_often, two, "max_concurrency")]
    for other in others:
        other.value()
    assert one.get_policy("u") == UserPolicy(max_queued=30, max_concurrency=30)


# --- the configuration's ------------------------------------------------------------------------------


def test_the_configuration_counts_before_the_first_task_is_dispatched(open_queue: OpenQueue) -> None:
    producer = open_queue()
    push(producer, "paused", "p")
    push(producer, "u", "a", "b", "c")
    worker = open_queue(users={"paused": UserPolicy(paused=True), "default": UserPolicy(max_concurrency=2)})
    assert names(worker.pop_batch("w", 9)) == ["a", "b"]


def test_a_new_configuration_replaces_the_one_before_on_the_whole_backlog(open_queue: OpenQueue) -> None:
    first = open_queue(users={"default": UserPolicy(paused=True), "a": UserPolicy(weight=2.0, paused=False)})
    for user in "abc":
        push(first, user, *(f"{user}{i}" for i in range(30)))
    assert serve(first, 3) == {"a": 3}
    second = open_queue(users={"default": UserPolicy(weight=2.0), "b": UserPolicy(weight=6.0)})
    second.stats()
    # It counts for the client of the other configuration too, which has had its say.
    assert {user: first.get_policy(user).weight for user in "abc"} == {"a": 2.0, "b": 6.0, "c": 2.0}
    assert serve(first, 25) == {"a": 5, "b": 15, "c": 5}


def test_a_changed_default_takes_effect_on_more_backlogs_than_one_script_refreshes(
    open_queue: OpenQueue, raw: Redis, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairque.queue.policies.REFRESHED_AT_ONCE", 7)
    queue = open_queue()
    users = [f"user {i}" for i in range(50)]
    queue.push_batch([make(user, "t") for user in users])
    open_queue(users={"default": UserPolicy(paused=True)}).stats()
    assert queue.stats().ready_users == 0
    check_invariants(raw, root)
    queue.resume_user("user 31")
    assert names(queue.pop_batch("w", 99)) == ["t"]
    open_queue(users={"default": UserPolicy()}).stats()
    assert queue.stats().ready_users == 49


def test_a_configuration_without_users_leaves_the_published_one_alone(open_queue: OpenQueue) -> None:
    open_queue(users={"u": UserPolicy(weight=4.0)}).stats()
    plain = open_queue()
    plain.stats()
    assert plain.get_policy("u") == UserPolicy(weight=4.0)
    open_queue(users={}).stats()
    assert plain.get_policy("u") == UserPolicy()


def test_publishing_anew_keeps_what_was_set_live(open_queue: OpenQueue) -> None:
    queue = open_queue(users={"u": UserPolicy(weight=4.0)})
    queue.set_policy("u", UserPolicy(max_queued=8))
    queue.pause_user("u")
    again = open_queue(users={"u": UserPolicy(weight=5.0)})
    assert again.get_policy("u") == UserPolicy(weight=5.0, max_queued=8, paused=True)


def half_publish(queue: TaskQueue) -> None:
    """Publish, and stop before the backlog is refreshed, as a process does that is killed there."""
    queue.manager._opening = None
    queue.run(single(next(queue.commands.shards[0].policies.publish())))  # type: ignore[arg-type]


def test_a_publication_that_was_cut_short_is_completed_by_the_next_client(
    open_queue: OpenQueue, make_config: Callable[..., FairQueueConfig], raw: Redis, root: str
) -> None:
    producer = open_queue()
    for user in "abc":
        push(producer, user, "t")
    config = make_config(users={"default": UserPolicy(paused=True)})
    with TaskQueue(config) as killed:
        half_publish(killed)
    open_queue(users=config.users).stats()
    assert producer.stats().ready_users == 0
    check_invariants(raw, root)


def test_a_publication_that_was_cut_short_does_not_pass_for_the_one_before(
    open_queue: OpenQueue, make_config: Callable[..., FairQueueConfig], raw: Redis, root: str
) -> None:
    old = {"default": UserPolicy(weight=2.0), "u": UserPolicy(weight=3.0)}
    queue = open_queue(users=old)
    push(queue, "u", "t")
    push(queue, "other", "t")
    with TaskQueue(make_config(users={"default": UserPolicy(paused=True)})) as killed:
        half_publish(killed)
    again = open_queue(users=old)
    assert again.get_policy("u") == UserPolicy(weight=3.0)
    assert again.stats().ready_users == 2
    check_invariants(raw, root)


def test_a_slow_publication_does_not_put_its_name_on_a_later_one(
    open_queue: OpenQueue, make_config: Callable[..., FairQueueConfig]
) -> None:
    queue = open_queue()
    slow_users = {"default": UserPolicy(weight=2.0), "u": UserPolicy(weight=3.0)}
    with TaskQueue(make_config(users=slow_users)) as slow:
        slow.manager._opening = None
        flow = slow.commands.shards[0].policies.publish()
        step, _ = next(flow), slow.manager
        step = flow.send(slow.manager.execute(step))  # type: ignore[arg-type]
        open_queue(users={"default": UserPolicy(weight=2.0), "u": UserPolicy(weight=9.0)}).stats()
        with pytest.raises(StopIteration):
            flow.send(slow.manager.execute(step))  # type: ignore[arg-type]
    assert queue.get_policy("u") == UserPolicy(weight=9.0)
    open_queue(users=slow_users).stats()
    assert queue.get_policy("u") == UserPolicy(weight=3.0)


def test_users_that_come_and_go_during_a_publication_are_no_obstacle(
    open_queue: OpenQueue, make_config: Callable[..., FairQueueConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairque.queue.policies.REFRESHED_AT_ONCE", 3)
    queue = open_queue()
    queue.set_policy("kept for its policy", UserPolicy(weight=2.0))
    users = [f"{i:02}" for i in range(20)]
    queue.push_batch([make(user, "t") for user in users])
    with TaskQueue(make_config(users={"default": UserPolicy(paused=True)})) as slow:
        slow.manager._opening = None
        flow = slow.commands.shards[0].policies.publish()
        reply: Any = None
        for page in itertools.count():
            try:
                reply = slow.manager.execute(flow.send(reply))  # type: ignore[arg-type]
            except StopIteration:
                break
            # The last user of each page goes, and others come before and behind it.
            if isinstance(reply, bytes) and reply:
                queue.cancel(reply.decode(), "t")
                push(queue, f"{reply.decode()}{page}", "t")
                push(queue, f"0{page}", "t")
        assert page > 6
    assert queue.stats().ready_users == 0


def test_a_default_that_is_not_refreshed_yet_does_not_hold_up_a_claim(
    open_queue: OpenQueue, make_config: Callable[..., FairQueueConfig]
) -> None:
    producer = open_queue()
    producer.push_batch([make(f"user {i:04}", "t") for i in range(1500)])
    with TaskQueue(make_config(users={"default": UserPolicy(paused=True)})) as killed:
        half_publish(killed)
        claim = killed.run(single(killed.commands.shards[0].claim("w", 1)))
    # One script looks at a bounded number of users that are not eligible any more.
    assert claim.tasks == ()
    assert claim.unfinished
    assert producer.stats().ready_users > 1000
    assert producer.pop("w") is None
    assert producer.stats().ready_users == 0


# --- weight -------------------------------------------------------------------------------------------


def test_shares_follow_the_weights_whatever_the_batch(queue: TaskQueue) -> None:
    for user, weight in (("a", 1.0), ("b", 2.0), ("c", 0.5)):
        queue.set_policy(user, UserPolicy(weight=weight))
        push(queue, user, *(f"{user}{i}" for i in range(60)))
    assert serve(queue, 35) == {"a": 10, "b": 20, "c": 5}
    assert serve(queue, 35, batch=7) == {"a": 10, "b": 20, "c": 5}


def test_a_changed_weight_takes_effect_on_the_backlog_at_the_next_dispatch(queue: TaskQueue) -> None:
    for user in "ab":
        push(queue, user, *(f"{user}{i}" for i in range(60)))
    assert serve(queue, 10) == {"a": 5, "b": 5}
    queue.set_policy("a", UserPolicy(weight=4.0))
    assert serve(queue, 20) == {"a": 16, "b": 4}
    queue.clear_policy("a")
    served = serve(queue, 20)
    assert abs(served["a"] - served["b"]) <= 2


@pytest.mark.parametrize("weight", [5e-324, 1e-300, 1e-9])
def test_the_tiniest_weight_neither_stalls_nor_is_forgotten(queue: TaskQueue, weight: float) -> None:
    queue.set_policy("tiny", UserPolicy(weight=weight))
    assert queue.get_policy("tiny") == UserPolicy(weight=weight)
    for user in ("tiny", "one", "two"):
        push(queue, user, *(f"{user}{i}" for i in range(20)))
    served = serve(queue, 41)
    assert served["tiny"] == 1
    assert serve(queue, 19) == {"tiny": 19}  # alone, it runs at full speed
    push(queue, "newcomer", *(f"n{i}" for i in range(5)))
    push(queue, "tiny", *(f"again{i}" for i in range(5)))
    assert serve(queue, 6)["newcomer"] == 5  # and owes nobody who comes later


@pytest.mark.parametrize("weight", [1e300, 1.7e308])
def test_the_largest_weight_moves_on_and_does_not_starve_its_equals(queue: TaskQueue, weight: float) -> None:
    for user in ("big", "huge"):
        queue.set_policy(user, UserPolicy(weight=weight))
        push(queue, user, *(f"{user}{i}" for i in range(20)))
    push(queue, "one", *(f"one{i}" for i in range(3)))
    served = serve(queue, 21)
    assert served["one"] == 1
    assert abs(served["big"] - served["huge"]) <= 1
    drain(queue, 9)


def test_extreme_weights_side_by_side_keep_every_virtual_time_finite(queue: TaskQueue) -> None:
    for weight in (1e-300, 1e300):
        queue.set_policy(f"{weight}", UserPolicy(weight=weight))
    for round_ in range(5):
        for user in ("1e-300", "1e+300", "one"):
            push(queue, user, *(f"{round_}/{i}" for i in range(6)))
        assert len(drain(queue, 4)) == 18
    assert all(0 <= user.virtual_time < 1e12 for user in queue.users())


# --- pausing a user -----------------------------------------------------------------------------------


def test_a_paused_user_can_push_and_what_runs_goes_on(queue: TaskQueue) -> None:
    push(queue, "u", "a", "b")
    running = popped(queue)
    queue.pause_user("u")
    push(queue, "u", "c")
    push(queue, "other", "o")
    assert names(drain(queue)) == ["o"]
    queue.finish(running)
    assert queue.pop("w") is None
    queue.resume_user("u")
    assert names(drain(queue)) == ["b", "c"]


def test_a_pause_is_lifted_over_a_paused_configuration(open_queue: OpenQueue) -> None:
    queue = open_queue(users={"default": UserPolicy(paused=True)})
    push(queue, "u", "a")
    assert queue.pop("w") is None
    queue.resume_user("u")
    assert popped(queue).task_id == "a"
    queue.clear_policy("u")
    assert queue.get_policy("u").paused


def test_a_pause_outlives_a_new_policy_that_says_nothing_of_it(queue: TaskQueue) -> None:
    push(queue, "u", "a")
    queue.pause_user("u")
    queue.set_policy("u", UserPolicy(weight=2.0))
    assert queue.get_policy("u").paused
    queue.set_policy("u", UserPolicy(weight=2.0, paused=False))
    assert popped(queue).task_id == "a"


def test_an_update_of_something_else_does_not_lift_a_pause(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(paused=False))
    queue.pause_user("u")
    assert queue.update_policy("u", weight=2.0).paused
    assert not queue.update_policy("u", paused=False).paused


def test_a_paused_user_takes_its_turn_at_the_floor_when_it_comes_back(queue: TaskQueue) -> None:
    for user in "ab":
        push(queue, user, *(f"{user}{i}" for i in range(40)))
    queue.pause_user("a")
    assert serve(queue, 20) == {"b": 20}
    queue.resume_user("a")
    served = serve(queue, 10)
    assert abs(served["a"] - served["b"]) <= 1


def test_tasks_that_fall_due_while_their_user_is_paused_wait(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "later", delay=0.01)
    queue.pause_user("u")
    sleep_past(raw, server_ms(raw) + 12)
    assert queue.pop("w") is None
    check = queue.user_stats("u")
    assert check is not None
    assert (check.queued, check.scheduled, check.paused) == (1, 0, True)
    queue.resume_user("u")
    assert popped(queue).task_id == "later"


# --- pausing the queue --------------------------------------------------------------------------------


def test_a_paused_queue_dispatches_nothing_and_accepts_everything(queue: TaskQueue) -> None:
    push(queue, "u", "a", "b")
    running = popped(queue)
    queue.pause()
    queue.pause()
    push(queue, "u", "c")
    assert queue.stats().paused
    assert queue.pop_batch("w", 9) == []
    assert queue.pop("w", users=["u"]) is None
    assert queue.steal("w") is None
    queue.heartbeat(running)
    queue.finish(running)
    queue.resume()
    assert not queue.stats().paused
    assert names(drain(queue)) == ["b", "c"]


def test_tasks_that_fall_due_while_the_queue_is_paused_run_when_it_goes_on(
    queue: TaskQueue, raw: Redis
) -> None:
    queue.pause()
    push(queue, "u", "second", delay=0.01)
    push(queue, "u", "first")
    sleep_past(raw, server_ms(raw) + 12)
    assert queue.pop("w") is None
    queue.resume()
    assert names(drain(queue)) == ["first", "second"]


def test_a_claim_whose_reply_was_lost_is_answered_though_the_queue_was_paused_since(queue: TaskQueue) -> None:
    queue.set_policy("u", UserPolicy(rate=1e-4, burst=2, max_concurrency=2))
    push(queue, "u", *"abc")

    def claim(number: int) -> list[str]:
        call = queue.commands.shards[0].claim("w", 2, claimant="one of a kind", claim_id=number)
        assert call.idempotent
        return names(queue.run(single(call)).tasks)

    assert claim(1) == ["a", "b"]
    queue.pause()
    assert claim(1) == ["a", "b"]
    assert claim(2) == []
    queue.resume()
    stats = queue.user_stats("u")
    assert stats is not None
    assert (stats.started, stats.virtual_time) == (2, 2.0)
    assert claim(3) == []


def commands_of(raw: Redis) -> int:
    return int(raw.info("stats")["total_commands_processed"])


def test_a_worker_that_waits_for_a_paused_queue_does_not_spin_and_resume_wakes_it(
    open_queue: OpenQueue, raw: Redis
) -> None:
    queue, worker = open_queue(), open_queue()
    push(queue, "u", "a")
    push(queue, "u", "soon", delay=0.05)
    queue.pause()
    waiting = Background(lambda: worker.pop("w", block=20))
    time.sleep(0.2)
    before = commands_of(raw)
    time.sleep(0.3)
    assert commands_of(raw) - before < 30
    began = time.monotonic()
    queue.resume()
    assert waiting.value().task_id == "a"
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    "how", ["resume_user", "set_policy", "update_policy", "clear_policy", "configuration"]
)
def test_whatever_lets_a_user_go_on_wakes_a_waiting_worker(open_queue: OpenQueue, how: str) -> None:
    queue, worker = open_queue(), open_queue()
    if how == "configuration":
        open_queue(users={"default": UserPolicy(paused=True)}).stats()
    elif how in {"resume_user", "clear_policy"}:
        queue.pause_user("u")
    else:
        queue.set_policy("u", UserPolicy(paused=True))
    push(queue, "u", "a")
    waiting = Background(lambda: worker.pop("w", block=20))
    time.sleep(0.15)
    began = time.monotonic()
    match how:
        case "resume_user":
            queue.resume_user("u")
        case "set_policy":
            queue.set_policy("u", UserPolicy())
        case "update_policy":
            queue.update_policy("u", paused=False)
        case "clear_policy":
            queue.clear_policy("u")
        case _:
            open_queue(users={}).stats()
    assert waiting.value().task_id == "a"
    assert time.monotonic() - began < 0.5


# --- what is kept -------------------------------------------------------------------------------------


def idle_for_long(raw: Redis, root: str) -> None:
    """Let every user that is idle be so since the beginning of time."""
    found: list[bytes] = raw.zrangebyscore(f"{root}:users", 1, "(inf")  # type: ignore[assignment]
    for name in found:
        raw.zadd(f"{root}:users", {name: 1})


def kinds_left(raw: Redis, root: str) -> set[str]:
    found: list[bytes] = raw.keys("*")  # type: ignore[assignment]
    return {key.decode()[len(root) + 1 :].partition(":")[0] for key in found if key.startswith(root.encode())}


def test_cleaning_up_keeps_users_with_a_policy_and_forgets_the_others(
    open_queue: OpenQueue, raw: Redis, root: str
) -> None:
    queue = open_queue(cost="time", users={"configured": UserPolicy(weight=2.0)})
    queue.set_policy("live", UserPolicy(weight=2.0))
    queue.pause_user("paused")
    for user in ("configured", "live", "plain", "cleared"):
        push(queue, user, "1", "2", group="g")
        push(queue, user, "3")
    queue.set_policy("cleared", UserPolicy(weight=2.0))
    drain(queue, 5)
    queue.clear_policy("cleared")
    idle_for_long(raw, root)
    queue.cleanup_expired_tasks()
    check_invariants(raw, root)
    assert {user.user_id for user in queue.users()} == {"configured", "live", "paused"}
    queue.clear_policy("live")
    queue.clear_policy("paused")
    open_queue(users={}).stats()
    idle_for_long(raw, root)
    queue.cleanup_expired_tasks()
    assert queue.users() == []
    assert not kinds_left(raw, root) & {"user", "policy", "costs", "groups", "idle_groups", "configured"}


def test_a_user_that_was_paused_once_can_be_forgotten_and_paused_by_a_configuration(
    open_queue: OpenQueue, raw: Redis, root: str
) -> None:
    queue = open_queue()
    queue.pause_user("u")
    queue.resume_user("u")
    assert queue.user_stats("u") is None
    assert not kinds_left(raw, root) & {"user", "policy"}
    open_queue(users={"u": UserPolicy(paused=True)}).stats()
    assert queue.get_policy("u").paused


def test_a_policy_of_a_user_that_never_came_leaves_nothing_once_cleared(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    queue.set_policy("ghost", UserPolicy())
    queue.set_policy("ghost", UserPolicy(weight=2.0))
    queue.clear_policy("ghost")
    queue.clear_policy("never seen")
    assert kinds_left(raw, root) <= {"settings"}


def test_counters_by_the_minute_expire(queue: TaskQueue, raw: Redis, root: str) -> None:
    push(queue, "u", "a", "b")
    drain(queue)
    found: list[bytes] = raw.keys("*")  # type: ignore[assignment]
    counted = [
        key for key in found if key.startswith((f"{root}:waits:".encode(), f"{root}:service:".encode()))
    ]
    assert len(counted) >= 2
    assert all(0 < int(raw.pttl(key)) <= 600_000 for key in counted)


def test_a_forgotten_user_still_has_its_failed_tasks_counted_right(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    push(queue, "u", "a", "b")
    for _ in "ab":
        queue.fail(popped(queue), "no", failure_type="invalid")
    idle_for_long(raw, root)
    queue.cleanup_expired_tasks()
    check_invariants(raw, root)
    queue.requeue("u", "a")
    stats = queue.user_stats("u")
    assert stats is not None
    assert (stats.failed, stats.queued) == (1, 1)


def test_a_user_is_not_forgotten_before_its_rate_would_let_it_start_again(
    open_queue: OpenQueue, raw: Redis, root: str
) -> None:
    queue = open_queue(users={"default": UserPolicy(rate=1e-4)})
    push(queue, "u", "a")
    queue.finish(popped(queue))
    idle_for_long(raw, root)
    queue.cleanup_expired_tasks()
    push(queue, "u", "b")
    assert queue.pop("w") is None
    assert queue.cancel("u", "b")
    open_queue(users={}).stats()  # without a rate its bucket is worth nothing
    idle_for_long(raw, root)
    queue.cleanup_expired_tasks()
    assert queue.users() == []


def test_setting_a_policy_again_after_a_lost_reply_changes_nothing(queue: TaskQueue) -> None:
    push(queue, "u", "a", "b")
    for _ in range(3):
        queue.set_policy("u", UserPolicy(max_concurrency=1))
        queue.pause_user("u")
        queue.resume_user("u")
    assert names(queue.pop_batch("w", 9)) == ["a"]
    layers = queue.commands.shards[0].policies.layers("u")
    assert layers.idempotent
    assert msgspec.json.decode(queue.run(single(layers)).live_text) == {"max_concurrency": 1, "share": None}
