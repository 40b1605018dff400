"""Random histories of everything that decides who is eligible; the shard is checked after every step."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from redis import Redis

from fairque.core.config import FairQueueConfig, UserPolicy
from fairque.core.exceptions import LeaseLostError, QueueFullError, TaskNotFoundError, TaskStateError
from fairque.core.models import Task
from fairque.queue.queue import TaskQueue
from tests.support.actions import BLINK, make
from tests.support.invariants import check_invariants

USERS = ["a", "b", "a:b", "ü"]
GROUPS = [None, None, "g", "h:", "%"]
AN_HOUR = 3600.0


def random_policy(random: Random) -> UserPolicy:
    fields: dict[str, Any] = {
        "weight": random.choice([5e-324, 1e-300, 0.3, 1.0, 7.0, 1e300]),
        "max_concurrency": random.choice([1, 2, 5, "1%", "50%", None]),
        "rate": random.choice([1e-306, 1e-4, 200.0, 1e300]),
        "max_queued": random.choice([1, 5, 30, None]),
        "paused": random.random() < 0.4,
    }
    if random.random() < 0.5:
        fields["burst"] = random.choice([1, 2, 4])
    chosen = random.sample(sorted(fields), random.randint(0, 3))
    return UserPolicy(**{name: fields[name] for name in chosen if name != "burst" or "rate" in chosen})


class History:
    """One queue, through several clients, and what random steps do to it."""

    def __init__(self, seed: int, make_config: Callable[..., FairQueueConfig], raw: Redis, root: str) -> None:
        self.random, self.raw, self.root = Random(seed), raw, root
        self.make_config = make_config
        self.clients = [TaskQueue(make_config(cost=cost)) for cost in ("tasks", "time")]
        self.running: list[Task[Any]] = []
        self.names = [(user, f"{number}") for user in USERS for number in range(8)]
        self.paused = False

    @property
    def queue(self) -> TaskQueue:
        return self.random.choice(self.clients)

    def step(self) -> str:
        what = self.random.choices(
            [
                "push",
                "pop",
                "end",
                "cancel",
                "requeue",
                "reclaim",
                "policy",
                "pause",
                "configure",
                "clean",
                "due",
            ],
            [10, 12, 9, 3, 2, 3, 5, 1, 1, 1, 2],
        )[0]
        getattr(self, what)()
        check_invariants(self.raw, self.root)
        return what

    def push(self) -> None:
        random, options = self.random, {}
        if random.random() < 0.2:
            options["delay"] = random.choice([0.0, BLINK, AN_HOUR])
        if random.random() < 0.1:
            options["expires_at"] = 1.0
        chosen = [random.choice(self.names) for _ in range(random.randint(1, 6))]
        tasks = [make(user, name, group=random.choice(GROUPS), **options) for user, name in chosen]
        with contextlib.suppress(QueueFullError):
            self.queue.push_batch(tasks)

    def pop(self) -> None:
        random = self.random
        users = random.choice([None, None, None, ["a", "ü"], ["a:b"]])
        lease = random.choice([None, None, BLINK])
        if random.random() < 0.2:
            stolen = self.queue.steal("w", users=users, lease=lease)
            self.running += [] if stolen is None else [stolen]
        else:
            self.running += self.queue.pop_batch("w", random.choice([1, 2, 9]), users=users, lease=lease)

    def end(self) -> None:
        if not self.running:
            return
        task = self.running.pop(self.random.randrange(len(self.running)))
        run = f"{self.root}:run:{_member(task)}"
        if self.random.random() < 0.4 and self.raw.exists(run):  # it had run for longer than that
            self.raw.hincrby(run, "started_at", -self.random.choice([100, 10**6]))
        queue = self.queue
        try:
            match self.random.choice(["finish", "retry", "fail", "release", "beat", "twice"]):
                case "finish":
                    queue.finish(task)
                case "retry":
                    queue.fail(task, "no")
                case "fail":
                    queue.fail(task, "no", failure_type="invalid")
                case "release":
                    queue.release(task)
                case "beat":
                    queue.heartbeat(task)
                    self.running.append(task)
                case _:
                    queue.finish_batch([(task, None), (task, None)])
        except LeaseLostError:
            pass

    def cancel(self) -> None:
        with contextlib.suppress(TaskNotFoundError):
            self.queue.cancel(*self.random.choice(self.names))

    def requeue(self) -> None:
        failed = self.queue.failed_tasks()
        user, name = self.random.choice([(t.user_id or "", t.task_id) for t in failed] or self.names)
        with contextlib.suppress(TaskNotFoundError, TaskStateError):
            self.queue.requeue(user, name)

    def reclaim(self) -> None:
        self.queue.reclaim()

    def policy(self) -> None:
        user, queue = self.random.choice(USERS), self.queue
        match self.random.choice(["set", "set", "update", "clear", "pause", "resume"]):
            case "set":
                policy = random_policy(self.random)
                queue.set_policy(user, policy)
                counts = queue.get_policy(user)
                if policy.weight != 1.0:
                    assert counts.weight == policy.weight
            case "update":
                assert queue.update_policy(user, weight=3.0).weight == 3.0
            case "clear":
                queue.clear_policy(user)
            case "pause":
                queue.pause_user(user)
                assert queue.get_policy(user).paused
            case _:
                queue.resume_user(user)
                assert not queue.get_policy(user).paused

    def pause(self) -> None:
        self.paused = not self.paused
        self.queue.pause() if self.paused else self.queue.resume()
        if self.paused:
            assert self.queue.pop_batch("w", 9) == []

    def configure(self) -> None:
        names = self.random.sample(["default", *USERS], self.random.randint(0, 3))
        users = {name: random_policy(self.random) for name in names}
        with TaskQueue(self.make_config(users=users)) as client:
            client.stats()

    def clean(self) -> None:
        idle: list[bytes] = self.raw.zrangebyscore(f"{self.root}:users", 1, "(inf")  # type: ignore[assignment]
        for user in idle:
            self.raw.zadd(f"{self.root}:users", {user: 1})
        for place in ("finished", "failed", "canceled"):
            ended: list[bytes] = self.raw.zrange(f"{self.root}:{place}", 0, -1)  # type: ignore[assignment]
            for member in ended:
                self.raw.zadd(f"{self.root}:{place}", {member: 1})
        self.queue.cleanup_expired_tasks()

    def due(self) -> None:
        """What is scheduled falls due, and who is throttled by a rate that is none too slow may go on."""
        members: list[bytes] = self.raw.zrange(f"{self.root}:scheduled", 0, -1)  # type: ignore[assignment]
        for member in members:
            self.raw.zadd(f"{self.root}:scheduled", {member: 1_000_000}, xx=True)

    def settle(self) -> None:
        """Let everybody go on, and drain: nothing may be stuck, and nothing be left in the end."""
        with TaskQueue(self.make_config(users={})) as client:
            client.resume()
            for user in USERS:
                client.clear_policy(user)
            check_invariants(self.raw, self.root)
            self.due()
            for task in self.running:
                with contextlib.suppress(LeaseLostError):
                    client.release(task)
            for _ in itertools.count():
                tasks = client.pop_batch("w", 50)
                client.finish_batch((task, None) for task in tasks)
                if not tasks and not client.reclaim():
                    break
            stats = client.stats()
            assert (stats.queued, stats.started, stats.scheduled) == (0, 0, 0)
            self.clean()
            self.clean()
            assert client.users() == []

    def close(self) -> None:
        for client in self.clients:
            client.close()


def _member(task: Task[Any]) -> str:
    return f"{(task.user_id or '').replace(':', '%3A')}:{task.task_id}"


def follow(history: History, steps: int) -> None:
    done = [history.step() for _ in range(steps)]
    try:
        history.settle()
    except AssertionError as error:
        raise AssertionError(f"after {done}") from error
    found: list[bytes] = history.raw.keys("*")  # type: ignore[assignment]
    left = {key.decode()[len(history.root) + 1 :].partition(":")[0] for key in found}
    assert left <= {"clock", "stats", "wake", "settings", "service", "waits"}


@pytest.mark.parametrize("seed", range(12))
def test_a_user_is_in_the_ring_if_and_only_if_it_is_eligible_whatever_happens(
    seed: int, make_config: Callable[..., FairQueueConfig], raw: Redis, root: str
) -> None:
    history = History(seed, make_config, raw, root)
    try:
        follow(history, 150)
    finally:
        history.close()
