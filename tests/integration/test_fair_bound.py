"""The promise P1 through the server: random arrivals, weights, limits and costs."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from fairque.core.config import FairQueueConfig, QueueConfig, RedisConfig, UserPolicy
from fairque.core.fair_order import FIRST_ESTIMATE
from fairque.core.models import Task
from fairque.queue.queue import TaskQueue
from fairque.utils.embedded import EmbeddedServer
from tests.support.fair_bound import CAPS, HISTORIES, USERS, WEIGHTS, Bound, without_share

SLOTS = 4
PROFILE = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))

_numbers = itertools.count(1)


class Watched:
    """A queue, and what each of its users has been served."""

    def __init__(self, server: EmbeddedServer, bound: Bound, weights: dict[str, float], cost: Any) -> None:
        self.prefix = f"bound-{os.getpid()}-{next(_numbers)}"
        self.raw = Redis(unix_socket_path=server.socket_path)
        queue = QueueConfig(prefix=self.prefix, cost=cost)
        redis = RedisConfig(unix_socket_path=server.socket_path)
        self.queue = TaskQueue(FairQueueConfig(redis=redis, queue=queue))
        self.bound = bound
        self.weights = weights
        self.caps: dict[str, int | str | None] = dict.fromkeys(USERS)
        self.service = dict.fromkeys(USERS, 0.0)
        self.running: list[Task[Any]] = []

    def close(self) -> None:
        self.queue.close()
        keys: list[bytes] = self.raw.keys(f"{self.prefix}:*")  # type: ignore[assignment]
        if keys:
            self.raw.delete(*keys)
        self.raw.close()

    def watch(self) -> None:
        eligible = {user.user_id for user in self.queue.users() if user.eligible}
        self.bound.watch(self.service, without_share(eligible, self.caps))

    def follow(self, history: list[tuple[Any, ...]]) -> None:
        for what, *values in history:
            match what, values:
                case "push", [user, count]:
                    self.queue.push_batch([Task.create(user_id=user) for _ in range(count)])
                case "pick", [count]:
                    self.pick(count)
                case "end", [count, place]:
                    for _ in range(min(count, len(self.running))):
                        self.end(self.running.pop(place % len(self.running)))
            self.watch()

    def pick(self, count: int) -> None:
        # One by one, so that the bound is looked at after each; batches give the same order.
        for _ in range(count):
            task = self.queue.pop("w")
            if task is None:
                return
            self.running.append(task)
            self.account(task, self.charged(task) or 1)
            self.watch()
            if len(self.running) == SLOTS:
                self.end(self.running.pop(0))

    def end(self, task: Task[Any]) -> None:
        charged = self.charged(task)
        self.queue.finish(task)
        if charged is not None:
            run = self.queue.handle(task.user_id or "", task.task_id).info().run
            assert run.finished_at is not None
            assert run.started_at is not None
            self.account(task, max(run.finished_at - run.started_at, 1) / 1000 - charged)

    def charged(self, task: Task[Any]) -> float | None:
        key = f"{self.queue.commands.shards[0].keys.root}:run:{task.user_id}:{task.task_id}"
        charged = self.raw.hget(key, "charged")
        return None if charged is None else float(charged)

    def account(self, task: Task[Any], cost: float) -> None:
        user = task.user_id or ""
        self.service[user] += cost / self.weights[user]


@pytest.mark.slow
@pytest.mark.parametrize("cost", ["tasks", "time"])
def test_two_eligible_users_never_drift_apart_by_more_than_one_charge_each(
    server: EmbeddedServer, cost: str
) -> None:
    @PROFILE
    @given(
        weights=st.fixed_dictionaries(dict.fromkeys(USERS, WEIGHTS)),
        caps=st.fixed_dictionaries(dict.fromkeys(USERS, CAPS)),
        history=HISTORIES,
    )
    def check(
        weights: dict[str, float], caps: dict[str, int | str | None], history: list[tuple[Any, ...]]
    ) -> None:
        # A charge is one task. Of seconds it is the first estimate, and so is each of the refunds that the
        # attempts in flight may bring: their tasks run for some milliseconds.
        largest = dict.fromkeys(USERS, 1.0 if cost == "tasks" else FIRST_ESTIMATE * (1 + SLOTS))
        watched = Watched(server, Bound(weights, largest), weights, cost)
        try:
            watched.caps = caps
            for user in USERS:
                policy = UserPolicy(weight=weights[user], max_concurrency=caps[user])
                watched.queue.set_policy(user, policy)
            watched.follow(history)
        finally:
            watched.close()

    check()
