"""Workers under users' limits: they keep them, sleep meanwhile, and start at once when they may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from fairque import FairQueueConfig, Task, TaskHandler, TaskQueue, UserPolicy, Worker
from fairque.worker import upkeep
from tests.support.actions import eventually, push
from tests.support.waiting import until


class Recorder(TaskHandler):
    """Notes what runs, and how much of it at once."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self.running = 0
        self.most = 0
        self.ran: list[str] = []

    def process_task(self, task: Task[Any]) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.seconds)
        with self._lock:
            self.running -= 1
        self.ran.append(f"{task.user_id}:{task.task_id}")


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


@pytest.fixture
def start(config: FairQueueConfig) -> Iterator[Callable[..., Recorder]]:
    workers: list[Worker] = []

    def start_one(seconds: float = 0.0, **options: Any) -> Recorder:
        recorder = Recorder(seconds)
        workers.append(Worker(config, handler=recorder, graceful_shutdown_timeout=5.0, **options))
        workers[-1].start()
        return recorder

    yield start_one
    for worker in workers:
        worker.stop()


def commands(raw: Redis) -> int:
    return int(raw.info("stats")["total_commands_processed"])


def test_a_worker_keeps_a_users_cap_and_uses_it(queue: TaskQueue, start: Callable[..., Recorder]) -> None:
    queue.set_policy("u", UserPolicy(max_concurrency=2))
    push(queue, "u", *(f"{i}" for i in range(12)))
    recorder = start(0.02, concurrency=8)
    until(lambda: len(recorder.ran) == 12, "all run")
    assert recorder.most == 2


def test_workers_of_a_paused_queue_sleep_and_start_at_once_when_it_goes_on(
    queue: TaskQueue, start: Callable[..., Recorder], raw: Redis
) -> None:
    queue.pause()
    push(queue, "u", *(f"{i}" for i in range(5)))
    recorder = start(concurrency=4)
    picky = start(concurrency=4, assigned_users=["v"], steal_targets="*")
    time.sleep(0.4)
    before = commands(raw)
    time.sleep(0.4)
    assert commands(raw) - before < 60
    assert recorder.ran == picky.ran == []
    queue.resume()
    assert until(lambda: len(recorder.ran) + len(picky.ran) == 5, "all run") < 1


def test_a_worker_sleeps_while_its_only_user_is_held_back(
    queue: TaskQueue, start: Callable[..., Recorder], raw: Redis
) -> None:
    for user, policy in {
        "paused": UserPolicy(paused=True),
        "slow": UserPolicy(rate=1e-4, burst=1),
        "slowest": UserPolicy(rate=1e-306, burst=1),
    }.items():
        queue.set_policy(user, policy)
        push(queue, user, "0", "1", "2")
    recorder = start(concurrency=4)
    until(lambda: len(recorder.ran) == 2, "the bursts run")
    time.sleep(0.3)
    before = commands(raw)
    time.sleep(0.4)
    assert commands(raw) - before < 60
    assert sorted(recorder.ran) == ["slow:0", "slowest:0"]
    queue.resume_user("paused")
    assert until(lambda: len(recorder.ran) == 5, "the user that goes on runs") < 1
    queue.clear_policy("slow")
    assert until(lambda: len(recorder.ran) == 7, "the user without a rate runs") < 1
    queue.set_policy("slowest", UserPolicy(rate=5.0, burst=1))
    assert until(lambda: len(recorder.ran) == 9, "the user with a faster rate runs") < 1.5


def test_a_rate_without_a_burst_is_reached_although_the_server_is_quiet(
    queue: TaskQueue, start: Callable[..., Recorder]
) -> None:
    """An idle server ends blocked waits only every tenth of a second, which is too seldom for 20 a second."""
    queue.set_policy("u", UserPolicy(rate=20.0, burst=1))
    recorder = start(concurrency=2)
    began = time.monotonic()
    push(queue, "u", *map(str, range(31)))
    until(lambda: len(recorder.ran) == 31, "31 tasks")
    assert 1.4 < time.monotonic() - began < 2.3


def test_a_slot_that_one_worker_frees_is_taken_by_another(
    queue: TaskQueue, start: Callable[..., Recorder]
) -> None:
    queue.set_policy("u", UserPolicy(max_concurrency=1))
    push(queue, "u", *(f"{i}" for i in range(30)))
    recorders = [start(0.001, concurrency=2) for _ in range(2)]
    took = until(lambda: sum(len(recorder.ran) for recorder in recorders) == 30, "all run")
    assert took < 3


@pytest.fixture
def open_blocking(make_config: Callable[..., FairQueueConfig]) -> Iterator[Callable[..., TaskQueue]]:
    opened: list[TaskQueue] = []

    def open_one(**settings: Any) -> TaskQueue:
        opened.append(TaskQueue(make_config(**settings)))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()


def test_a_configuration_that_the_server_has_lost_is_published_again(
    open_blocking: Callable[..., TaskQueue], raw: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "CLEANUP_EVERY", 1)
    queue = open_blocking(users={"acme": UserPolicy(weight=3.0)})
    queue.set_policy("live", UserPolicy(weight=2.0))
    with Worker(queue.config):
        eventually(lambda: queue.get_policy("acme").weight == 3)
        raw.delete(*raw.keys(f"{prefix}:*"))
        eventually(lambda: queue.get_policy("acme").weight == 3)
        assert queue.get_policy("live").weight == 1


def test_what_another_configuration_published_is_not_taken_for_lost(
    open_blocking: Callable[..., TaskQueue],
) -> None:
    old = open_blocking(users={"acme": UserPolicy(weight=3.0)})
    assert old.get_policy("acme").weight == 3
    new = open_blocking(users={"acme": UserPolicy(weight=5.0)})
    assert new.get_policy("acme").weight == 5
    old.run(old.commands.shards[0].policies.publish_if_lost())
    assert new.get_policy("acme").weight == 5
