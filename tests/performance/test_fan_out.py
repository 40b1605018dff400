"""One task, ten thousand that depend on it, one that depends on all of these: every script stays short."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from fairque import Task, TaskQueue

WIDTH = 10_000
LONGEST_MS = 50.0
NOTED_US = 2_000  # what the server writes into its log of slow commands


@pytest.fixture
def slowlog(raw: Redis) -> Any:
    """The longest script since the last time it was asked, in milliseconds."""
    raw.config_set("slowlog-log-slower-than", NOTED_US)
    raw.config_set("slowlog-max-len", 10_000)
    raw.slowlog_reset()

    def longest() -> float:
        entries: Any = raw.slowlog_get(10_000)
        raw.slowlog_reset()
        return max((entry["duration"] / 1000 for entry in entries), default=NOTED_US / 1000)

    return longest


@pytest.mark.slow
def test_a_fan_out_of_ten_thousand_is_pushed_released_and_joined_in_short_scripts(
    queue: TaskQueue, slowlog: Any
) -> None:
    first = Task.create(user_id="u", task_id="first")
    middle = [Task.create(user_id="u", task_id=str(n), depends_on=[first]) for n in range(WIDTH)]
    last = Task.create(user_id="u", task_id="last", depends_on=middle)
    queue.push_batch([first, *middle, last])
    longest = {"push": slowlog()}
    queue.push(Task.create(user_id="other"))
    begin = queue.pop("w", users=["u"])
    assert begin is not None
    assert queue.stats().deferred == WIDTH + 1
    queue.finish(begin)
    order = []
    while tasks := queue.pop_batch("w", 200):
        order += [task.task_id for task in tasks]
        queue.finish_batch(tasks)
    longest["release and join"] = slowlog()
    assert order[-1] == "last"
    assert len(order) == WIDTH + 2
    # Another user's work does not wait for all of it.
    assert next(i for i, name in enumerate(order) if name not in {"last", *map(str, range(WIDTH))}) < 2
    assert len(queue.graph("u", "first", limit=20_000).nodes) == WIDTH + 2
    longest["graph"] = slowlog()
    print("\nlongest script:", ", ".join(f"{what} {ms:.1f} ms" for what, ms in longest.items()))
    assert max(longest.values()) < LONGEST_MS
