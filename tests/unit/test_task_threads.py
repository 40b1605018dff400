"""Threads for plain functions: who calls whom, and that nothing waits behind what is slow."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from fairque.worker.threads import TaskThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

here: ContextVar[str] = ContextVar("here", default="nowhere")


@pytest.fixture
async def threads() -> AsyncIterator[TaskThreads]:
    made = TaskThreads()
    yield made
    made.close()


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fairque-task"]


async def test_nothing_waits_behind_a_function_that_blocks(threads: TaskThreads) -> None:
    ends = [threading.Event() for _ in range(5)]
    slow = [threads.run(end.wait) for end in ends]
    for _ in range(20):
        quick = [threads.run(lambda number=number: number) for number in range(30)]  # type: ignore[misc]
        async with asyncio.timeout(5):
            assert await asyncio.gather(*quick) == list(range(30))
    for end in ends:
        end.set()
    assert await asyncio.gather(*slow) == [True] * 5


async def test_functions_that_wait_for_each_other_run_side_by_side(threads: TaskThreads) -> None:
    for count in (2, 8, 3, 16):
        together = threading.Barrier(count, timeout=5)
        async with asyncio.timeout(10):
            await asyncio.gather(*(threads.run(together.wait) for _ in range(count)))


async def test_functions_that_are_short_or_slow_at_random_all_run_once(threads: TaskThreads) -> None:
    done: list[int] = []

    def work(number: int) -> int:
        time.sleep((number * 7 % 5) / 2000)
        done.append(number)
        return number

    async def client(first: int) -> None:
        for number in range(first, 400, 10):
            assert await threads.run(lambda: work(number)) == number  # noqa: B023 - awaited here

    async with asyncio.timeout(20):
        await asyncio.gather(*(client(first) for first in range(10)))
    assert sorted(done) == list(range(400))


async def test_there_are_no_more_threads_than_functions_at_once(threads: TaskThreads) -> None:
    before = len(ours())
    for _ in range(50):
        await asyncio.gather(*(threads.run(time.monotonic) for _ in range(4)))
    assert len(ours()) - before <= 4


async def test_each_function_has_the_context_it_was_given_in(threads: TaskThreads) -> None:
    async def client(name: str) -> tuple[str, str]:
        here.set(name)
        return name, await threads.run(here.get)

    names = [f"client {number}" for number in range(20)]
    assert await asyncio.gather(*map(client, names)) == [(name, name) for name in names]


async def test_what_it_raises_is_raised_and_the_thread_goes_on(threads: TaskThreads) -> None:
    for error in (ValueError("no"), SystemExit(3), StopIteration()):

        def work(error: BaseException = error) -> Any:
            raise error

        with pytest.raises(ValueError if isinstance(error, ValueError) else RuntimeError):
            await threads.run(work)
    assert await threads.run(lambda: 1) == 1


async def test_a_thread_that_cannot_be_started_fails_its_function_alone(
    threads: TaskThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()
    slow = threads.run(end.wait)

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await threads.run(lambda: 2)
    end.set()
    assert await slow
    assert await threads.run(lambda: 3) == 3


async def test_threads_end_when_they_are_closed_and_what_waits_is_done() -> None:
    threads, before = TaskThreads(), set(ours())
    work = [threads.run(lambda: time.sleep(0.02)) for _ in range(3)]
    threads.close()
    await asyncio.gather(*work)
    started = set(ours()) - before
    for thread in started:
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()


def test_threads_outlive_their_loop_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    end, before = threading.Event(), set(ours())

    async def main() -> None:
        TaskThreads().run(end.wait)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    end.set()
    for thread in set(ours()) - before:
        thread.join(5)
        assert not thread.is_alive()
    assert capfd.readouterr().err == ""


async def test_a_child_that_comes_back_from_its_function_runs_nothing_of_its_parents(
    threads: TaskThreads,
) -> None:
    reader, writer = os.pipe()
    children = await threads.run(os.fork)
    if children == 0:  # pragma: no cover - it is ended before it gets here
        os._exit(9)
    others = [threads.run(lambda: os.write(writer, b"x")) for _ in range(5)]
    await asyncio.gather(*others)
    _, status = await asyncio.to_thread(os.waitpid, children, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    os.close(writer)
    assert os.read(reader, 100) == b"xxxxx"
    os.close(reader)
