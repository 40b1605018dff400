"""Results as arguments: a task may be given the output of another one, which it depends on then.

On the wire an output is a mark that names the task; the worker puts the result in its place before the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "\0output"  # the only key of a mark


class OutputFound(TypeError):  # noqa: N818 - a signal of the encoder, caught where it is used
    """There is an output in what was to be encoded."""


class Output:
    """The result that a task will have. `task.output` makes one.

    It is no dataclass, for msgspec would encode one, and not ask what to do.
    """

    __slots__ = ("task_id",)

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id

    def __repr__(self) -> str:
        return f"<output of task {self.task_id!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Output) and other.task_id == self.task_id

    def __hash__(self) -> int:
        return hash((Output, self.task_id))


def replace_outputs(value: Any, replace: Callable[[Output], Any]) -> Any:
    """A copy of `value` with every output in its lists, tuples and dicts replaced; itself if it has none."""
    if isinstance(value, Output):
        return replace(value)
    if isinstance(value, (list, tuple)):
        items = [replace_outputs(item, replace) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        fields = {key: replace_outputs(item, replace) for key, item in value.items()}
        return value if all(fields[key] is value[key] for key in fields) else fields
    return value


def find_outputs(value: Any) -> list[str]:
    """The ids of the tasks whose outputs are in `value`, each once, in order."""
    found: dict[str, None] = {}

    def note(output: Output) -> Output:
        found[output.task_id] = None
        return output

    replace_outputs(value, note)
    return list(found)


def to_marks(value: Any) -> Any:
    """Outputs as they travel."""
    return replace_outputs(value, lambda output: {MARK: output.task_id})


def from_marks(value: Any) -> Any:
    """Undo `to_marks` on decoded data."""
    if isinstance(value, dict):
        if len(value) == 1 and MARK in value:
            return Output(value[MARK])
        return {key: from_marks(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [from_marks(item) for item in value]
    return value
