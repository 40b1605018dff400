"""R6: the master behind the sentinels is frozen, so that its connections stay open and say nothing."""

from __future__ import annotations

import time
from pathlib import Path

from tests.chaos.failover import await_work, look_at, scene_on, time_of
from tests.chaos.journal import Journal
from tests.chaos.load import note_in_flight, under_load
from tests.support.topologies import running_sentinels


def test_work_goes_on_after_the_failover_of_a_frozen_master(
    journal: Journal, tmp_path: Path, long: bool
) -> None:
    with running_sentinels() as sentinels, scene_on(sentinels, journal, tmp_path, long=long) as scene:
        scene.crew.hire_ready(2, lease=5.0)
        old = sentinels.master()
        with under_load(scene):
            await_work(scene)
            note_in_flight(scene)
            old.freeze()
            frozen = time.monotonic()
            new, failover = time_of(sentinels.await_failover, old)
            resumed = await_work(scene)
            print(f"failover after {failover:.1f} s, work {resumed:.1f} s later")
            assert resumed <= 5.0
            time.sleep(max(0.0, frozen + scene.scale(8.0, 60.0) - time.monotonic()))
            note_in_flight(scene)
            old.thaw()  # and believes that it is the master
            await_work(scene)
        look_at(scene, new)
        scene.until_idle()
        scene.check()
        assert all(hand.is_alive for hand in scene.crew.hands)
