"""Slots that move while tasks are pushed and run: at once, and key by key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

from fairque import FairQueueConfig, ServerUnavailableError, Task, TaskQueue
from tests.support.cluster import Cluster
from tests.support.faces import FACES, open_face
from tests.support.nodes import Node
from tests.support.waiting import until


@pytest.fixture
def topology(cluster: Cluster) -> Cluster:
    return cluster


class Load:
    """Pushes, pops and finishes in threads until it is stopped; knows what was acknowledged."""

    def __init__(self, face: str, config: FairQueueConfig) -> None:
        self.queue = open_face(face, config)
        self.pushed: list[str] = []
        self.finished: list[str] = []
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(step,)) for step in (self._push, self._work)
        ]

    def _run(self, step: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.errors.append(error)
                return

    def _push(self) -> None:
        task = str(len(self.pushed))
        self.queue.push(Task.create(user_id=f"u{len(self.pushed) % 7}", task_id=task, payload=None))
        self.pushed.append(task)

    def _work(self) -> None:
        for task in self.queue.pop_batch("w", 5, block=0.1):
            self.queue.finish(task)
            self.finished.append(task.task_id)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        while tasks := self.queue.pop_batch("w", 100):
            self.queue.finish_batch(tasks)
            self.finished += [task.task_id for task in tasks]


@pytest.fixture(params=FACES)
def load(request: pytest.FixtureRequest, make_config: Callable[..., FairQueueConfig]) -> Iterator[Load]:
    load = Load(str(request.param), make_config())
    yield load
    load.queue.close()


def places_of(cluster: Cluster, root: str) -> tuple[int, Node, Node]:
    """A shard's slot, where it is, and another primary."""
    slot = key_slot(root.encode())
    source = cluster.owner(slot)
    return slot, source, next(node for node in cluster.primaries() if node is not source)


def test_a_shard_that_moves_at_once_loses_nothing(load: Load, atomic_cluster: Cluster) -> None:
    cluster = atomic_cluster
    slot, source, target = places_of(cluster, load.queue.commands.of("u").keys.root)
    with load:
        until(lambda: len(load.finished) > 50, "tasks are run")
        cluster.move_slots([slot], source, target)
        seen = len(load.finished)
        until(lambda: load.errors or len(load.finished) > seen + 50, "tasks are run at the new place")
        cluster.move_slots([slot], target, source)
    assert not load.errors
    assert sorted(load.pushed) == sorted(load.finished)


def test_a_shard_that_moves_key_by_key_waits_until_all_of_it_is_there(load: Load, cluster: Cluster) -> None:
    slot, source, target = places_of(cluster, load.queue.commands.of("u").keys.root)
    with load:
        until(lambda: len(load.finished) > 50, "tasks are run")
        with moving(cluster, slot, source, target):
            before = len(load.finished)
            move_keys(slot, source, target, at_a_time=3)
            assert len(load.finished) <= before + 5, "nothing starts on half a shard"
        seen = len(load.finished)
        until(lambda: load.errors or len(load.finished) > seen + 50, "tasks are run at the new place")
        with moving(cluster, slot, target, source):
            move_keys(slot, target, source, at_a_time=1000)
    assert not load.errors
    assert sorted(load.pushed) == sorted(load.finished)


def test_no_script_runs_while_its_shard_is_on_two_nodes(
    cluster: Cluster, make_config: Callable[..., FairQueueConfig]
) -> None:
    config = make_config()
    config = config.model_copy(update={"redis": config.redis.model_copy(update={"retry_window": 0.2})})
    with TaskQueue(config) as queue:
        queue.push_batch([Task.create(user_id="u", task_id=str(n), payload=None) for n in range(20)])
        slot, source, target = places_of(cluster, queue.commands.of("u").keys.root)
        with moving(cluster, slot, source, target):
            for moved in range(6):
                with pytest.raises(ServerUnavailableError):
                    queue.push(Task.create(user_id="u", task_id="new", payload=None))
                with pytest.raises(ServerUnavailableError):
                    queue.pop("w")
                move_keys(slot, source, target, at_a_time=5, most=None if moved == 4 else 5)
        assert len(queue.pop_batch("w", 100)) == 20
        with moving(cluster, slot, target, source):
            move_keys(slot, target, source, at_a_time=100)


@contextmanager
def moving(cluster: Cluster, slot: int, source: Node, target: Node) -> Iterator[None]:
    """A slot that goes from node to node key by key, as `--cluster reshard` moves it."""
    source_id, target_id = cluster.node_id(source), cluster.node_id(target)
    set_slot(target, slot, "IMPORTING", source_id)
    set_slot(source, slot, "MIGRATING", target_id)
    yield
    for node in (target, source, *cluster.primaries()):
        set_slot(node, slot, "NODE", target_id)


def set_slot(node: Node, slot: int, state: str, other: str) -> None:
    with node.client() as client, suppress(ResponseError):
        client.execute_command("CLUSTER SETSLOT", slot, state, other)


def move_keys(slot: int, source: Node, target: Node, *, at_a_time: int, most: int | None = None) -> None:
    left = most
    with source.client(patience=10) as client:
        while (left is None or left > 0) and (keys := keys_of(client, slot, at_a_time)):
            client.execute_command("MIGRATE", *target.address, "", 0, 5000, "KEYS", *keys)
            left = None if left is None else left - len(keys)


def keys_of(client: Redis, slot: int, count: int) -> list[bytes]:
    found: Any = client.execute_command("CLUSTER GETKEYSINSLOT", slot, count)  # type: ignore[no-untyped-call]
    return list(found)
