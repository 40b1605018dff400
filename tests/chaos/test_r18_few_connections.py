"""R18: two hundred tasks at once share two connections."""

from __future__ import annotations

from tests.chaos import work
from tests.chaos.scene import Scene

TASKS = 200


def test_two_hundred_tasks_at_once_are_all_acknowledged_over_two_connections(scene: Scene) -> None:
    redis = {"unix_socket_path": scene.server.socket_path, "max_connections": 2, "allow_no_persistence": True}
    (hand,) = scene.crew.hire_ready(1, redis=redis, concurrency=TASKS)
    for _ in range(scene.scale(2, 50)):
        scene.push(*(work.share(0.2) for _ in range(TASKS)), user_id="u")
    scene.until_idle()
    scene.check()
    accepted = {entry.task for entry in scene.journal.entries("accepted")}
    assert accepted == {entry.task for entry in scene.journal.entries("pushed")}
    assert hand.complaints() == []
