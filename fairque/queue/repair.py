"""Repair: what a shard derives from its tasks is compared with them, and made to follow again. No I/O here.

Everything is looked at by scripts that cannot write. Only what they found is mended, by scripts that judge it
anew and mend it in one step, so that workers and pushes may go on meanwhile; then all is looked at once more.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from fairque.core.calls import Call
from fairque.queue.repair_findings import COUNTED, Found, Names, report
from fairque.queue.replies import groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from fairque.core.calls import Flow
    from fairque.core.records import RepairReport
    from fairque.queue.repair_findings import Pair

    Progress: TypeAlias = Callable[[str, int], None]

# Of one script, to bound how long the server is busy with it.
KEYS = 500
ENTRIES = 1_000
TASKS = 100
EDGES = 500
EDGE_KEYS = 200
USERS = 50
MENDED = 100
# Users whose tasks are counted exactly: several at once while that walks through no more entries.
WALKED = 20_000

ROUNDS = 5  # what is mended may show what was hidden by it
LAST_MS = 600_000  # for what should expire and does not
PLACES = (*COUNTED, "finished", "canceled")
NAMES = ("ring", "throttled", "users")
OF_USERS = ("user", "policy", "costs", "groups", "idle_groups")


class RepairCommands:
    """The repair of one shard.

    Args:
        root: The shard's.
        ending: What scripts need that end tasks: `ageing_us` and `retention`.
        lease_ms: How long a lease lasts whose end cannot be known.
        ttl_ms: How long a value of XCom lasts that has lost its end.
    """

    def __init__(self, root: str, ending: Mapping[str, Any], *, lease_ms: int, ttl_ms: int) -> None:
        self._root = root
        self._ending = dict(ending)
        self._of_tasks = {**ending, "lease_ms": lease_ms}
        self._ttl_ms = ttl_ms

    def repair(self, *, dry_run: bool = False, progress: Progress | None = None) -> Flow[RepairReport]:
        """Look, and mend what was found until nothing is; or only look.

        `progress` is told what is done, and how many of that so far.
        """
        tell = progress or _tell_nobody
        found = first = yield from self._look(tell)
        kinds = Counter(first.kinds)
        for _ in range(0 if dry_run else ROUNDS):
            if found.size == 0:
                break
            was_blocked = found.is_blocked
            yield from self._mend(found, tell)
            found = yield from self._look(tell)
            if was_blocked:  # what is seen only now was wrong before
                kinds += found.kinds
        return report(kinds, found, dry_run=dry_run)

    def _call(self, script: str, options: Mapping[str, Any], args: Iterable[Any] = ()) -> Call[Any]:
        return Call(script, self._root, (msgspec.json.encode(options), *args), _as_it_is)

    # --- looking ---

    def _look(self, tell: Progress) -> Flow[Found]:
        found = Found()
        names = yield from self._names(found, tell)
        if found.kinds["keys"] == 0:
            found.kinds["shard"], found.is_blocked = yield self._call("repair_shard", {})
        found.is_blocked = bool(found.is_blocked or found.kinds["keys"])
        if found.is_blocked:
            return found
        yield from self._look_at_entries(names, found, tell)
        yield from self._look_at_tasks([(name, b"") for name in names.kind("task")], found, tell)
        yield from self._look_at_tasks([(name, b"") for name in names.kind("stray")], found, tell)
        yield from self._look_at_edges(names, found, tell)
        yield from self._look_at_schedules(names, found, tell)
        yield from self._look_at_users(names, found, tell)
        balance, _ = yield self._call("repair_shard", {"balance": True})
        found.kinds["shard"] = balance
        found.looked_at.update(tasks=len(names.kind("task")), users=len(names.users))
        return found

    def _names(self, found: Found, tell: Progress) -> Flow[Names]:
        names, cursor = Names(), "0"
        seen = 0
        while True:
            cursor_reply, *page = yield self._call("repair_keys", {"cursor": cursor, "limit": KEYS})
            for kind, name in groups(page, 2):
                names.of.setdefault(kind, {})[name] = None
            seen += len(page) // 2
            tell("keys", seen)
            cursor = cursor_reply.decode()
            if cursor == "0":
                break
        found.keys.update(
            ((kind, name), None) for kind in (b"wrong", b"lasting") for name in names.of.get(kind, ())
        )
        found.values.update((_three(name), None) for name in names.kind("xcom"))
        found.values.update(((*_two(space), b""), None) for space in names.kind("lapsing"))
        found.unknown = list(names.kind("unknown"))
        found.kinds.update(
            keys=len(names.kind("wrong")), leftovers=len(names.kind("lasting")), xcom=len(found.values)
        )
        names.users.update((name, None) for kind in OF_USERS for name in names.kind(kind))
        names.users.update((lane.partition(b":")[0], None) for lane in names.kind("lane"))
        return names

    def _entries(self, of: str, key: str | bytes, *args: bytes) -> Flow[tuple[list[bytes], Counter[bytes]]]:
        """The entries of a sorted set that are to be looked at, and how many there are of each user."""
        suspects: dict[bytes, None] = {}
        numbers: Counter[bytes] = Counter()
        cursor = "0"
        while True:
            options = {"of": of, "cursor": cursor, "limit": ENTRIES}
            reply, entries, tally = yield self._call("repair_entries", options, (key, *args))
            suspects.update(dict.fromkeys(entries))
            numbers.update(dict(groups(tally, 2)))
            cursor = reply.decode()
            if cursor == "0":
                return list(suspects), numbers

    def _look_at_entries(self, names: Names, found: Found, tell: Progress) -> Flow[None]:
        suspects: list[Pair] = []
        for place in PLACES:
            members, numbers = yield from self._entries("tasks", place)
            suspects += [(member, b"") for member in members]
            names.numbers.get(place, Counter()).update(numbers)
            names.users.update(dict.fromkeys(numbers if place in COUNTED else ()))
        for done, lane in enumerate(names.kind("lane"), 1):
            user, _, group = lane.partition(b":")
            ids, _ = yield from self._entries("ids", b"lane:" + lane, user, group)
            suspects += [(user + b":" + name, group) for name in ids]
            tell("lanes", done)
        yield from self._look_at_tasks(suspects, found, tell)
        for key in NAMES:
            listed, _ = yield from self._entries("names", key)
            names.users.update(dict.fromkeys(listed))
        members, _ = yield from self._entries("releasing", "releasing")
        found.keys.update(((b"releasing", member), None) for member in members)
        found.kinds["leftovers"] += len(members)
        for space in names.kind("xcoms"):
            user, namespace = _two(space)
            entries, _ = yield from self._entries("values", b"xcoms:" + space, user, namespace)
            new = [value for name in entries if (value := (user, namespace, name)) not in found.values]
            found.values.update(dict.fromkeys(new))
            found.kinds["xcom"] += len(new)

    def _look_at_tasks(self, tasks: Sequence[Pair], found: Found, tell: Progress) -> Flow[None]:
        for done, chunk in _chunks(tasks, TASKS):
            reply = yield self._call("repair_tasks", self._of_tasks, _flat(chunk))
            for member, group, kind, made in groups(reply, 4):
                if (member, group) not in found.tasks:
                    found.tasks[member, group] = made
                    found.kinds[kind.decode()] += 1
            tell("tasks", done)

    def _look_at_edges(self, names: Names, found: Found, tell: Progress) -> Flow[None]:
        keys = [(side, name) for side in (b"blockers", b"dependents") for name in names.of.get(side, ())]
        at, cursor = 0, b"0"
        while at < len(keys):
            chunk = [(*key, b"0") for key in keys[at : at + EDGE_KEYS]]
            chunk[0] = (*chunk[0][:2], cursor)
            through, cursor, *pairs = yield self._call("repair_edges", {"limit": EDGES}, _flat(chunk))
            at += through
            found.edges.update(((task, dependency), None) for task, dependency in groups(pairs, 2))
            tell("edges", at)
        found.kinds["edges"] = len(found.edges)

    def _look_at_schedules(self, names: Names, found: Found, tell: Progress) -> Flow[None]:
        members = dict(names.kind("schedule"))
        for key in ("schedules", "schedule_index"):
            listed, _ = yield from self._entries("names", key)
            members.update(dict.fromkeys(listed))
        for done, chunk in _chunks(list(members), TASKS):
            found.schedules += yield self._call("repair_schedules", {}, chunk)
            tell("schedules", done)
        found.kinds["schedules"] = len(found.schedules)

    def _look_at_users(self, names: Names, found: Found, tell: Progress) -> Flow[None]:
        lanes = names.groups()
        uncertain = []
        for done, chunk in _chunks(list(names.users), USERS):
            args = [part for name in chunk for part in _user(name, names, lanes)]
            reply = yield self._call("repair_users", {}, args)
            uncertain += [name for name, kind in groups(reply, 2) if kind == b"numbers"]
            self._note_users(found, reply)
            tell("users", done)
        for _, chunk in _chunks(uncertain, self._counted_at_once(names)):
            args = [part for name in chunk for part in _user(name, names, lanes)]
            self._note_users(
                found, (yield self._call("repair_users", {"exact": True}, args)), only=b"counters"
            )

    @staticmethod
    def _note_users(found: Found, reply: list[bytes], only: bytes | None = None) -> None:
        for name, kind in groups(reply, 2):
            if kind != b"numbers" and only in {None, kind}:
                found.users[name] = None
                found.kinds[kind.decode()] += 1

    @staticmethod
    def _counted_at_once(names: Names) -> int:
        return USERS if sum(numbers.total() for numbers in names.numbers.values()) <= WALKED else 1

    # --- mending ---

    def _mend(self, found: Found, tell: Progress) -> Flow[None]:
        if found.is_blocked:
            yield from self._mend_shard(found, balance=False)
            return
        done = 0
        for script, options, pairs in (
            ("mend_edges", self._ending, list(found.edges)),
            # What has to queue again does so in the order in which it was made.
            ("mend_tasks", self._of_tasks, sorted(found.tasks, key=lambda task: (found.tasks[task], task))),
        ):
            for _, chunk in _chunks(pairs, MENDED):
                yield self._call(script, options, _flat(chunk))
                done += len(chunk)
                tell("mended", done)
        for _, chunk in _chunks(list(found.values), MENDED):
            yield self._call("mend_xcom", {"ttl_ms": self._ttl_ms}, _flat(chunk))
        for _, chunk in _chunks(found.schedules, MENDED):
            yield self._call("mend_schedules", {}, chunk)
        yield from self._mend_users(found, tell)
        yield from self._mend_shard(found, balance=True)

    def _mend_users(self, found: Found, tell: Progress) -> Flow[None]:
        touched = [*found.users, *(name.partition(b":")[0] for name, _ in (*found.tasks, *found.edges))]
        if not touched:
            return
        names = yield from self._names(Found(), tell)
        lanes = names.groups()
        for place in COUNTED:
            _, names.numbers[place] = yield from self._entries("tasks", place)
        for done, chunk in _chunks(
            [name for name in dict.fromkeys(touched) if name], self._counted_at_once(names)
        ):
            yield self._call("mend_users", {}, [part for name in chunk for part in _user(name, names, lanes)])
            tell("users mended", done)

    def _mend_shard(self, found: Found, *, balance: bool) -> Flow[None]:
        for _, chunk in _chunks(list(found.keys), MENDED):
            yield self._call("mend_shard", {"last_ms": LAST_MS}, _flat(chunk))
        yield self._call("mend_shard", {"balance": balance})


def _tell_nobody(_what: str, _done: int) -> None:
    pass


def _as_it_is(reply: Any) -> Any:
    return reply


def _chunks(items: Sequence[Any], size: int) -> Iterator[tuple[int, Sequence[Any]]]:
    """The items in pieces, each with how many there were up to its end."""
    for start in range(0, len(items), size):
        chunk = items[start : start + size]
        yield start + len(chunk), chunk


def _flat(chunk: Iterable[tuple[Any, ...]]) -> list[Any]:
    return [part for item in chunk for part in item]


def _two(name: bytes) -> tuple[bytes, bytes]:
    first, _, second = name.partition(b":")
    return first, second


def _three(name: bytes) -> tuple[bytes, bytes, bytes]:
    first, second, third = name.split(b":")
    return first, second, third


def _user(name: bytes, names: Names, lanes: Mapping[bytes, list[bytes]]) -> list[Any]:
    """A user as the scripts are told of it."""
    of_user = lanes.get(name, [])
    return [name, *(names.numbers[place][name] for place in COUNTED), len(of_user), *of_user]
