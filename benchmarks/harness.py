"""What runs in a peer's environment: `python -m benchmarks.harness ORDER`, with the order as JSON.

Only the standard library and the peer are there. An adapter, `benchmarks/peers/NAME.py`, has

- `Producer(options)` with `push(payload) -> handle`, `push_many(payloads)`, `wait(handle)` for the result (or
  `push_and_wait(payload)`, where that is one call) and `close()`; `open()` if it needs one. All blocking, or
  all `async def`.
- `run_worker(options)`, which blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import logging
import os
import random
import struct
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.tasks import MARKS, async_task, plain_task

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LONGEST_WAIT = 30.0  # seconds until a task has run


@dataclass(frozen=True)
class Options:
    """What an adapter is told.

    Attributes:
        url: The server's.
        kind: Which function is pushed and run.
        concurrency: Tasks at once in the worker.
        results: Kept as the library does by `default`; `kept` in any case; `awaited` by the producer.
        users: How many take turns, where the library knows users.
    """

    url: str
    kind: Literal["async", "plain"]
    concurrency: int
    results: Literal["default", "kept", "awaited"]
    users: int

    @property
    def task(self) -> Any:
        """The function to push and to run."""
        return async_task if self.kind == "async" else plain_task


class Pushing:
    """What producers are asked to do. Written once: `settle` awaits only what is asynchronous.

    Args:
        producer: The adapter's.
        order: `count` tasks, arguments of `size` bytes, `chunk` in a push of many, at most `seconds`.
        asynchronous: Whether there is an event loop.
    """

    def __init__(self, producer: Any, order: dict[str, Any], *, asynchronous: bool) -> None:
        self.producer = producer
        self.order = order
        self.asynchronous = asynchronous
        self.payload = "x" * order["size"]
        self.marks = os.open(os.environ[MARKS], os.O_RDONLY)

    async def one(self) -> dict[str, Any]:
        """Push one by one: how many in how many seconds."""
        await settle(self.producer.push(self.payload))  # connections, scripts
        pushed, begin = 0, time.perf_counter()
        while pushed < self.order["count"] and time.perf_counter() - begin < self.order["seconds"]:
            await settle(self.producer.push(self.payload))
            pushed += 1
        return {"count": pushed, "seconds": time.perf_counter() - begin}

    async def many(self) -> dict[str, Any]:
        """Push in chunks: how many in how many seconds, and when it began."""
        pushed, begin, first = 0, time.perf_counter(), time.monotonic_ns()
        while pushed < self.order["count"] and time.perf_counter() - begin < self.order["seconds"]:
            chunk = min(self.order["chunk"], self.order["count"] - pushed)
            await settle(self.producer.push_many([self.payload] * chunk))
            pushed += chunk
        return {"count": pushed, "seconds": time.perf_counter() - begin, "first": first}

    async def mixed(self) -> dict[str, Any]:
        """The same, once a worker is seen to work."""
        await self.push_and_see()
        return await self.many()

    async def roundtrip(self) -> dict[str, Any]:
        """Push to an idle queue: ms until each task starts, then (of others) until its result is there."""
        await self.push_and_see()
        starts = await self.repeat(self.push_and_see)
        return {"starts": starts, "results": await self.repeat(self.push_and_wait)}

    async def repeat(self, trip: Callable[[], Coroutine[Any, Any, float]]) -> list[float]:
        """Trips with pauses between them."""
        trips: list[float] = []
        begin = time.perf_counter()
        while len(trips) < self.order["count"] and time.perf_counter() - begin < self.order["seconds"]:
            await self.pause(random.uniform(0.005, 0.010))  # noqa: S311 — no secret
            trips.append(await trip())
        return trips

    async def push_and_see(self) -> float:
        """Ms from before the push to the start of the task."""
        size, begin = os.fstat(self.marks).st_size, time.monotonic_ns()
        await settle(self.producer.push(self.payload))
        while os.fstat(self.marks).st_size == size:
            if time.monotonic_ns() - begin > LONGEST_WAIT * 1e9:
                raise TimeoutError(f"no task ran within {LONGEST_WAIT:.0f} s")
            await self.pause(0.0002)
        started: int = struct.unpack("q", os.pread(self.marks, 8, size))[0]
        return (started - begin) / 1e6

    async def push_and_wait(self) -> float:
        """Ms from before the push to the result, by the library's own way to wait for it."""
        begin = time.monotonic_ns()
        if hasattr(self.producer, "push_and_wait"):
            await settle(self.producer.push_and_wait(self.payload))
        else:
            await settle(self.producer.wait(await settle(self.producer.push(self.payload))))
        return (time.monotonic_ns() - begin) / 1e6

    async def pause(self, seconds: float) -> None:
        """Sleep, leaving an event loop to others."""
        if self.asynchronous:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251 — there is no event loop


async def settle(value: Any) -> Any:
    """The value, awaited if it is to be."""
    return await value if inspect.isawaitable(value) else value


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that awaits nothing asynchronous, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a blocking producer has awaited something")


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run on an event loop: uvloop's where a peer's requirements include it."""
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 # type: ignore[import-not-found, unused-ignore]

        return uvloop.run(coroutine)
    return asyncio.run(coroutine)


def produce(adapter: Any, options: Options, order: dict[str, Any]) -> dict[str, Any]:
    """Carry out an order with the adapter's producer."""
    asynchronous = inspect.iscoroutinefunction(adapter.Producer.push)

    async def main() -> dict[str, Any]:
        producer = adapter.Producer(options)
        if hasattr(producer, "open"):
            await settle(producer.open())
        try:
            pushing = Pushing(producer, order, asynchronous=asynchronous)
            answer: dict[str, Any] = await getattr(pushing, order["action"])()
        finally:
            await settle(producer.close())
        return answer

    answer: dict[str, Any] = run(main()) if asynchronous else drive(main())
    return answer


def main() -> None:
    order = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.WARNING)
    adapter = importlib.import_module(f"benchmarks.peers.{order['peer']}")
    options = Options(**order["options"])
    if order["action"] == "work":
        adapter.run_worker(options)
    else:
        answer = produce(adapter, options, order)
        print("\n" + json.dumps(answer), flush=True)  # noqa: T201 — the last line of stdout is the answer


if __name__ == "__main__":
    main()
