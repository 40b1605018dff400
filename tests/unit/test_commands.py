from __future__ import annotations

import pytest

from fairque import QueueConfig, Task
from fairque.queue.batches import CHUNK_BYTES
from fairque.queue.shards import QueueCommands


@pytest.mark.parametrize(
    ("count", "size", "chunks"),
    [(0, 1, []), (1, 1, [1]), (200, 10, [200]), (401, 10, [200, 200, 1]), (6, 1_000_000, [4, 2])],
)
def test_a_batch_is_cut_by_tasks_and_by_bytes_and_keeps_its_order(
    count: int, size: int, chunks: list[int]
) -> None:
    tasks = [Task.create(user_id="u", task_id=str(n), payload="x" * size) for n in range(count)]
    batch = QueueCommands(QueueConfig()).push_batch(tasks)
    calls = batch.calls
    assert [task.task_id for task in batch.tasks] == [str(n) for n in range(count)]
    assert [len(call.args) // 3 for call in calls] == chunks
    assert [task_id for call in calls for task_id in call.args[2::3]] == [str(n) for n in range(count)]
    for call in calls:
        assert sum(len(str(argument)) for argument in call.args) < CHUNK_BYTES + 2_000_000
