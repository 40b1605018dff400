"""Scenes on several nodes, of which the shard's own is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairque import FairQueueConfig, TaskQueue
from tests.chaos.crew import Crew
from tests.chaos.journal import Journal
from tests.chaos.scene import ROOT, Scene
from tests.support.cluster import Cluster
from tests.support.nodes import Node
from tests.support.topologies import Sentinels
from tests.support.waiting import until


@contextmanager
def scene_on(topology: Sentinels | Cluster, journal: Journal, folder: Path, *, long: bool) -> Iterator[Scene]:
    """A scene whose pushes are durable: what a failover may lose is what nobody was told of."""
    redis = topology.config().model_dump(exclude_unset=True)
    queue = {"max_crashes": 1_000_000, "durable": True}
    crew = Crew(redis, queue, journal, folder)
    config = FairQueueConfig.model_validate({"redis": redis, "queue": queue})
    node = topology.shard_node(ROOT)
    no_server: Any = None  # the faults are made in the topology
    try:
        with TaskQueue(config) as own, node.client() as raw:
            yield Scene(no_server, raw, own, journal, crew, long)
    finally:
        crew.dismiss()


def look_at(scene: Scene, node: Node) -> None:
    """From now on the scene's plain client asks this node."""
    scene.raw.close()
    scene.raw = node.client(patience=10)


def await_work(scene: Scene, *kinds: str) -> float:
    """Wait for an execution that begins from now on, and for a push that returns; seconds until both."""
    since = time.monotonic()
    kinds = kinds or ("start", "pushed")
    until(lambda: all(_later(scene, kind, since) for kind in kinds), "work goes on", within=40, every=0.05)
    return max(_later(scene, kind, since) for kind in kinds) - since


def _later(scene: Scene, kind: str, moment: float) -> float:
    return next((entry.at for entry in scene.journal.entries(kind) if entry.at > moment), 0.0)


def time_of(failover: Callable[..., Node], *lost: Any) -> tuple[Node, float]:
    """The node that takes over, and the seconds until it does."""
    began = time.monotonic()
    return failover(*lost), time.monotonic() - began
