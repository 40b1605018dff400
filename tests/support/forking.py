"""Programs that fork while they use a queue. Run as `python -m tests.support.forking WHAT SOCKET PREFIX`.

Each prints one JSON object, for a test to judge. They are processes of their own: a test's own process has
threads of other tests, which a child would not have.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from fairque import (
    AsyncTaskQueue,
    AsyncWorker,
    FairQueueConfig,
    ForkedLoopError,
    QueueConfig,
    RedisConfig,
    TaskQueue,
    Worker,
)
from tests.support import worker_tasks as tasks

CHILDREN = 100
PATIENCE = 30.0  # seconds until a child counts as hung


def in_child(work: Callable[[], object]) -> int:
    """Fork a child that does `work`, and return its process id."""
    child = os.fork()
    if child:
        return child
    faulthandler.dump_traceback_later(PATIENCE / 2)  # shows where a child hangs
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - told to the parent by the exit code, and to the test
        print(f"in a child: {error!r}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def ended_well(children: list[int]) -> int:
    """How many children end with exit code 0; those that hang are killed."""
    well, deadline = 0, time.monotonic() + PATIENCE
    for child in children:
        found, status = os.waitpid(child, os.WNOHANG)
        while found == 0 and time.monotonic() < deadline:
            time.sleep(0.005)
            found, status = os.waitpid(child, os.WNOHANG)
        if found == 0:
            os.kill(child, 9)
            os.waitpid(child, 0)
        elif status == 0:
            well += 1
    return well


class Parent:
    """Threads that push, look, and wait for results, and note what is wrong."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self._stop = threading.Event()
        work = [(work, me) for work in (self._push, self._ask) for me in (0, 1)]
        self._threads = [threading.Thread(target=self._note_errors, args=one) for one in work]
        self.wrong: list[object] = []
        self.pushed = [0, 0]
        self.slowest = 0.0
        for thread in self._threads:
            thread.start()

    def stop(self) -> int:
        """How many threads hang."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        return sum(thread.is_alive() for thread in self._threads)

    def _note_errors(self, work: Callable[[int], None], me: int) -> None:
        try:
            while not self._stop.is_set():
                work(me)
        except BaseException as error:  # noqa: BLE001 - judged by the test
            self.wrong.append(repr(error))

    def _push(self, me: int) -> None:
        self.pushed[me] += 1
        name = f"{me}-{self.pushed[me]}"
        self._queue.push(tasks.add(1, 1), user_id="parent", task_id=name)
        found = self._queue.get("parent", name)
        if found is None or found.task_id != name:
            self.wrong.append(found)

    def _ask(self, me: int) -> None:
        began = time.monotonic()
        found = self._queue.push(tasks.add(me, 7), user_id="asker").result(timeout=PATIENCE)
        self.slowest = max(self.slowest, time.monotonic() - began)
        if found != me + 7:
            self.wrong.append((me, found))


def busy(config: FairQueueConfig) -> dict[str, object]:
    """A hundred forks, while threads of the parent use the same queue."""
    queue, well = TaskQueue(config), 0

    def child(number: int) -> None:
        queue.push(tasks.add(number, 1), user_id="child", task_id=f"c{number}")
        mine = f"child-{number}"
        queue.push(tasks.add(number, 1), user_id=mine, task_id="popped")
        task = queue.pop("forked", users=[mine])
        assert task is not None, "nothing to pop"
        queue.finish(task, number)
        assert queue.handle(mine, "popped").result(timeout=PATIENCE) == number

    with Worker(config, assigned_users=["asker"]):
        parent = Parent(queue)
        for start in range(0, CHILDREN, 10):  # ten at a time: a machine may be small
            well += ended_well([in_child(partial(child, start + number)) for number in range(10)])
        hung = parent.stop()
    found = {"well": well, "hung": hung, "wrong": parent.wrong}
    return found | {"pushed": sum(parent.pushed), "slowest": parent.slowest}


def opening(config: FairQueueConfig) -> dict[str, object]:
    """Forks while another thread of the parent opens the queue, with every lock of it and its client held."""
    queue = TaskQueue(config)
    manager = queue.manager
    holding, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with manager._opener, manager._lock, manager.client.connection_pool._lock:
            for _ in range(manager.CONNECTIONS):
                manager._slots.get()
            manager._is_opening = True
            holding.set()
            go_on.wait(PATIENCE)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    holding.wait(PATIENCE)
    children = [
        in_child(lambda: queue.push(tasks.add(1, 1), user_id="acme", task_id="one").state()) for _ in range(5)
    ]
    well = ended_well(children)
    go_on.set()
    return {"well": well}


def new_loop(config: FairQueueConfig) -> dict[str, object]:
    """Children of a program with a running loop use its `AsyncTaskQueue` on loops of their own."""

    async def parent() -> tuple[int, float]:
        queue = AsyncTaskQueue(config)
        worker = AsyncWorker(queue)
        running = asyncio.create_task(worker.run())
        handle = await queue.push(tasks.add(1, 1), user_id="acme")
        assert await handle.result(timeout=PATIENCE) == 2

        async def use() -> None:
            assert await (await queue.push(tasks.add(2, 3), user_id="acme")).result(timeout=PATIENCE) == 5
            await queue.close()

        def child() -> None:
            thread = threading.Thread(target=lambda: asyncio.run(use()))
            thread.start()
            thread.join()
            asyncio.run(queue.close())

        children = [in_child(child) for _ in range(5)]
        well = await asyncio.to_thread(ended_well, children)
        slowest = 0.0
        for number in range(20):
            began = time.monotonic()
            handle = await queue.push(tasks.add(number, 1), user_id="acme")
            assert await handle.result(timeout=PATIENCE) == number + 1
            slowest = max(slowest, time.monotonic() - began)
        worker.stop()
        await running
        await queue.close()
        return well, slowest

    well, slowest = asyncio.run(parent())
    return {"well": well, "slowest": slowest}


def old_loop(config: FairQueueConfig) -> dict[str, object]:
    """A child that goes on with its parent's loop is told so."""

    async def parent() -> int:
        queue = AsyncTaskQueue(config)
        await queue.stats()
        child = os.fork()
        if child == 0:
            try:
                await queue.push(tasks.add(1, 1), user_id="acme")
            except ForkedLoopError:
                os._exit(0)
            os._exit(1)
        well = ended_well([child])
        assert (await queue.stats()).queued == 0
        await queue.close()
        return well

    return {"well": asyncio.run(parent())}


