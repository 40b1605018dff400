"""R4: the server is killed under load, and comes back with its append-only file."""

from __future__ import annotations

import time

import pytest

from tests.chaos.load import note_in_flight, under_load
from tests.chaos.scene import Scene
from tests.support.waiting import until


@pytest.fixture
def server_options() -> tuple[str, ...]:
    return ("--appendonly", "yes", "--appendfsync", "always")


def test_a_server_killed_under_load_loses_nothing_and_workers_go_on_by_themselves(scene: Scene) -> None:
    # Short outages, and long ones, in which everybody's pauses have grown.
    outages = scene.scale([0.2, 4.0, 0.2], [0.2, 0.5, 1.0, 3.0, 10.0] * 4)
    hands = scene.crew.hire_ready(2, lease=5.0)
    pauses = []
    with under_load(scene, seconds=0.05):
        for length in outages:
            until(lambda: consumed_since(scene, 0), "work is under way", every=0.05)
            time.sleep(scene.scale(0.3, 1.0))
            scene.server.stop()
            time.sleep(length)
            note_in_flight(scene)
            scene.server.start()
            pauses.append(consuming_again(scene))
    scene.until_idle()
    scene.check()
    print(f"consuming again after {', '.join(f'{pause:.2f}' for pause in pauses)} s")
    assert max(pauses) <= 3.0, pauses
    assert all(hand.is_alive for hand in hands)


def consuming_again(scene: Scene) -> float:
    """Seconds until an execution begins."""
    back = time.monotonic()
    until(lambda: consumed_since(scene, back), "work goes on", within=20, every=0.01)
    return consumed_since(scene, back) - back


def consumed_since(scene: Scene, moment: float) -> float:
    """When the first execution after a moment began; 0 if there was none yet."""
    later = (entry.at for entry in scene.journal.entries("start") if entry.at > moment)
    return next(later, 0.0)
