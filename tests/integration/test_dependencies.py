"""Tasks that wait for others."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from fairque import (
    DependencyCycleError,
    Task,
    TaskQueue,
    TaskState,
    TaskStateError,
    TaskValidationError,
    UnknownDependencyError,
)
from tests.support.actions import drain, make, names, popped


def state(queue: TaskQueue, name: str, user: str = "u") -> TaskState:
    return queue.handle(user, name).state()


def push_chain(queue: TaskQueue, *chain: str, **options: Any) -> None:
    """Tasks that each depend on the one before."""
    tasks = [make("u", chain[0])]
    for name in chain[1:]:
        tasks.append(make("u", name, depends_on=[tasks[-1]], **options))
    queue.push_batch(tasks)


def fail_for_good(queue: TaskQueue, task: Task[Any]) -> None:
    assert queue.fail(task, "broken", failure_type="invalid") is TaskState.FAILED


def test_a_task_waits_until_what_it_depends_on_has_finished(queue: TaskQueue) -> None:
    push_chain(queue, "a", "b", "c")
    assert [state(queue, name) for name in "abc"] == ["QUEUED", "DEFERRED", "DEFERRED"]
    first = popped(queue)
    assert queue.pop("w") is None
    queue.finish(first)
    assert [state(queue, name) for name in "abc"] == ["FINISHED", "QUEUED", "DEFERRED"]
    assert names(drain(queue)) == ["b", "c"]
    assert queue.stats().deferred == 0


def test_a_diamond_joins_when_both_of_its_sides_have_finished(queue: TaskQueue) -> None:
    top = make("u", "top")
    left, right = make("u", "left", depends_on=[top]), make("u", "right", depends_on=[top])
    queue.push_batch([make("u", "end", depends_on=[left, right]), right, left, top])
    assert names(drain(queue)) in (["top", "right", "left", "end"], ["top", "left", "right", "end"])


@pytest.mark.parametrize("policy", ["wait", "cancel", "run"])
def test_what_waits_for_a_task_that_fails_follows_its_policy(queue: TaskQueue, policy: Any) -> None:
    push_chain(queue, "a", "b", "c", on_upstream_failure=policy)
    fail_for_good(queue, popped(queue))
    expected = {"wait": "DEFERRED", "cancel": "CANCELED", "run": "QUEUED"}[policy]
    assert state(queue, "b") == expected
    assert state(queue, "c") == ("CANCELED" if policy == "cancel" else "DEFERRED")


@pytest.mark.parametrize("policy", ["wait", "cancel", "run"])
def test_what_waits_for_a_task_that_is_canceled_follows_its_policy(queue: TaskQueue, policy: Any) -> None:
    push_chain(queue, "a", "b", "c", on_upstream_failure=policy)
    assert queue.cancel("u", "a")
    expected = {"wait": "DEFERRED", "cancel": "CANCELED", "run": "QUEUED"}[policy]
    assert state(queue, "b") == expected


def test_requeueing_the_failed_task_lets_the_others_go_on(queue: TaskQueue) -> None:
    push_chain(queue, "a", "b", "c")
    fail_for_good(queue, popped(queue))
    assert queue.pop("w") is None
    assert queue.explain("u", "b").waits_for == ("a",)
    assert "which failed: requeue that one" in queue.explain("u", "b").reason
    queue.requeue("u", "a")
    assert names(drain(queue)) == ["a", "b", "c"]


def test_a_cancel_with_cascade_takes_all_that_is_downstream(queue: TaskQueue) -> None:
    push_chain(queue, "a", "b", "c", on_upstream_failure="run")
    assert queue.cancel("u", "a", cascade=True)
    assert [state(queue, name) for name in "abc"] == ["CANCELED"] * 3


def test_a_cascade_reaches_what_waits_for_a_task_that_failed_before(queue: TaskQueue) -> None:
    push_chain(queue, "a", "b", "c")
    fail_for_good(queue, popped(queue))
    assert not queue.cancel("u", "a", cascade=True)
    assert [state(queue, name) for name in "abc"] == ["FAILED", "CANCELED", "CANCELED"]


def test_an_unknown_dependency_is_refused_and_nothing_is_written(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    with pytest.raises(UnknownDependencyError, match="depends on 'gone'") as caught:
        queue.push_batch([make("u", "a"), make("u", "b", depends_on=["a", "gone"])])
    assert (caught.value.user_id, caught.value.task_id, caught.value.dependency) == ("u", "b", "gone")
    assert queue.stats().queued == 0
    assert raw.keys(f"*{root}*:task:*") == []


def test_a_task_may_wait_for_one_that_is_pushed_later(queue: TaskQueue) -> None:
    queue.push(make("u", "b", depends_on=["a"]), missing="wait")
    assert queue.pop("w") is None
    assert "has not been pushed" in queue.explain("u", "b").reason
    queue.push(make("u", "a"))
    assert names(drain(queue)) == ["a", "b"]


def test_dependencies_that_have_finished_count_as_met(queue: TaskQueue) -> None:
    queue.push(make("u", "a"))
    drain(queue)
    queue.push(make("u", "b", depends_on=["a"]))
    assert names(drain(queue)) == ["b"]


@pytest.mark.parametrize(
    ("policy", "expected"), [("wait", "DEFERRED"), ("cancel", "CANCELED"), ("run", "QUEUED")]
)
def test_a_dependency_that_has_failed_before_counts_by_the_policy(
    queue: TaskQueue, policy: Any, expected: str
) -> None:
    queue.push(make("u", "a"))
    fail_for_good(queue, popped(queue))
    queue.push(make("u", "b", depends_on=["a"], on_upstream_failure=policy))
    assert state(queue, "b") == expected


def test_a_cycle_within_a_batch_is_named_and_nothing_is_written(queue: TaskQueue) -> None:
    tasks = [
        make("u", "a", depends_on=["c"]),
        make("u", "b", depends_on=["a"]),
        make("u", "c", depends_on=["b"]),
    ]
    with pytest.raises(DependencyCycleError, match="→") as caught:
        queue.push_batch(tasks)
    assert set(caught.value.cycle) == {"a", "b", "c"}
    assert queue.stats().deferred == 0


def test_a_cycle_through_a_task_that_was_awaited_is_found_on_the_server(queue: TaskQueue) -> None:
    queue.push(make("u", "b", depends_on=["a"]), missing="wait")
    queue.push(make("u", "c", depends_on=["b"]))
    with pytest.raises(DependencyCycleError) as caught:
        queue.push(make("u", "a", depends_on=["c"]))
    assert caught.value.cycle == ("a", "b", "c", "a")
    queue.push(make("u", "a"))
    assert names(drain(queue)) == ["a", "b", "c"]


def test_a_dependency_can_be_added_to_a_task_that_has_not_started(queue: TaskQueue) -> None:
    queue.push_batch([make("u", "a"), make("u", "b")])
    assert queue.add_dependency("u", "a", "b") is TaskState.DEFERRED
    assert names(drain(queue)) == ["b", "a"]


def test_an_added_dependency_may_not_close_a_cycle(queue: TaskQueue) -> None:
    push_chain(queue, "a", "b", "c")
    with pytest.raises(DependencyCycleError) as caught:
        queue.add_dependency("u", "a", "c")
    assert caught.value.cycle == ("a", "b", "c", "a")
    with pytest.raises(DependencyCycleError, match="a → a"):
        queue.add_dependency("u", "a", ["a"])
    assert names(drain(queue)) == ["a", "b", "c"]


def test_no_dependency_is_added_to_a_task_that_has_started(queue: TaskQueue) -> None:
    queue.push_batch([make("u", "a"), make("u", "b")])
    popped(queue)
    with pytest.raises(TaskStateError, match="only one that has not started"):
        queue.add_dependency("u", "a", "b")
    with pytest.raises(TaskValidationError, match="names no task"):
        queue.add_dependency("u", "b", [])


def test_a_large_graph_arrives_as_a_whole(queue: TaskQueue) -> None:
    tasks = [make("u", "0")] + [make("u", str(n), depends_on=["0"]) for n in range(1, 1500)]
    tasks.append(make("u", "end", depends_on=[task.task_id for task in tasks]))
    queue.push_batch(tasks)
    first = popped(queue)
    assert first.task_id == "0"
    assert queue.stats().deferred == 1500
    queue.finish(first)
    done = drain(queue, 100)
    assert len(done) == 1500
    assert done[-1].task_id == "end"


def test_a_graph_that_came_in_part_starts_nothing_and_a_repeat_completes_it(queue: TaskQueue) -> None:
    tasks = [make("u", "0")] + [make("u", str(n), depends_on=["0"]) for n in range(1, 1500)]
    batch = queue.commands.push_batch(tasks)
    for call in batch.calls[:3]:
        queue.run(_one(call))
    assert queue.pop("w") is None
    assert "push has not ended" in queue.explain("u", "0").reason
    assert [handle.created for handle in queue.push_batch(tasks)] == [False] * 600 + [True] * 900
    assert len(drain(queue, 200)) == 1500


def _one(call: Any) -> Any:
    return (yield call)


def test_the_graph_shows_every_task_that_hangs_together(queue: TaskQueue) -> None:
    push_chain(queue, "a", "b", "c")
    queue.push(make("u", "other"))
    queue.finish(popped(queue))
    graph = queue.graph("u", "b")
    assert {name: node.state for name, node in graph.nodes.items()} == {
        "b": "QUEUED",
        "a": "FINISHED",
        "c": "DEFERRED",
    }
    assert graph.nodes["c"].waits_for == ("b",)
    assert graph.nodes["b"].depends_on == ("a",)
    assert [node.task_id for node in graph.first()] == ["a"]
    assert graph.is_whole


def test_nothing_of_a_graph_is_left_when_it_is_over_and_cleaned_up(
    open_queue: Any, raw: Redis, root: str
) -> None:
    queue = open_queue(retention={"finished": 0, "failed": 0, "canceled": 0}, push_retry_window=0)
    push_chain(queue, "a", "b", "c")
    queue.push(make("u", "d", depends_on=["c"], on_upstream_failure="cancel"))
    drain(queue)
    queue.push(make("u", "late", depends_on=["never"]), missing="wait")
    queue.cancel("u", "late")
    while queue.cleanup_expired_tasks():
        pass
    found: list[bytes] = raw.keys(f"{root.replace('{', '[{]')}*")  # type: ignore[assignment]
    left = {key.decode().split("}:")[1].split(":")[0] for key in found}
    assert left <= {"user", "users", "stats", "clock", "waits", "service", "wake"}


def test_what_waits_in_vain_is_canceled_when_the_failed_task_is_forgotten(open_queue: Any) -> None:
    queue = open_queue(retention={"finished": 60, "failed": 0, "canceled": 60}, push_retry_window=0)
    push_chain(queue, "a", "b", "c")
    fail_for_good(queue, popped(queue))
    queue.cleanup_expired_tasks()
    queue.cleanup_expired_tasks()
    assert state(queue, "b") == "CANCELED"


def test_of_a_task_that_comes_twice_in_a_batch_the_first_one_counts(queue: TaskQueue) -> None:
    queue.push_batch([make("u", "b"), make("u", "a"), make("u", "a", depends_on=["b", "unknown"])])
    assert queue.get("u", "a").depends_on == ()  # type: ignore[union-attr]
    # What the second one depends on would close a cycle that nobody has looked for.
    queue.push_batch([make("u", "c"), make("u", "d", depends_on=["c"]), make("u", "c", depends_on=["d"])])
    assert names(drain(queue)) == ["b", "a", "c", "d"]


def test_a_canceled_task_waits_for_nothing_and_is_part_of_no_cycle(queue: TaskQueue) -> None:
    queue.push(make("u", "b", depends_on=["a"]), missing="wait")
    queue.cancel("u", "b")
    queue.push(make("u", "a", depends_on=["b"], on_upstream_failure="run"))
    queue.push(make("u", "c"))
    queue.push(make("u", "d", depends_on=["c"]))
    queue.cancel("u", "d")
    assert queue.add_dependency("u", "c", "d") is TaskState.DEFERRED
    assert names(drain(queue)) == ["a"]
