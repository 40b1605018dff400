"""Pipelines, from the push to the result."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from fairque import (
    ResultTimeoutError,
    Task,
    TaskCanceledError,
    TaskFailedError,
    TaskQueue,
    TaskState,
    TaskValidationError,
    Worker,
    parallel,
)
from tests.support import worker_tasks as tasks
from tests.support.actions import popped
from tests.support.waiting import until

ETL = Path(__file__).parent.parent.parent / "examples/etl_pipeline.py"


@contextmanager
def working(queue: TaskQueue) -> Iterator[None]:
    """A worker beside the test."""
    worker = Worker(queue.config, concurrency=5)
    worker.start()
    try:
        yield
    finally:
        worker.stop()


def push(queue: TaskQueue, pipeline: Any, **options: Any) -> Any:
    return queue.push(pipeline, user_id="u", **options)


def test_results_go_from_step_to_step(queue: TaskQueue) -> None:
    one, two = tasks.number(1), tasks.number(2)
    doubled = tasks.double(two.output)
    pipeline = (one | (two >> doubled)) >> tasks.total([one.output, doubled.output, 10])
    with working(queue):
        assert push(queue, pipeline).result(timeout=10) == 15


def test_a_map_is_joined_by_the_list_of_its_results(queue: TaskQueue) -> None:
    squares = tasks.double.map(range(20))
    with working(queue):
        assert push(queue, squares >> tasks.total(squares.output)).result(timeout=10) == 380


def test_a_step_pulls_results_by_name(queue: TaskQueue) -> None:
    pipeline = tasks.number.map([1, 2, 3]) >> tasks.pulling(10)
    with working(queue):
        assert push(queue, pipeline).result(timeout=10) == 60


def test_a_pipeline_that_ends_side_by_side_has_the_list_of_results(queue: TaskQueue) -> None:
    with working(queue):
        assert push(queue, tasks.number(1) >> [tasks.number(2), tasks.double(4)]).result(timeout=10) == [2, 8]
        assert push(queue, parallel(tasks.number(3))).result(timeout=10) == [3]


def test_a_pushed_task_is_an_input_of_a_later_one(queue: TaskQueue) -> None:
    first = tasks.number(21)
    queue.push(first, user_id="u")
    later = queue.push(tasks.double(first.output), user_id="u")
    assert later.state() is TaskState.DEFERRED
    with working(queue):
        assert later.result(timeout=10) == 42
        # The result of one that has finished long ago, too.
        assert queue.push(tasks.double(first.output), user_id="u").result(timeout=10) == 42


def test_a_result_travels_by_reference(queue: TaskQueue, raw: Redis, root: str) -> None:
    size = 500_000
    source = tasks.text(size)
    handle = push(queue, source >> [tasks.length(source.output) for _ in range(5)])
    with working(queue):
        assert handle.result(timeout=10) == [size] * 5
    for step in handle.steps:
        assert raw.strlen(f"{root}:task:u:{step.task_id}") < 1000


def test_results_reach_dependents_even_where_none_are_kept(open_queue: Any) -> None:
    queue = open_queue(retention={"finished": 0, "failed": 60, "canceled": 60}, push_retry_window=30)
    first = tasks.number(4)
    second = tasks.double(first.output)
    handle = push(queue, first >> second >> tasks.total([first.output, second.output]))
    with working(queue):  # the last result is not kept: its state tells
        until(lambda: handle.state() is TaskState.FINISHED, "all steps have finished")


def test_a_failed_step_is_the_error_of_the_pipeline(queue: TaskQueue) -> None:
    handle = push(queue, tasks.number(1) >> tasks.broken(7) >> tasks.number(2))
    with working(queue), pytest.raises(TaskFailedError, match="broken by 7") as caught:
        handle.result(timeout=10)
    assert caught.value.task_id == handle["broken"].task_id
    assert handle.state() is TaskState.FAILED
    progress = handle.progress()
    assert (progress.total, progress.finished, progress.failed, progress.waiting) == (3, 1, 1, 1)


def test_a_pipeline_that_waits_for_a_task_outside_of_it_has_not_failed(queue: TaskQueue) -> None:
    outside = queue.push(tasks.number(1).with_options(delay=60), user_id="u")
    last = tasks.number(2).with_options(on_upstream_failure="run", depends_on=[outside])
    handle = push(queue, tasks.broken() >> last)
    queue.fail(popped(queue), "broken", failure_type="invalid")
    assert handle.state() is TaskState.DEFERRED
    with pytest.raises(ResultTimeoutError):
        handle.result(timeout=1.2)
    outside.cancel()
    assert handle.state() is TaskState.STARTED


def test_a_requeued_step_lets_the_pipeline_go_on(queue: TaskQueue) -> None:
    handle = push(queue, tasks.number(1) >> tasks.number(2))
    queue.fail(popped(queue), "broken", failure_type="invalid")
    assert handle.state() is TaskState.FAILED
    queue.requeue("u", handle.steps[0].task_id)
    with working(queue):
        assert handle.result(timeout=10) == 2


def test_the_output_of_a_failed_step_is_none_where_the_next_one_runs_anyway(queue: TaskQueue) -> None:
    bad = tasks.broken()
    last = tasks.total([bad.output, 5]).with_options(on_upstream_failure="run")
    with working(queue):
        assert push(queue, bad >> last).result(timeout=10) == 5


def test_a_pipeline_is_canceled_as_a_whole(queue: TaskQueue) -> None:
    handle = push(queue, tasks.number(1) >> (tasks.number(2) | tasks.number(3)) >> tasks.number(4))
    queue.finish(popped(queue), 1)
    assert handle.cancel() == 3
    assert handle.state() is TaskState.CANCELED
    with pytest.raises(TaskCanceledError):
        handle.result(timeout=5)


def test_a_result_is_waited_for_no_longer_than_asked(queue: TaskQueue) -> None:
    with pytest.raises(ResultTimeoutError):
        push(queue, tasks.number(1) >> tasks.number(2)).result(timeout=0.05)


def test_the_same_step_in_two_pipelines_is_two_tasks(queue: TaskQueue) -> None:
    step = tasks.number(1)
    first, second = push(queue, step >> tasks.number(2)), push(queue, step >> tasks.number(3))
    assert len({handle.task_id for handle in (*first.steps, *second.steps)}) == 4
    assert queue.stats().totals["pushed"] == 4


def test_pushing_the_same_pipeline_twice_adds_nothing(queue: TaskQueue) -> None:
    pipeline = tasks.number(1) >> tasks.number(2)
    first, again = push(queue, pipeline), push(queue, pipeline)
    assert (first.created, again.created) == (True, False)
    assert [step.task_id for step in first.steps] == [step.task_id for step in again.steps]


def test_steps_have_handles_by_name(queue: TaskQueue) -> None:
    handle = push(queue, tasks.number(1).with_options(name="first") >> tasks.number.map([2, 3]))
    assert handle["first"].state() is TaskState.QUEUED
    assert len(handle.named("number")) == 2
    with pytest.raises(KeyError, match="2 steps are named 'number'"):
        handle["number"]
    with pytest.raises(KeyError, match="no step is"):
        handle["other"]


def test_options_of_the_push_hold_for_all_steps_and_a_delay_for_the_first(queue: TaskQueue) -> None:
    handle = push(queue, tasks.number(1) >> tasks.number(2), priority=5, delay=60)
    assert [step.info().priority for step in handle.steps] == [5, 5]
    assert [step.state() for step in handle.steps] == ["SCHEDULED", "DEFERRED"]
    with pytest.raises(TaskValidationError, match="no task_id of its own"):
        push(queue, tasks.number(1) >> tasks.number(2), task_id="x")


def test_what_pulls_from_a_step_must_be_in_a_pipeline(queue: TaskQueue) -> None:
    with pytest.raises(TaskValidationError, match="is in no pipeline"):
        push(queue, tasks.pulling(10))


def test_a_bad_step_is_named_and_nothing_is_pushed(queue: TaskQueue) -> None:
    with pytest.raises(TaskValidationError, match="step 'text' was refused, nothing was pushed"):
        push(queue, tasks.double(1) >> tasks.text(object()))  # type: ignore[arg-type]
    assert queue.stats().totals == {}


def test_a_hundred_users_run_the_same_pipeline_side_by_side(queue: TaskQueue) -> None:
    def definition() -> Any:
        first = tasks.number(1)
        return first >> (tasks.double(first.output) | tasks.number(2)) >> tasks.number(3)

    handles = [queue.push(definition(), user_id=f"user-{number}") for number in range(100)]
    assert len({step.task_id for handle in handles for step in handle.steps}) == 400
    served: Counter[str] = Counter()
    while task := queue.pop("w"):
        served[task.user_id or ""] += 1
        queue.finish(task)
        # Every user has had as many turns as any other, but for the round under way.
        assert max(served.values()) - (min(served.values()) if len(served) == 100 else 0) <= 1
    assert set(served.values()) == {4}
    assert {handle.state() for handle in handles} == {TaskState.FINISHED}


def test_one_pipeline_can_be_pushed_for_many_users(queue: TaskQueue) -> None:
    pipeline = tasks.number(1) >> tasks.double(2)
    handles = [queue.push(pipeline, user_id=user) for user in ("a", "b")]
    assert [handle.created for handle in handles] == [True, True]
    with working(queue):
        assert [handle.result(timeout=10) for handle in handles] == [4, 4]


def test_a_pipeline_of_handlers_tasks_needs_no_functions(queue: TaskQueue) -> None:
    first = Task.create(payload="a", name="first")
    second = Task.create(payload={"before": first.output}, name="second")
    handle = push(queue, first >> second)
    queue.finish(popped(queue), "done")
    task = popped(queue)
    assert task.inputs() == [handle["first"].task_id]
    assert queue.fill_inputs(task).payload == {"before": "done"}
    queue.finish(queue.fill_inputs(task), "too")
    assert handle.result(timeout=5) == "too"


def test_auto_xcom_publishes_a_result_under_the_name_of_its_step(queue: TaskQueue) -> None:
    def run(number: int) -> Any:
        named = tasks.published_later(number + 1).with_options(name="other")
        return push(queue, tasks.published(number) >> named >> tasks.read_xcom("published", "other"))

    with working(queue):
        # Two runs of one pipeline do not see each other's.
        handles = [run(1), run(10)]
        assert [handle.result(timeout=10) for handle in handles] == [[1, 2], [10, 11]]
    assert queue.xcom("u", namespace=handles[1].pipeline_id).pull_all() == {"published": 10, "other": 11}
    assert queue.xcom("u").pull_all() == {}


def test_the_etl_example_reports_on_real_files(tmp_path: Path) -> None:
    folder, target = ETL.parent.parent / "fairque/core", tmp_path / "report.md"
    command = [sys.executable, str(ETL), str(folder), str(target)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    report = target.read_text(encoding="utf-8")
    assert report.startswith(f"# {len(list(folder.rglob('*.py')))} files, ")
    assert "| typing |" in report
    assert report in done.stdout
