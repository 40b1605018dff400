"""A durable push returns once replicas, or disks, have it; if they do not, it says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fairque import (
    ConfigurationError,
    DurabilityError,
    FairQueueConfig,
    QueueConfig,
    RedisConfig,
    Task,
    TaskQueue,
    parallel,
)
from fairque.core.config import Durability
from tests.support import worker_tasks as tasks
from tests.support.cluster import Cluster
from tests.support.faces import FACES, open_face
from tests.support.nodes import Node
from tests.support.topologies import Sentinels, Standalone, Topology

REPLICATED = ["sentinels", "cluster"]


@pytest.fixture(params=REPLICATED)
def topology(request: pytest.FixtureRequest) -> Topology:
    found: Topology = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def opened(face: str, redis: RedisConfig, prefix: str, **settings: Any) -> Iterator[TaskQueue]:
    durability = Durability(**{"timeout": 1.0, **settings})
    queue = open_face(
        face, FairQueueConfig(redis=redis, queue=QueueConfig(prefix=prefix, durability=durability))
    )
    try:
        yield queue
    finally:
        queue.close()


@contextmanager
def without_replicas(topology: Topology, root: str) -> Iterator[None]:
    """The replicas of a shard are frozen, for less time than makes anybody believe that they are down."""
    assert not isinstance(topology, Standalone)
    node = topology.shard_node(root)
    frozen = replicas_of(topology, node)
    for replica in frozen:
        replica.freeze()
    try:
        yield
    finally:
        for replica in frozen:
            replica.thaw()


def replicas_of(topology: Sentinels | Cluster, node: Node) -> list[Node]:
    with node.client() as client:
        info = client.info("replication")
    ports = {value["port"] for value in info.values() if isinstance(value, dict) and "offset" in value}
    return [other for other in topology.nodes if other.port in ports]


def make(task: str) -> Task[Any]:
    return Task.create(user_id="u", task_id=task, payload=None)


def test_a_durable_push_returns_once_a_replica_has_it(face: str, topology: Topology, prefix: str) -> None:
    with opened(face, topology.config(), prefix) as queue:
        assert queue.push(make("one"), durable=True).created
        assert len(queue.push_batch([make(str(n)) for n in range(500)], durable=True)) == 500
        pipeline = parallel(tasks.add(1, 1), tasks.add(2, 2)) >> tasks.add(3, 3)
        queue.push(pipeline, user_id="u", durable=True)
        assert queue.stats().totals["pushed"] == 504


def test_a_durable_push_that_no_replica_confirms_says_so_and_can_be_repeated(
    face: str, topology: Topology, prefix: str
) -> None:
    with opened(face, topology.config(), prefix, timeout=0.3) as queue:
        queue.push(make("before"), durable=True)
        with without_replicas(topology, queue.commands.of("u").keys.root):
            for push in (
                lambda: queue.push(make("t"), durable=True),
                # It is known, and yet nobody else has it: a repeat must not be told that all is well.
                lambda: queue.push(make("t"), durable=True),
                lambda: queue.push_batch([make("t")], durable=True),
            ):
                with pytest.raises(
                    DurabilityError, match="'t' of user 'u' was carried out, but 0 of 1"
                ) as caught:
                    push()
                assert (caught.value.tasks, caught.value.confirmed, caught.value.wanted) == (
                    (("u", "t"),),
                    0,
                    1,
                )
            assert queue.push(make("not durable")).created
        assert not queue.push(make("t"), durable=True).created


def test_more_replicas_than_there_are_never_confirm(face: str, topology: Topology, prefix: str) -> None:
    with (
        opened(face, topology.config(), prefix, replicas=5, timeout=0.2) as queue,
        pytest.raises(DurabilityError, match="of 5 replicas") as caught,
    ):
        queue.push(make("t"), durable=True)
    assert caught.value.confirmed == (2 if isinstance(topology, Sentinels) else 1)


def test_a_durable_push_can_wait_for_the_disk(face: str, standalone: Standalone, prefix: str) -> None:
    with standalone.node.client() as client:
        if not client.execute_command("COMMAND INFO", "WAITAOF")[0]:
            pytest.skip("this server has no WAITAOF (Redis 7.2 and Valkey have it)")
    with opened(face, standalone.config(), prefix, replicas=0, disk=True, timeout=3) as queue:
        assert queue.push(make("t"), durable=True).created
        with standalone.node.client() as client:
            client.config_set("appendonly", "no")
            with pytest.raises(DurabilityError, match="cannot say whether it is durable"):
                queue.push(make("t2"), durable=True)
            client.config_set("appendonly", "yes")


def test_a_durable_push_that_asks_for_nothing_is_refused(
    face: str, standalone: Standalone, prefix: str
) -> None:
    with opened(face, standalone.config(), prefix, replicas=0) as queue:
        with pytest.raises(ConfigurationError, match=r"queue\.durability"):
            queue.push(make("t"), durable=True)
        assert queue.get("u", "t") is None


def test_the_configuration_can_make_every_push_durable(face: str, sentinels: Sentinels, prefix: str) -> None:
    config = FairQueueConfig(
        redis=sentinels.config(),
        queue=QueueConfig(prefix=prefix, durable=True, durability=Durability(replicas=5, timeout=0.1)),
    )
    queue = open_face(face, config)
    try:
        with pytest.raises(DurabilityError):
            queue.push(make("t"))
        assert queue.push(make("t2"), durable=False).created
    finally:
        queue.close()
