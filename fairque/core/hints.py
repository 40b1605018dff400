"""Annotations of functions, as far as values can be converted to them."""

from __future__ import annotations

import inspect
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from fairque.core import codec
from fairque.core.context import TaskContext

if TYPE_CHECKING:
    from collections.abc import Callable


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's parameters and of its `return`, as `codec.convert` takes them."""
    return {name: _supported(hint) for name, hint in _hints(function).items()}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception:  # noqa: BLE001 - an annotation may be any expression and fail in any way
        return {name: _hint(function, name) for name in getattr(function, "__annotations__", {})}


def _hint(function: Callable[..., Any], name: str) -> Any:
    """One annotation by itself: where it cannot be resolved at run time, the value is left as it is."""

    def probe() -> None: ...

    probe.__annotations__ = {name: function.__annotations__[name]}
    try:
        return get_type_hints(probe, globalns=getattr(inspect.unwrap(function), "__globals__", {}))[name]
    except Exception:  # noqa: BLE001 - as above
        return Any


def is_context(hint: Any) -> bool:
    """Whether a parameter of this annotation gets the task's context."""
    return hint is TaskContext or TaskContext in get_args(hint)


def _supported(hint: Any) -> Any:
    """The hint, or Any where msgspec has no conversion for it (callables, type variables and the like)."""
    if hint is Any or hint is type(None):
        return hint
    try:
        msgspec.json.Decoder(hint)
    except (TypeError, RecursionError, NameError):
        if get_origin(hint) in (Union, UnionType) and not is_context(hint):
            return codec.CustomUnion(tuple(_supported(member) for member in get_args(hint)))
        return hint if isinstance(hint, type) or is_context(hint) else Any
    return hint
