"""What a worker has claimed is begun or handed back, and work is seen, whatever comes in between."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from fairque import (
    AsyncTaskHandler,
    FairQueueConfig,
    RedisConfig,
    Task,
    TaskHandle,
    TaskQueue,
    Worker,
    current_task,
    task,
)
from fairque.core.calls import Call, single
from fairque.queue.commands import ShardCommands
from fairque.queue.shards import shard_of
from fairque.utils.async_lua_manager import AsyncLuaScriptManager
from fairque.utils.embedded import EmbeddedServer
from fairque.utils.script_loader import ScriptLoader
from tests.integration.conftest import StartWorker
from tests.support import worker_tasks as tasks
from tests.support.actions import BLINK
from tests.support.proxy import DroppingProxy
from tests.support.waiting import until

LEASE, LONG_LEASE = 2.0, 30.0
FIRST, SECOND, OTHER = (
    [name for name in (f"user-{n}" for n in range(100)) if shard_of(name, 2) == shard][place]
    for shard, place in ((0, 0), (1, 0), (1, 1))
)
MakeConfig = Callable[..., FairQueueConfig]


@pytest.fixture
def queue(make_config: MakeConfig) -> Iterator[TaskQueue]:
    with TaskQueue(make_config(lease_seconds=LEASE)) as queue:
        yield queue


@pytest.fixture
def patient(make_config: MakeConfig) -> Iterator[TaskQueue]:
    """With a lease that no stall of the machine outlasts."""
    with TaskQueue(make_config(lease_seconds=LONG_LEASE)) as queue:
        yield queue


@pytest.fixture
def two_shards(make_config: MakeConfig) -> Iterator[TaskQueue]:
    with TaskQueue(make_config(lease_seconds=LEASE, shards=2)) as queue:
        yield queue


class Cut:
    """Loses one reply, or one request, once it is armed: of a command that has this in it."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts
        self.is_armed = False

    def __call__(self, request: bytes) -> bool:
        hits = self.is_armed and all(part in request for part in self.parts)
        self.is_armed = self.is_armed and not hits
        return hits


@contextmanager
def through(
    server: EmbeddedServer, queue: TaskQueue, cut: Cut, *, before: bool = False
) -> Iterator[FairQueueConfig]:
    """A way to the queue that is cut once: after the server has done what was asked, or `before`."""
    proxy = DroppingProxy(server.socket_path, cut, before=before)
    try:
        redis = RedisConfig(host="127.0.0.1", port=proxy.port)
        yield queue.config.model_copy(update={"redis": redis})
    finally:
        proxy.close()


def sha(script: str) -> bytes:
    return ScriptLoader().load(script).sha.encode()


def crashes(handles: Sequence[TaskHandle[Any]]) -> int:
    return sum(handle.info().crashes for handle in handles)


# --- bursts -------------------------------------------------------------------------------------------


def test_bursts_over_shards_end_though_others_go_on_pushing(two_shards: TaskQueue) -> None:
    is_over = threading.Event()

    def produce() -> None:
        while not is_over.wait(random.uniform(0, 0.006)):
            two_shards.push(tasks.async_add(1, 1), user_id=FIRST)

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        for _ in range(60):
            burst = threading.Thread(
                target=Worker(two_shards.config, concurrency=4, burst=True).run, daemon=True
            )
            burst.start()
            burst.join(10)
            assert not burst.is_alive(), "it goes on though nothing is left"
    finally:
        is_over.set()
        producer.join()


@pytest.mark.parametrize(
    "choices", [{}, {"assigned_users": [FIRST, SECOND], "steal_targets": [OTHER]}], ids=["all", "assigned"]
)
def test_a_burst_does_not_believe_a_claim_that_is_older_than_what_its_tasks_have_pushed(
    two_shards: TaskQueue, monkeypatch: pytest.MonkeyPatch, choices: dict[str, Any]
) -> None:
    exchange = AsyncLuaScriptManager.exchange

    async def late(self: AsyncLuaScriptManager, calls: Sequence[Call[Any]], **options: Any) -> list[Any]:
        replies = await exchange(self, calls, **options)
        if calls[-1].script == "claim" and calls[-1].root.endswith(":1}"):
            await asyncio.sleep(0.2)
        return replies

    @task
    def push_another() -> None:
        time.sleep(0.02)
        two_shards.push(tasks.add(1, 1), user_id=SECOND)

    monkeypatch.setattr(AsyncLuaScriptManager, "exchange", late)
    two_shards.push(push_another(), user_id=FIRST)
    Worker(two_shards.config, concurrency=4, burst=True, **choices).run()
    assert (two_shards.stats().finished, two_shards.stats().queued) == (2, 0)


# --- lost replies -------------------------------------------------------------------------------------


def test_what_a_sleeping_worker_was_given_by_a_lost_reply_is_begun_though_it_is_busy_now(
    queue: TaskQueue, server: EmbeddedServer, start: StartWorker
) -> None:
    cut = Cut(b"BLPOP")
    with through(server, queue, cut) as config:
        worker = start(config, concurrency=2)
        until(lambda: queue.stats().workers == 1, "it works")
        time.sleep(0.2)  # it sleeps
        cut.is_armed = True
        first = queue.push(tasks.async_add(0, 0), user_id="acme")
        queue.push_batch([tasks.async_sleep(0.05) for _ in range(200)], user_id="acme")
        assert first.result(timeout=LEASE) == 0
        assert (first.info().attempt, first.info().crashes) == (1, 0)
        worker.stop()


