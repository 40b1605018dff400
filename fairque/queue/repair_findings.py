"""What a look at a shard collects for its repair, and what is told of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeAlias

from fairque.core.keys import unescape
from fairque.core.records import RepairReport

SHOWN = 5  # names in one problem
COUNTED = ("leases", "scheduled", "deferred", "failed")  # the sets whose tasks each user's record counts

Pair: TypeAlias = tuple[bytes, bytes]


@dataclass
class Found:
    """What one look has found: what to hand to the scripts that mend, and how many of each kind."""

    kinds: Counter[str] = field(default_factory=Counter)
    tasks: dict[Pair, int] = field(default_factory=dict)  # member and lane's group, and when it was made
    edges: dict[Pair, None] = field(default_factory=dict)
    users: dict[bytes, None] = field(default_factory=dict)
    values: dict[tuple[bytes, bytes, bytes], None] = field(default_factory=dict)
    schedules: list[bytes] = field(default_factory=list)
    keys: dict[Pair, None] = field(default_factory=dict)  # why it is to go, and its name
    unknown: list[bytes] = field(default_factory=list)
    looked_at: Counter[str] = field(default_factory=Counter)
    is_blocked: bool = False  # by what no script can read: the rest was not looked at

    @property
    def size(self) -> int:
        return self.kinds.total()


@dataclass
class Names:
    """The names of a shard's keys by kind, and how many tasks of each user its sets hold."""

    of: dict[bytes, dict[bytes, None]] = field(default_factory=dict)
    numbers: dict[str, Counter[bytes]] = field(
        default_factory=lambda: {place: Counter() for place in COUNTED}
    )
    users: dict[bytes, None] = field(default_factory=dict)

    def kind(self, name: str) -> dict[bytes, None]:
        return self.of.get(name.encode(), {})

    def groups(self) -> dict[bytes, list[bytes]]:
        """The groups of each user that have a lane."""
        found: dict[bytes, list[bytes]] = {}
        for lane in self.kind("lane"):
            user, _, group = lane.partition(b":")
            found.setdefault(user, [])
            if group:
                found[user].append(group)
        return found


WORDS = {
    "lost": "names of tasks in lanes, leases or sets that have no record",
    "homeless": "tasks in no place",
    "doubled": "tasks in several places",
    "misplaced": "tasks in a place that cannot be theirs",
    "unreadable": "live tasks with a record that cannot be read",
    "runs": "runs that contradict the place of their task",
    "leftovers": "keys or entries without what they belong to",
    "edges": "dependencies that do not stand alike at both ends, or with an end that was not told",
    "counters": "users with counters that differ from their tasks",
    "derived": "users out of place in the ring, the throttled, the index or their groups",
    "shard": "wrong totals, settings or clocks of the shard",
    "xcom": "values of XCom that differ from their index",
    "schedules": "schedules that are not whole, or not where their record puts them",
    "keys": "keys of a type that no script can read",
}


def report(kinds: Counter[str], last: Found, *, dry_run: bool) -> RepairReport:
    """What was found, and what is wrong after the `last` look."""
    problems = [f"{words}: {kinds[kind]:,}" for kind, words in WORDS.items() if kinds[kind]]
    if last.is_blocked:
        problems.append("what no script can read hides the rest: once it is gone, repair will look at that")
    if last.unknown:
        shown = ", ".join(unescape(name.decode(errors="replace")) for name in sorted(last.unknown)[:SHOWN])
        more = ", …" if len(last.unknown) > SHOWN else ""
        problems.append(f"keys of no known kind, which stay: {len(last.unknown):,} ({shown}{more})")
    return RepairReport(
        dry_run=dry_run,
        tasks=last.looked_at["tasks"],
        users=last.looked_at["users"],
        remaining=last.size,
        problems=tuple(problems),
        **{kind: kinds[kind] for kind in WORDS},
    )
