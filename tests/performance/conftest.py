"""A server for each file, emptied after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from redis import Redis

from fairque import FairQueueConfig, QueueConfig, RedisConfig, TaskQueue
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
    """Opens queues with changed settings."""
    opened: list[TaskQueue] = []

    def open_one(**settings: object) -> TaskQueue:
        redis = RedisConfig(unix_socket_path=server.socket_path)
        opened.append(TaskQueue(FairQueueConfig(redis=redis, queue=QueueConfig(**settings))))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for queue in opened:
        queue.close()


@pytest.fixture
def queue(open_queue: OpenQueue) -> TaskQueue:
    return open_queue()
