"""R17: a worker with a hundred tasks is told to stop, as Kubernetes does it."""

from __future__ import annotations

import signal
import time

from tests.chaos import work
from tests.chaos.scene import Scene
from tests.support.waiting import until

TASKS = 100
ELSEWHERE_WITHIN = 1.0  # seconds


def test_a_worker_told_to_stop_is_gone_in_time_and_its_tasks_go_on_elsewhere(scene: Scene) -> None:
    grace = scene.scale(2.0, 10.0)
    leaver = scene.crew.hire(concurrency=TASKS, graceful_shutdown_timeout=grace, lease=30.0)
    quick = scene.push(*(work.step(0.3 * grace) for _ in range(TASKS // 2)), user_id="a")
    slow = scene.push(*(work.hang_once() for _ in range(TASKS // 2)), user_id="b")
    until(lambda: len(scene.started()) == TASKS, "a hundred run", within=30, every=0.02)
    scene.crew.hire_ready(1, concurrency=TASKS)
    told = time.monotonic()
    leaver.signal(signal.SIGTERM)
    assert leaver.wait() == 0
    gone = time.monotonic()
    scene.until_idle()
    again = {name: times[1] for name, times in scene.started(*slow).items()}
    print(f"gone after {gone - told:.2f} s, all elsewhere {max(again.values()) - gone:.2f} s later")
    assert gone - told <= grace
    assert max(again.values()) - gone <= ELSEWHERE_WITHIN
    assert again.keys() == set(slow)
    assert all(len(times) == 1 for times in scene.started(*quick).values())
    assert scene.queue.stats().totals["released"] == len(slow)
    assert scene.queue.stats().totals.get("reclaimed", 0) == 0
