"""R13: a task kills the process that runs it."""

from __future__ import annotations

import signal
import time

from fairque import Task, TaskState
from tests.chaos import work
from tests.chaos.crew import Hand
from tests.chaos.scene import Scene

MAX_CRASHES = 3
LEASE = 1.0


def test_a_task_that_kills_its_process_is_poisoned_after_three_and_its_neighbours_are_done(
    scene: Scene,
) -> None:
    (poison,) = scene.push(work.kill_the_process(0.05), user_id="u")
    # Those that take longer are at work whenever it kills: the first two times, which is no fault of theirs.
    neighbours = {"u": scene.push(*(work.step(0.2) for _ in range(9)), user_id="u")}
    neighbours["v"] = scene.push(*(work.step(0.2) for _ in range(9)), user_id="v")
    neighbours["w"] = scene.push(*(work.step(0.01) for _ in range(20)), user_id="w")
    assert crashes_until_idle(scene) == MAX_CRASHES
    assert_poisoned(scene, poison)
    for user, names in neighbours.items():
        tasks = [scene.queue.get(user, name) for name in names]
        assert {task and task.state for task in tasks} == {TaskState.FINISHED}


def assert_poisoned(scene: Scene, name: str) -> None:
    task: Task[object] | None = scene.queue.get("u", name)
    assert task is not None
    assert (task.state, task.run.failure_type, task.crashes) == (TaskState.FAILED, "poisoned", MAX_CRASHES)
    assert len(scene.started(name)[name]) == MAX_CRASHES


def crashes_until_idle(scene: Scene) -> int:
    """Have one worker, and another when it dies, until all tasks have ended: how many died."""
    died = 0
    hand = hire(scene)
    while not scene.is_idle():
        if not hand.is_alive:
            assert hand.wait() == -signal.SIGKILL
            scene.count_in_flight(hand)
            died += 1
            hand = hire(scene)
        time.sleep(0.02)
    scene.check()
    return died


def hire(scene: Scene) -> Hand:
    return scene.crew.hire(lease=LEASE, queue={"max_crashes": MAX_CRASHES})
