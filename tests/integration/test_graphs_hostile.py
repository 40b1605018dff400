"""Graphs that are large, strange or cut short, and what hostile hands and bad timing do to them."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from fairque import Task, TaskQueue, TaskState, UnknownDependencyError
from tests.support.actions import drain, make, names, popped
from tests.support.invariants import check_invariants


def states(queue: TaskQueue, *ids: str, user: str = "u") -> list[str | None]:
    found = queue.run(queue.commands.states(user, ids))
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
