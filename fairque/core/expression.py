"""The expression that a pipeline is: a tree whose leaves are tasks, how it is walked, and how it reads.

A chain of thousands of steps is a tree of that depth, for each `>>` puts a node on top of what it is given.
So nothing here calls itself, and no step of a walk costs more than its node has parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fairque.core.models import Task

T = TypeVar("T")

Part: TypeAlias = Union["Task[Any]", "Expression"]

SHOWN = 8  # parts of a group in a text


class Kind(StrEnum):
    """How the parts of a node stand to each other."""

    SEQUENCE = "sequence"  # one after the other
    PARALLEL = "parallel"  # side by side
    MAP = "map"  # side by side, and made of one function by `map`


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Expression:
    """A node of the tree. What can be known of the whole is kept at its top, so composing costs no walk."""

    kind: Kind
    parts: tuple[Part, ...]
    size: int  # how many steps there are
    entry_count: int  # of them, which nothing comes before
    exit_count: int  # and which nothing comes after
    ends_parallel: bool  # whether its result is a list, even of one

    def __repr__(self) -> str:
        return _render(*fold(self, lambda task: (None, [step_name(task)]), _texts))


def entry_count(part: Part) -> int:
    """How many steps of a part nothing comes before."""
    return part.entry_count if isinstance(part, Expression) else 1


def exit_count(part: Part) -> int:
    """How many steps of a part nothing comes after."""
    return part.exit_count if isinstance(part, Expression) else 1


def fold(whole: Expression, leaf: Callable[[Task[Any]], T], node: Callable[[Expression, list[T]], T]) -> T:
    """What becomes of the tree when each task becomes `leaf(task)`, and each node `node(it, its parts')`.

    Tasks come in the order in which the expression names them, and a node after its parts.
    """
    frames: list[tuple[Expression, Iterator[Part], list[T]]] = [(whole, iter(whole.parts), [])]
    while True:
        current, rest, done = frames[-1]
        for part in rest:
            if isinstance(part, Expression):
                frames.append((part, iter(part.parts), []))
                break
            done.append(leaf(part))
        else:
            value = node(current, done)
            frames.pop()
            if not frames:
                return value
            frames[-1][2].append(value)


def last_tasks(whole: Expression) -> list[Task[Any]]:
    """The tasks that nothing comes after, in order."""
    found: list[Task[Any]] = []
    ahead: list[Part] = [whole]
    while ahead:
        part = ahead.pop()
        if not isinstance(part, Expression):
            found.append(part)
        elif part.kind is Kind.SEQUENCE:
            ahead.append(part.parts[-1])
        else:
            ahead += reversed(part.parts)
    return found


def joined(lists: list[list[T]]) -> list[T]:
    """All in one list, in order. It may be one of the given ones, which belong to the caller no more.

    Only that keeps a group of thousands, built by repeated `|`, from being copied thousands of times.
    """
    whole = lists[0]
    for more in lists[1:]:
        if len(more) > len(whole):
            more[:0] = whole
            whole = more
        else:
            whole += more
    return whole


# --- how it reads ---


def step_name(task: Task[Any]) -> str:
    """What a step is called in a text."""
    return task.name or "task"


def _texts(node: Expression, parts: list[tuple[Kind | None, list[str]]]) -> tuple[Kind | None, list[str]]:
    """A node's kind and its parts' texts; nodes of one kind within each other read as one."""
    if node.kind is Kind.MAP:
        return None, [f"map({parts[0][1][0]}, {len(parts)})"]
    if node.kind is Kind.PARALLEL and len(parts) == 1:
        return None, [f"parallel({_render(*parts[0])})"]
    return node.kind, joined(
        [texts if kind is node.kind else [_enclosed(kind, texts)] for kind, texts in parts]
    )


def _enclosed(kind: Kind | None, texts: list[str]) -> str:
    text = _render(kind, texts)
    return text if kind is None or len(texts) == 1 else f"({text})"


def _render(kind: Kind | None, texts: list[str]) -> str:
    if len(texts) > SHOWN:
        half = SHOWN // 2
        texts = [*texts[:half], f"… {len(texts) - SHOWN:,} more …", *texts[-half:]]
    return (" >> " if kind is Kind.SEQUENCE else " | ").join(texts)
