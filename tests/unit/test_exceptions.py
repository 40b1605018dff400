from __future__ import annotations

import copy
import pickle

import pytest

import fairque
from fairque import FairQueueError, Retry
from fairque.core import exceptions
from tests.support import worker_tasks as tasks

EXAMPLES = [
    exceptions.PayloadTooLargeError(3, 2),
    exceptions.UnknownFunctionError("m:f"),
    exceptions.TaskNotFoundError("u", "t"),
    exceptions.ResultExpiredError("u", "t"),
    exceptions.TaskFailedError("u", "t", "failed", "ValueError: no"),
    exceptions.TaskCanceledError("u", "t"),
    exceptions.ResultTimeoutError("u", "t", 1.5),
    exceptions.TaskStateError("u", "t", "is QUEUED"),
    exceptions.LeaseLostError("u", "t", 2),
    exceptions.DependencyCycleError(("a", "b", "a")),
    exceptions.PayloadTooLargeError(3, 2, "XCom value 'k'", "queue.max_xcom_bytes"),
    exceptions.XComKeyError("u", "default", "k"),
    exceptions.XComUnavailableError("@xcom_push(…) of f"),
    exceptions.BatchError(3, ValueError("no")),
    exceptions.QueueClosedError(),
    exceptions.ForkedLoopError(),
    exceptions.ScriptError("push", "no"),
    exceptions.ScriptSourceError("a.lua", "cannot be read", ["b.lua"]),
    exceptions.ServerUnavailableError("gone"),
    exceptions.DurabilityError((("u", "t"),), 0, 1, "no replica had it within 2 s"),
    exceptions.ConfigurationError("queue.name: no"),
    exceptions.UnsafeServerError("allkeys-lru"),
    exceptions.ScheduleValidationError("the minute field '61' is wrong"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_after_a_trip_to_another_process(error: FairQueueError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert other.args == error.args
        assert other.__dict__ == error.__dict__


def test_a_retry_keeps_its_delay() -> None:
    other = pickle.loads(pickle.dumps(Retry(delay=2.5, reason="not yet")))
    assert (type(other), str(other), other.delay) == (Retry, "not yet", 2.5)


def test_a_task_function_travels_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(tasks.add)) is tasks.add


def test_every_error_derives_from_the_base_and_is_public_unless_it_is_about_a_source_file() -> None:
    errors = {
        name: kind
        for name, kind in vars(exceptions).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert all(issubclass(kind, FairQueueError) for kind in errors.values())
    assert set(errors) - set(fairque.__all__) == {"ScriptSourceError"}
