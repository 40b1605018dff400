"""The base of all settings models: strict, frozen, and every problem is a `ConfigurationError`."""

from __future__ import annotations

import difflib
import types
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from fairque.core.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KeyPath = tuple[str | int, ...]

SHOWN = 60  # characters of a wrong value
OWN_WORDS = {"value_error", "assertion_error"}  # of validators, which name the value themselves


def _as_seconds(value: object) -> object:
    return value.total_seconds() if isinstance(value, timedelta) else value


Seconds = Annotated[float, BeforeValidator(_as_seconds), Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, BeforeValidator(_as_seconds), Field(gt=0, allow_inf_nan=False)]


class StrictModel(BaseModel):
    """Unknown keys and wrong types are errors; nothing is converted silently; instances do not change.

    Attributes:
        shows_values: Whether complaints name the wrong value. Not where one may be a secret, or hold one.
    """

    shows_values: ClassVar[bool] = False

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, validate_default=True, hide_input_in_errors=True
    )

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            lines = [
                f"{type(self).__name__}: {show(path, text)}" for path, text in problems(error, type(self))
            ]
            # `from None`: the original error carries the values, secrets among them.
            raise ConfigurationError("\n".join(lines)) from None

    # Without this mark pydantic would run __init__ for nested models too, and the outer path be lost.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def show(path: KeyPath, text: str) -> str:
    """One problem as `queue.lease_seconds: what is wrong`; a problem of the whole has no path."""
    return f"{'.'.join(map(str, path))}: {text}" if path else text


def problems(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[KeyPath, str]]:
    """Each problem with the path of its key; the wrong value is part of it only where that is no secret."""
    for item in error.errors(include_url=False):
        path, kind = item["loc"], item["type"]
        if path[-1:] == ("[key]",):
            yield path[:-2], f"the key {item['input']} must be text: put it in quotes"
        elif kind == "extra_forbidden":
            yield path, "unknown key" + closest(str(path[-1]), _fields_under(model, path[:-1]))
        elif kind == "missing":
            yield path, "is required"
        elif kind in {"model_type", "dict_type", "model_attributes_type"}:
            yield path, "must be a mapping of keys to values"
        else:
            text = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
            holder = _model_under(model, path[:-1])
            is_shown = kind not in OWN_WORDS and getattr(holder, "shows_values", False)
            yield path, text + (f", not {_shortened(item['input'])}" if is_shown else "")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _fields_under(model: type[BaseModel], section: KeyPath) -> Iterable[str]:
    target = _model_under(model, section)
    return target.model_fields if target else ()


def _model_under(model: type[BaseModel], section: KeyPath) -> type[BaseModel] | None:
    annotation: Any = model
    for step in section:
        annotation = type_under(annotation, step)
    return model_in(annotation)


def closest(key: str, known: Iterable[str]) -> str:
    """` (did you mean …?)`, or nothing where no known name is near."""
    close = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that `annotation` is, or is optionally."""
    is_union = get_origin(annotation) in {Union, types.UnionType}
    for candidate in get_args(annotation) if is_union else (annotation,):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def type_under(annotation: Any, key: str | int) -> Any:
    """The type of the value that stands under `key`, or None where the models know no such key."""
    if get_origin(annotation) in {dict, list}:
        return get_args(annotation)[-1]
    model = model_in(annotation)
    field = model.model_fields.get(str(key)) if model else None
    if field is None:
        return None
    # They belong to the type: what a value must be may depend on them alone.
    before = [part for part in field.metadata if isinstance(part, BeforeValidator)]
    return Annotated[(field.annotation, *before)] if before else field.annotation


def refuse(found: Iterable[str]) -> None:
    """For validators: complain of everything found, or of nothing."""
    text = "; ".join(found)
    if text:
        raise ValueError(text)


def reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
