"""What lets exceptions cross processes."""

from __future__ import annotations

from typing import Any


class Portable(Exception):  # noqa: N818 - a trait of exceptions, not an error
    """An exception that crosses processes (multiprocessing, executors).

    Most of ours take other arguments than their message, so they are restored as they are, not made anew.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[Portable], args: tuple[Any, ...], state: dict[str, Any]) -> Portable:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
