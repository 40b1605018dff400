"""Work that goes on while a scene's server, or node, is lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fairque import ServerError
from tests.chaos import work
from tests.chaos.scene import Scene
from tests.support.faces import Background


@contextmanager
def under_load(scene: Scene, seconds: float = 0.02) -> Iterator[None]:
    """Pushes all the time, of two tasks at a time that take so long."""
    stop = threading.Event()
    pusher = Background(_push_all_the_time, scene, stop, seconds)
    try:
        yield
    finally:
        stop.set()
        pusher.value(within=60)


def _push_all_the_time(scene: Scene, stop: threading.Event, seconds: float) -> None:
    for number in itertools.count():
        if stop.is_set():
            return
        try:
            scene.push(work.step(seconds), work.async_step(seconds), user_id=f"u{number % 10}")
        except ServerError:
            time.sleep(0.1)
        time.sleep(0.02)


def note_in_flight(scene: Scene) -> None:
    """Write down how many executions have begun and are not acknowledged: an outage may cost them."""
    running = _attempts(scene, "start") - _attempts(scene, "accepted")
    scene.journal.write("kill", [("server", len(running))])


def _attempts(scene: Scene, kind: str) -> set[tuple[str, int]]:
    return {(entry.task, entry.attempt) for entry in scene.journal.entries(kind)}
