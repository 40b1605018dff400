"""What a function's signature says, worked out once: a call that simply fits costs no more than a look.

Whatever is unusual about a call, an error of it too, is left to `inspect.Signature.bind`.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from fairque.core import codec
from fairque.core.exceptions import DecodeError, TaskValidationError
from fairque.core.hints import annotations_of, is_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fairque.core.context import TaskContext

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class _Converted:
    """In the place of a plain type: no value is of it, so each one is looked at."""


class Fitted(NamedTuple):
    """Arguments that fit a function and its annotations: by position as far as they go, the rest by name."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Rest(NamedTuple):
    """The parameters that a call may give by name, and those that it has to."""

    known: frozenset[str]
    required: frozenset[str]


class Plan:
    """How a function is called. Annotations are resolved at first use, not at import.

    Args:
        name: Of the task function, for errors.
        function: The function.
        pull: Its parameters that steps of a pipeline give.

    Raises:
        TaskValidationError: It has more than one TaskContext, or pulls into what is no parameter.
    """

    def __init__(self, name: str, function: Callable[..., Any], pull: Mapping[str, str]) -> None:
        self.name = name
        self.whole = inspect.signature(function)
        self.annotations = annotations_of(function)
        self.returns = self.annotations.pop("return", Any)
        contexts = [name for name, hint in self.annotations.items() if is_context(hint)]
        if len(contexts) > 1:
            raise TaskValidationError(f"{name} has more than one TaskContext parameter: {contexts}")
        for context in contexts:
            del self.annotations[context]
        parameters = [p for p in self.whole.parameters.values() if p.name not in contexts]
        check_pulled(name, parameters, pull)
        self.signature = self.whole.replace(parameters=parameters)  # without the context's parameter
        self.context_parameter = contexts[0] if contexts else None
        self._context_place = self._place_of_context()
        self._names = [p.name for p in parameters]
        self._by_position = [
            p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        # What is left for names after so many arguments by position; nothing where any number may come.
        self._rests = [] if any(p.kind in _VARIADIC for p in parameters) else self._rests_of(parameters)
        self._plain = [self._plain_type(name) for name in self._by_position]

    def _place_of_context(self) -> int | None:
        """Which of the arguments by position the context is; None where it is none of them."""
        places = (
            place
            for place, p in enumerate(self.whole.parameters.values())
            if p.name == self.context_parameter and p.kind is not p.KEYWORD_ONLY
        )
        return next(places, None)

    def _rests_of(self, parameters: list[inspect.Parameter]) -> list[_Rest]:
        rests = []
        for count in range(len(self._by_position) + 1):
            left = parameters[count:]
            known = frozenset(p.name for p in left if p.kind is not p.POSITIONAL_ONLY)
            required = frozenset(p.name for p in left if p.default is p.empty)
            rests.append(_Rest(known, required))
        return rests

    def _plain_type(self, name: str) -> type | None:
        """The type whose values stay as they are; None if all do."""
        annotation = self.annotations.get(name, Any)
        if annotation is Any or annotation is None:
            return None
        return next((plain for plain in codec.PLAIN if plain is annotation), _Converted)

    def takes(self, args: tuple[Any, ...] | list[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call simply fits. One that does not may fit still: `signature.bind` says it."""
        if len(args) >= len(self._rests):
            return False
        known, required = self._rests[len(args)]
        if not kwargs:
            return not required
        return required <= kwargs.keys() <= known

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See to it that a call fits.

        Raises:
            TypeError: It does not.
        """
        if not self.takes(args, kwargs):
            self.signature.bind(*args, **kwargs)

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, optional: Iterable[str]) -> set[str]:
        """The parameters that a call gives, which must be all that are required but for the optional ones."""
        given = set(self.signature.bind_partial(*args, **kwargs).arguments)
        for name, parameter in self.signature.parameters.items():
            is_required = parameter.default is parameter.empty and parameter.kind not in _VARIADIC
            if is_required and name not in given and name not in optional:
                pulled = ", ".join(map(repr, sorted(set(optional) & given)))
                hint = f"; {pulled} was given and is not pulled: give the others by keyword" if pulled else ""
                raise TypeError(f"missing a required argument: {name!r}{hint}")
        return given

    def fit(self, args: list[Any], kwargs: dict[str, Any]) -> Fitted:
        """Convert decoded arguments to the annotations.

        Raises:
            DecodeError: The arguments do not fit the signature or the annotations.
        """
        if not self.takes(args, kwargs):
            return self._bound(args, kwargs)
        values, rest = self._in_order(args, kwargs) if kwargs else (args, {})
        for value, plain in zip(values, self._plain, strict=False):
            if plain is not None and type(value) is not plain:
                values = list(map(self._converted, values, self._by_position))
                break
        if rest:
            rest = {name: self._converted(rest[name], name) for name in self._names if name in rest}
        return Fitted(tuple(values), rest)

    def _in_order(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """What a call that `takes` says yes to gives by position, as far as that goes, and by name.

        As `inspect.BoundArguments` divides them: a function that hides another's signature may see it.
        """
        values, rest = list(args), dict(kwargs)
        for name in self._by_position[len(args) :]:
            if name not in rest:
                break
            values.append(rest.pop(name))
        return values, rest

    def _bound(self, args: list[Any], kwargs: dict[str, Any]) -> Fitted:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise DecodeError(f"the arguments do not fit {self.name}: {error}") from error
        for parameter in self.signature.parameters.values():
            name = parameter.name
            if name not in bound.arguments:
                continue
            value = bound.arguments[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                fitted: Any = tuple(self._converted(item, name) for item in value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                fitted = {key: self._converted(item, name) for key, item in value.items()}
            else:
                fitted = self._converted(value, name)
            bound.arguments[name] = fitted
        return Fitted(bound.args, bound.kwargs)

    def _converted(self, value: Any, name: str) -> Any:
        if name not in self.annotations:
            return value
        return codec.convert(value, self.annotations[name], f"argument {name!r} of {self.name}")

    def with_context(self, fitted: Fitted, context: TaskContext) -> Fitted:
        """The arguments with the context where the function has a parameter for it."""
        name, place = self.context_parameter, self._context_place
        if name is None:
            return fitted
        args, kwargs = fitted
        if place is None or place > len(args):  # something before it is left at its default
            return Fitted(args, {**kwargs, name: context})
        return Fitted((*args[:place], context, *args[place:]), kwargs)


def check_pulled(name: str, parameters: Iterable[inspect.Parameter], pull: Mapping[str, str]) -> None:
    """See to it that each parameter that is pulled can be given by its name.

    Raises:
        TaskValidationError: One cannot.
    """
    by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not pull.keys() <= by_name:
        raise TaskValidationError(
            f"{name} pulls into {sorted(pull.keys() - by_name)}, and has no such parameters that are given "
            "by name: pull names the parameter first, then the step, as in pull={'rows': 'extract'}"
        )
