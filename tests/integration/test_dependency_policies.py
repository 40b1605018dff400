"""A small graph, and every way in which one of its tasks can end, under each policy, against a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fairque import TaskQueue
from tests.support.actions import make

# Each task and what it depends on: a diamond with a tail, and a second source.
#   a ─┬─ b ─┬─ d ── e
#      └─ c ─┤
#   x ───────┘
GRAPH = {"a": (), "x": (), "b": ("a",), "c": ("a",), "d": ("b", "c", "x"), "e": ("d",)}
POLICIES = ("wait", "cancel", "run")


class Expected:
    """What should become of the graph when one task is hit: states by name."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.states = dict.fromkeys(GRAPH, "DEFERRED")
        self.settle()

    def settle(self) -> None:
        """Cancel what goes with others, then let everything start that may; repeat until nothing changes."""
        before = None
        while before != self.states:
            before = dict(self.states)
            for name, upstream in GRAPH.items():
                if self.states[name] == "DEFERRED":
                    self.states[name] = self._next(upstream)

    def _next(self, upstream: tuple[str, ...]) -> str:
        states = [self.states[other] for other in upstream]
        if self.policy == "cancel" and {"FAILED", "CANCELED"} & set(states):
            return "CANCELED"
        opened = {"FINISHED", "FAILED", "CANCELED"} if self.policy == "run" else {"FINISHED"}
        return "QUEUED" if set(states) <= opened else "DEFERRED"

    def end(self, name: str, state: str) -> None:
        self.states[name] = state
        self.settle()

    def cascade(self, name: str) -> None:
        """All that is downstream goes too."""
        self.states[name] = "CANCELED"
        for other, upstream in GRAPH.items():  # each comes after what it depends on
            if self.states[other] == "DEFERRED" and any(self.states[up] == "CANCELED" for up in upstream):
                self.states[other] = "CANCELED"
        self.settle()


class Flow:
    """The graph in a queue, beside what is expected of it."""

    def __init__(self, queue: TaskQueue, policy: str) -> None:
        self.queue = queue
        self.expected = Expected(policy)
        queue.push_batch(
            [
                make("u", name, depends_on=upstream, on_upstream_failure=policy)
                for name, upstream in reversed(GRAPH.items())
            ]
        )

    def check(self) -> None:
        states = self.queue.run(self.queue.commands.shards[0].states("u", list(GRAPH)))
        found = dict(zip(GRAPH, (state.value if state else None for state in states), strict=True))
        assert found == self.expected.states
        assert self.queue.stats().deferred == list(found.values()).count("DEFERRED")

    def run(self, broken: str | None = None, until: str | None = None) -> list[str]:
        """Run what is ready, until a task is; `broken` fails. The tasks in the order in which they came."""
        order = []
        while until is None or self.expected.states[until] != "QUEUED":
            task = self.queue.pop("w")
            if task is None:
                break
            order.append(task.task_id)
            if task.task_id == broken:
                self.queue.fail(task, "broken", failure_type="invalid")
                self.expected.end(task.task_id, "FAILED")
            else:
                self.queue.finish(task)
                self.expected.end(task.task_id, "FINISHED")
            self.check()
        return order


@pytest.fixture
def flows(queue: TaskQueue) -> Iterator[Any]:
    yield lambda policy: Flow(queue, policy)
    assert queue.stats().started == 0


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", GRAPH)
def test_a_failure_at_every_task_under_each_policy(flows: Any, policy: str, broken: str) -> None:
    flow = flows(policy)
    flow.check()
    order = flow.run(broken)
    assert flow.expected.states[broken] == "FAILED"
    assert ("e" in order) is (policy == "run" or broken == "e")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("broken", GRAPH)
def test_requeueing_the_task_that_failed_resumes_the_rest(flows: Any, policy: str, broken: str) -> None:
    flow = flows(policy)
    flow.run(broken)
    flow.queue.requeue("u", broken)
    flow.expected.end(broken, "QUEUED")
    flow.check()
    flow.run()
    if policy != "cancel":
        assert set(flow.expected.states.values()) == {"FINISHED"}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", GRAPH)
@pytest.mark.parametrize("moment", ["at once", "ready", "running"])
def test_a_cancel_at_every_task_under_each_policy(flows: Any, policy: str, name: str, moment: str) -> None:
    flow = flows(policy)
    if moment != "at once":
        flow.run(until=name)
    if moment == "running":
        while (task := flow.queue.pop("w")) is not None and task.task_id != name:
            flow.queue.finish(task)
            flow.expected.end(task.task_id, "FINISHED")
    assert flow.queue.cancel("u", name)
    flow.expected.end(name, "CANCELED")
    flow.check()
    flow.run()
    assert "QUEUED" not in flow.expected.states.values()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", GRAPH)
def test_a_cancel_that_cascades_takes_all_that_is_downstream(flows: Any, policy: str, name: str) -> None:
    flow = flows(policy)
    flow.run(until=name)
    flow.queue.cancel("u", name, cascade=True)
    flow.expected.cascade(name)
    flow.check()
    flow.run()
    assert flow.expected.states["e"] == "CANCELED"
