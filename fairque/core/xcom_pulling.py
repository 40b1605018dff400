"""Which parameters a function pulls from XCom, and how it is called with them."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairque.core import codec
from fairque.core.exceptions import TaskValidationError, XComKeyError
from fairque.core.hints import annotations_of
from fairque.core.xcom_defaults import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def name_of(function: Callable[..., Any]) -> str:
    """How messages call a function."""
    return getattr(function, "__qualname__", repr(function))


@dataclass(frozen=True, slots=True)
class _PulledDefault:
    """Stands for the default of a pulled parameter in the signature."""

    key: str

    def __repr__(self) -> str:
        return f"<from XCom {self.key!r}>"


@dataclass(frozen=True)
class PullPlan:
    """What a decorated function pulls, and how it is called."""

    function: Callable[..., Any]
    keys: Mapping[str, str]
    default: Any
    namespace: str | None
    own: inspect.Signature
    shown: inspect.Signature  # the same, with the pulled parameters optional

    @functools.cached_property
    def annotations(self) -> dict[str, Any]:
        """Worked out at the first call: they may name what is defined later."""
        return annotations_of(self.function)

    def missing(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """The parameters that the caller does not give, with their keys."""
        return {parameter: key for parameter, key in self.keys.items() if parameter not in arguments}

    def values(self, missing: Mapping[str, str], xcom: Any, found: Mapping[str, Any]) -> dict[str, Any]:
        """What the missing parameters get, by what was pulled.

        Raises:
            XComKeyError: A parameter has no value and no default.
            DecodeError: A value does not fit its parameter's annotation.
        """
        return {parameter: self._value(parameter, key, xcom, found) for parameter, key in missing.items()}

    def bound(self, arguments: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments of the function itself, whose parameters stand in another order than those shown."""
        ordered = {name: arguments[name] for name in self.own.parameters if name in arguments}
        return inspect.BoundArguments(self.own, ordered)

    def _value(self, parameter: str, key: str, xcom: Any, found: Mapping[str, Any]) -> Any:
        if key in found:
            what = f"XCom value {key!r} for parameter {parameter!r} of {name_of(self.function)}"
            return codec.convert(found[key], self.annotations.get(parameter, Any), what)
        if self.default is not MISSING:
            return self.default
        own = self.own.parameters[parameter].default
        if own is not inspect.Parameter.empty:
            return own
        raise XComKeyError(xcom.user_id, self.namespace or xcom.namespace, key)


def pull_plan(
    function: Callable[..., Any], keys: Mapping[str, str], default: Any, namespace: str | None
) -> PullPlan:
    own = inspect.signature(function)
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    fillable = [p.name for p in own.parameters.values() if p.kind not in open_ended]
    for name in keys:
        if name not in fillable:
            raise TaskValidationError(
                f"{name_of(function)} has no parameter {name!r} to pull into: its parameters are {fillable}"
            )
        if isinstance(own.parameters[name].default, _PulledDefault):
            raise TaskValidationError(
                f"{name_of(function)} pulls its parameter {name!r} already: pull it once"
            )
    return PullPlan(function, keys, default, namespace, own, _with_optional(own, keys))


def _with_optional(signature: inspect.Signature, keys: Mapping[str, str]) -> inspect.Signature:
    """The signature with these parameters optional; by keyword only, where required ones are behind them."""
    head: list[inspect.Parameter] = []
    moved: list[inspect.Parameter] = []
    required_behind = False
    for parameter in reversed(list(signature.parameters.values())):
        pulled = parameter.name in keys
        positional = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        shown = parameter.replace(default=_PulledDefault(keys[parameter.name])) if pulled else parameter
        if pulled and positional and required_behind:
            moved.insert(0, shown.replace(kind=parameter.KEYWORD_ONLY))
            continue
        required_behind = required_behind or (positional and shown.default is parameter.empty)
        head.insert(0, shown)
    if head and head[-1].kind is inspect.Parameter.VAR_KEYWORD:
        return signature.replace(parameters=[*head[:-1], *moved, head[-1]])
    return signature.replace(parameters=[*head, *moved])
