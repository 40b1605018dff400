"""R2: a worker is killed at twenty named points, and another one goes on with its work."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from fairque import TaskQueue, Worker
from fairque.core.function import TaskFunction
from fairque.utils.script_loader import ScriptLoader
from tests.chaos import work
from tests.chaos.journal import Journal
from tests.chaos.scene import Scene
from tests.support.servers import OwnServer
from tests.support.waiting import until

AT_ONCE = 10  # points under test side by side
TASKS = 4  # of each


class Case(NamedTuple):
    point: str
    function: TaskFunction[..., Any]
    drains: bool = False  # whether the worker is told to stop, with its tasks running


MOMENTS = ("before", "sent", "answered")
CASES = [
    *(Case(f"claim:{moment}:1", work.step) for moment in MOMENTS),
    # The second claim goes along with finishes.
    Case("claim:sent:2", work.step),
    *(Case(f"run:{moment}:2", work.step) for moment in ("started", "worked", "done")),
    Case("run:worked:2", work.async_step),
    *(Case(f"finish:{moment}:1", work.step) for moment in MOMENTS),
    *(Case(f"fail:{moment}:1", work.stumble) for moment in MOMENTS),
    *(Case(f"heartbeat:{moment}:3", work.hang_once) for moment in MOMENTS),
    *(Case(f"release:{moment}:1", work.hang_once, drains=True) for moment in MOMENTS),
]


def test_wherever_a_worker_is_killed_its_tasks_go_on_within_the_lease_and_two_seconds(scene: Scene) -> None:
    assert len(set(CASES)) == 20
    work.Here.journal = scene.journal  # of the workers in this process that go on
    for name in ScriptLoader().names():  # else the first command of each would only be told to send it
        scene.raw.script_load(ScriptLoader().load(name).source)
    lease = scene.scale(1.0, 5.0)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(Run(scene, case, lease).resumed_after) for case in CASES]
        pauses = {case: run.result() for case, run in zip(CASES, runs, strict=True)}
    for case, pause in pauses.items():
        print(f"{case.point} ({case.function.name}): resumed after {pause:.2f} s")
    assert max(pauses.values()) <= lease + 2.0, pauses


class Run:
    """One case, with a queue and a worker of its own."""

    def __init__(self, scene: Scene, case: Case, lease: float) -> None:
        self._scene, self._case, self._lease = scene, case, lease
        self._prefix = f"r2-{CASES.index(case)}"
        self._server: OwnServer = scene.server
        self._journal: Journal = scene.journal

    def resumed_after(self) -> float:
        """Seconds from the kill until the last of the tasks ran again, or had ended without that."""
        config = self._server.config(prefix=self._prefix)
        with TaskQueue(config) as queue:
            ids = [f"{self._prefix}-{number}" for number in range(TASKS)]
            handles = queue.push_batch(
                [self._case.function().with_options(task_id=i, user_id="u") for i in ids]
            )
            killed_at = self._until_killed(ids)
            open_tasks = [handle.task_id for handle in handles if not handle.state().is_terminal]
            with Worker(config, concurrency=TASKS, lease=self._lease):
                for handle in handles:
                    handle.result(timeout=30)
        starts = self._scene.started(*open_tasks)
        again = [min(at for at in starts[name] if at > killed_at) for name in open_tasks]
        return max(again, default=killed_at) - killed_at

    def _until_killed(self, ids: list[str]) -> float:
        hand = self._scene.crew.hire(
            worker_id=self._prefix,
            queue={"prefix": self._prefix},
            fault=(self._case.point, signal.SIGKILL),
            concurrency=TASKS,
            lease=self._lease,
            graceful_shutdown_timeout=0.1,
        )
        if self._case.drains:
            until(lambda: self._scene.started(*ids).keys() == set(ids), "they run", within=60, every=0.05)
            hand.signal(signal.SIGTERM)
        assert hand.wait() == -signal.SIGKILL
        return next(entry.at for entry in self._journal.entries("stopped") if entry.worker == self._prefix)
