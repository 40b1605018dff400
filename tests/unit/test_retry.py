"""The retry decision."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairque.core.exceptions import TaskValidationError
from fairque.core.retry import Retry, RetryPolicy


@given(failures=st.integers(0, 1000), base=st.floats(0, 1e4), longest=st.floats(0, 1e6))
def test_a_delay_lies_between_nothing_and_the_doubled_cap(failures: int, base: float, longest: float) -> None:
    policy = RetryPolicy(max_retries=1001, base_delay=base, max_delay=longest)
    delay = policy.delay_after(failures, ValueError())
    assert delay is not None
    cap = min(longest, base * 2.0 ** min(failures, 64))
    assert timedelta(0) <= delay <= timedelta(seconds=cap) + timedelta(microseconds=1)


def test_delays_fill_the_whole_range_so_that_retries_spread() -> None:
    policy = RetryPolicy(max_retries=10, base_delay=1.0, max_delay=300.0)
    for failures, cap in ((0, 1.0), (3, 8.0), (9, 300.0)):
        delays = [policy.delay_after(failures, ValueError()) or timedelta(0) for _ in range(2000)]
        seconds = [delay.total_seconds() for delay in delays]
        assert 0 <= min(seconds) < 0.05 * cap
        assert 0.95 * cap < max(seconds) <= cap
        assert 0.45 * cap < sum(seconds) / 2000 < 0.55 * cap


def test_retries_end_where_the_policy_says() -> None:
    policy = RetryPolicy(max_retries=2)
    assert policy.delay_after(0, ValueError()) is not None
    assert policy.delay_after(1, ValueError()) is not None
    assert policy.delay_after(2, ValueError()) is None
    assert RetryPolicy(max_retries=0).delay_after(0, ValueError()) is None


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (ConnectionError(), True),
        (ConnectionResetError(), True),
        (BrokenPipeError(), False),
        (ValueError(), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_some_errors_are_worth_a_retry(error: BaseException, retried: bool) -> None:
    policy = RetryPolicy(retry_on=(ConnectionError,), no_retry_on=(BrokenPipeError,))
    assert (policy.delay_after(0, error) is not None) is retried


def test_errors_outside_exception_are_not_retried_by_default() -> None:
    assert RetryPolicy().delay_after(0, Exception()) is not None
    assert RetryPolicy().delay_after(0, SystemExit()) is None


def test_a_task_may_ask_for_its_own_delay() -> None:
    policy = RetryPolicy(max_retries=1, retry_on=(ConnectionError,), no_retry_on=(Exception,))
    assert policy.delay_after(0, Retry(delay=7.5)) == timedelta(seconds=7.5)
    assert policy.delay_after(0, Retry(delay=timedelta(minutes=2))) == timedelta(minutes=2)
    assert policy.delay_after(0, Retry(delay=0)) == timedelta(0)
    assert policy.delay_after(1, Retry(delay=7.5)) is None


def test_a_task_may_ask_for_a_retry_and_leave_the_delay_to_the_policy() -> None:
    delay = RetryPolicy(max_retries=1, base_delay=4.0).delay_after(0, Retry())
    assert delay is not None
    assert timedelta(0) <= delay <= timedelta(seconds=4)


@pytest.mark.parametrize("delay", [-1, float("nan"), "5", True])
def test_a_bad_delay_is_refused_where_it_is_raised(delay: float) -> None:
    with pytest.raises(TaskValidationError, match="delay"):
        Retry(delay=delay)
