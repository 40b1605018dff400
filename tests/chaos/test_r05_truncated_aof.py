"""R5: the server comes back with an append-only file that was cut. A repair leaves no orphan."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairque import Task, TaskHandler, TaskQueue, Worker
from fairque.core.config import FairQueueConfig
from tests.support.actions import BLINK
from tests.support.damage import records
from tests.support.invariants import check_invariants
from tests.support.servers import OwnServer, own_server
from tests.support.waiting import until

APPENDING = ("--appendonly", "yes", "--aof-load-truncated", "yes", "--appendfsync", "always")
CUTS = 6
LEASE = 1.0  # seconds; its end is waited for after the restart
USERS = ("a", "b:c", "ü")
MULTI, EXEC = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"


class Nothing(TaskHandler):
    def process_task(self, task: Task[Any]) -> Any:
        return task.task_id


def live_through_a_day(queue: TaskQueue, rng: random.Random) -> None:
    """Pushes, attempts of every ending, dependencies, groups and XCom."""
    for round_ in range(6):
        for user in USERS:
            queue.push_batch(_tasks(user, round_))
            queue.xcom(user).push(f"key{round_}", round_)
        for task in queue.pop_batch("w", 12, lease=LEASE):
            match rng.choice(["finish", "finish", "finish", "fail", "release", "cancel"]):
                case "finish":
                    queue.finish(task, "done")
                case "fail":
                    queue.fail(task, "broken", failure_type="invalid")
                case "release":
                    queue.release(task)
                case _:
                    queue.cancel(task.user_id or "", task.task_id)
        queue.pop_batch("gone", 2, lease=BLINK)  # its worker will not come back
        queue.reclaim(1)


def _tasks(user: str, round_: int) -> list[Task[Any]]:
    def make(name: str, **options: Any) -> Task[Any]:
        return Task.create(user_id=user, task_id=f"{round_}.{name}", payload=name, **options)

    return [
        make("first"),
        make("second", priority=5, group="g"),
        make("soon", delay=BLINK),
        make("then", depends_on=[f"{round_}.first", f"{round_}.soon"], on_upstream_failure="run", group="g"),
        make("last", depends_on=[f"{round_}.then"], on_upstream_failure="cancel"),
    ]


def tail_of(server: OwnServer) -> Path:
    """The part of the append-only file that grows."""
    (found,) = (Path(server.socket_path).parent / "appendonlydir").glob("*.incr.aof")
    return found


def cuts(whole: bytes, rng: random.Random) -> Iterator[int]:
    """Anywhere; and in the middle of transactions."""
    for number in range(CUTS):
        if number % 2:
            yield rng.randrange(len(whole))
            continue
        begin = whole.find(MULTI, rng.randrange(len(whole)))
        end = whole.find(EXEC, begin)
        yield rng.randrange(begin, end) if 0 <= begin < end else len(whole) // 2


@pytest.mark.parametrize("transactions", ["whole", "torn"])
def test_after_a_truncated_append_only_file_a_repair_leaves_no_orphan_and_the_rest_drains(
    transactions: str,
) -> None:
    rng = random.Random(5)
    with own_server(*APPENDING) as server:
        with TaskQueue(server.config(name="r5")) as queue:
            live_through_a_day(queue, rng)
        server.stop()
        file, whole = tail_of(server), tail_of(server).read_bytes()
        if transactions == "torn":  # as from a tool that takes single commands out of a damaged file
            whole = whole.replace(MULTI, b"").replace(EXEC, b"")
        found = [_come_back_from(server, file, whole[:cut], transactions) for cut in cuts(whole, rng)]
    if transactions == "torn":
        assert sum(found) > 0, "no cut has left anything to repair"


def _come_back_from(server: OwnServer, file: Path, content: bytes, transactions: str) -> int:
    """Restart with this file, repair, and work the rest off. Returns how much there was to repair."""
    file.write_bytes(content)
    server.start()
    try:
        config = server.config(name="r5")
        with TaskQueue(config) as queue, server.client() as raw:
            root = queue.commands.shards[0].keys.root
            known = records(raw, root)
            looked = queue.repair(dry_run=True)
            assert transactions == "torn" or looked.is_clean, "a script's effects are whole, or not there"
            report = queue.repair()
            assert report.remaining == 0
            check_invariants(raw, root)
            assert records(raw, root) >= known
            assert queue.repair().is_clean
            _work_off(config, queue)
            check_invariants(raw, root)
            return looked.remaining
    finally:
        server.stop()


def _work_off(config: FairQueueConfig, queue: TaskQueue) -> None:
    until(lambda: queue.reclaim(100) == [] and queue.stats().started == 0, "the leases have run out")
    Worker(config, worker_id="late", concurrency=10, handler=Nothing(), burst=True).run()
    stats = queue.stats()
    assert (stats.queued, stats.scheduled, stats.started) == (0, 0, 0)
    assert stats.deferred == 0
