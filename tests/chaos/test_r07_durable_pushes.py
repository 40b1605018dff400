"""R7: the master is killed under durable pushes, and what only it had is gone with it."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.failover import await_work, look_at, scene_on, time_of
from tests.chaos.journal import Journal
from tests.chaos.load import note_in_flight, under_load
from tests.support.topologies import running_sentinels


def test_no_confirmed_push_is_lost_with_the_master(journal: Journal, tmp_path: Path, long: bool) -> None:
    with running_sentinels() as sentinels, scene_on(sentinels, journal, tmp_path, long=long) as scene:
        scene.crew.hire_ready(2, lease=5.0)
        for number in range(scene.scale(1, 5)):
            if number:
                sentinels.heal()
            old = sentinels.master()
            with under_load(scene):
                await_work(scene)
                note_in_flight(scene)
                old.kill()
                new, failover = time_of(sentinels.await_failover, old)
                print(f"failover after {failover:.1f} s, work {await_work(scene):.1f} s later")
        look_at(scene, new)
        scene.until_idle()
        scene.check()
