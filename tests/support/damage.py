"""A rich state of a queue, and what can happen to its keys by hand or by eviction."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from fairque.core.config import UserPolicy
from fairque.core.models import Task
from fairque.queue import batches
from fairque.queue.queue import TaskQueue
from fairque.scheduler.scheduler import TaskScheduler
from tests.support.actions import BLINK

USERS = ("a", "b", "a:b", "ü", "w[x]*?", "capped", "rated", "paused", "groups")
AN_HOUR = 3600.0
BRIEF = {b"waits", b"service"}  # last for minutes only, and nothing decides by them
POLICIES = {
    "capped": UserPolicy(max_concurrency=1),
    "rated": UserPolicy(rate=0.001, burst=2),
    "paused": UserPolicy(paused=True, weight=2.0),
}


def enrich(queue: TaskQueue, rng: random.Random) -> None:
    """Tasks of many users in every state, dependencies, a graph that came in part, XCom, and schedules."""
    for user, policy in POLICIES.items():
        queue.set_policy(user, policy)
    for user in USERS:
        queue.push_batch(list(_tasks(user, rng)))
        queue.xcom(user).push("key", [user])
        queue.xcom(user, namespace="n:s").push("k:1", 1)
    schedules = TaskScheduler(queue)
    for user in USERS[:3]:
        for name, active in (("s", True), ("s:2", True), ("paused", False)):
            schedules.add_schedule(
                task=Task.create(), every=AN_HOUR, user_id=user, schedule_id=name, active=active, jitter=9
            )
    for user in ("a", "groups"):
        push_in_part(queue, user)
    for _ in range(3):
        held = queue.pop_batch("w", rng.randint(3, 9))
        for task in held:
            _end(queue, task, rng)
    queue.pop_batch("w", 3, lease=BLINK)
    for user in USERS[:3]:
        queue.cancel(user, "late", cascade=rng.random() < 0.5)


def _tasks(user: str, rng: random.Random) -> Iterator[Task[Any]]:
    def make(name: str, **options: Any) -> Task[Any]:
        return Task.create(user_id=user, task_id=name, payload=[user, name], **options)

    group = {"group": rng.choice(["g:1", "h"])} if user == "groups" else {}
    for number in range(4):
        yield make(str(number), priority=rng.randint(1, 6), **group)
    yield make("late", delay=AN_HOUR, **group)
    yield make("after", depends_on=["0", "late"], **group)
    yield make("or", depends_on=["1", "after"], on_upstream_failure="run")
    yield make("else", depends_on=["2", "after"], on_upstream_failure="cancel", delay=AN_HOUR)


def _end(queue: TaskQueue, task: Task[Any], rng: random.Random) -> None:
    match rng.choice(["finish", "finish", "fail", "retry", "release", "cancel", "hold"]):
        case "finish":
            queue.finish(task, "done")
        case "fail":
            queue.fail(task, "broken", failure_type="invalid")
        case "retry":
            queue.fail(task, "again")
        case "release":
            queue.release(task)
        case "cancel":
            queue.cancel(task.user_id or "", task.task_id)


def push_in_part(queue: TaskQueue, user: str) -> None:
    """A graph in several pushes, of which all but the last arrive."""
    graph = [
        Task.create(user_id=user, task_id=f"part{i}", payload=i, depends_on=[f"part{i - 1}"] if i else [])
        for i in range(6)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "WHOLE_GRAPH", 2)
        patch.setattr(batches, "CHUNK", 2)
        batch = queue.commands.push_batch(graph)
    for call in batch.calls[:-1]:
        queue.manager.execute(call)


# --- damage ---

Damage = Callable[[Redis, str, random.Random], None]


def keys_of(raw: Redis, root: str) -> list[bytes]:
    found: list[bytes] = raw.keys(f"{root}:*")  # type: ignore[assignment]
    return sorted(found)


def _some(raw: Redis, root: str, rng: random.Random, *types: bytes, spare: bytes | None = None) -> bytes:
    """A key, of each kind as likely: there are more keys of tasks than of anything else."""
    kinds: dict[bytes, list[bytes]] = {}
    for key in keys_of(raw, root):
        kind = key[len(root) + 1 :].split(b":")[0]
        if kind != spare and (not types or raw.type(key) in types):
            kinds.setdefault(kind, []).append(key)
    return rng.choice(kinds[rng.choice(sorted(kinds))])


def delete_a_key(raw: Redis, root: str, rng: random.Random) -> None:
    raw.delete(_some(raw, root, rng))


def delete_a_kind(raw: Redis, root: str, rng: random.Random) -> None:
    kind = _some(raw, root, rng, spare=b"task")[len(root) + 1 :].split(b":")[0]
    raw.delete(*(key for key in keys_of(raw, root) if key[len(root) + 1 :].split(b":")[0] == kind))


def delete_a_field(raw: Redis, root: str, rng: random.Random) -> None:
    key = _some(raw, root, rng, b"hash")
    raw.hdel(key, rng.choice(sorted(raw.hkeys(key))))


def spoil_a_field(raw: Redis, root: str, rng: random.Random) -> None:
    key = _some(raw, root, rng, b"hash")
    if key[len(root) + 1 :].split(b":")[0] in BRIEF:
        return
    field = rng.choice(sorted(raw.hkeys(key)))
    raw.hset(key, field, rng.choice(["", "x", "17", "-3", "inf", "nan"]))


def remove_an_entry(raw: Redis, root: str, rng: random.Random) -> None:
    key = _some(raw, root, rng, b"zset")
    members: list[bytes] = raw.zrange(key, 0, -1)  # type: ignore[assignment]
    raw.zrem(key, rng.choice(members))


def change_a_score(raw: Redis, root: str, rng: random.Random) -> None:
    key = _some(raw, root, rng, b"zset")
    members: list[bytes] = raw.zrange(key, 0, -1)  # type: ignore[assignment]
    raw.zadd(
        key, {rng.choice(members): rng.choice([0, 1, 2, 3, -1, 5, 0.5, float("inf"), float("-inf"), 2e9])}
    )


def add_a_task_elsewhere(raw: Redis, root: str, rng: random.Random) -> None:
    tasks = [key[len(root) + 6 :] for key in keys_of(raw, root) if key.startswith(f"{root}:task:".encode())]
    member = rng.choice([*tasks, b"a:ghost", b"nobody:ghost", b"nonsense"])
    place = rng.choice(["leases", "scheduled", "deferred", "finished", "failed", "canceled", "releasing"])
    raw.zadd(f"{root}:{place}", {member: rng.choice([1, 2e12, 2e15])})


def add_to_a_lane(raw: Redis, root: str, rng: random.Random) -> None:
    user = rng.choice([b"a", b"groups", b"a%3Ab", b"nobody"])
    lane = rng.choice([user, user + b":g:1", user + b":other"])
    name = rng.choice([b"0", b"1", b"after", b"ghost"])
    raw.zadd(f"{root}:lane:".encode() + lane, {name: rng.choice([1e15, 0.5, -2e15])})


def add_a_user(raw: Redis, root: str, rng: random.Random) -> None:
    raw.zadd(
        f"{root}:{rng.choice(['ring', 'throttled', 'users'])}", {rng.choice(["ghost", "capped", "a"]): 5}
    )


def add_a_schedule(raw: Redis, root: str, rng: random.Random) -> None:
    member = rng.choice(["a:s", "a:paused", "a:ghost", "nobody:ghost"])
    raw.zadd(f"{root}:{rng.choice(['schedules', 'schedule_index'])}", {member: rng.choice([0, 5, 2e12])})


def add_an_edge(raw: Redis, root: str, rng: random.Random) -> None:
    side = rng.choice(["blockers", "dependents"])
    raw.zadd(
        f"{root}:{side}:a:{rng.choice(['0', '3', 'after', 'ghost'])}", {rng.choice(["1", "or", "%%g"]): 1}
    )


def make_another_type(raw: Redis, root: str, rng: random.Random) -> None:
    key = _some(raw, root, rng, spare=b"task")
    if key[len(root) + 1 :].split(b":")[0] in BRIEF:
        return
    raw.delete(key)
    if rng.random() < 0.5:
        raw.set(key, "x") if rng.random() < 0.5 else raw.rpush(key, "x")
    else:
        raw.hset(key, "x", "y")


def let_it_last(raw: Redis, root: str, rng: random.Random) -> None:
    raw.persist(_some(raw, root, rng))


def spoil_a_record(raw: Redis, root: str, rng: random.Random) -> None:
    tasks = [key for key in keys_of(raw, root) if key.startswith(f"{root}:task:".encode())]
    if tasks:
        text = rng.choice(["{", "[]\nx", '{"priority":9}\n', '{"group":3}\n{}', '{"delay":-1}\n', "x" * 3000])
        raw.set(rng.choice(tasks), text)


DAMAGE: tuple[Damage, ...] = (
    *(delete_a_key, delete_a_key, delete_a_kind, delete_a_field, spoil_a_field, remove_an_entry),
    *(change_a_score, add_a_task_elsewhere, add_to_a_lane, add_a_user, add_an_edge, make_another_type),
    *(let_it_last, spoil_a_record, add_a_schedule),
)


def damage(raw: Redis, root: str, rng: random.Random, times: int) -> list[str]:
    """Do some of it; what was done."""
    done = []
    for _ in range(times):
        one = rng.choice(DAMAGE)
        try:
            one(raw, root, rng)
        except ResponseError:
            continue  # what it would have met is of another type by now
        except IndexError:
            continue  # nothing of the kind is left
        done.append(one.__name__)
    return done


# --- looking ---


def picture(raw: Redis, root: str) -> dict[bytes, Any]:
    """All keys with their values and ends."""
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": raw.get,
        b"hash": raw.hgetall,
        b"zset": lambda key: raw.zrange(key, 0, -1, withscores=True),
        b"set": raw.smembers,
        b"list": lambda key: raw.lrange(key, 0, -1),
    }
    return {
        key: (readers[raw.type(key)](key), raw.pexpiretime(key.decode()))  # type: ignore[index]
        for key in keys_of(raw, root)
    }


def records(raw: Redis, root: str) -> set[bytes]:
    """The keys of the tasks that have a record with anything in it."""
    tasks = [key for key in keys_of(raw, root) if key.startswith(f"{root}:task:".encode())]
    return {key for key in tasks if raw.type(key) == b"string" and raw.strlen(key)}
