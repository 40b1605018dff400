"""The part of a task that the scripts read: its options, checked once and on the wire's terms.

Fields at their default are left out on the wire, so a new field costs old tasks nothing, and no script
knows an order of fields.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec

from fairque.core.exceptions import TaskValidationError
from fairque.core.keys import check_id
from fairque.core.units import Seconds, moment_to_ms, to_ms

if TYPE_CHECKING:
    from collections.abc import Callable


class Priority(IntEnum):
    """The order of one user's tasks among themselves. CRITICAL is strictly first-in, first-out and first."""

    VERY_LOW = 1
    LOW = 2
    NORMAL = 3
    HIGH = 4
    VERY_HIGH = 5
    CRITICAL = 6


OnUpstreamFailure: TypeAlias = Literal["wait", "cancel", "run"]
ON_UPSTREAM_FAILURE = get_args(OnUpstreamFailure)


class Header(msgspec.Struct, omit_defaults=True, frozen=True):
    """The part of a task that the scripts read. Times and durations in integer milliseconds."""

    function: str | None = None
    priority: int = int(Priority.NORMAL)
    delay: int = 0
    execute_after: int | None = None
    expires_at: int | None = None
    max_retries: int | None = None
    timeout: int | None = None
    created_at: int = 0
    group: str | None = None
    on_upstream_failure: str = "wait"
    step: str | None = None  # its name in a pipeline
    pipeline: str | None = None  # the run of a pipeline that it belongs to
    inputs: bool = False  # whether its body names results of other tasks
    schedule: str | None = None  # the schedule that pushed it
    fire_time: int | None = None  # and for which of its times


encode_header = msgspec.json.Encoder().encode
decode_header = msgspec.json.Decoder(Header).decode


def header_changes(*, delay: Any, execute_after: Any, **options: Any) -> dict[str, Any]:
    """The header's fields for the options that are given, checked and on the wire's terms."""
    if delay is not None and execute_after is not None:
        raise TaskValidationError("give delay or execute_after, not both")
    changes = {name: _CHECKS[name](value) for name, value in options.items() if value is not None}
    if delay is not None:
        changes |= {"delay": to_ms(delay, "delay"), "execute_after": None}
    if execute_after is not None:
        changes |= {"execute_after": moment_to_ms(execute_after, "execute_after"), "delay": 0}
    return changes


def _check_priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= Priority.CRITICAL:
        raise TaskValidationError(
            f"priority must be one of Priority.VERY_LOW (1) … CRITICAL (6), not {value!r}"
        )
    return int(value)


def _check_retries(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000:  # noqa: PLR2004
        raise TaskValidationError(f"max_retries must be a whole number from 0 to 1,000,000, not {value!r}")
    return value


def _check_timeout(value: Seconds) -> int:
    milliseconds = to_ms(value, "timeout")
    if milliseconds == 0:
        raise TaskValidationError("timeout must be longer than 0 s; leave it out for none")
    return milliseconds


def _check_on_failure(value: object) -> str:
    if value not in ON_UPSTREAM_FAILURE:
        raise TaskValidationError(
            f"on_upstream_failure must be one of {', '.join(map(repr, ON_UPSTREAM_FAILURE))}, not {value!r}"
        )
    return str(value)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "priority": _check_priority,
    "max_retries": _check_retries,
    "timeout": _check_timeout,
    "group": lambda value: check_id(value, "group"),
    "on_upstream_failure": _check_on_failure,
    "step": lambda value: check_id(value, "name"),
    "expires_at": lambda value: moment_to_ms(value, "expires_at"),
}
