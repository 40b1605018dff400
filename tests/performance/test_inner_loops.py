"""The loops that every task goes through, timed by pytest-benchmark; what must hold are ratios in one run.

`uv run pytest tests/performance/test_inner_loops.py` shows the table; `--benchmark-save` and
`--benchmark-compare` compare two states of the code.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from redis import Redis

from fairque import Task, TaskQueue, task
from fairque.core.calls import Call

BATCH = 100
ROUNDS = 300


@task(name="inner_loops.nothing")
async def nothing(argument: str) -> None:
    """Is pushed, claimed and finished; never runs."""


def made(number: int = BATCH) -> list[Task[Any]]:
    return [nothing("x" * 100).with_options(user_id="acme") for _ in range(number)]


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def ratio(
    benchmark: BenchmarkFixture, measured: Callable[[], object], reference: Callable[[], object]
) -> float:
    """How many times as long as the reference the measured loop takes: the fastest of many runs, in turn.

    What else the machine does only ever adds.
    """
    pairs = [(seconds(measured), seconds(reference)) for _ in range(ROUNDS)]
    number = min(own for own, _ in pairs) / min(other for _, other in pairs)
    benchmark(measured)  # for the table; under `pytest -n` the plugin measures nothing
    benchmark.extra_info["ratio"] = round(number, 2)
    print(f"{number:.2f} times the reference")
    return number


def json_both_ways(records: list[dict[str, Any]]) -> tuple[Callable[[], object], Callable[[], object]]:
    """The least that it takes to encode a batch, and to decode it: a header and a body for each task."""
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode
    bodies = [encode(record) for record in records]

    def encode_all() -> None:
        for record in records:
            encode(record)
            encode([["x" * 100]])

    def decode_all() -> None:
        for body in bodies:
            decode(body)
            decode(b'[["' + b"x" * 100 + b'"]]')

    return encode_all, decode_all


HEADERS = [{"function": "inner_loops.nothing", "created_at": 1_795_880_768_865 + n} for n in range(BATCH)]


@pytest.fixture
def pushed(queue: TaskQueue) -> TaskQueue:
    """A queue with work for many claims, whose server knows the scripts."""
    queue.push_batch(made(5_000))
    queue.finish_batch([(claimed, None) for claimed in queue.pop_batch("w", 1)])
    return queue


def test_building_tasks_costs_a_few_plain_encodings(benchmark: BenchmarkFixture) -> None:
    encode, _ = json_both_ways(HEADERS)
    assert ratio(benchmark, made, encode) < 25


def test_encoding_a_batch_costs_a_few_plain_encodings(benchmark: BenchmarkFixture, queue: TaskQueue) -> None:
    encode, _ = json_both_ways(HEADERS)
    commands, tasks = queue.commands.shards[0], made()
    assert ratio(benchmark, lambda: commands.ready(tasks, None), encode) < 12


def test_building_the_call_of_a_batch_costs_less_than_encoding_it(
    benchmark: BenchmarkFixture, queue: TaskQueue
) -> None:
    commands = queue.commands.shards[0]
    tasks, records = commands.ready(made(), None)
    encoding = lambda: commands.ready(tasks, None)  # noqa: E731 - the reference
    assert ratio(benchmark, lambda: commands.batch(tasks, records, None).calls, encoding) < 0.5


def test_decoding_a_claim_costs_a_few_plain_decodings(benchmark: BenchmarkFixture, pushed: TaskQueue) -> None:
    _, decode = json_both_ways(HEADERS)
    call = pushed.commands.shards[0].claim("w", BATCH)
    reply = sent(pushed, call)
    assert len(call.read(reply).tasks) == BATCH
    assert ratio(benchmark, lambda: call.read(reply), decode) < 10


def test_building_the_call_that_finishes_a_batch_costs_less_than_decoding_its_claim(
    benchmark: BenchmarkFixture, pushed: TaskQueue
) -> None:
    commands = pushed.commands.shards[0]
    call = commands.claim("w", BATCH)
    reply = sent(pushed, call)
    items = [(claimed, b"null") for claimed in call.read(reply).tasks]
    assert ratio(benchmark, lambda: commands.finish_call(items), lambda: call.read(reply)) < 0.6


# --- at the server ------------------------------------------------------------------------------------


def sent(queue: TaskQueue, call: Call[Any]) -> Any:
    """A call's reply as it comes from the server."""
    replies: list[Any] = []
    raw = Call(call.script, call.root, call.args, replies.append)
    queue.manager.execute(raw)
    return replies[0]


def server_us(raw: Redis, action: Callable[[], int]) -> float:
    """Microseconds of the server's time in scripts, a task; the action says how many tasks it had."""
    raw.config_resetstat()
    tasks = action()
    stats = raw.info("commandstats")
    spent = sum(stats.get(f"cmdstat_{name}", {}).get("usec", 0) for name in ("eval", "evalsha"))
    return float(spent / tasks)


def claim_and_finish(queue: TaskQueue, batch: int) -> tuple[Callable[[], int], Callable[[], int]]:
    claimed: list[Task[Any]] = []

    def claim() -> int:
        claimed[:] = queue.pop_batch("w", batch)
        return len(claimed)

    def finish() -> int:
        queue.finish_batch([(one, None) for one in claimed])
        return len(claimed)

    return claim, finish


def test_a_task_in_a_full_batch_costs_the_server_a_fraction_of_one_by_itself(
    benchmark: BenchmarkFixture, pushed: TaskQueue, raw: Redis
) -> None:
    costs: dict[tuple[str, int], list[float]] = {}

    def one_round() -> None:
        for batch in (1, BATCH):
            claim, finish = claim_and_finish(pushed, batch)
            costs.setdefault(("claim", batch), []).append(server_us(raw, claim))
            costs.setdefault(("finish", batch), []).append(server_us(raw, finish))

    for _ in range(30):
        one_round()
    benchmark.pedantic(one_round)  # type: ignore[no-untyped-call]
    for script, bound in (("claim", 0.2), ("finish", 0.25)):
        alone, together = min(costs[script, 1]), min(costs[script, BATCH])
        print(f"{script}: {alone:.0f} µs by itself, {together:.1f} µs in a batch of {BATCH}")
        assert together < bound * alone