def test_what_a_lost_reply_gave_goes_back_where_others_have_the_slots_by_now(
    two_shards: TaskQueue, server: EmbeddedServer, start: StartWorker
) -> None:
    cut = Cut(sha("claim"), b":0}")
    short = two_shards.push_batch([tasks.async_add(n, 0) for n in range(5)], user_id=FIRST)
    two_shards.push_batch([tasks.async_sleep(LEASE + 0.5) for _ in range(4)], user_id=SECOND)
    cut.is_armed = True
    with through(server, two_shards, cut) as config:
        worker = start(config, concurrency=4)
        until(lambda: not cut.is_armed, "the reply is lost")
        assert [handle.result(timeout=2 * LEASE) for handle in short] == list(range(5))
        worker.stop()
    assert crashes(short) == 0
    assert "reclaimed" not in two_shards.stats().totals


def test_what_was_to_be_handed_back_goes_back_with_the_next_trip_if_that_failed(
    two_shards: TaskQueue, server: EmbeddedServer, start: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspect = two_shards.push(tasks.async_sleep(0.5), user_id=FIRST)
    for _ in range(2):
        assert two_shards.pop("w", lease=BLINK) is not None
        until(lambda: two_shards.reclaim() == [(FIRST, suspect.task_id)], "its lease runs out")
    others = two_shards.push_batch([tasks.async_add(n, 0) for n in range(5)], user_id=SECOND)
    released: list[int] = []
    release_call = ShardCommands.release_call

    def noted(commands: ShardCommands, tasks: Sequence[Task[Any]], **options: Any) -> Call[list[bool]]:
        released.append(len(tasks))
        return release_call(commands, tasks, **options)

    monkeypatch.setattr(ShardCommands, "release_call", noted)
    cut = Cut(sha("release"))
    cut.is_armed = True
    with through(server, two_shards, cut, before=True) as config:
        worker = start(config, concurrency=10)  # the suspect runs alone, so what comes with it goes back
        assert [handle.result(timeout=2 * LEASE) for handle in others] == list(range(5))
        assert [number for number in released if number] == [5, 5]
        worker.stop()
    assert not cut.is_armed
    assert crashes(others) == 0


def test_a_claim_that_is_repeated_gives_its_leases_from_the_beginning(queue: TaskQueue) -> None:
    handle = queue.push(tasks.add(1, 1), user_id="acme")

    def claim() -> None:
        queue.run(single(queue.commands.shards[0].claim("w", 1, lease=LEASE, claimant="c", claim_id=1)))

    claim()
    first = handle.info().run.lease_expires_at
    time.sleep(0.1)
    claim()
    again = handle.info().run.lease_expires_at
    assert first is not None
    assert again is not None
    assert again - first >= 100


# --- a blocked loop -----------------------------------------------------------------------------------


runs: Counter[int] = Counter()


@task(max_retries=0)
async def count(number: int) -> None:
    runs[number] += 1
    await asyncio.sleep(0.1)


def test_what_is_claimed_and_not_begun_keeps_its_lease_while_a_task_blocks_the_loop(
    queue: TaskQueue, start: StartWorker
) -> None:
    runs.clear()
    queue.push(tasks.block_the_loop(1.5 * LEASE), user_id="acme")
    handles = queue.push_batch([count(number) for number in range(63)], user_id="acme")
    start(queue.config, concurrency=64)
    until(lambda: queue.stats().started == 64, "all is claimed")
    start(queue.config, concurrency=64)
    for handle in handles:
        handle.result(timeout=3 * LEASE)
    assert set(runs.values()) == {1}
    assert crashes(handles) == 0


def test_what_could_not_begin_for_longer_than_anything_may_take_goes_back(
    patient: TaskQueue, start: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairque.worker.heart.GRACE_SECONDS", 0.1)
    runs.clear()
    patient.push(tasks.block_the_loop(1.5).with_options(timeout=1.0), user_id="acme")
    handles = patient.push_batch([count(n).with_options(timeout=1.0) for n in range(63)], user_id="acme")
    start(patient.config, concurrency=64)
    for handle in handles:
        handle.result(timeout=LONG_LEASE / 2)
    assert set(runs.values()) == {1}
    assert crashes(handles) == 0


def test_what_a_claim_gave_to_a_blocked_loop_is_not_run_by_two(queue: TaskQueue, start: StartWorker) -> None:
    runs.clear()
    first = [tasks.async_sleep(0.1) for _ in range(5)]
    then = [tasks.async_sleep(0.1004 + 0.0002 * n) for n in range(5)]  # their claim is under way
    blocker = tasks.block_the_loop(1.6 * LEASE)
    queue.push_batch([*first, *then, blocker], user_id="acme")
    handles = queue.push_batch([count(number) for number in range(40)], user_id="acme")
    start(queue.config, concurrency=10)
    time.sleep(0.6)
    start(queue.config, concurrency=40)
    for handle in handles:
        handle.result(timeout=3 * LEASE)
    assert set(runs.values()) == {1}


# --- assigned users -----------------------------------------------------------------------------------


def test_nothing_is_stolen_before_the_last_task_of_assigned_users_has_begun(patient: TaskQueue) -> None:
    begun: list[str | None] = []

    class Begins(AsyncTaskHandler):
        async def process_task(self, task: Task[Any]) -> None:
            begun.append(current_task().user_id)
            await asyncio.sleep(random.uniform(0.0005, 0.005))

    for user in ("mine", "others"):
        patient.push_batch([Task.create() for _ in range(400)], user_id=user)
    worker = Worker(
        patient,
        concurrency=20,
        assigned_users=["mine"],
        steal_targets="*",
        burst=True,
        handler=Begins(),
    )
    worker.run()
    assert begun == ["mine"] * 400 + ["others"] * 400
    assert patient.stats().finished == 800
