"""A failed attempt: what is written down of it, and whether another one follows."""

from __future__ import annotations

import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fairque.core.exceptions import TaskValidationError, UnknownFunctionError
from fairque.core.registry import registry
from fairque.core.retry import RetryPolicy

if TYPE_CHECKING:
    from datetime import timedelta

    from fairque.core.models import Task

ERROR_LENGTH = 1_000
TRACEBACK_LENGTH = 8_000
TYPE_LENGTH = 40

# Of an attempt whose worker does not know the task's function: another one may.
UNKNOWN = "unknown"
# Failures that another attempt cannot mend.
POINTLESS = frozenset({"invalid", "expired", "poisoned"})


def history_entry(error: BaseException | str, failure_type: str) -> dict[str, str]:
    """The entry of the task's history, bounded in size.

    Raises:
        TaskValidationError: The failure type is no short word.
    """
    if not failure_type or len(failure_type) > TYPE_LENGTH:
        raise TaskValidationError(
            f"failure_type must be a word of up to {TYPE_LENGTH} characters, not {failure_type!r}"
        )
    return {"type": failure_type, "error": _error_text(error), "traceback": _traceback(error)}


def retry_delay(
    task: Task[Any], error: BaseException | str, failure_type: str, default_retries: int
) -> timedelta | None:
    """The pause before the next attempt by the policy of the task's function, or None to give up."""
    if failure_type in POINTLESS:
        return None
    try:
        policy = registry.get(task.function).retry
    except UnknownFunctionError:
        policy = RetryPolicy()
    retries = default_retries if task.max_retries is None else task.max_retries
    reason = RuntimeError(error) if isinstance(error, str) else error
    return replace(policy, max_retries=retries).delay_after(task.failures, reason)


def _printable(text: str) -> str:
    """The text without halves of surrogate pairs, which have no UTF-8 form."""
    return text.encode("utf-8", "backslashreplace").decode()


def _error_text(error: BaseException | str) -> str:
    if isinstance(error, BaseException):
        try:
            error = f"{type(error).__name__}: {error}"
        except Exception:  # noqa: BLE001 - a user's __str__ may do anything
            error = type(error).__name__
    return _printable(error)[:ERROR_LENGTH]


def _traceback(error: BaseException | str) -> str:
    if isinstance(error, str) or error.__traceback__ is None:
        return ""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - it formats the same __str__
        text = "".join(traceback.format_tb(error.__traceback__))
    return _printable(text)[-TRACEBACK_LENGTH:]
