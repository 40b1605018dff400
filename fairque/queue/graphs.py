"""Walking the graph of a user's tasks, in bounded steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fairque.core.exceptions import TaskNotFoundError
from fairque.core.header import Header, decode_header
from fairque.core.keys import GATE, member, unescape
from fairque.core.models import Task
from fairque.core.task_graph import GraphNode, TaskGraph
from fairque.queue.replies import groups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fairque.core.calls import Call, Flow

AT_ONCE = 100  # tasks that one script looks at
IDS_IN_REPLY = 20_000  # beyond which it looks at no more; also the most neighbours of one task that are seen
OPEN = 0  # the score of a blocker (includes/dependencies.lua)


def walk(
    user_id: str, task_id: str, limit: int, look: Callable[[Sequence[str], int], Call[Any]]
) -> Flow[TaskGraph]:
    """All tasks that hang together with one, up to `limit`; `look` makes the call for some members."""
    nodes: dict[str, GraphNode] = {}
    waiting, seen, is_cut = [task_id], {task_id}, False
    while waiting and len(nodes) < limit:
        asked = waiting[: min(AT_ONCE, limit - len(nodes))]
        most = min(IDS_IN_REPLY, limit + 1)
        reply = yield look([member(user_id, name) for name in asked], most)
        del waiting[: len(reply)]
        for name, found in zip(asked, reply, strict=False):
            node = _node(name, *found)
            if node is None:
                if name == task_id:
                    raise TaskNotFoundError(user_id, task_id)
                continue
            nodes[name] = node
            is_cut = is_cut or max(len(found[2]), len(found[3])) >= 2 * most
            for near in (*node.depends_on, *node.dependents):
                if near not in seen:
                    seen.add(near)
                    waiting.append(near)
    return TaskGraph(user_id, task_id, nodes, is_whole=not waiting and not is_cut)


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
