"""Looking at a queue: stats, users, health."""

from __future__ import annotations

from redis import Redis

from fairque.queue.queue import TaskQueue
from tests.support.actions import lapse, popped, push, server_ms
from tests.support.faces import open_face
from tests.support.servers import own_server


def test_an_empty_queue_has_nothing_to_show(queue: TaskQueue) -> None:
    stats = queue.stats()
    assert (stats.queued, stats.scheduled, stats.started, stats.finished, stats.failed, stats.canceled) == (
        0,
    ) * 6
    assert (stats.ready_users, stats.users, stats.workers, dict(stats.totals)) == (0, 0, 0, {})
    assert queue.users() == []
    assert queue.failed_tasks() == []


def test_stats_say_how_many_tasks_are_where(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "a", *(str(i) for i in range(6)), max_retries=0)
    push(queue, "b", "late", delay=60)
    push(queue, "c", "c1", "c2")
    first, second, third = queue.pop_batch("w", 3, users=["a"])
    queue.finish(first, "result")
    queue.fail(second, "no")
    queue.cancel("a", "5")
    stats = queue.stats()
    assert (stats.queued, stats.scheduled, stats.started) == (4, 1, 1)
    assert (stats.finished, stats.failed, stats.canceled) == (1, 1, 1)
    assert (stats.ready_users, stats.users) == (2, 3)
    assert stats.totals == {"pushed": 9, "started": 3, "finished": 1, "failed": 1, "canceled": 1}
    queue.release([third])
    lapse(queue, raw)
    queue.reclaim()
    queue.requeue("a", "1")
    totals = queue.stats().totals
    assert (totals["released"], totals["reclaimed"], totals["requeued"], totals["started"]) == (1, 1, 1, 4)


def test_users_are_shown_with_their_part_in_the_queue(queue: TaskQueue) -> None:
    push(queue, "a", "a1", "a2", "a3")
    push(queue, "b", "b1", delay=60)
    push(queue, "gone", "g")
    queue.finish(popped(queue, users=["gone"]))
    popped(queue, users=["a"])
    seen = {user.user_id: user for user in queue.users()}
    a, b, gone = seen["a"], seen["b"], seen["gone"]
    assert (a.queued, a.started, a.live, a.virtual_time, a.eligible) == (2, 1, 3, 1.0, True)
    assert (b.queued, b.started, b.live, b.virtual_time, b.eligible) == (0, 0, 1, 0.0, False)
    assert (gone.queued, gone.started, gone.live, gone.eligible) == (0, 0, 0, False)


def test_users_are_paged_with_the_busy_ones_first(queue: TaskQueue) -> None:
    for number in range(5):
        push(queue, f"idle-{number}", "t")
        queue.finish(popped(queue))
    for number in range(5):
        push(queue, f"busy-{number}", "t")
    pages = [[user.user_id for user in queue.users(limit=4, offset=offset)] for offset in (0, 4, 8, 12)]
    assert [len(page) for page in pages] == [4, 4, 2, 0]
    everybody = [name for page in pages for name in page]
    assert everybody[:5] == [f"busy-{number}" for number in range(5)]
    assert sorted(everybody[5:]) == [f"idle-{number}" for number in range(5)]


def test_health_names_what_is_wrong_and_how_to_mend_it(face: str) -> None:
    with own_server("--appendonly", "yes") as server, server.client() as raw:
        queue = open_face(face, server.config())
        try:
            health = queue.health()
            assert (health.ok, health.problems, health.workers, health.overdue_leases) == (True, (), 0, 0)
            assert health.server in {"valkey", "redis"}
            assert int(health.version.partition(".")[0]) >= 7

            push(queue, "u", "t")
            popped(queue)
            raw.zadd("fq:{default:0}:leases", {"u:t": server_ms(raw) - 61_000})
            raw.config_set("maxmemory-policy", "allkeys-lru")
            raw.config_set("appendonly", "no")
            health = queue.health()
            assert not health.ok
            assert health.overdue_leases == 1
            policy, aof, overdue = health.problems
            assert "CONFIG SET maxmemory-policy noeviction" in policy
            assert "CONFIG SET appendonly yes" in aof
            assert overdue.startswith("1 leases expired over a minute ago")
        finally:
            queue.close()
