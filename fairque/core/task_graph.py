"""The picture of tasks that depend on each other."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class GraphNode(msgspec.Struct, frozen=True):
    """One task of a graph.

    Attributes:
        task_id: Its id.
        name: What it is called as a step, or its function's name; None for a task without either.
        state: Where it is; None if it is not known: not pushed yet, or cleaned up.
        depends_on: The tasks it depends on, in no particular order.
        waits_for: Those of them that it still waits for.
        dependents: The tasks that depend on it.
    """

    task_id: str
    name: str | None
    state: str | None
    depends_on: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()


class TaskGraph(msgspec.Struct, frozen=True):
    """All tasks that hang together with one, upstream and downstream.

    Attributes:
        user_id: Whose tasks they are.
        task_id: The one that was asked for.
        nodes: The tasks by id: the one asked for first, then the nearest.
        is_whole: Whether these are all; False where the limit was reached.
    """

    user_id: str
    task_id: str
    nodes: Mapping[str, GraphNode]
    is_whole: bool

    def first(self) -> list[GraphNode]:
        """The tasks that depend on none of the others."""
        return [node for node in self.nodes.values() if not any(up in self.nodes for up in node.depends_on)]

    def downstream(self, task_id: str) -> list[GraphNode]:
        """The tasks that depend on one directly."""
        return [self.nodes[name] for name in self.nodes[task_id].dependents if name in self.nodes]
