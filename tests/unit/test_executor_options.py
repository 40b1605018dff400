from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest

from fairque import ConfigurationError, TaskInterrupted, TaskValidationError, Worker, WorkerConfig, task
from fairque.core.config import FairQueueConfig
from fairque.core.retry import RemoteError, Retry, RetryPolicy
from fairque.queue.failure import history_entry


def plain() -> None: ...


async def on_loop() -> None: ...


def test_a_function_says_where_it_runs_and_whether_it_may_be_interrupted() -> None:
    default, chosen = task(plain), task(name="o.chosen", executor="process", interrupt=False)(plain)
    assert (default.executor, default.interrupt) == (None, True)
    assert (chosen.executor, chosen.interrupt) == ("process", False)


@pytest.mark.parametrize("executor", ["fork", "async", "", 3, ["thread"]])
def test_an_executor_that_there_is_not_is_refused(executor: Any) -> None:
    with pytest.raises(TaskValidationError, match="executor must be 'thread' or 'process'"):
        task(executor=executor)


@pytest.mark.parametrize("interrupt", [None, 1, "no"])
def test_whether_it_may_be_interrupted_is_yes_or_no(interrupt: Any) -> None:
    with pytest.raises(TaskValidationError, match="interrupt must be True or False"):
        task(interrupt=interrupt)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_an_async_def_has_no_executor_but_the_loop(executor: Any) -> None:
    with pytest.raises(TaskValidationError, match=f"async def, .* executor='{executor}' is for plain"):
        task(name="o.on_loop", executor=executor)(on_loop)


def test_a_worker_s_executor_is_configured_or_given_and_checked_either_way() -> None:
    configured = FairQueueConfig(workers={"w": WorkerConfig(executor="process")})
    assert Worker(configured).engine.settings.executor == "process"
    assert Worker(configured, executor="thread").engine.settings.executor == "thread"
    with pytest.raises(ConfigurationError, match="executor: must be 'thread' or 'process'"):
        Worker(configured, executor="fork")


def test_except_exception_does_not_catch_an_interruption() -> None:
    assert not issubclass(TaskInterrupted, Exception)
    assert isinstance(pickle.loads(pickle.dumps(TaskInterrupted("why"))), TaskInterrupted)


def test_what_another_process_raised_is_retried_as_it_was_decided_there_and_reads_as_it_did() -> None:
    policy = RetryPolicy(retry_on=(KeyError,), max_retries=1)
    covered = RemoteError("Odd: no", "Traceback …", is_covered=True, delay=2.0)
    refused = RemoteError("Odd: no", "Traceback …", is_covered=False, delay=None)
    assert policy.delay_after(0, covered) == timedelta(seconds=2)
    assert (policy.delay_after(1, covered), policy.delay_after(0, refused)) == (None, None)
    assert history_entry(covered, "failed") == {
        "type": "failed",
        "error": "Odd: no",
        "traceback": "Traceback …",
    }


def test_a_policy_covers_what_it_names_and_whoever_asks_for_a_retry() -> None:
    policy = RetryPolicy(retry_on=(LookupError,), no_retry_on=(IndexError,))
    cases = {KeyError(): True, IndexError(): False, ValueError(): False, Retry(): True}
    assert {error: policy.covers(error) for error in cases} == cases
