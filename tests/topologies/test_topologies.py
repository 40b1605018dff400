"""What the other tests of topologies stand on: the servers are there, and faults can be made and healed."""

from __future__ import annotations

from tests.support.cluster import Cluster, slots_of
from tests.support.topologies import Sentinels, running_cluster, running_sentinels


def test_a_frozen_master_is_replaced_and_comes_back_as_a_replica() -> None:
    with running_sentinels() as sentinels:
        old = sentinels.master()
        old.freeze()
        new = sentinels.await_failover(old)
        sentinels.heal()
        assert sentinels.master() is new
        with old.client() as client:
            assert client.info("replication")["role"] == "slave"


def test_a_killed_primary_is_replaced_and_comes_back_as_a_replica() -> None:
    with running_cluster() as cluster:
        old = cluster.owner(0)
        old.kill()
        new = cluster.await_failover(old, 0)
        cluster.heal()
        assert new in cluster.primaries()
        assert old not in cluster.primaries()


def test_slots_move_to_another_primary(cluster: Cluster) -> None:
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
