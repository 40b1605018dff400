"""Costs that do not depend on the machine: commands a task, round trips, and what an import loads."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeAlias

import pytest
from redis import Redis

from fairque import Task, TaskQueue, UserPolicy, Worker, task
from tests.performance.conftest import OpenQueue

Count: TypeAlias = Callable[[Callable[[], object]], dict[str, int]]


@pytest.fixture
def count(raw: Redis) -> Count:
    """Counts the commands that the server runs for an action; `scripts` are the round trips."""

    def count_commands(action: Callable[[], object]) -> dict[str, int]:
        raw.config_resetstat()
        action()
        calls = {name: stats["calls"] for name, stats in raw.info("commandstats").items()}
        scripts = sum(calls.pop(f"cmdstat_{name}", 0) for name in ("eval", "evalsha"))
        inside = sum(number for name, number in calls.items() if not name.startswith("cmdstat_config"))
        return {"scripts": scripts, "inside": inside}

    return count_commands


def push(queue: TaskQueue, tasks: int, users: int) -> None:
    queue.push_batch([Task.create(user_id=f"u{n % users}", payload=n) for n in range(tasks)])


def work_off(queue: TaskQueue, batch: int) -> None:
    while claimed := queue.pop_batch("w", batch):
        queue.finish_batch(claimed)


def test_a_task_costs_few_commands_when_it_goes_in_batches(queue: TaskQueue, count: Count) -> None:
    push(queue, 1, users=1)
    work_off(queue, batch=1)  # the server knows the scripts now
    pushed = count(lambda: push(queue, 1_000, users=1))
    worked = count(lambda: work_off(queue, batch=100))
    print(
        f"push {pushed['inside'] / 1000:.2f}, claim and finish {worked['inside'] / 1000:.2f} commands a task"
    )
    assert pushed == {"scripts": 5, "inside": pytest.approx(2_000, abs=100)}
    assert worked == {"scripts": 21, "inside": pytest.approx(5_300, abs=300)}


def test_a_long_batch_asks_little_more_about_its_users_than_short_ones(
    queue: TaskQueue, count: Count
) -> None:
    tasks = [[Task.create(user_id=f"{kind}{n}", payload=n) for n in range(1_000)] for kind in "abc"]
    queue.push_batch(tasks[0])
    short = count(lambda: [queue.push_batch(tasks[1][i : i + 200]) for i in range(0, 1_000, 200)])["inside"]
    long = count(lambda: queue.push_batch(tasks[2]))["inside"]
    print(f"commands of a push of 1,000 tasks: {short} in five batches, {long} in one")
    assert long <= short + 800 + 10  # one for each user that the first script only looks at


def test_a_claim_costs_the_same_whether_ten_users_wait_or_ten_thousand(
    queue: TaskQueue, count: Count
) -> None:
    costs = []
    for users in (10, 10_000):
        push(queue, 2 * users, users)
        # Of two claims: the first one of a minute has to begin the account of that.
        costs.append(min(count(lambda: queue.pop_batch("w", 10))["inside"] for _ in range(2)))
    print(f"commands of a claim of ten tasks: {costs[0]} of 10 users, {costs[1]} of 10,000")
    assert costs[1] <= costs[0] + 2


def test_a_task_for_an_idle_worker_is_three_scripts(queue: TaskQueue, count: Count) -> None:
    @task
    async def nothing() -> None: ...

    number = 40

    def push_now_and_then() -> None:
        for _ in range(number):
            queue.push(nothing(), user_id="acme")
            time.sleep(0.02)

    with Worker(queue, concurrency=10):
        queue.push(nothing(), user_id="acme").result(timeout=5)
        scripts = count(push_now_and_then)["scripts"]
    print(f"{scripts / number:.2f} scripts a task: push, claim, finish")
    assert scripts < 3.3 * number


def server_ms(raw: Redis, action: Callable[[], object]) -> float:
    """How long the server is busy with the scripts of an action."""
    raw.config_resetstat()
    action()
    stats = raw.info("commandstats")
    usec: int = sum(stats.get(f"cmdstat_{name}", {}).get("usec", 0) for name in ("eval", "evalsha"))
    return usec / 1000


def least_in_turn(raw: Redis, *claims: Callable[[], object]) -> list[float]:
    """Of each the least in several rounds, in turn: the speed of machines drifts."""
    rounds = [[server_ms(raw, claim) for claim in claims] for _ in range(7)]
    return [min(times) for times in zip(*rounds, strict=True)]


def test_a_claim_costs_hardly_more_where_all_users_have_many_groups(
    open_queue: OpenQueue, raw: Redis
) -> None:
    claims = []
    for groups in (2, 200):
        queue = open_queue(name=f"{groups}-groups")
        queue.push_batch(
            [
                Task.create(user_id=f"u{user}", payload=0, group=f"g{number % groups}")
                for user in range(100)
                for number in range(max(groups, 10))
            ]
        )
        claims.append(functools.partial(queue.pop_batch, "w", 100))
    took = least_in_turn(raw, *claims)
    print(f"claim of 100 tasks: {took[0]} ms with 2 groups a user, {took[1]} ms with 200")
    assert took[1] < 3 * took[0]


def test_a_claim_costs_hardly_more_where_long_names_begin_alike(queue: TaskQueue, raw: Redis) -> None:
    claims = []
    for start in ("", "🎌" * 250):
        users = [f"{start}{n * 7 % 500:03}" for n in range(500)]
        queue.push_batch([Task.create(user_id=user, payload=0) for user in users])
        claims.append(functools.partial(queue.pop_batch, "w", 1, users=users))
    took = least_in_turn(raw, *claims)
    print(f"claim among 500 users: {took[0]} ms with short names, {took[1]} ms with long ones")
    assert took[1] < 6 * took[0]


def test_publishing_a_configuration_costs_by_what_has_changed_in_it(
    open_queue: OpenQueue, count: Count
) -> None:
    def publish(users: dict[str, UserPolicy]) -> int:
        return count(open_queue(users=users).pause)["inside"]

    users = {f"u{n}": UserPolicy(weight=2.0) for n in range(1_000)}
    first = publish(users)
    second = publish({**users, "u1": UserPolicy(weight=3.0)})
    print(f"commands to publish 1,000 policies: {first}; with one that has changed: {second}")
    assert second < 1_000 + 50


def test_importing_fairque_adds_little_to_importing_redis() -> None:
    # Of the processor's time: what else the machine does must not count.
    code = (
        "from time import process_time; import redis; began = process_time();"
        "from fairque import AsyncTaskQueue, AsyncWorker, TaskQueue, Worker; print(process_time() - began)"
    )
    added = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        added.append(float(done.stdout))
    print(f"import fairque: {min(added):.3f} s more than import redis")
    assert min(added) < 0.25


def test_a_module_of_tasks_loads_neither_redis_nor_pydantic() -> None:
    code = (
        "import sys; from fairque import Pipeline, Retry, TaskContext, TaskHandler, current_task, task;"
        "print([m for m in ('redis', 'pydantic', 'asyncio', 'ssl') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
