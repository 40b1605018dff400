"""Durations and moments."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairque.core.exceptions import TaskValidationError
from fairque.core.units import LONGEST, from_ms, moment_to_ms, to_ms, to_seconds


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (0, 0),
        (1, 1000),
        (0.001, 1),
        (0.0001, 1),
        (1.0001, 1001),
        (0.1 + 0.2, 300),
        (2.3, 2300),
        (1e-12, 0),
        (timedelta(minutes=1, microseconds=1), 60_001),
        (LONGEST, 6_311_520_000_000),
    ],
)
def test_durations_become_milliseconds_rounded_up(value: Any, milliseconds: int) -> None:
    assert to_ms(value, "delay") == milliseconds


@given(st.integers(0, 10**12))
@example(8_512_431_719)  # times 1000 its seconds are a little more
def test_whole_milliseconds_are_exact(milliseconds: int) -> None:
    assert to_ms(milliseconds / 1000, "delay") == milliseconds


@given(st.floats(0, LONGEST))
def test_nothing_is_early_by_more_than_the_noise_of_floats(seconds: float) -> None:
    # From some 4e9 ms on, the product itself is off by more than a millionth.
    noise = max(1e-6, math.ulp(seconds * 1000))
    assert -noise <= to_ms(seconds, "delay") - seconds * 1000 < 1.001


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (math.nan, "delay must be a finite number of seconds, not nan"),
        (math.inf, "not inf"),
        (-math.inf, "not -inf"),
        (-1, "delay must not be negative: -1"),
        (timedelta(microseconds=-1), "delay must not be negative"),
        (LONGEST * 1.01, "delay is over 200 years"),
        (10**400, "delay is over 200 years"),
        (timedelta.max, "delay is over 200 years"),
        (True, "delay must be seconds or a timedelta, not bool: True"),
        ("1", "not str: '1'"),
        (None, "not NoneType"),
        (1j, "not complex"),
    ],
)
def test_what_is_no_duration_is_refused_by_name(bad: Any, message: str) -> None:
    with pytest.raises(TaskValidationError, match=message):
        to_seconds(bad, "delay")


def test_moments_are_aware_datetimes_or_seconds_since_1970() -> None:
    noon = datetime(2026, 5, 17, 12, 0, 0, 1500, UTC)
    assert moment_to_ms(noon, "execute_after") == 1_779_019_200_002
    assert moment_to_ms(noon.astimezone(timezone(timedelta(hours=9))), "execute_after") == 1_779_019_200_002
    assert moment_to_ms(1.5, "execute_after") == 1500
    assert moment_to_ms(0, "execute_after") == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (datetime(2026, 5, 17), "execute_after needs a time zone: .* datetime.now"),  # noqa: DTZ001 - the point
        (datetime(1969, 12, 31, tzinfo=UTC), "execute_after lies before 1970"),
        (datetime(9999, 1, 1, tzinfo=UTC), "execute_after is over 200 years"),
        (math.nan, "execute_after must be a finite number"),
        ("2026-05-17", "execute_after must be seconds"),
    ],
)
def test_what_is_no_moment_is_refused_by_name(bad: Any, message: str) -> None:
    with pytest.raises(TaskValidationError, match=message):
        moment_to_ms(bad, "execute_after")


def test_wire_times_are_aware() -> None:
    assert from_ms(1500) == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)
    assert from_ms(None) is None
