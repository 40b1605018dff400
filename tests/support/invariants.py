"""What must hold in a shard between any two scripts, read from the raw keys."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from functools import cached_property
from typing import Any

from redis import Redis

from fairque.core.fair_order import Tokens
from fairque.core.keys import escape, unescape
from fairque.core.user_policy import UserPolicy
from tests.support.graph_invariants import Graph

PLACES = ("leases", "scheduled", "deferred", "finished", "failed", "canceled")
LIVE_PLACES = frozenset({"lane", "leases", "scheduled", "deferred"})
SINGLE_KEYS = frozenset(
    {*PLACES, "ring", "throttled", "users", "clock", "stats", "workers", "wake", "settings", "configured"}
    | {"releasing", "gates", "schedules", "schedule_index"}
)
OF_TASKS = frozenset({"task", "run", "result", "lane", "blockers", "dependents"})
OF_XCOM = frozenset({"xcom", "xcoms"})
OF_USERS = frozenset({"user", "policy", "costs", "groups", "idle_groups", "waits"})
ENDED = ("finished", "failed", "canceled", "lost")


class Shard:
    """A picture of all keys under one root."""

    def __init__(self, client: Redis, root: str) -> None:
        self.root = root
        pattern = "".join(f"\\{sign}" if sign in "*?[]\\" else sign for sign in root) + ":*"
        found: list[bytes] = client.keys(pattern)  # type: ignore[assignment]
        names = sorted(key.decode()[len(root) + 1 :] for key in found)
        self.parts: dict[str, set[str]] = defaultdict(set)
        self.singles: set[str] = set()
        for name in names:
            kind, colon, rest = name.partition(":")
            if colon:
                self.parts[kind].add(rest)
            else:
                self.singles.add(name)
        pipe = client.pipeline(transaction=True)
        for place in PLACES:
            pipe.zrange(f"{root}:{place}", 0, -1)
        pipe.zrange(f"{root}:ring", 0, -1, withscores=True)
        pipe.zrange(f"{root}:users", 0, -1, withscores=True)
        pipe.zrange(f"{root}:throttled", 0, -1)
        pipe.hget(f"{root}:settings", "default")
        pipe.hgetall(f"{root}:stats")
        pipe.llen(f"{root}:wake")
        self.lane_names = sorted(self.parts["lane"])
        self.user_names = sorted(self.parts["user"])
        self.run_names = sorted(self.parts["run"])
        for lane in self.lane_names:
            pipe.zrange(f"{root}:lane:{lane}", 0, -1)
        for user in self.user_names:
            pipe.hgetall(f"{root}:user:{user}")
            pipe.zrange(f"{root}:groups:{user}", 0, -1)
        for run in self.run_names:
            pipe.hgetall(f"{root}:run:{run}")
        graph = Graph.ask(pipe, root, self.parts)
        replies: deque[Any] = deque(pipe.execute())
        seconds, microseconds = client.time()
        self.now = seconds * 1000 + microseconds / 1000
        self.places = {place: [m.decode() for m in replies.popleft()] for place in PLACES}
        self.ring = {name.decode(): score for name, score in replies.popleft()}
        self.index = {name.decode(): score for name, score in replies.popleft()}
        self.throttled = {name.decode() for name in replies.popleft()}
        self.default_policy = json.loads(replies.popleft() or b"{}")
        self.totals = {name.decode(): int(value) for name, value in replies.popleft().items()}
        self.wake_tokens: int = replies.popleft()
        self.lanes = {lane: [m.decode() for m in replies.popleft()] for lane in self.lane_names}
        self.users: dict[str, dict[str, str]] = {}
        self.group_rings: dict[str, set[str]] = {}
        for user in self.user_names:
            self.users[user] = _text(replies.popleft())
            self.group_rings[user] = {group.decode() for group in replies.popleft()}
        self.runs = {run: _text(replies.popleft()) for run in self.run_names}
        self.graph = graph.read(replies)
        self._read_xcom(client)
        self._read_schedules(client)

    def _read_xcom(self, client: Redis) -> None:
        names, spaces = sorted(self.parts["xcom"]), sorted(self.parts["xcoms"])
        self.xcom: dict[str, int] = {}  # when each value ends, and what its entry says
        self.xcom_index: dict[str, float] = {}
        # By space: its latest entry, and when the index ends.
        self.xcom_ends: dict[str, tuple[float, int]] = {}
        if not names and not spaces:
            return
        pipe = client.pipeline(transaction=True)
        for name in names:
            pipe.pexpiretime(f"{self.root}:xcom:{name}")
        for space in spaces:
            pipe.zrange(f"{self.root}:xcoms:{space}", 0, -1, withscores=True)
            pipe.pexpiretime(f"{self.root}:xcoms:{space}")
        replies: deque[Any] = deque(pipe.execute())
        seconds, microseconds = client.time()
        self.xcom_now = seconds * 1000 + microseconds / 1000
        self.xcom = {name: replies.popleft() for name in names}
        for space in spaces:
            entries = {f"{space}:{name.decode()}": score for name, score in replies.popleft()}
            self.xcom_index |= entries
            self.xcom_ends[space] = (max(entries.values(), default=0), replies.popleft())

    @cached_property
    def where(self) -> dict[str, list[str]]:
        """The places of each task: there should be one."""
        where: dict[str, list[str]] = defaultdict(list)
        for lane, ids in self.lanes.items():
            for task in ids:
                where[f"{lane.partition(':')[0]}:{task}"].append("lane")
        for place, members in self.places.items():
            for member in members:
                where[member].append(place)
        return where

    @cached_property
    def groups(self) -> dict[str, set[str]]:
        """The groups of each user that has ready tasks, in which they are."""
        groups: dict[str, set[str]] = defaultdict(set)
        for lane in self.lane_names:
            user, _, group = lane.partition(":")
            groups[user].add(group)
        return groups

    def _read_schedules(self, client: Redis) -> None:
        pipe = client.pipeline(transaction=True)
        pipe.zrange(f"{self.root}:schedules", 0, -1, withscores=True)
        pipe.zrange(f"{self.root}:schedule_index", 0, -1)
        names = sorted(self.parts["schedule"])
        for name in names:
            pipe.hgetall(f"{self.root}:schedule:{name}")
        due, index, *records = pipe.execute()
        self.due = {name.decode(): score for name, score in due}
        self.schedule_index = {name.decode() for name in index}
        self.schedules = {name: _text(fields) for name, fields in zip(names, records, strict=True)}


def _text(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


def violations(client: Redis, root: str) -> list[str]:
    """Every way in which the shard is not as it must be; empty when it is."""
    shard = Shard(client, root)
    found: list[str] = []
    found += _key_names(shard)
    found += _one_place_each(shard)
    found += _users(shard)
    found += _totals(shard)
    found += shard.graph.violations({member: places[0] for member, places in shard.where.items()})
    found += _xcom(shard)
    found += _schedules(shard)
    return found


def check_invariants(client: Redis, root: str) -> None:
    found = violations(client, root)
    assert not found, "the shard is not consistent:\n" + "\n".join(found)


def _key_names(shard: Shard) -> list[str]:
    found = [f"an unknown key {name!r}" for name in shard.singles - SINGLE_KEYS]
    known = OF_TASKS | OF_USERS | OF_XCOM | {"claim", "service", "schedule"}
    kinds = {kind for kind, rest in shard.parts.items() if rest} - known
    found += [f"an unknown kind of key {kind!r}: {shard.parts[kind]}" for kind in kinds]
    users_of_lanes = {lane.partition(":")[0] for lane in shard.lane_names}
    for name in (*users_of_lanes, *shard.user_names, *shard.index, *shard.ring):
        if ":" in name or escape(unescape(name)) != name:
            found.append(f"a user's name that is not escaped: {name!r}")
    # What is kept of a user goes with its record; waits expire by themselves.
    for kind in OF_USERS - {"user", "waits"}:
        found += [f"{kind}:{name} without a record" for name in shard.parts[kind] - set(shard.user_names)]
    return found


def _one_place_each(shard: Shard) -> list[str]:
    where = shard.where
    tasks = shard.parts["task"]
    found = [f"task {task!r} is nowhere" for task in tasks if task not in where]
    found += [
        f"{member!r} is in {places} and not a task" for member, places in where.items() if member not in tasks
    ]
    found += [f"{member!r} is in {places}" for member, places in where.items() if len(places) != 1]
    found += [f"run:{run} has no task" for run in shard.parts["run"] - tasks]
    for result in shard.parts["result"]:
        if where.get(result) != ["finished"]:
            found.append(f"result:{result} without a finished task: {where.get(result)}")
    for member, places in where.items():
        run = shard.runs.get(member, {})
        if places == ["leases"] and not {"attempt", "claim", "worker", "started_at"} <= run.keys():
            found.append(f"the lease of {member!r} has no attempt: {run}")
        if places[0] in LIVE_PLACES and "finished_at" in run:
            found.append(f"{member!r} is live, and ended at {run['finished_at']}")
        if places[0] in {"finished", "failed", "canceled"} and "finished_at" not in run:
            found.append(f"{member!r} has ended, nobody knows when")
        if places[0] != "failed" and "failure_type" in run:
            found.append(f"{member!r} is not failed, and has a failure type")
    return found


def _users(shard: Shard) -> list[str]:
    found = []
    eligible = {name for name in shard.users if _is_eligible(shard, name)}
    if shard.ring.keys() != eligible:
        found.append(f"ring {sorted(shard.ring)} is not the eligible users {sorted(eligible)}")
    marked = {name for name, record in shard.users.items() if float(record.get("throttled", 0)) > 0}
    if marked != shard.throttled:
        found.append(f"throttled {sorted(shard.throttled)} is not those marked so {sorted(marked)}")
    found += [
        f"{name!r} is among the throttled, and should not"
        for name in shard.throttled
        if not _could_start(shard, name) or _policy(shard, name).get("rate") is None
    ]
    found += [
        f"{name!r} is in the ring and has no token left"
        for name in shard.ring
        if _next_token(shard, name) > shard.now
    ]
    if shard.index.keys() != shard.users.keys():
        found.append(f"the index {sorted(shard.index)} is not the users with a record {sorted(shard.users)}")
    found += [f"{name!r} has a lane and no record" for name in shard.groups.keys() - shard.users.keys()]
    for name, record in shard.users.items():
        found += _groups(shard, name, record)
        if name in shard.ring and float(record.get("v", 0)) != shard.ring[name]:
            found.append(f"{name!r} is at {shard.ring[name]} in the ring and {record.get('v')} in its record")
    return found + _counts(shard)


def _counts(shard: Shard) -> list[str]:
    where = {member: places[0] for member, places in shard.where.items()}

    def count(*places: str) -> Counter[str]:
        return Counter(member.partition(":")[0] for member, place in where.items() if place in places)

    live = count(*LIVE_PLACES)
    counts = {
        "in_flight": count("leases"),
        "live": live,
        "scheduled": count("scheduled"),
        "deferred": count("deferred"),
        "failed": count("failed"),
    }
    found = [f"{name!r} has tasks and no record" for name in live.keys() - shard.users.keys()]
    for name, record in shard.users.items():
        found += [
            f"{name!r} has {field} {record.get(field)}, and there are {numbers[name]}"
            for field, numbers in counts.items()
            if int(record.get(field, 0)) != numbers[name]
        ]
        if (shard.index.get(name) == 0) != (live[name] > 0):
            found.append(f"{name!r} is at {shard.index.get(name)} in the index with {live[name]} live tasks")
    return found


def _groups(shard: Shard, name: str, record: dict[str, str]) -> list[str]:
    lanes = shard.groups.get(name, set())
    if "groups" in record and shard.group_rings[name] != lanes:
        return [f"{name!r} has groups {shard.group_rings[name]} in turn, and lanes {lanes}"]
    if "groups" not in record and (shard.group_rings[name] or lanes - {""}):
        return [f"{name!r} has lanes {lanes} and no groups"]
    return []


def _policy(shard: Shard, name: str) -> dict[str, Any]:
    return {**shard.default_policy, **json.loads(shard.users.get(name, {}).get("policy", "{}"))}


def _could_start(shard: Shard, name: str) -> bool:
    """Whether nothing but a rate can hold the user back."""
    policy, in_flight = _policy(shard, name), int(shard.users.get(name, {}).get("in_flight", 0))
    cap = policy.get("max_concurrency")
    return name in shard.groups and not policy.get("paused") and (cap is None or in_flight < cap)


def _is_eligible(shard: Shard, name: str) -> bool:
    return _could_start(shard, name) and name not in shard.throttled


def _next_token(shard: Shard, name: str) -> float:
    wire = _policy(shard, name)
    if wire.get("rate") is None:
        return 0.0
    policy = UserPolicy.model_construct(rate=wire["rate"], burst=wire.get("burst"))
    return Tokens(float(shard.users[name].get("full_at", 0))).usable_from(policy, shard.now)


def _totals(shard: Shard) -> list[str]:
    found = []
    live = sum(places[0] in LIVE_PLACES for places in shard.where.values())
    come = shard.totals.get("pushed", 0) + shard.totals.get("requeued", 0)
    gone = sum(shard.totals.get(name, 0) for name in ENDED)
    if come - gone != live:
        found.append(f"{come} tasks came, {gone} ended, and {live} are live: {shard.totals}")
    if shard.wake_tokens > 1:
        found.append(f"{shard.wake_tokens} wake-ups are waiting; one is enough")
    return found


def _schedules(shard: Shard) -> list[str]:
    """A schedule with a record is listed, and among those that are due if and only if it has a fire time."""
    found = []
    if shard.schedule_index != shard.schedules.keys():
        found.append(
            f"the index {sorted(shard.schedule_index)} is not the schedules {sorted(shard.schedules)}"
        )
    firing = {name for name, fields in shard.schedules.items() if "fire" in fields}
    if shard.due.keys() != firing:
        found.append(f"due are {sorted(shard.due)}, and with a fire time {sorted(firing)}")
    for name, fields in shard.schedules.items():
        missing = {"revision", "definition", "task"} - fields.keys()
        if missing:
            found.append(f"schedule:{name} lacks {sorted(missing)}")
        if name in shard.due and shard.due[name] < int(fields.get("fire", 0)):
            found.append(f"schedule:{name} is due before its fire time")
    return found


def _xcom(shard: Shard) -> list[str]:
    """A value is in its namespace's index with its end, and nothing else; what ends just now may be gone."""
    values = {name: end for name, end in shard.xcom.items() if end > shard.xcom_now or end == -1}
    index = {name: score for name, score in shard.xcom_index.items() if score > shard.xcom_now}
    found = [
        f"xcom:{name} ends at {values.get(name)}, and its entry says {index.get(name)}"
        for name in values.keys() | index.keys()
        if values.get(name) != index.get(name)
    ]
    found += [
        f"xcoms:{space} ends at {end}, and its latest entry at {latest}"
        for space, (latest, end) in shard.xcom_ends.items()
        if latest > shard.xcom_now and end != latest
    ]
    parts = [part for name in (*shard.xcom, *shard.xcom_index) for part in name.split(":")]
    found += [
        f"a part of xcom that is not escaped: {part!r}" for part in parts if escape(unescape(part)) != part
    ]
    found += [f"xcom:{name} has not three parts" for name in shard.xcom if name.count(":") != 2]
    return found
