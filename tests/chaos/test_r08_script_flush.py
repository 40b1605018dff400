"""R8: the server's scripts are flushed all the time."""

from __future__ import annotations

import threading
import time

from tests.chaos import work
from tests.chaos.scene import Scene
from tests.support.faces import Background

FLUSH_EVERY = 0.1  # seconds
LEASE = 1.0


def test_flushed_scripts_surface_nowhere(scene: Scene) -> None:
    stop = threading.Event()
    flusher = Background(flush_all_the_time, scene, stop)
    hands = scene.crew.hire_ready(2, lease=LEASE)
    patient = scene.push(*(work.step(2 * LEASE) for _ in range(3)), user_id="patient")  # by heartbeats
    until = time.monotonic() + scene.scale(2.0, 60.0)
    while time.monotonic() < until:
        scene.push(*(work.step() for _ in range(5)), user_id="a")
        scene.push(work.stumble(), work.share(), user_id="b")
        time.sleep(0.02)
    scene.until_idle()
    stop.set()
    flushes = flusher.value()
    report = scene.check()
    print(f"{flushes} flushes")
    assert flushes >= scene.scale(10, 300)
    said = [line for hand in hands for line in hand.complaints()]
    assert [line for line in said if "it stumbles at first" not in line] == []
    totals = scene.queue.stats().totals
    pushed = len(scene.journal.entries("pushed"))
    assert (totals["finished"], totals.get("failed", 0), totals.get("reclaimed", 0)) == (pushed, 0, 0)
    assert report.repeated == 0
    assert all(len(starts) == 1 for starts in scene.started(*patient).values())


def flush_all_the_time(scene: Scene, stop: threading.Event) -> int:
    flushes = 0
    with scene.server.client() as client:
        while not stop.wait(FLUSH_EVERY):
            client.script_flush()
            flushes += 1
    return flushes
