"""R14: the server's memory is full."""

from __future__ import annotations

import pytest

from fairque import ServerOutOfMemoryError
from tests.chaos import work
from tests.chaos.scene import ROOT, Scene

PADDING = "x" * 2_000
LEASE = 1.0


@pytest.fixture
def server_options(long: bool) -> tuple[str, ...]:
    return ("--maxmemory", "64mb" if long else "6mb", "--maxmemory-policy", "noeviction")


def test_a_full_server_says_so_and_its_backlog_drains_to_nothing(scene: Scene) -> None:
    scene.push(*(work.step(2 * LEASE) for _ in range(3)), user_id="patient")  # they live by heartbeats
    scene.push(*(work.stumble() for _ in range(20)), user_id="clumsy")
    for batch in (50, 1):
        with pytest.raises(ServerOutOfMemoryError, match="let workers drain the queue"):
            push_until_it_is_full(scene, batch)
    backlog = scene.queue.stats().queued
    scene.crew.hire_ready(2, lease=LEASE)
    scene.until_idle()
    scene.raw.config_set("maxmemory", 0)  # the checker reads in transactions, which a full server may refuse
    scene.check()
    print(f"a backlog of {backlog}")
    stats = scene.queue.stats()
    assert backlog >= scene.scale(500, 5_000)
    assert stats.queued + stats.started + stats.scheduled + stats.deferred == 0
    assert (stats.failed, stats.totals.get("reclaimed", 0), stats.totals["retried"]) == (0, 0, 20)
    assert not scene.raw.exists(f"{ROOT}:ring")


def push_until_it_is_full(scene: Scene, batch: int) -> None:
    while True:
        scene.push(*(work.step(padding=PADDING) for _ in range(batch)), user_id="eager")
