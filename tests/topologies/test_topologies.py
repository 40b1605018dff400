"""What the other tests of topologies stand on: the servers are there, and faults can be made and healed."""

from __future__ import annotations

from tests.support.cluster import Cluster, slots_of
from tests.support.topologies import Sentinels


def test_slots_move_to_another_primary(atomic_cluster: Cluster) -> None:
    cluster = atomic_cluster
    source, target = cluster.owner(0), cluster.owner(16_000)
    cluster.move_slots([0, 1, 2, 7], source, target)
    assert {0, 1, 2, 7} <= set(slots_of(target))
    cluster.move_slots([0, 1, 2, 7], target, source)
    assert cluster.owner(7) is source


def test_the_sentinels_name_the_master(sentinels: Sentinels) -> None:
    client = sentinels.config().create_redis_client()
    try:
        assert client.ping()
    finally:
        client.close()
