"""Whose tasks a worker takes: its assigned users' first, others' only when those have nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairque.queue.shards import QueueCommands


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to claim: among these users (all if None), counted as stolen or not."""

    users: Sequence[str] | None
    steal: bool = False


def choices(assigned: Sequence[str], steal_targets: Sequence[str] | Literal["*"]) -> list[Choice]:
    """The ways to claim, in order: the next one is tried when the one before left slots free.

    A worker with neither assigned users nor steal targets serves everyone.
    """
    if not assigned and not steal_targets:
        return [Choice(None)]
    order = [Choice(assigned)] if assigned else []
    if steal_targets == "*":
        order.append(Choice(None, steal=True))
    elif steal_targets:
        order.append(Choice(steal_targets, steal=True))
    return order


def choices_in(number: int, everywhere: Sequence[Choice], commands: QueueCommands) -> list[Choice]:
    """The ways to claim in a shard: with the users that are there. None, if none of them is."""
    found = []
    for choice in everywhere:
        users = commands.users_by_shard(choice.users)[number]
        if users is None or users:
            found.append(Choice(users, choice.steal))
    return found
