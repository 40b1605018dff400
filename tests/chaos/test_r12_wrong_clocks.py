"""R12: the workers' clocks are ten minutes wrong, in both directions."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from math import inf
from typing import NamedTuple

from tests.chaos import work
from tests.chaos.scene import Scene
from tests.support.waiting import until

WRONG_BY = 600.0  # seconds
EXACT_TO = 0.1
ROUNDING = 0.002  # the server's times are in whole milliseconds


class Expected(NamedTuple):
    """When a task is due, by the clock of this process, which is the server's: between these moments."""

    user: str
    earliest: float
    latest: float


def test_delays_and_retries_are_right_whatever_the_workers_clocks_say(scene: Scene) -> None:
    for wrong in (WRONG_BY, -WRONG_BY):
        scene.crew.hire_ready(1, clock=wrong)
    delays = [0.3 + 0.15 * number for number in range(scene.scale(6, 60))]
    delayed: dict[str, tuple[str, float]] = {}  # by task: its user and its delay, from its push on
    retried: dict[str, tuple[str, float]] = {}  # the same from its first attempt on
    expected: dict[str, Expected] = {}
    for delay in delays:
        delayed |= dict.fromkeys(scene.push(work.step(), user_id="a", delay=delay), ("a", delay))
        retried |= dict.fromkeys(scene.push(work.try_later(delay), user_id="b"), ("b", delay))
        (leader,) = scene.push(work.follow_up(delay), user_id="c")
        delayed[f"{leader}-later"] = ("c", delay)
        moment = datetime.now(UTC) + timedelta(seconds=delay)
        (exact,) = scene.push(work.step(), user_id="a", execute_after=moment)
        expected[exact] = Expected("a", moment.timestamp(), moment.timestamp())
    until(lambda: len(scene.started()) == 5 * len(delays), "all have begun", within=60, every=0.05)
    scene.until_idle()
    lines = first_lines(scene)
    for name, (user, delay) in delayed.items():
        expected[name] = Expected(user, lines[name, "trying"] + delay, lines[name, "pushed"] + delay)
    for name, (user, delay) in retried.items():
        # The failure is acknowledged some time after it, which delays the due time and makes nothing wrong.
        expected[name] = Expected(user, lines[name, "raised"] + delay, inf)
    check_due_and_started(scene, expected)
    scene.check()
    assert {entry.worker for entry in scene.journal.entries("start")} == {"w0", "w1"}


def check_due_and_started(scene: Scene, expected: dict[str, Expected]) -> None:
    late = []
    for name, (user, earliest, latest) in expected.items():
        task = scene.queue.get(user, name)
        assert task is not None
        assert task.run.started_at is not None
        assert task.run.queued_at is not None
        due = task.run.queued_at / 1000  # what waited for its time is queued as of then
        assert earliest - ROUNDING <= due <= latest + ROUNDING, name
        late.append(task.run.started_at / 1000 - due)
    print(f"{len(late)} delays, {min(late):.3f} to {max(late):.3f} s late")
    assert min(late) >= -ROUNDING
    assert max(late) <= EXACT_TO


def first_lines(scene: Scene) -> dict[tuple[str, str], float]:
    """When each first came about, in the time of day."""
    since_boot, found = time.time() - time.monotonic(), dict[tuple[str, str], float]()
    for entry in scene.journal.entries():
        found.setdefault((entry.task, entry.kind), entry.at + since_boot)
    return found
