"""Graphs that are large, strange or cut short, and what hostile hands and bad timing do to them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from redis import Redis

from fairque import (
    DependencyCycleError,
    GraphTooLargeError,
    LeaseLostError,
    QueueFullError,
    Task,
    TaskQueue,
    TaskState,
    UnknownDependencyError,
    UserPolicy,
)
from tests.support.actions import drain, lapse, make, names, popped, server_ms, sleep_past
from tests.support.invariants import check_invariants


def states(queue: TaskQueue, *ids: str, user: str = "u") -> list[str | None]:
    found = queue.run(queue.commands.shards[0].states(user, ids))
    return [None if state is None else state.value for state in found]


def one(call: Any) -> Any:
    """A call as a flow."""
    return (yield call)


def star(roots: int, user: str = "u") -> list[Task[Any]]:
    """Roots that are all ready at once, and a task that joins them."""
    tops = [make(user, f"r{number}") for number in range(roots)]
    return [*tops, make(user, "end", depends_on=tops)]


def give_up(queue: TaskQueue, task: Task[Any]) -> None:
    assert queue.fail(task, "broken", failure_type="invalid") is TaskState.FAILED


def settle(queue: TaskQueue, raw: Redis, root: str) -> None:
    """Clean up until no script has left anything to do."""
    for _ in range(200):
        queue.cleanup_expired_tasks()
        if not raw.exists(f"{root}:releasing"):
            return
    raise AssertionError("releases do not come to an end")


def test_one_task_may_depend_on_more_than_one_script_takes(queue: TaskQueue) -> None:
    queue.push_batch([make("u", str(number)) for number in range(3)])
    unknown = [f"x{number}" for number in range(10_500)]
    queue.push(make("u", "end", depends_on=["0", "1", *unknown]), missing="wait")
    assert states(queue, "end") == ["DEFERRED"]
    assert len(queue.graph("u", "end", limit=20_000).nodes["end"].depends_on) == 10_502


def test_a_repeat_of_a_push_that_is_just_opening_cancels_nothing(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    tasks = star(1_500)
    queue.push_batch(tasks)
    # Most of it still waits for its turn behind the gate when the same push begins again, and is cut short.
    queue.run(one(queue.commands.push_batch(tasks).calls[0]))
    settle(queue, raw, root)
    assert queue.stats().canceled == 0
    assert len(drain(queue, 200)) == 1_501


def test_nothing_is_to_be_released_that_nobody_waits_for(queue: TaskQueue, raw: Redis, root: str) -> None:
    queue.push(make("u", "a"))
    for start in range(0, 1_000, 200):
        queue.push_batch(
            [
                make("u", str(number), depends_on=["a"], on_upstream_failure="cancel")
                for number in range(start, start + 200)
            ]
        )
    give_up(queue, popped(queue))
    check_invariants(raw, root)
    settle(queue, raw, root)
    assert queue.stats().canceled == 1_000


def test_an_unknown_dependency_in_any_graph_of_a_batch_refuses_all_of_it(queue: TaskQueue) -> None:
    tasks = [*star(1_100), make("v", "a"), make("v", "b", depends_on=["a", "gone"]), make("w", "c")]
    with pytest.raises(UnknownDependencyError, match="gone"):
        queue.push_batch(tasks)
    stats = queue.stats()
    assert (stats.queued, stats.deferred) == (0, 0)


def test_the_graph_of_a_wide_fan_is_whole_or_says_that_it_is_not(queue: TaskQueue) -> None:
    queue.push_batch([make("u", "a"), *(make("u", str(number), depends_on=["a"]) for number in range(6_000))])
    assert len(queue.graph("u", "a").nodes) == 6_001
    assert queue.graph("u", "a").is_whole
    assert not queue.graph("u", "a", limit=3_000).is_whole


def test_a_task_whose_record_was_lost_leaves_no_edge_that_binds_the_next_of_its_id(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    queue.push(make("u", "a"))
    give_up(queue, popped(queue))
    queue.push(make("u", "b", depends_on=["a"], on_upstream_failure="run"))
    raw.delete(f"{root}:task:u:b")
    assert queue.pop("w") is None
    queue.requeue("u", "a")
    queue.push(make("u", "b", depends_on=["a"]))
    assert states(queue, "b") == ["DEFERRED"]
    assert names(drain(queue)) == ["a", "b"]


ODD = ("%", ":", "%%", "a b", " ", "%3A", "ü🦊", 'q"\\', "{x}", "\n\t\x00", "%%x", "x" * 256, "é" * 256)


def test_ids_of_any_kind_depend_on_each_other(queue: TaskQueue) -> None:
    for user in ("%%", "a:b ü"):
        tasks = [make(user, ODD[0])]
        for name in ODD[1:]:
            tasks.append(make(user, name, depends_on=[tasks[-1]]))
        queue.push_batch(tasks)
        with pytest.raises(DependencyCycleError) as caught:
            queue.add_dependency(user, ODD[0], ODD[-1])
        assert caught.value.cycle == (*ODD, ODD[0])
        with pytest.raises(UnknownDependencyError) as unknown:
            queue.push(make(user, "new", depends_on=["un: %known"]))
        assert unknown.value.dependency == "un: %known"
        assert queue.explain(user, ODD[3]).waits_for == (ODD[2],)
        assert set(queue.graph(user, ODD[5]).nodes) == set(ODD)
        assert names(drain(queue)) == list(ODD)


@pytest.mark.parametrize("done", [1, 2, 3, 4, 5, 6])
def test_a_graph_that_stops_after_any_part_starts_nothing_and_is_completed_by_another_client(
    queue: TaskQueue, make_config: Any, done: int
) -> None:
    tasks = layers(6, 200)
    calls = queue.commands.push_batch(tasks).calls
    assert len(calls) == 6
    for call in calls[:done]:
        assert queue.run(one(call)) == [True] * 200
        assert queue.run(one(call)) == [False] * 200  # as after a lost reply
    if done < len(calls):
        assert queue.pop("w") is None
    with TaskQueue(make_config()) as other:
        created = [handle.created for handle in other.push_batch(tasks)]
    assert created == [False] * (200 * done) + [True] * (1_200 - 200 * done)
    order = [int(name) for name in names(drain(queue, 100))]
    assert sorted(order) == list(range(1_200))
    assert all(number // 200 <= later // 200 for number, later in itertools.pairwise(order))


def layers(depth: int, width: int) -> list[Task[Any]]:
    """Layers of tasks, each of which depends on some of the layer before."""
    tasks = [make("u", str(number)) for number in range(width)]
    for number in range(width, depth * width):
        layer = number // width * width
        others = [tasks[layer - width + (number * 7 + i) % width] for i in range(4)]
        # One that all share, so that no layer begins before the last one has ended.
        tasks.append(make("u", str(number), depends_on=[*others, *tasks[layer - width : layer : 40]]))
    return tasks


def test_a_graph_whose_push_is_given_up_is_canceled_and_nothing_of_it_stays(
    open_queue: Any, raw: Redis, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open_queue(retention={"finished": 0.001, "failed": 0.001, "canceled": 0.001}, push_retry_window=0)
    monkeypatch.setattr("fairque.queue.batches.GATE_MS", 1)
    for call in queue.commands.push_batch(star(1_500)).calls[:4]:
        queue.run(one(call))
    assert queue.stats().deferred == 800
    clean(queue, raw)
    assert queue.stats().totals["canceled"] == 800
    assert left(raw, root) <= {"user", "users", "stats", "clock", "wake"}


def clean(queue: TaskQueue, raw: Redis) -> None:
    """Clean up until nothing is left that is past its retention of a millisecond."""
    idle = 0
    while idle < 4:
        sleep_past(raw, server_ms(raw) + 2)
        idle = 0 if queue.cleanup_expired_tasks() else idle + 1


def left(raw: Redis, root: str) -> set[str]:
    """What kinds of keys there are."""
    keys: list[bytes] = raw.keys(f"{root}:*")  # type: ignore[assignment]
    return {key.decode()[len(root) + 1 :].partition(":")[0] for key in keys}


@pytest.mark.parametrize("roots", [5, 1_500])
def test_a_graph_for_which_there_is_no_room_is_refused_as_a_whole(
    queue: TaskQueue, raw: Redis, root: str, roots: int
) -> None:
    queue.set_policy("u", UserPolicy(max_queued=roots))
    with pytest.raises(QueueFullError):
        queue.push_batch(star(roots))
    assert left(raw, root) <= {"user", "users", "policy", "settings"}
    queue.set_policy("u", UserPolicy(max_queued=roots + 1))
    queue.push_batch(star(roots))
    with pytest.raises(QueueFullError):  # what waits for others counts, too
        queue.push(make("u", "more", depends_on=["end"]))
    assert len(drain(queue, 200)) == roots + 1


def test_users_with_the_same_ids_have_nothing_to_do_with_each_other(queue: TaskQueue) -> None:
    for user in ("u", "v"):
        queue.push_batch([make(user, "a"), make(user, "b", depends_on=["a"], on_upstream_failure="cancel")])
    give_up(queue, popped(queue, users=["u"]))
    assert states(queue, "a", "b") == ["FAILED", "CANCELED"]
    assert states(queue, "a", "b", user="v") == ["QUEUED", "DEFERRED"]
    assert names(drain(queue)) == ["a", "b"]


def test_released_tasks_take_their_turn_by_priority_and_group(queue: TaskQueue) -> None:
    queue.push_batch(
        [
            make("u", "a"),
            make("u", "low", depends_on=["a"], priority=1),
            make("u", "high", depends_on=["a"], priority=5),
            make("u", "critical", depends_on=["a"], priority=6),
        ]
    )
    assert names(drain(queue)) == ["a", "critical", "high", "low"]
    queue.push_batch(
        [
            make("v", "a"),
            *(make("v", f"g{n}", depends_on=["a"], group="g") for n in range(3)),
            *(make("v", f"h{n}", depends_on=["a"], group="h") for n in range(3)),
        ]
    )
    assert sorted(names(drain(queue))[1:3]) == ["g0", "h0"]


def test_a_deferred_task_that_is_past_its_expiry_fails_and_tells_those_that_wait(queue: TaskQueue) -> None:
    queue.push_batch(
        [
            make("u", "a"),
            make("u", "b", depends_on=["a"], expires_at=1),
            make("u", "c", depends_on=["b"], on_upstream_failure="run"),
            make("u", "d", depends_on=["b"], on_upstream_failure="cancel"),
        ]
    )
    assert names(drain(queue)) == ["a", "c"]
    assert states(queue, "b", "d") == ["FAILED", "CANCELED"]


def test_a_task_that_is_released_before_its_time_goes_on_waiting_for_that(queue: TaskQueue) -> None:
    queue.push_batch(
        [
            make("u", "a"),
            make("u", "late", depends_on=["a"], delay=3600),
            make("u", "later", depends_on=["a"], execute_after=4e9),
            make("u", "past", depends_on=["a"], execute_after=1),
        ]
    )
    assert names(drain(queue)) == ["a", "past"]
    assert states(queue, "late", "later") == ["SCHEDULED", "SCHEDULED"]
    assert queue.get("u", "later").due_at.timestamp() == 4e9  # type: ignore[union-attr]
    assert queue.add_dependency("u", "late", "later") is TaskState.DEFERRED
    queue.cancel("u", "later", cascade=True)
    assert states(queue, "late") == ["CANCELED"]


@pytest.mark.parametrize("place", ["lane", "lease"])
def test_those_that_wait_for_a_task_whose_record_is_lost_are_told(
    queue: TaskQueue, raw: Redis, root: str, place: str
) -> None:
    queue.push(make("u", "a"))
    for policy in ("wait", "cancel", "run"):
        queue.push(make("u", policy, depends_on=["a"], on_upstream_failure=policy))
    if place == "lease":
        lapse(queue, raw)
    raw.delete(f"{root}:task:u:a")
    queue.reclaim()
    assert names(drain(queue)) == ["run"]
    assert states(queue, "wait", "cancel", "a") == ["CANCELED", "CANCELED", None]


def test_a_deferred_task_whose_record_is_lost_is_dropped_when_its_time_comes(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    queue.push_batch([make("u", "a"), make("u", "b", depends_on=["a"]), make("u", "c", depends_on=["b"])])
    raw.delete(f"{root}:task:u:b")
    assert names(drain(queue)) == ["a"]
    assert states(queue, "b", "c") == [None, "CANCELED"]
    raw.zrem(f"{root}:dependents:u:a", "b")  # nobody is told of it, and it goes with the task that has it


def test_releases_go_on_while_users_or_the_queue_are_paused(queue: TaskQueue, raw: Redis, root: str) -> None:
    queue.push(make("u", "a"))
    for start in range(0, 600, 200):
        queue.push_batch([make("u", str(n), depends_on=["a"]) for n in range(start, start + 200)])
    first = popped(queue)
    queue.set_policy("u", UserPolicy(paused=True, max_concurrency=2))
    queue.pause()
    queue.finish(first)
    assert queue.stats().deferred == 400
    settle(queue, raw, root)
    assert (queue.stats().queued, queue.stats().deferred) == (600, 0)
    assert queue.pop("w") is None
    queue.resume()
    assert queue.pop("w") is None
    queue.set_policy("u", UserPolicy(max_concurrency=2))
    assert len(queue.pop_batch("w", 10)) == 2
    for held in queue.pop_batch("w", 10):
        queue.finish(held)


def test_a_cascade_down_a_long_chain_comes_to_its_end_without_a_worker(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    tasks = [make("u", "0")]
    for number in range(1, 5_000):
        tasks.append(make("u", str(number), depends_on=[tasks[-1]], on_upstream_failure="run"))
    queue.push_batch(tasks)
    drain_releases(queue, raw, root)
    queue.cancel("u", "0", cascade=True)
    drain_releases(queue, raw, root)
    assert (queue.stats().canceled, queue.stats().deferred) == (5_000, 0)


def drain_releases(queue: TaskQueue, raw: Redis, root: str) -> None:
    settle(queue, raw, root)
    check_invariants(raw, root)


@pytest.mark.parametrize(
    ("policy", "expected"), [("wait", "DEFERRED"), ("cancel", "CANCELED"), ("run", "QUEUED")]
)
def test_those_that_wait_for_a_poisoned_task_follow_their_policy(
    open_queue: Any, raw: Redis, policy: Any, expected: str
) -> None:
    queue = open_queue(max_crashes=1)
    queue.push_batch([make("u", "a"), make("u", "b", depends_on=["a"], on_upstream_failure=policy)])
    lapse(queue, raw)
    queue.reclaim()
    assert states(queue, "a", "b") == ["FAILED", expected]


def test_a_result_is_kept_for_late_readers_and_goes_with_the_last_of_them(
    open_queue: Any, raw: Redis, root: str
) -> None:
    queue = open_queue(retention={"finished": 0.001, "failed": 0.001, "canceled": 0.001}, push_retry_window=0)
    queue.push_batch([make("u", "a"), make("u", "b", depends_on=["a"]), make("u", "c", depends_on=["b"])])
    queue.finish(popped(queue), "of a")
    clean(queue, raw)
    queue.push(make("u", "late", depends_on=["a"], delay=3600))
    queue.finish(popped(queue), "of b")
    clean(queue, raw)
    assert raw.ttl(f"{root}:result:u:a") == raw.ttl(f"{root}:result:u:b") == -1
    assert queue.handle("u", "a").result() == "of a"
    drain(queue)
    clean(queue, raw)
    assert states(queue, "a", "b", "c", "late") == ["FINISHED", None, None, "SCHEDULED"]
    queue.cancel("u", "late")
    clean(queue, raw)
    assert left(raw, root) <= {"user", "users", "stats", "clock", "wake", "waits", "service"}


def test_a_late_reader_of_a_result_keeps_it_from_expiring(open_queue: Any, raw: Redis, root: str) -> None:
    queue = open_queue(retention={"finished": 60})
    queue.push(make("u", "a"))
    queue.finish(popped(queue), 1)
    assert raw.ttl(f"{root}:result:u:a") > 0
    queue.push_batch([make("u", "x"), make("u", "b", depends_on=["a"])])
    assert raw.ttl(f"{root}:result:u:a") == -1


def test_an_end_that_is_told_twice_or_by_a_zombie_releases_nothing_again(
    queue: TaskQueue, raw: Redis
) -> None:
    queue.push_batch([make("u", "a"), make("u", "b", depends_on=["a"]), make("u", "c", depends_on=["b"])])
    zombie = lapse(queue, raw)
    queue.reclaim()
    with pytest.raises(LeaseLostError):
        queue.finish(zombie)
    with pytest.raises(LeaseLostError):
        queue.fail(zombie, "late")
    assert states(queue, "a", "b") == ["QUEUED", "DEFERRED"]
    again = popped(queue)
    with pytest.raises(LeaseLostError):
        queue.finish(zombie)
    assert states(queue, "a", "b") == ["STARTED", "DEFERRED"]
    for _ in range(3):
        queue.finish(again)
    assert states(queue, "a", "b", "c") == ["FINISHED", "QUEUED", "DEFERRED"]
    b = popped(queue)
    queue.finish(again)
    assert states(queue, "a", "b", "c") == ["FINISHED", "STARTED", "DEFERRED"]
    queue.finish(b)
    assert names(drain(queue)) == ["c"]


def test_a_cascade_from_the_past_does_not_reach_a_task_that_runs_anew(queue: TaskQueue) -> None:
    queue.push_batch([make("u", "a"), make("u", "b", depends_on=["a"])])
    give_up(queue, popped(queue))
    queue.cancel("u", "a", cascade=True)
    queue.requeue("u", "a")
    queue.push(make("u", "c", depends_on=["a"]))
    give_up(queue, popped(queue))
    assert states(queue, "a", "b", "c") == ["FAILED", "CANCELED", "DEFERRED"]


@pytest.mark.parametrize("start", ["queued", "scheduled", "deferred"])
@pytest.mark.parametrize("policy", ["wait", "cancel", "run"])
@pytest.mark.parametrize("upstream", ["missing", "live", "finished", "failed", "canceled"])
def test_a_dependency_can_be_added_in_every_state_on_every_state(
    queue: TaskQueue, start: str, policy: Any, upstream: str
) -> None:
    match upstream:
        case "missing" | "live":
            pass
        case "canceled":
            queue.push(make("u", "up"))
            queue.cancel("u", "up")
        case _:
            queue.push(make("u", "up"))
            task = popped(queue)
            queue.finish(task) if upstream == "finished" else give_up(queue, task)
    if upstream == "live":
        queue.push(make("u", "up"))
    queue.push(make("u", "other"))
    options: dict[str, Any] = {"delay": 3600} if start == "scheduled" else {}
    if start == "deferred":
        options = {"depends_on": ["other"]}
    queue.push(make("u", "task", on_upstream_failure=policy, **options))
    if upstream == "missing":
        with pytest.raises(UnknownDependencyError):
            queue.add_dependency("u", "task", "up")
    is_met = upstream == "finished" or (upstream in {"failed", "canceled"} and policy == "run")
    expected = start.upper() if is_met else "DEFERRED"
    if upstream in {"failed", "canceled"} and policy == "cancel":
        expected = "CANCELED"
    assert queue.add_dependency("u", "task", "up", missing="wait").value == expected
    assert states(queue, "task") == [expected]
    if expected != "CANCELED":
        assert queue.add_dependency("u", "task", ["up", "up"], missing="wait").value == expected  # said twice
    if upstream == "missing":
        queue.push(make("u", "up"))
    drain(queue)
    if expected != "CANCELED" and (is_met or upstream in {"missing", "live"}):
        assert states(queue, "task") == ["SCHEDULED" if start == "scheduled" else "FINISHED"]


def test_a_cycle_that_would_take_long_to_find_is_refused(queue: TaskQueue) -> None:
    # Both sides of the new edge are wide: neither search can come to its end.
    def fan(hub: str, sign: str) -> list[Task[Any]]:
        return [make("u", f"{sign}{n}", depends_on=[hub]) for n in range(7_000)]

    queue.push_batch(
        [make("u", "down"), *fan("down", "d"), make("u", "up"), *(make("u", f"u{n}") for n in range(7_000))]
    )
    queue.push(make("u", "join", depends_on=[f"u{n}" for n in range(7_000)]))
    with pytest.raises(GraphTooLargeError, match="down"):
        queue.add_dependency("u", "down", "join")
    assert states(queue, "down") == ["QUEUED"]


@pytest.mark.parametrize(
    "operation",
    [
        lambda q: q.commands.push_batch(
            [make("u", "b", depends_on=["a"]), make("u", "c", depends_on=["b"])]
        ).calls[0],
        lambda q: q.commands.shards[0]._cancel_call(["u:a"], cascade=False),
        lambda q: q.commands.shards[0]._cancel_call(["u:a"], cascade=True),
        lambda q: q.commands.shards[0].cleanup_call(100),
        lambda q: q.commands.shards[0].reclaim(),
    ],
)
def test_a_call_that_is_repeated_changes_nothing_more(
    queue: TaskQueue, raw: Redis, root: str, operation: Any
) -> None:
    queue.push_batch(
        [
            make("u", "a"),
            make("u", "b", depends_on=["a"]),
            make("u", "c", depends_on=["a"], on_upstream_failure="cancel"),
        ]
    )
    call = operation(queue)
    queue.run(one(call))
    before = dump(raw, root)
    queue.run(one(call))
    assert dump(raw, root) == before


def dump(raw: Redis, root: str) -> dict[str, Any]:
    """All that is kept of the graph."""
    keys: list[bytes] = sorted(raw.keys(f"{root}:*"))  # type: ignore[arg-type]
    return {key.decode(): raw.dump(key) for key in keys if b":clock" not in key and b":wake" not in key}


def test_what_gives_up_waiting_takes_others_with_it_by_their_own_policies(
    open_queue: Any, raw: Redis
) -> None:
    queue = open_queue(retention={"failed": 0.001}, push_retry_window=0)
    queue.push_batch(
        [
            make("u", "a"),
            make("u", "b", depends_on=["a"]),
            make("u", "run", depends_on=["b"], on_upstream_failure="run"),
            make("u", "wait", depends_on=["b"]),
            make("u", "cancel", depends_on=["b"], on_upstream_failure="cancel"),
        ]
    )
    give_up(queue, popped(queue))
    for _ in range(3):
        sleep_past(raw, server_ms(raw) + 2)
        queue.cleanup_expired_tasks()
    assert states(queue, "b", "run", "wait", "cancel") == ["CANCELED", "QUEUED", "DEFERRED", "CANCELED"]


def test_a_result_is_kept_for_a_reader_that_failed_and_may_run_again(
    open_queue: Any, raw: Redis, root: str
) -> None:
    queue = open_queue(retention={"finished": 0.001, "failed": 60}, push_retry_window=0)
    queue.push_batch([make("u", "a"), make("u", "b", depends_on=["a"])])
    queue.finish(popped(queue), "of a")
    give_up(queue, popped(queue))
    clean(queue, raw)
    assert raw.exists(f"{root}:result:u:a")
    queue.requeue("u", "b")
    assert names(drain(queue)) == ["b"]
    clean(queue, raw)
    assert states(queue, "a", "b") == [None, None]


def test_a_cleanup_takes_as_many_steps_as_the_graphs_need_and_none_of_them_is_long(
    open_queue: Any, raw: Redis, root: str
) -> None:
    queue = open_queue(retention={"finished": 0.001, "canceled": 0.001}, push_retry_window=0)
    upstream = [make("u", f"u{number}") for number in range(500)]
    queue.push_batch(upstream)
    for reader in range(20):
        queue.push_batch([make("u", f"r{reader}", depends_on=upstream)])
    drain(queue, 200)
    sleep_past(raw, server_ms(raw) + 2)
    removed, is_more = queue.run(one(queue.commands.shards[0].cleanup_call(1_000)))
    assert removed < 500  # 20 dependents to look at, for each of them
    assert is_more
    assert queue.cleanup_expired_tasks() == 520 - removed


def test_a_long_chain_whose_tasks_are_all_awaited_needs_no_search_for_each_of_them(
    queue: TaskQueue, raw: Redis
) -> None:
    queue.push_batch([make("u", f"w{n}", depends_on=[str(n)]) for n in range(900)], missing="wait")
    chain = [make("u", "0")]
    for number in range(1, 900):
        chain.append(make("u", str(number), depends_on=[chain[-1]]))
    began = server_ms(raw)
    queue.push_batch(chain)
    assert server_ms(raw) - began < 1_000  # it took 2.5 s


def test_a_cycle_through_two_pushes_of_several_tasks_is_found(queue: TaskQueue) -> None:
    queue.push_batch([make("u", "x"), make("u", "y", depends_on=["x", "z"])], missing="wait")
    queue.push(make("u", "other", depends_on=["y"]))
    with pytest.raises(DependencyCycleError) as caught:
        queue.push_batch(
            [make("u", "z", depends_on=["zz"]), make("u", "zz", depends_on=["other"]), make("v", "a")]
        )
    assert caught.value.cycle in {
        ("z", "y", "other", "zz", "z"),
        ("zz", "z", "y", "other", "zz"),
        ("other", "zz", "z", "y", "other"),
    }
    assert states(queue, "z", "zz") == [None, None]


def test_a_release_that_takes_several_scripts_wakes_somebody_to_go_on(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    queue.push(make("u", "a"))
    for start in range(0, 400, 200):
        queue.push_batch(
            [make("u", str(n), depends_on=["a", "never"]) for n in range(start, start + 200)], missing="wait"
        )
    first = popped(queue)
    raw.delete(f"{root}:wake")
    queue.finish(first)
    assert raw.exists(f"{root}:releasing", f"{root}:wake") == 2
    assert queue.pop("w") is None
    assert not raw.exists(f"{root}:releasing")


def test_a_dependency_that_was_met_stays_met_when_it_is_added_again(queue: TaskQueue) -> None:
    queue.push_batch([make("u", "a"), make("u", "other", delay=3600)])
    queue.push(make("u", "b", depends_on=["a", "other"], on_upstream_failure="run"))
    give_up(queue, popped(queue))
    assert queue.explain("u", "b").waits_for == ("other",)
    queue.requeue("u", "a")
    assert queue.add_dependency("u", "b", ["a", "other"]) is TaskState.DEFERRED
    assert queue.explain("u", "b").waits_for == ("other",)


def test_a_push_that_was_given_up_and_is_repeated_leaves_nothing_that_waits_for_ever(
    open_queue: Any, raw: Redis, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open_queue(retention={"finished": 0.001, "failed": 0.001, "canceled": 0.001}, push_retry_window=0)
    tasks = layers(6, 200)
    with monkeypatch.context() as patch:
        patch.setattr("fairque.queue.batches.GATE_MS", 1)
        for call in queue.commands.push_batch(tasks).calls[:3]:
            queue.run(one(call))
    sleep_past(raw, server_ms(raw) + 2)
    queue.run(one(queue.commands.shards[0].cleanup_call(1)))  # has begun to cancel it
    queue.push_batch(tasks)
    drain(queue, 200)
    clean(queue, raw)
    drain(queue, 200)
    clean(queue, raw)
    assert queue.stats().deferred == 0
    assert left(raw, root) <= {"user", "users", "stats", "clock", "wake", "waits", "service"}


@pytest.mark.parametrize("ended", [True, False])
def test_what_depends_on_a_task_that_was_known_before_starts_with_the_rest_of_its_graph(
    queue: TaskQueue, ended: bool
) -> None:
    first = make("u", "first")
    queue.push(first)
    held = popped(queue)
    if ended:
        queue.finish(held)
    tasks = [first, *(make("u", str(number), depends_on=[first]) for number in range(1_200))]
    for call in queue.commands.push_batch(tasks).calls[:2]:
        queue.run(one(call))
    if not ended:
        queue.finish(held)
    assert queue.pop("w") is None
    queue.push_batch(tasks)
    assert len(drain(queue, 200)) == 1_200
