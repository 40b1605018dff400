"""R10: a task blocks its worker's event loop for several leases."""

from __future__ import annotations

from tests.chaos import work
from tests.chaos.scene import Scene
from tests.support.waiting import until


def test_what_blocks_its_loop_is_executed_once_and_not_reclaimed(scene: Scene) -> None:
    lease, blocked = scene.scale(1.0, 5.0), scene.scale(3.5, 30.0)
    scene.crew.hire_ready(1, lease=lease)
    ids = scene.push(*(work.step(0.1) for _ in range(5)), user_id="u")  # they run beside it
    ids += scene.push(work.block_the_loop(blocked), user_id="u")
    until(lambda: scene.started(ids[-1]), "the loop is blocked", within=30, every=0.02)
    scene.crew.hire_ready(1, lease=lease)  # it looks for expired leases, and would take the task
    scene.until_idle(within=blocked + 30)
    scene.check()
    starts = scene.started()
    assert {name: len(times) for name, times in starts.items()} == dict.fromkeys(ids, 1)
    assert scene.queue.stats().totals.get("reclaimed", 0) == 0
