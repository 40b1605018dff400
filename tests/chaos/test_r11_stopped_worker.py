"""R11: a worker is stopped for longer than its leases, with finishes in hand, and goes on."""

from __future__ import annotations

import signal
import time

from tests.chaos import work
from tests.chaos.scene import Scene
from tests.support.waiting import until

TASKS = 100


def test_the_finishes_of_a_worker_that_slept_through_its_leases_are_all_refused(scene: Scene) -> None:
    lease, stopped = scene.scale(1.0, 5.0), scene.scale(2.0, 15.0)
    # It stops just before it says that its hundred tasks have ended, all by one finish.
    sleeper = scene.crew.hire(
        worker_id="sleeper", fault=("finish:before", signal.SIGSTOP), lease=lease, concurrency=TASKS
    )
    ids = scene.push(*(work.end_together(TASKS) for _ in range(TASKS)), user_id="u")
    until(lambda: scene.journal.entries("stopped"), "the worker is stopped", within=30, every=0.02)
    began = time.monotonic()
    scene.count_in_flight(sleeper)
    scene.crew.hire(worker_id="other", lease=lease)
    scene.until_idle()
    time.sleep(max(0.0, began + stopped - time.monotonic()))
    sleeper.signal(signal.SIGCONT)
    until(lambda: answers(scene, "refused"), "it is told that it is late", within=30, every=0.02)
    report = scene.check()
    assert answers(scene, "refused") == {(name, 1, "sleeper") for name in ids}
    assert answers(scene, "accepted") == {(name, 2, "other") for name in ids}
    assert report.repeated == TASKS
    sleeper.signal(signal.SIGTERM)
    assert sleeper.wait() == 0  # it lives, and ends as it should


def answers(scene: Scene, kind: str) -> set[tuple[str, int, str]]:
    return {(entry.task, entry.attempt, entry.worker) for entry in scene.journal.entries(kind)}
