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
    before = scene.push(*(work.step(0.01) for _ in range(20)), user_id="u")
    (poison,) = scene.push(work.kill_the_process(), user_id="u")
    after = scene.push(*(work.step(0.01) for _ in range(20)), user_id="u")
    others = scene.push(*(work.step(0.01) for _ in range(20)), user_id="v")
    assert crashes_until_idle(scene) == MAX_CRASHES
    assert_poisoned(scene, poison)
    for user, names in (("u", [*before, *after]), ("v", others)):
        states = {name: scene.queue.get(user, name) for name in names}
        assert {task and task.state for task in states.values()} == {TaskState.FINISHED}


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
