"""A server for each file, emptied after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from redis import Redis

from fairque import FairQueueConfig, QueueConfig, RedisConfig, TaskQueue, UserPolicy
from fairque.utils.embedded import EmbeddedServer

OpenQueue: TypeAlias = Callable[..., TaskQueue]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.open("embedded://") as server:
        yield server


@pytest.fixture
def raw(server: EmbeddedServer) -> Iterator[Redis]:
    with Redis(unix_socket_path=server.socket_path) as client:
        yield client
        client.flushall()


@pytest.fixture
def open_queue(server: EmbeddedServer, raw: Redis) -> Iterator[OpenQueue]:
    """Opens queues with changed settings, and with policies if any are given."""
    opened: list[TaskQueue] = []

    def open_one(users: dict[str, UserPolicy] | None = None, **settings: Any) -> TaskQueue:
        redis, queue = RedisConfig(unix_socket_path=server.socket_path), QueueConfig(**settings)
        policies: dict[str, Any] = {} if users is None else {"users": users}
        opened.append(TaskQueue(FairQueueConfig(redis=redis, queue=queue, **policies)))
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()


@pytest.fixture
def queue(open_queue: OpenQueue) -> TaskQueue:
    return open_queue()
