"""A cluster on loopback: three primaries and a replica of each, set up by commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot

from fairque.core.config import RedisConfig
from tests.support.nodes import PERSISTENT, Node, bring_back, free_port, online_replicas, role_of, until_true

SLOTS = 16_384
NODE_TIMEOUT_MS = 2_000  # without an answer the others believe that a node is down


class Cluster:
    """Three primaries with a third of the slots each, and a replica of each."""

    def __init__(self, folder: Path, *, binary: str | None = None) -> None:
        common = [*PERSISTENT, "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)]
        # A replica that was cut off may take over all the same, and none goes over to another primary.
        common += ["--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no"]
        self._bus_ports = [free_port() for _ in range(6)]
        self.nodes = [
            Node(folder / f"node-{number}", *common, "--cluster-port", str(port), binary=binary)
            for number, port in enumerate(self._bus_ports)
        ]

    def start(self) -> None:
        for node in self.nodes:
            node.launch()
        for number, node in enumerate(self.nodes):
            node.await_answer()
            self._introduce(number)
        until_true(lambda: self._all_see("cluster_known_nodes", "6"), "every node knows the others")
        for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            self._follow(replica, primary)
        self.await_health()

    def _introduce(self, number: int) -> None:
        """Give a node its slots, and let it meet those before it: a mesh is known at once, a chain is not."""
        with self.nodes[number].client() as client:
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            if number < 3:
                first, end = SLOTS * number // 3, SLOTS * (number + 1) // 3
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
            for other, bus_port in zip(self.nodes[:number], self._bus_ports, strict=False):
                client.execute_command("CLUSTER MEET", *other.address, bus_port)

    def _follow(self, replica: Node, primary: Node) -> None:
        primary_id = self.node_id(primary)
        with replica.client() as client:
            # It may not have heard yet who the other is.
            until_true(lambda: client.execute_command("CLUSTER REPLICATE", primary_id), f"{replica} follows")

    def config(self, **settings: Any) -> RedisConfig:
        others = [f"127.0.0.1:{node.port}" for node in self.nodes[1:]]
        return RedisConfig(port=self.nodes[0].port, cluster=True, cluster_nodes=others, **settings)

    def node_id(self, node: Node) -> str:
        with node.client() as client:
            return str(client.execute_command("CLUSTER MYID").decode())

    def owner(self, slot: int) -> Node:
        """The primary of a slot, as most of the nodes see it."""
        ports = Counter(_owner_port(node, slot) for node in self._running())
        port = ports.most_common(1)[0][0]
        assert port is not None, f"nobody serves slot {slot}"
        return next(node for node in self.nodes if node.port == port)

    def shard_node(self, root: str) -> Node:
        """Where the shard of a root is."""
        return self.owner(key_slot(root.encode()))

    def primaries(self) -> list[Node]:
        """Who serves slots now."""
        return [node for node in self._running() if role_of(node) == "master" and slots_of(node)]

    def _running(self) -> list[Node]:
        return [node for node in self.nodes if node.is_running]

    def await_failover(self, old: Node, slot: int) -> Node:
        """Wait until another node serves a slot; it is returned."""
        until_true(lambda: self.owner(slot) is not old, f"another node serves slot {slot}")
        return self.owner(slot)

    def await_health(self) -> None:
        """Wait until every node sees a whole cluster, and each primary has a replica with all its data."""
        until_true(lambda: self._all_see("cluster_state", "ok"), "every node sees a whole cluster")
        until_true(self._is_replicated, "each primary has a replica in step")

    def _all_see(self, what: str, value: str) -> bool:
        return all(_state(node)[what] == value for node in self.nodes)

    def _is_replicated(self) -> bool:
        primaries = self.primaries()
        return len(primaries) == 3 and all(online_replicas(node) == 1 for node in primaries)

    def heal(self) -> None:
        """Bring every node back, and wait until the next fault can be survived as the first one could."""
        bring_back(self.nodes)
        self.await_health()

    def moves_slots_at_once(self) -> bool:
        """Whether the server knows how (Valkey ≥ 9)."""
        with self.nodes[0].client() as client:
            answer: Any = client.execute_command("CLUSTER HELP")
        return any(line.startswith(b"MIGRATESLOTS") for line in answer)

    def move_slots(self, slots: Iterable[int], source: Node, target: Node, *, within: float = 60.0) -> None:
        """Move slots to another primary at once, with their keys (Valkey ≥ 9)."""
        ranges = _ranges(slots)
        numbers = [number for bounds in ranges for number in bounds]
        target_id = self.node_id(target)
        with source.client() as client:
            order = ("CLUSTER MIGRATESLOTS", "SLOTSRANGE", *numbers, "NODE", target_id)
            client.execute_command(*order)
            until_true(lambda: _have_moved(client), "the slots are moved", within=within)
        last = ranges[-1][1]
        until_true(
            lambda: all(_owner_port(node, last) == target.port for node in self._running()),
            f"all nodes know that {target} has the slots",
        )


def slots_of(node: Node) -> list[int]:
    """The slots that a node serves, as it sees it itself."""
    found = _slots(node)
    return [
        slot for first, last, owner, *_ in found if owner[1] == node.port for slot in range(first, last + 1)
    ]


def _owner_port(node: Node, slot: int) -> int | None:
    return next((owner[1] for first, last, owner, *_ in _slots(node) if first <= slot <= last), None)


def _slots(node: Node) -> list[Any]:
    with node.client() as client:
        found: list[Any] = client.execute_command("CLUSTER SLOTS")
    return found


def _state(node: Node) -> dict[str, str]:
    with node.client() as client:
        found: dict[str, str] = client.execute_command("CLUSTER INFO")
    return found


def _ranges(slots: Iterable[int]) -> list[tuple[int, int]]:
    runs = groupby(enumerate(sorted(slots)), key=lambda pair: pair[1] - pair[0])
    found = [[slot for _, slot in run] for _, run in runs]
    return [(run[0], run[-1]) for run in found]


def _have_moved(client: Redis) -> bool:
    """Whether the newest migration of this node is over."""
    newest: Any = client.execute_command("CLUSTER GETSLOTMIGRATIONS")[0]  # type: ignore[no-untyped-call]
    fields = newest if isinstance(newest, dict) else dict(zip(newest[::2], newest[1::2], strict=True))
    state = fields[b"state"].decode()
    assert state not in {"failed", "canceled"}, f"the migration {state}: {fields[b'message']!r}"
    return bool(state == "success")
