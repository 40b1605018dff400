"""R1: workers are killed all the time."""

from __future__ import annotations

import random
import time

from tests.chaos import work
from tests.chaos.scene import Scene

KILL_EVERY = 0.5  # seconds


def test_workers_killed_all_the_time_lose_and_double_nothing(scene: Scene) -> None:
    tasks, at_once = scene.scale(900, 10_000), scene.scale(150, 250)
    workers, lease = scene.scale(4, 10), scene.scale(1.0, 5.0)
    hands = scene.crew.hire_ready(workers, lease=lease)
    pushed = kills = 0
    while pushed < tasks or scene.ended() < tasks * 0.95:
        if pushed < tasks:
            lengths = (random.uniform(0, 0.3) for _ in range(at_once))
            pushed += len(scene.push(*map(work.step, lengths), user_id=f"u{kills % 10}"))
        time.sleep(KILL_EVERY)
        scene.kill(hands.pop(random.randrange(workers)))
        hands.append(scene.crew.hire(lease=lease))
        kills += 1
    scene.until_idle()
    report = scene.check()
    print(f"{kills} kills")
    assert report.in_flight > 0
