"""R9: replies get lost on the way, and then the network is cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fairque import FairQueueConfig, RedisConfig, ServerError, Task, TaskQueue
from tests.chaos import work
from tests.chaos.checker import look
from tests.chaos.scene import ROOT, Scene
from tests.support.faces import Background
from tests.support.proxy import BadNetwork
from tests.support.servers import OwnServer

LOST = 0.05  # of the replies


@pytest.fixture
def network(server: OwnServer) -> Iterator[BadNetwork]:
    network = BadNetwork(server.socket_path, LOST)
    yield network
    network.close()


def test_a_network_that_loses_replies_and_is_cut_loses_and_doubles_nothing(
    scene: Scene, network: BadNetwork
) -> None:
    there: dict[str, Any] = {"host": "127.0.0.1", "port": network.port, "allow_no_persistence": True}
    hands = scene.crew.hire_ready(2, redis=there, lease=scene.scale(2.0, 5.0))
    stop = threading.Event()
    with TaskQueue(FairQueueConfig(redis=RedisConfig(**there))) as queue:
        pusher = Background(push_all_the_time, scene, queue, stop)
        time.sleep(scene.scale(2.0, 20.0))
        with network.cut():
            time.sleep(scene.scale(1.5, 10.0))
            # In a cut beyond the lease, what runs is lost to its worker.
            scene.journal.write("kill", [("network", scene.raw.zcard(f"{ROOT}:leases"))])
        time.sleep(scene.scale(1.0, 20.0))
        stop.set()
        pusher.value(within=120)
    scene.until_idle(within=120)
    scene.check()
    print(f"{network.dropped} replies were lost of {len(scene.journal.entries('pushed'))} tasks")
    assert network.dropped >= scene.scale(5, 100)
    pushed = {entry.task for entry in scene.journal.entries("pushed")}
    assert look(scene.raw, ROOT).tasks.keys() == pushed
    assert scene.queue.stats().totals["pushed"] == len(pushed)  # a repeat added nothing
    assert all(hand.is_alive for hand in hands)


def push_all_the_time(scene: Scene, queue: TaskQueue, stop: threading.Event) -> None:
    def until_it_is_told(tasks: list[Task[Any]]) -> None:
        while True:
            try:
                queue.push_batch(tasks)
            except ServerError:
                time.sleep(0.05)
            else:
                return

    while not stop.is_set():
        scene.push_by(until_it_is_told, *(work.step(0.02) for _ in range(3)), user_id="u")
        time.sleep(0.02)
