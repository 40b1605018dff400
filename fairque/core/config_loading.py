"""Reads settings from YAML files and the environment, and remembers where each key was written.

Nothing here knows the settings themselves: the models say what exists, so no field is listed twice.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_settings import BaseSettings, EnvSettingsSource

from fairque.core.exceptions import ConfigurationError
from fairque.core.strict import KeyPath, closest, model_in, problems, show, type_under

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PREFIX, DELIMITER = "FAIRQUE_", "__"
Model = TypeVar("Model", bound=BaseModel)


class Layers:
    """Settings laid over one another; later layers win, key by key."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.last: dict[str, Any] = {}  # the topmost layer alone
        self._sources: dict[KeyPath, str] = {}
        self._written_as: dict[KeyPath, KeyPath] = {}

    def overlay(self, data: dict[str, Any], source: Callable[[KeyPath], str]) -> None:
        self.data = _merged(self.data, data)
        self.last = data
        self._sources |= {path: source(path) for path in _leaves(data)}

    def overlay_file(self, path: Path) -> None:
        self.overlay(read_yaml(path), lambda _: str(path))

    def overlay_environment(self, model: type[BaseModel]) -> None:
        self.overlay(read_environment(model), lambda key: f"environment variable {variable(key)}")

    def nest(self, section: str, under: str, name: str) -> None:
        """Move `section` to `under.name`, where the models have it; messages name it as it was written."""
        moved = self.data.pop(section, {})
        self.data.setdefault(under, {})[name] = moved
        self._written_as[under, name] = (section,)
        self._sources = {
            (under, name, *path[1:]) if path[0] == section else path: source
            for path, source in self._sources.items()
        }

    def validate(self, model: type[Model]) -> Model:
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            lines = [self._line(path, text) for path, text in problems(error, model)]
            # `from None`: the original error carries the values, secrets among them.
            raise ConfigurationError("\n".join(lines)) from None

    def _line(self, path: KeyPath, text: str) -> str:
        section = self._written_as.get(path[:2])
        return f"{self._source_of(path)}: {show((*section, *path[2:]) if section else path, text)}"

    def _source_of(self, path: KeyPath) -> str:
        """Where a key was written; for a section, every place that a part of it came from."""
        inside = [source for leaf, source in self._sources.items() if leaf[: len(path)] == path]
        above = [source for leaf, source in self._sources.items() if path[: len(leaf)] == leaf]
        return ", ".join(dict.fromkeys(inside or above or self._sources.values())) or "the settings"


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    shared = [key for key in base.keys() & over.keys() if _are_mappings(base[key], over[key])]
    both = {key: _merged(base[key], over[key]) for key in shared}
    return {**base, **over, **both}


def _are_mappings(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


def _leaves(data: Mapping[str, Any], above: KeyPath = ()) -> Iterator[KeyPath]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key)


# --- YAML ---------------------------------------------------------------------------------------------


class _DuplicateKeyError(yaml.MarkedYAMLError):
    pass


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys and says nothing."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise _DuplicateKeyError(
                    problem=f"the key {key.value} appears twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return node


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a file; one without content counts as empty."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file (seen from {os.getcwd()})") from None  # noqa: PTH109
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as UTF-8 text: {type(error).__name__}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}{_where(error)}: {_what(error)}") from None
    if data is not None and not isinstance(data, dict):
        raise ConfigurationError(f"{path}: must hold a mapping of sections (redis, queue, …)")
    return {key: {} if section is None else section for key, section in (data or {}).items()}


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}" if mark else ""


def _what(error: yaml.YAMLError) -> str:
    problem = str(getattr(error, "problem", None) or "unreadable character")
    if isinstance(error, _DuplicateKeyError):
        return problem
    # PyYAML quotes the text it stumbled over, which may be a password.
    without_text = re.sub("'.*'", "(text)", problem, flags=re.DOTALL)
    return f"not valid YAML: {without_text}"


# --- environment --------------------------------------------------------------------------------------


def read_environment(model: type[BaseModel]) -> dict[str, Any]:
    """`FAIRQUE_REDIS__PASSWORD=…` and the like, as far as `model` has such sections."""
    _refuse_near_misses(model)
    fields: dict[str, Any] = {name: (field.annotation, None) for name, field in model.model_fields.items()}
    environment = create_model("Environment", __base__=BaseSettings, **fields)
    # Without decoding, a list arrives as text like every other value, and `from_text` reads them all alike.
    environment.model_config["enable_decoding"] = False
    source = EnvSettingsSource(environment, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)
    return {name: from_text(type_under(model, name), value) for name, value in source().items()}


def variable(path: KeyPath) -> str:
    return PREFIX + DELIMITER.join(map(str, path)).upper()


def from_text(annotation: Any, value: Any) -> Any:
    """A value given as text: literal where text is wanted, else read as YAML (`30`, `true`, `[a, b]`)."""
    if isinstance(value, dict):
        return {key: from_text(type_under(annotation, key), item) for key, item in value.items()}
    if annotation is None or model_in(annotation) or _takes(annotation, value):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _takes(annotation: Any, text: str) -> bool:
    try:
        TypeAdapter(annotation, config=ConfigDict(strict=True)).validate_python(text)
    except ValidationError:
        return False
    return True


def _refuse_near_misses(model: type[BaseModel]) -> None:
    """A variable that looks like a setting but is none would be ignored silently. Others are not ours."""
    lines = [
        f"environment variable {name}: {complaint}"
        for name in sorted(os.environ)
        if name.upper().startswith(PREFIX)
        and (complaint := _complaint(name.upper().removeprefix(PREFIX).lower(), model.model_fields))
    ]
    if lines:
        raise ConfigurationError("\n".join(lines))


def _complaint(name: str, sections: Mapping[str, object]) -> str | None:
    section, delimiter, _ = name.partition(DELIMITER)
    if name in sections:
        return f"names a whole section; set its keys one by one, as {variable((name, '…'))}"
    if delimiter and section not in sections:
        return f"unknown section {section}{closest(section, sections)}"
    for known in sections:
        if not delimiter and name.startswith(f"{known}_"):
            return f"unknown setting (did you mean {variable((known, name.removeprefix(f'{known}_')))}?)"
    return None
