"""Walking the graph of a user's tasks, in bounded steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fairque.core.exceptions import TaskNotFoundError
from fairque.core.header import Header, decode_header
from fairque.core.keys import GATE, member, unescape
from fairque.core.models import Task, TaskState
from fairque.core.task_graph import GraphNode, TaskGraph
from fairque.queue.replies import groups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fairque.core.calls import Call, Flow

AT_ONCE = 100  # tasks that one script looks at
ENOUGH_IDS = 5_000  # in a reply: it looks at no more tasks
MOST_SEARCHED = 100_000  # tasks that a search for a dead end looks at
DEAD = frozenset({TaskState.FAILED, TaskState.CANCELED})
OPEN = 0  # the score of a blocker (includes/dependencies.lua)


def walk(
    user_id: str, task_id: str, limit: int, look: Callable[[Sequence[str]], Call[Any]]
) -> Flow[TaskGraph]:
    """All tasks that hang together with one, up to `limit`; `look` makes the call for some members."""
    nodes: dict[str, GraphNode] = {}
    waiting, seen = [task_id], {task_id}
    while waiting and len(nodes) < limit:
        asked = waiting[: min(AT_ONCE, limit - len(nodes))]
        reply = yield look([member(user_id, name) for name in asked])
        del waiting[: len(reply)]
        for name, found in zip(asked, reply, strict=False):
            node = _node(name, *found)
            if node is None:
                if name == task_id:
                    raise TaskNotFoundError(user_id, task_id)
                continue
            nodes[name] = node
            for near in (*node.depends_on, *node.dependents):
                if near not in seen:
                    seen.add(near)
                    waiting.append(near)
    return TaskGraph(user_id, task_id, nodes, is_whole=not waiting)


def dead_end(
    user_id: str, task_ids: Sequence[str], look: Callable[[Sequence[str]], Call[Any]]
) -> Flow[str | None]:
    """The id of a failed or canceled task without which one of these can never start; None if all may."""
    waiting, seen = list(task_ids), set(task_ids)
    asked_for = frozenset(task_ids)
    while waiting and len(seen) < MOST_SEARCHED + len(asked_for):
        asked = waiting[:AT_ONCE]
        reply = yield look([member(user_id, name) for name in asked])
        del waiting[: len(reply)]
        for name, found in zip(asked, reply, strict=False):
            node = _node(name, *found)
            if node is None:
                continue
            if node.state in DEAD and name not in asked_for:
                return name
            near = node.waits_for if node.state == TaskState.DEFERRED else ()
            waiting += [other for other in near if other not in seen]
            seen.update(near)
    return None


def _node(
    name: str, state: bytes | None, header: bytes | None, blockers: list[bytes], dependents: list[bytes]
) -> GraphNode | None:
    """None for a task that is neither known nor waited for."""
    if state is None and not dependents:
        return None
    upstream = [
        (unescape(other.decode()), int(score))
        for other, score in groups(blockers, 2)
        if not other.startswith(GATE)
    ]
    return GraphNode(
        task_id=name,
        name=None if header is None else _name(header),
        state=None if state is None else state.decode(),
        depends_on=tuple(other for other, _ in upstream),
        waits_for=tuple(other for other, score in upstream if score == OPEN),
        dependents=tuple(unescape(other.decode()) for other, _ in groups(dependents, 2)),
    )


def _name(text: bytes) -> str | None:
    try:
        header = decode_header(text)
    except msgspec.MsgspecError:
        header = Header()
    return Task(task_id="", header=header).name
