"""Checks of what callers pass, before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from fairque.core.exceptions import TaskValidationError
from fairque.core.keys import check_id, escape, member
from fairque.core.steps import StepOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

Missing: TypeAlias = Literal["fail", "wait"]


class PushOptions(StepOptions, total=False):
    """The options of `push`, as its signature has them."""

    user_id: str | None
    task_id: str | None
    missing: Missing | None
    durable: bool | None


LONGEST_BATCH = 1000  # tasks of one claim, users of one filter, rows of one page
LARGEST_GRAPH = 100_000  # tasks of one picture
LARGEST_OFFSET = 10**12  # more rows than fit a server


def user_list(users: Sequence[str]) -> Sequence[str]:
    if isinstance(users, str):
        raise TaskValidationError(f"users must be a list of user ids, not one string: {users!r}")
    if len(users) > LONGEST_BATCH:
        raise TaskValidationError(f"users names {len(users):,} users, the limit is {LONGEST_BATCH:,}")
    for user in users:
        check_id(user, "users")
    return users


def user_names(users: Sequence[str] | None) -> list[str] | None:
    return None if users is None else list(dict.fromkeys(escape(user) for user in user_list(users)))


def member_of(user_id: str, own_id: str, what: str = "task_id") -> str:
    return member(check_id(user_id, "user_id"), check_id(own_id, what))


def check_missing(value: Missing | None) -> Missing | None:
    if value not in {None, "fail", "wait"}:
        raise TaskValidationError(f"missing must be 'fail' or 'wait', not {value!r}")
    return value


def batch_limit(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST_BATCH:
        raise TaskValidationError(f"limit must be a whole number from 1 to {LONGEST_BATCH:,}, not {value!r}")
    return value


def graph_limit(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_GRAPH:
        raise TaskValidationError(f"limit must be a whole number from 1 to {LARGEST_GRAPH:,}, not {value!r}")
    return value


def page_offset(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_OFFSET:
        raise TaskValidationError(
            f"offset must be a whole number from 0 to {LARGEST_OFFSET:,}, not {value!r}"
        )
    return value
