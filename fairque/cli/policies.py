"""A user's policy: from the options of `fairque user set`, and to lines that show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fairque.cli.showing import console, plain, table
from fairque.core.exceptions import ConfigurationError

if TYPE_CHECKING:
    from fairque.core.user_policy import UserPolicy
    from fairque.queue.policies import Layers


class Field(NamedTuple):
    """How a field is read from text, and what it must be."""

    read: Callable[[str], Any]
    must_be: str


def _slots_or_share(text: str) -> int | str:
    return text if text.rstrip().endswith("%") else int(text)


FIELDS = {
    "weight": Field(float, "a number above 0"),
    "max_concurrency": Field(
        _slots_or_share, "a whole number from 1 on, a share from 1% to 100%, or none for no limit"
    ),
    "rate": Field(float, "a number of tasks a second above 0, or none for no limit"),
    "burst": Field(int, "a whole number from 1 on, or none for one second's worth"),
    "max_queued": Field(int, "a whole number from 1 on, or none for no limit"),
}


def option_of(field: str) -> str:
    """The option that sets a field."""
    return "--" + field.replace("_", "-")


def read_changes(given: Mapping[str, str | None]) -> dict[str, Any]:
    """The values of the options that were given, by field.

    Raises:
        ConfigurationError: None was given, or one is out of its range; the message names the option.
    """
    changes = {field: _read(field, text) for field, text in given.items() if text is not None}
    if not changes:
        names = ", ".join(map(option_of, FIELDS))
        raise ConfigurationError(f"user set: nothing to change, give at least one of {names}")
    return changes


def _read(field: str, text: str) -> Any:
    from fairque.core.user_policy import UserPolicy  # noqa: PLC0415 - pydantic loads when it is used

    read, must_be = FIELDS[field]
    try:
        value = None if text == "none" else read(text)
        alone: dict[str, Any] = {"rate": 1.0, field: value}  # a rate, as burst needs one
        UserPolicy(**alone)
    except (ConfigurationError, ValueError):
        raise ConfigurationError(f"{option_of(field)} {plain(text)}: must be {must_be}") from None
    return value


def sources(layers: Layers) -> dict[str, str]:
    """Where each field of the policy that counts comes from."""
    policy = layers.policy()
    found = {field: _source(layers, field) for field in type(policy).model_fields}
    if layers.paused is not None:
        found["paused"] = "live"
    if policy.rate is None:
        found["burst"] = found["rate"]  # it goes with the rate
    return found


def _source(layers: Layers, field: str) -> str:
    named = (("live", layers.live), ("configuration", layers.configured), ("default", layers.default))
    return next((name for name, layer in named if field in layer), "built-in")


def show_policy(layers: Layers) -> None:
    """The policy that counts, a line for each field."""
    rows = table("policy", left=("value", "from"))
    values, origin = _values(layers.policy()), sources(layers)
    for field, value in values.items():
        rows.add_row(field, value, origin[field])
    console().print(rows)


def _values(policy: UserPolicy) -> dict[str, str]:
    slots = policy.max_concurrency
    return {
        "weight": f"{policy.weight:g}",
        "max_concurrency": f"{slots} of the slots in use" if isinstance(slots, str) else _limit(slots),
        "rate": "none" if policy.rate is None else f"{policy.rate:g} tasks a second",
        "burst": "none" if policy.rate is None else f"{policy.tokens:,}",
        "max_queued": _limit(policy.max_queued),
        "paused": "yes" if policy.paused else "no",
    }


def _limit(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"