def preloaded(config: FairQueueConfig) -> dict[str, object]:
    """A worker that is made before a fork, as a preloading server does it, and run after it."""
    queue, worker = TaskQueue(config), Worker(config, burst=True)
    queue.push(tasks.whoami(), user_id="acme", task_id="who")

    def child() -> None:
        worker.run()
        found = queue.handle("acme", "who").result(timeout=PATIENCE)
        assert found[-1] == worker.worker_id

    before = worker.worker_id
    well = ended_well([in_child(child)])
    who = queue.handle("acme", "who").result(timeout=PATIENCE)
    return {"well": well, "own_id": who[-1] != before}


def embedded(_: FairQueueConfig) -> dict[str, object]:
    """A child exits in the usual way, through atexit, while its parent goes on with its embedded server."""
    queue = TaskQueue("embedded://")
    queue.push(tasks.add(1, 1), user_id="acme")
    child = os.fork()
    if child == 0:
        queue.push(tasks.add(1, 1), user_id="acme")
        sys.exit(0)
    well = ended_well([child])
    queued = queue.stats().queued
    queue.close()
    return {"well": well, "queued": queued}


def multiprocess(config: FairQueueConfig) -> dict[str, object]:
    """A process of multiprocessing's method `fork` pushes by the queue of its parent."""
    queue = TaskQueue(config)
    queue.stats()
    fork = multiprocessing.get_context("fork")
    children: list[Any] = [fork.Process(target=_push_one, args=(queue, number)) for number in range(5)]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE)
    return {"well": [child.exitcode for child in children].count(0), "queued": queue.stats().queued}


def _push_one(queue: TaskQueue, number: int) -> None:
    queue.push(tasks.add(number, 1), user_id="acme")


PROGRAMS = (busy, opening, new_loop, old_loop, preloaded, embedded, multiprocess)

if __name__ == "__main__":
    what, socket, prefix = sys.argv[1:]
    settings = FairQueueConfig(
        redis=RedisConfig(unix_socket_path=socket, allow_no_persistence=True),
        queue=QueueConfig(prefix=prefix, lease_seconds=5),
    )
    print(json.dumps({run.__name__: run for run in PROGRAMS}[what](settings)))
