"""Which function a name means. Only what is registered here runs; a name from the wire is never imported."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fairque.core.exceptions import FunctionConflictError, UnknownFunctionError

if TYPE_CHECKING:
    from fairque.core.function import TaskFunction


class Registry:
    """Names and their functions, one to one."""

    def __init__(self) -> None:
        self._functions: dict[str, TaskFunction[..., Any]] = {}

    def add(self, function: TaskFunction[..., Any]) -> None:
        """Register a function under its name.

        Raises:
            FunctionConflictError: The name means another function already. The same source run again (a
                reloaded module, a script that is also imported) takes the old one's place.
        """
        known = self._functions.get(function.name)
        if known is not None and _origin(known) != _origin(function):
            raise FunctionConflictError(
                f"the name {function.name!r} means {_where(known)} already, and now {_where(function)} too: "
                "give one of them another name with @task(name=…)"
            )
        self._functions[function.name] = function

    def get(self, name: str | None) -> TaskFunction[..., Any]:
        """The function of this name.

        Raises:
            UnknownFunctionError: None is registered.
        """
        function = self.find(name)
        if function is None:
            raise UnknownFunctionError(name)
        return function

    def find(self, name: str | None) -> TaskFunction[..., Any] | None:
        """The function of this name; None if none is registered."""
        return self._functions.get(name) if name else None

    def parameters(self, name: str | None) -> list[str]:
        """The parameters of a function, to name an argument by; none if it is not registered here."""
        function = self._functions.get(name or "")
        return [] if function is None else function.parameters

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._functions)


def _origin(function: TaskFunction[..., Any]) -> tuple[Any, ...]:
    # A decorator's wrapper has the same code whatever it wraps.
    code = getattr(inspect.unwrap(function.function), "__code__", None)
    if code is None:
        return (function.function,)
    return (code.co_filename, code.co_firstlineno, function.function.__qualname__)


def _where(function: TaskFunction[..., Any]) -> str:
    file, line = (*_origin(function), "?")[:2]
    return f"{function.function.__qualname__} ({file}:{line})"


registry = Registry()
