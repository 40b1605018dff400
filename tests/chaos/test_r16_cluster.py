"""R16: the primary of a shard is killed, and slots are moved, while tasks are pushed and run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from tests.chaos.failover import await_work, look_at, scene_on, time_of
from tests.chaos.journal import Journal
from tests.chaos.load import note_in_flight, under_load
from tests.chaos.scene import ROOT, Scene
from tests.support.cluster import Cluster, slots_of
from tests.support.topologies import running_cluster

SLOT = key_slot(ROOT.encode())
MOVED_SLOTS = 1_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def scene(cluster: Cluster, journal: Journal, tmp_path: Path, long: bool) -> Iterator[Scene]:
    with scene_on(cluster, journal, tmp_path, long=long) as scene:
        scene.crew.hire_ready(2, lease=5.0)
        yield scene
        complaints = [line for hand in scene.crew.hands for line in hand.complaints()]
        assert not [line for line in complaints if "CROSSSLOT" in line]
        with cluster.owner(SLOT).client() as client:
            client.delete(*client.keys(f"{ROOT}*"))


def test_a_moved_shard_loses_nothing_under_load(cluster: Cluster, scene: Scene) -> None:
    if not cluster.moves_slots_at_once():
        pytest.skip("this server has no CLUSTER MIGRATESLOTS (Valkey 9 has it)")
    source = cluster.owner(SLOT)
    target = next(node for node in cluster.primaries() if node is not source)
    others = [slot for slot in slots_of(source) if slot != SLOT][: MOVED_SLOTS - 1]
    with under_load(scene):
        await_work(scene)
        cluster.move_slots([SLOT, *others], source, target)
        print(f"{MOVED_SLOTS} slots moved, work {await_work(scene):.1f} s later")
        cluster.move_slots([SLOT, *others], target, source)
        await_work(scene)
    look_at(scene, source)
    scene.until_idle()
    assert scene.check().repeated == 0


def test_no_confirmed_push_is_lost_with_a_primary(cluster: Cluster, scene: Scene) -> None:
    for _ in range(scene.scale(2, 10)):
        old = cluster.owner(SLOT)
        with under_load(scene):
            await_work(scene)
            note_in_flight(scene)
            old.kill()
            new, failover = time_of(cluster.await_failover, old, SLOT)
            # Its pushes are carried out, but not confirmed: the one replica is the primary now.
            print(f"failover after {failover:.1f} s, work {await_work(scene, 'start'):.1f} s later")
            cluster.heal()
            await_work(scene, "pushed")
    look_at(scene, new)
    scene.until_idle()
    scene.check()
