"""Real topologies on loopback: one server, a master behind sentinels, a cluster. They start in seconds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from redis import Redis

from fairque.core.config import RedisConfig, SentinelConfig
from tests.support.cluster import Cluster
from tests.support.nodes import PERSISTENT, Node, bring_back, online_replicas, role_of, until_true

MASTER = "main"
DOWN_AFTER_MS = 1_000  # without an answer a sentinel believes that a server is down
FAILOVER_TIMEOUT_MS = 3_000


class Standalone:
    """One server with an append-only file."""

    def __init__(self, folder: Path, *, binary: str | None = None) -> None:
        self.node = Node(folder / "one", *PERSISTENT, binary=binary)
        self.nodes = [self.node]

    def start(self) -> None:
        self.node.start()

    def config(self, **settings: Any) -> RedisConfig:
        return RedisConfig(port=self.node.port, **settings)

    def shard_node(self, root: str) -> Node:
        """Where the shard of a root is."""
        return self.node

    def heal(self) -> None:
        """Bring it back."""
        bring_back(self.nodes)


class Sentinels:
    """One master, two replicas, three sentinels."""

    def __init__(self, folder: Path, *, binary: str | None = None) -> None:
        self.servers = [Node(folder / f"server-{n}", *PERSISTENT, binary=binary) for n in range(3)]
        settings = (
            f"sentinel monitor {MASTER} 127.0.0.1 {self.servers[0].port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {MASTER} {FAILOVER_TIMEOUT_MS}\n"
            f"sentinel parallel-syncs {MASTER} 2\n"
        )
        self.sentinels = [
            Node(folder / f"sentinel-{n}", "--sentinel", settings=settings, binary=binary) for n in range(3)
        ]
        self.nodes = self.servers + self.sentinels

    def start(self) -> None:
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.await_answer()
        for server in self.servers[1:]:
            with server.client() as client:
                client.replicaof("127.0.0.1", self.servers[0].port)
        self.await_replicas(2)
        for sentinel in self.sentinels:
            sentinel.launch()
        self.await_agreement()

    def config(self, **settings: Any) -> RedisConfig:
        hosts = [f"127.0.0.1:{node.port}" for node in self.sentinels]
        return RedisConfig(sentinel=SentinelConfig(hosts=hosts, master=MASTER), **settings)

    def master(self) -> Node:
        """The master that the sentinels name."""
        with self.sentinels[0].client() as client:
            _, port = cast("tuple[bytes, bytes]", client.sentinel_get_master_addr_by_name(MASTER))
        return next(server for server in self.servers if server.port == int(port))

    def shard_node(self, root: str) -> Node:
        return self.master()

    def await_failover(self, old: Node) -> Node:
        """Wait until another node is the master, and says so; it is returned."""
        until_true(lambda: self.master() is not old, "the sentinels chose another master")
        new = self.master()
        until_true(lambda: role_of(new) == "master", f"{new} became the master")
        return new

    def await_replicas(self, count: int) -> None:
        """Wait until the master has so many replicas that have all its data."""
        until_true(lambda: online_replicas(self._acting_master()) >= count, "the replicas are in step")

    def _acting_master(self) -> Node:
        return self.master() if self.sentinels[0].is_running else self.servers[0]

    def await_agreement(self) -> None:
        """Wait until every sentinel knows the others and both replicas: from then on they can fail over."""
        for sentinel in self.sentinels:
            sentinel.await_answer()
            with sentinel.client() as client:
                _await_knowledge(client, f"{sentinel} knows the others")

    def heal(self) -> None:
        """Bring every node back, and wait until the next fault can be survived as the first one could."""
        bring_back(self.nodes)
        self.await_agreement()
        self.await_replicas(2)


Topology: TypeAlias = Standalone | Sentinels | Cluster
T = TypeVar("T", Standalone, Sentinels, Cluster)


@contextmanager
def running_standalone(*, binary: str | None = None) -> Iterator[Standalone]:
    """One server of its own."""
    with tempfile.TemporaryDirectory(prefix="fq-") as folder:
        yield from _running(Standalone(Path(folder), binary=binary))


@contextmanager
def running_sentinels(*, binary: str | None = None) -> Iterator[Sentinels]:
    """A master with replicas and sentinels of its own."""
    with tempfile.TemporaryDirectory(prefix="fq-") as folder:
        yield from _running(Sentinels(Path(folder), binary=binary))


@contextmanager
def running_cluster(*, binary: str | None = None) -> Iterator[Cluster]:
    """A cluster of its own."""
    with tempfile.TemporaryDirectory(prefix="fq-") as folder:
        yield from _running(Cluster(Path(folder), binary=binary))


def _running(topology: T) -> Iterator[T]:
    try:
        topology.start()
        yield topology
    finally:
        for node in topology.nodes:
            node.kill()


def _await_knowledge(client: Redis, what: str) -> None:
    until_true(lambda: _knows_all(client), what)


def _knows_all(client: Redis) -> bool:
    state = cast("dict[str, Any]", client.sentinel_master(MASTER))
    fit = state["flags"] == "master" and state["num-slaves"] == 2 and state["num-other-sentinels"] == 2
    return fit and all(replica["flags"] == "slave" for replica in client.sentinel_slaves(MASTER))
