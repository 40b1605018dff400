"""Connections that vanish, queues that are closed, processes that fork."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairque import (
    AsyncTaskQueue,
    FairQueueConfig,
    QueueClosedError,
    RedisConfig,
    ServerUnavailableError,
    TaskQueue,
    UserPolicy,
    Worker,
)
from fairque.utils import lua_manager
from fairque.utils.embedded import EmbeddedServer
from tests.support import worker_tasks as tasks
from tests.support.faces import Background
from tests.support.proxy import BlackHole

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def hole(server: EmbeddedServer) -> Iterator[BlackHole]:
    hole = BlackHole(server.socket_path)
    yield hole
    hole.close()


@pytest.fixture
def through_hole(hole: BlackHole, config: FairQueueConfig) -> FairQueueConfig:
    redis = RedisConfig(host="127.0.0.1", port=hole.port, socket_timeout=0.5)
    return config.model_copy(update={"redis": redis})


def test_an_idle_worker_notices_that_its_connections_have_vanished(
    config: FairQueueConfig,
    through_hole: FairQueueConfig,
    hole: BlackHole,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lua_manager, "LONGEST_BLOCK", 2.0)
    with TaskQueue(config) as queue, Worker(through_hole, lease=3.0):
        assert queue.push(tasks.add(1, 1), user_id="acme").result(timeout=5) == 2
        time.sleep(0.1)  # it is asleep again
        hole.vanish()
        assert queue.push(tasks.add(2, 2), user_id="acme").result(timeout=8) == 4


async def test_callers_of_a_configured_queue_fail_together_in_an_outage(tmp_path: Path) -> None:
    redis = RedisConfig(unix_socket_path=str(tmp_path / "nobody listens"))
    config = FairQueueConfig(redis=redis, users={"default": UserPolicy(weight=2.0)})

    def fail(queue: TaskQueue) -> float:
        began = time.monotonic()
        with pytest.raises(ServerUnavailableError):
            queue.stats()
        return time.monotonic() - began

    async def fail_async(queue: AsyncTaskQueue) -> float:
        began = time.monotonic()
        with pytest.raises(ServerUnavailableError):
            await queue.stats()
        return time.monotonic() - began

    with TaskQueue(config) as queue, ThreadPoolExecutor(12) as threads:
        took = list(threads.map(fail, [queue] * 12))
        assert fail(queue) > 0.2  # who comes later tries again
    async with AsyncTaskQueue(config) as async_queue:
        took += await asyncio.gather(*(fail_async(async_queue) for _ in range(12)))
        assert await fail_async(async_queue) > 0.2
    assert max(took) < 3


def test_closing_twice_is_harmless_and_who_uses_a_closed_queue_is_told(config: FairQueueConfig) -> None:
    queue = TaskQueue(config)
    handle = queue.push(tasks.add(1, 1), user_id="acme")
    queue.close()
    queue.close()
    with pytest.raises(QueueClosedError, match="open a new one"):
        queue.push(tasks.add(1, 1), user_id="acme")
    with pytest.raises(QueueClosedError):
        handle.result(timeout=1)


async def test_the_asyncio_face_closes_the_same_way(config: FairQueueConfig) -> None:
    queue = AsyncTaskQueue(config)
    handle = await queue.push(tasks.add(1, 1), user_id="acme")
    waiting = asyncio.create_task(handle.result(timeout=30))
    await asyncio.sleep(0.2)
    await queue.close()
    await queue.close()
    with pytest.raises(QueueClosedError):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(QueueClosedError, match="open a new one"):
        await queue.push(tasks.add(1, 1), user_id="acme")


def test_who_waits_for_a_result_while_the_queue_is_closed_is_told(config: FairQueueConfig) -> None:
    queue = TaskQueue(config)
    handle = queue.push(tasks.add(1, 1), user_id="acme")
    errors: list[Exception] = []

    def wait() -> None:
        try:
            handle.result(timeout=30)
        except QueueClosedError as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.2)
    began = time.monotonic()
    queue.close()
    waiter.join(10)
    assert time.monotonic() - began < 5
    assert [type(error) for error in errors] == [QueueClosedError]


def test_who_pushes_a_large_batch_while_the_queue_is_closed_is_told(config: FairQueueConfig) -> None:
    for attempt in range(20):
        queue = TaskQueue(config)
        queue.stats()
        batch = [tasks.add(number, 1).with_options(user_id=f"u{attempt}") for number in range(2_000)]
        pushing = Background(queue.push_batch, batch)
        time.sleep(0.002 * attempt)
        queue.close()
        with contextlib.suppress(QueueClosedError):
            pushing.value()


FORK = """
import os, sys, threading
from fairque import FairQueueConfig, QueueConfig, RedisConfig, ResultTimeoutError, TaskQueue, Worker
from tests.support import worker_tasks as tasks
from tests.support.proxy import BlackHole
redis, queue = RedisConfig(unix_socket_path=sys.argv[1]), QueueConfig(prefix=sys.argv[2])
config = FairQueueConfig(redis=redis, queue=queue)
queue = TaskQueue(config)
unanswered = queue.push(tasks.add(1, 1), user_id="acme")
try:
    unanswered.result(timeout=0.05)
except ResultTimeoutError:
    pass
children = []
for number in range(20):
    child = os.fork()
    if child == 0:
        pushed = queue.push(tasks.add(number, 1), user_id="acme")
        try:
            pushed.result(timeout=0.05)
        except ResultTimeoutError:
            queue.close()
            os._exit(0)
        os._exit(1)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children].count(0), queue.stats().queued)
queue.close()
"""


def test_children_of_a_fork_can_push_and_wait_for_results_and_close(config: FairQueueConfig) -> None:
    where = (str(config.redis.unix_socket_path), config.queue.prefix)
    done = subprocess.run(
        [sys.executable, "-c", FORK, *where],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["20", "21"], done.stderr
