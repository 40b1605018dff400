"""Topologies of real server processes, one of each for all tests; each test has its own prefix."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fairque.core.config import FairQueueConfig, QueueConfig, RedisConfig
from tests.support.cluster import Cluster
from tests.support.invariants import violations
from tests.support.topologies import (
    Sentinels,
    Standalone,
    Topology,
    running_cluster,
    running_sentinels,
    running_standalone,
)

MOST_SHARDS = 4  # of a test here

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def standalone() -> Iterator[Standalone]:
    with running_standalone() as topology:
        yield topology


@pytest.fixture(scope="session")
def sentinels() -> Iterator[Sentinels]:
    with running_sentinels() as topology:
        yield topology


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as topology:
        yield topology


@pytest.fixture
def atomic_cluster(cluster: Cluster) -> Cluster:
    if not cluster.moves_slots_at_once():
        pytest.skip("this server has no CLUSTER MIGRATESLOTS (Valkey 9 has it)")
    return cluster


@pytest.fixture(scope="session")
def sentinel_config(sentinels: Sentinels) -> RedisConfig:
    return sentinels.config()


@pytest.fixture(scope="session")
def cluster_config(cluster: Cluster) -> RedisConfig:
    return cluster.config()


@pytest.fixture(params=["standalone", "sentinels", "cluster"])
def topology(request: pytest.FixtureRequest) -> Topology:
    found: Topology = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def prefix() -> str:
    return f"test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Checks the shards that a test leaves, and clears its prefix."""
    if "topology" not in request.fixturenames:
        yield
        return
    topology: Topology = request.getfixturevalue("topology")
    prefix = request.getfixturevalue("prefix")
    yield
    problems: list[str] = []
    for number in range(MOST_SHARDS):
        root = f"{prefix}:{{default:{number}}}"
        with topology.shard_node(root).client() as client:
            problems += violations(client, root)
            keys = list(client.scan_iter(f"{root}*", count=1000))
            if keys:
                client.delete(*keys)
    assert not problems, "the test left an inconsistent shard:\n" + "\n".join(problems)


@pytest.fixture
def make_config(topology: Topology, prefix: str) -> Callable[..., FairQueueConfig]:
    """The test's configuration on the topology under test, with changed settings of the queue."""

    def make(**settings: Any) -> FairQueueConfig:
        return FairQueueConfig(redis=topology.config(), queue=QueueConfig(prefix=prefix, **settings))

    return make
