"""The scripts against the fair order's arithmetic (`fairque.core.fair_order`), decision by decision."""

from __future__ import annotations

import itertools
import os
import time
from random import Random
from typing import Any

import msgspec
import pytest
from redis import Redis

from fairque.core.config import FairQueueConfig, QueueConfig, RedisConfig, UserPolicy
from fairque.core.fair_order import Attempt, Cost, FairOrder
from fairque.core.models import Task
from fairque.queue.queue import TaskQueue
from fairque.utils.embedded import EmbeddedServer
from tests.support.invariants import check_invariants

USERS = ["a", "b", "c", "ü"]
GROUPS = [None, "g", "h", "i"]
FUNCTIONS = [None, "fast", "slow"]
AN_HOUR = 3600.0


def random_policy(random: Random) -> UserPolicy:
    # Rates are so slow that only the burst matters: no decision hangs on the moment.
    slow, burst = 1e-4, random.randint(1, 9)
    return random.choice(
        [
            UserPolicy(weight=random.choice([0.1, 0.5, 1.0, 2.0, 3.7, 1e-12, 1e12])),
            UserPolicy(weight=random.uniform(0.01, 100)),
            UserPolicy(max_concurrency=random.randint(1, 6)),
            UserPolicy(max_concurrency=random.choice(["10%", "30%", "50%", "100%"])),
            UserPolicy(max_concurrency=random.choice(["10%", "30%", "50%"]), weight=random.uniform(0.5, 4)),
            UserPolicy(paused=random.random() < 0.5),
            UserPolicy(rate=slow, burst=burst),
            UserPolicy(weight=random.uniform(0.1, 10), max_concurrency=3, rate=slow, burst=burst),
        ]
    )


def random_step(random: Random) -> tuple[Any, ...]:
    match random.choices(["claim", "end", "push", "policy", "beat"], [8, 6, 4, 1, 3])[0]:
        case "claim":
            users = random.choice([None, None, None, None, ["a", "c"], ["ü"], ["b", "x"]])
            return "claim", random.choice([1, 2, 3, 5, 9]), users
        case "end":
            return "end", [random.randrange(100) for _ in range(random.randint(1, 5))], random.random() < 0.8
        case "push":
            user, group = random.choice(USERS), random.choice(GROUPS)
            return "push", user, group, random.choice(FUNCTIONS), random.randint(1, 8)
        case "policy":
            return "policy", random.choice(USERS), random_policy(random)
        case _:
            return "beat", random.randrange(100)


def random_trace(seed: int) -> list[tuple[Any, ...]]:
    """A history in which everybody has something to do at first, and half of the users a policy."""
    random = Random(seed)
    trace: list[tuple[Any, ...]] = [
        ("push", user, group, random.choice(FUNCTIONS), random.randint(1, 15))
        for user in USERS
        for group in random.sample(GROUPS, 2)
    ]
    trace += [("policy", user, random_policy(random)) for user in random.sample(USERS, 2)]
    return trace + [random_step(random) for _ in range(60)]


_numbers = itertools.count(1)


class Both:
    """A queue on a server, and the arithmetic, told the same things."""

    def __init__(self, server: EmbeddedServer, cost: Cost) -> None:
        prefix = f"order-{os.getpid()}-{next(_numbers)}"
        queue = QueueConfig(prefix=prefix, cost=cost, lease_seconds=AN_HOUR)
        redis = RedisConfig(unix_socket_path=server.socket_path)
        self.queue = TaskQueue(FairQueueConfig(redis=redis, queue=queue))
        self.raw = Redis(unix_socket_path=server.socket_path)
        self.root = f"{prefix}:{{default:0}}"
        self.order: FairOrder[str] = FairOrder(cost)
        self.running: list[tuple[Task[Any], Attempt[str]]] = []
        self.names = itertools.count(1)
        self.where = ""

    def close(self) -> None:
        self.queue.close()
        keys: list[bytes] = self.raw.keys(f"{self.root}*")  # type: ignore[assignment]
        if keys:
            self.raw.delete(*keys)
        self.raw.close()

    def now(self) -> float:
        return time.time() * 1000  # nothing that is compared depends on it

    def push(self, user: str, group: str | None, function: str | None, count: int) -> None:
        names = [str(next(self.names)) for _ in range(count)]
        tasks = [Task.create(user_id=user, task_id=name, group=group) for name in names]
        if function is not None:
            tasks = [_named(task, function) for task in tasks]
        self.queue.push_batch(tasks)
        for name in names:
            self.order.push(name, user, self.now(), group=group or "", function=function or "")

    def policy(self, user: str, policy: UserPolicy) -> None:
        self.queue.set_policy(user, policy)
        self.order.set_policy(user, policy, self.now())

    def claim(self, limit: int, users: list[str] | None) -> None:
        taken = self.queue.pop_batch("w", limit, users=users)
        expected = []
        started = taken[0].run.started_at if taken else self.now()
        assert started is not None
        for _ in range(limit):
            attempt = self.order.pick(started, users)
            if attempt is None:
                break
            expected.append(attempt)
        assert [(task.user_id, task.task_id) for task in taken] == [(a.user, a.task) for a in expected], (
            self.where
        )
        self.running += zip(taken, expected, strict=True)

    def end(self, which: list[int], well: bool) -> None:
        for place in which:
            if not self.running:
                return
            task, attempt = self.running.pop(place % len(self.running))
            if well:
                self.queue.finish(task)
            else:
                self.queue.fail(task, "no", failure_type="invalid")
            ended = self.queue.handle(task.user_id or "", task.task_id).info().run.finished_at
            assert ended is not None
            self.order.end(attempt, ended)

    def beat(self, place: int) -> None:
        if self.running:
            task, attempt = self.running[place % len(self.running)]
            self.queue.heartbeat(task)
            charged = self.raw.hget(f"{self.root}:run:{task.user_id}:{task.task_id}", "charged")
            if charged is not None and float(charged) > attempt.charged:
                self.order.accrue(attempt, attempt.started + float(charged) * 1000)

    def compare(self) -> None:
        """Virtual times, and who is in the ring."""
        for user in self.queue.users():
            assert user.eligible is (user.user_id in self.order.ring), self.where
            if user.eligible:
                v = self.order.ring.v[user.user_id]
                assert user.virtual_time == pytest.approx(v, rel=1e-9, abs=1e-9), self.where
        check_invariants(self.raw, self.root)


def _named(task: Task[Any], function: str) -> Task[Any]:
    header = msgspec.structs.replace(task.header, function=function)
    return msgspec.structs.replace(task, header=header, arguments=((), {}))


def follow(server: EmbeddedServer, cost: Cost, seed: int) -> None:
    random = Random(seed)
    both = Both(server, cost)
    try:
        for number, (what, *values) in enumerate(random_trace(seed)):
            both.where = f"seed {seed}, step {number}: {what} {values}"
            getattr(both, what)(*values)
            both.compare()
            if cost == "time":
                time.sleep(random.choice([0, 0, 0.001, 0.005]))
    finally:
        both.close()


@pytest.mark.slow
def test_the_scripts_decide_as_the_arithmetic_where_tasks_cost_alike(server: EmbeddedServer) -> None:
    for seed in range(30):
        follow(server, "tasks", seed)


@pytest.mark.slow
def test_the_scripts_decide_as_the_arithmetic_where_tasks_cost_time(server: EmbeddedServer) -> None:
    for seed in range(1000, 1020):
        follow(server, "time", seed)
