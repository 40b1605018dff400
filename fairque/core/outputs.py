"""Results as arguments: a task may be given the output of another one, which it depends on then.

On the wire an output is a mark that names the task; the worker puts the result in its place before the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from fairque.core.exceptions import EncodeError

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

    # To type checkers it is the result itself, so they let all of this pass.
    def _not_there(self, *_: object) -> NoReturn:
        raise TypeError(
            f"{self!r} is not there before the task has run, and can only be passed on as an argument: what "
            "needs its value goes into the function of a step"
        )

    __bool__ = __len__ = __iter__ = __getitem__ = __contains__ = __call__ = _not_there
    __format__ = _not_there  # an f-string would else hold the text of `__repr__`, unnoticed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Output) and other.task_id == self.task_id

    def __hash__(self) -> int:
        return hash((Output, self.task_id))


def replace_outputs(value: Any, replace: Callable[[Output], Any]) -> Any:
    """A copy of `value` with every output in its lists, tuples and dicts replaced; itself if it has none.

    Raises:
        EncodeError: The value contains itself, or is nested too deep.
    """
    try:
        return _replaced(value, lambda item: replace(item) if isinstance(item, Output) else item)
    except RecursionError:
        raise EncodeError(
            "an argument cannot be carried: it contains itself, or is nested too deep"
        ) from None


def _replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    """What `replace` makes of the value, or else of those in its lists, tuples and dicts."""
    new = replace(value)
    if new is not value:
        return new
    if isinstance(value, (list, tuple)):
        items = [_replaced(item, replace) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        if isinstance(value, list):
            return items
        return value._make(items) if hasattr(value, "_make") else tuple(items)  # it may be a named one
    if isinstance(value, dict):
        fields = {key: _replaced(item, replace) for key, item in value.items()}
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
    """Outputs as they travel, and what only looks like a mark with its value in a list."""

    def mark(item: Any) -> Any:
        if isinstance(item, Output):
            return {MARK: item.task_id}
        return {MARK: [_replaced(item[MARK], mark)]} if _is_mark(item) else item

    return _replaced(value, mark)


def from_marks(value: Any) -> Any:
    """Undo `to_marks` on decoded data."""

    def unmark(item: Any) -> Any:
        if not _is_mark(item):
            return item
        meant = item[MARK]
        return {MARK: _replaced(meant[0], unmark)} if isinstance(meant, list) else Output(meant)

    return _replaced(value, unmark)


def _is_mark(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and MARK in value
