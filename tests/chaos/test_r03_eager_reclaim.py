"""R3: expired leases are looked for all the time, and only expired ones are taken."""

from __future__ import annotations

import threading

from fairque import TaskQueue
from tests.chaos import work
from tests.chaos.scene import Scene
from tests.support.faces import Background

RECLAIM_EVERY = 0.01  # seconds
LONG_TASKS = 10  # that outlast their lease, by heartbeats
BATCH = 1_000


def test_no_live_lease_is_ever_reclaimed(scene: Scene) -> None:
    tasks, lease = scene.scale(2_000, 50_000), scene.scale(2.0, 5.0)
    stop = threading.Event()
    reclaimer = Background(reclaim_all_the_time, scene.queue, stop)
    scene.crew.hire_ready(2, lease=lease, concurrency=20)
    scene.push(*(work.step(1.5 * lease) for _ in range(LONG_TASKS)), user_id="patient")
    for number in range(tasks // BATCH):
        scene.push(*(work.async_step() for _ in range(BATCH)), user_id=f"u{number}")
    scene.until_idle(within=scene.scale(60, 600))
    stop.set()
    looks, reclaimed = reclaimer.value()
    report = scene.check()
    print(f"{looks} looks")
    assert reclaimed == []
    assert scene.queue.stats().totals.get("reclaimed", 0) == 0  # nor by the workers
    assert report.repeated == 0


def reclaim_all_the_time(queue: TaskQueue, stop: threading.Event) -> tuple[int, list[tuple[str, str]]]:
    looks, reclaimed = 0, []
    while not stop.wait(RECLAIM_EVERY):
        reclaimed += queue.reclaim()
        looks += 1
    return looks, reclaimed
