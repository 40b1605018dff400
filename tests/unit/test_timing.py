"""When schedules fire: the value that holds an expression, an interval or one instant, and its bounds."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairque.core.exceptions import ScheduleValidationError
from fairque.core.timing import LAST, Timing

SECOND, DAY = 1000, 86_400_000
YEAR = 365 * DAY
NOON = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * SECOND


def test_a_cron_expression_fires_at_its_times() -> None:
    timing = Timing.create(" 0 9 * * * ", timezone="Asia/Tokyo")
    assert timing == Timing(cron="0 9 * * *", timezone="Asia/Tokyo")
    assert timing.next(NOON, 2) == [NOON + DAY // 2, NOON + DAY * 3 // 2]


@pytest.mark.parametrize("timing", [Timing(cron="* * * * * *"), Timing(every=1000), Timing(at=NOON)])
def test_what_fires_at_an_instant_is_later_than_the_one_before_it_only(timing: Timing) -> None:
    assert timing.after(NOON - 1) == NOON
    assert timing.after(NOON) in {NOON + SECOND, None}
    assert timing.latest(NOON, NOON, 5) == [NOON]


def test_a_fraction_of_a_second_counts() -> None:
    timing = Timing(cron="* * * * * *")
    assert timing.after(NOON + 1) == timing.after(NOON + 999) == NOON + SECOND
    assert timing.latest(NOON + 1, NOON + 999, 5) == []
    assert timing.latest(NOON + 1, NOON + 1000, 5) == [NOON + SECOND]


# --- intervals ----------------------------------------------------------------------------------------


def test_an_interval_counts_from_its_anchor_and_first_fires_one_interval_later() -> None:
    timing = Timing(every=DAY, anchor=NOON + 7)
    assert timing.next(0, 2) == [NOON + 7 + DAY, NOON + 7 + 2 * DAY]
    assert timing.next(NOON + 7 + 3 * DAY, 1) == [NOON + 7 + 4 * DAY]


def test_an_interval_with_a_start_fires_at_it_first() -> None:
    timing = Timing(every=DAY, anchor=5, start=NOON + 7)
    assert timing.next(0, 2) == [NOON + 7, NOON + 7 + DAY]


def test_an_interval_counts_from_1970_else() -> None:
    assert Timing(every=DAY).next(-1, 2) == [0, DAY]
    assert Timing(every=7000).next(7001, 1) == [14_000]


def test_only_an_interval_that_counts_from_nowhere_is_anchored() -> None:
    assert Timing(every=DAY).anchored(NOON) == Timing(every=DAY, anchor=NOON)
    for timing in (
        Timing(every=DAY, anchor=5),
        Timing(every=DAY, start=5),
        Timing(at=5),
        Timing(cron="@daily"),
    ):
        assert timing.anchored(NOON) is timing


def test_an_interval_knows_nothing_of_the_clock_on_the_wall() -> None:
    before_the_shift = int(datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()) * SECOND
    timing = Timing(every=DAY, start=before_the_shift)
    assert timing.next(before_the_shift, 2) == [before_the_shift + DAY, before_the_shift + 2 * DAY]


# --- bounds -------------------------------------------------------------------------------------------


def test_start_and_end_belong_to_the_time_in_which_it_fires() -> None:
    timing = Timing(cron="0 12 * * *", start=NOON, end=NOON + 2 * DAY)
    assert timing.next(0, 9) == [NOON, NOON + DAY, NOON + 2 * DAY]
    assert timing.latest(0, NOON + YEAR, 2) == [NOON + DAY, NOON + 2 * DAY]
    narrower = Timing(cron="0 12 * * *", start=NOON + 1, end=NOON + 2 * DAY - 1)
    assert narrower.next(0, 9) == narrower.latest(0, NOON + YEAR, 9) == [NOON + DAY]


def test_one_instant_fires_once() -> None:
    timing = Timing.create(at=datetime.fromtimestamp(NOON / SECOND, UTC))
    assert timing.next(0, 5) == [NOON]
    assert timing.after(NOON) is None
    assert timing.latest(0, LAST, 5) == [NOON]


@pytest.mark.parametrize("timing", [Timing(cron="* * * * *"), Timing(cron="0 0 29 2 *"), Timing(every=100)])
def test_after_two_hundred_years_nothing_is_left(timing: Timing) -> None:
    year_9000 = 221_845_392_000_000
    for instant in (LAST, year_9000, 10 * year_9000, 10**30):
        assert timing.after(instant) is None
        assert timing.next(instant, 3) == []
    assert timing.latest(year_9000, 10**30, 3) == []
    assert timing.latest(0, 10**30, 1)[0] <= LAST
    assert timing.after(-(10**30)) == timing.after(-1)


def test_none_asked_for_is_none_given() -> None:
    for count in (0, -1):
        assert Timing(every=1000).next(0, count) == []
        assert Timing(every=1000).latest(0, NOON, count) == []
    assert Timing(every=1000).latest(NOON, NOON - 1, 3) == []


# --- the last ones ------------------------------------------------------------------------------------

CRONS = ["* * * * *", "*/7 2-5 * * *", "0 0 * * *", "30 2 * * MON", "0,1,2 0 1 * *", "*/20 * 0 15 * *"]
TIMINGS = st.builds(
    lambda cron, zone, bounds: Timing(cron=cron, timezone=zone, start=bounds[0], end=bounds[1]),
    st.sampled_from(CRONS),
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    st.sampled_from([(None, None), (NOON - 20 * DAY, NOON - DAY - 5)]),
) | st.builds(
    lambda every, anchor, start: Timing(every=every, anchor=anchor, start=start),
    st.integers(3_600_000, 5 * DAY),
    st.none() | st.integers(NOON - 9 * DAY, NOON),
    st.none() | st.integers(NOON - 9 * DAY, NOON),
)


@given(TIMINGS, st.integers(0, 40 * DAY), st.integers(0, 3 * DAY), st.integers(1, 40))
def test_the_latest_are_the_last_of_all(timing: Timing, back: int, length: int, count: int) -> None:
    since = NOON - back
    fires, fire = [], timing.after(since - 1)
    while fire is not None and fire <= since + length:
        fires.append(fire)
        fire = timing.after(fire)
    assert timing.latest(since, since + length, count) == fires[-count:]


class Counted(Timing, frozen=True):
    looks: ClassVar[list[int]] = []

    def after(self, instant: int) -> int | None:
        self.looks.append(instant)
        return super().after(instant)


@pytest.mark.parametrize("count", [1, 10, 100])
@pytest.mark.parametrize(
    ("timing", "most"),
    [
        (Counted(cron="* * * * *"), 10),  # looks for each time asked for
        (Counted(cron="* * * * * *"), 10),
        (Counted(cron="0 9 * * MON-FRI"), 15),
        (Counted(cron="* * * 1 1 *"), 60),  # bursts, far apart
        (Counted(every=100), 3),
    ],
)
def test_the_latest_of_ten_years_are_found_without_walking_through_them(
    timing: Timing, most: int, count: int
) -> None:
    Counted.looks.clear()
    assert len(timing.latest(NOON - 10 * YEAR, NOON, count)) == count
    assert len(Counted.looks) <= most * (count + 1)


# --- jitter -------------------------------------------------------------------------------------------


def test_the_delay_of_a_run_is_spread_and_stays_the_same() -> None:
    timing = Timing(cron="@hourly", jitter=1000)
    delays = [timing.delay_of(NOON + hour, f"schedule-{hour % 10}") for hour in range(1000)]
    assert all(0 <= delay < 1000 for delay in delays)
    assert 450 < sum(delays) / 1000 < 550
    assert len({timing.delay_of(NOON, f"schedule-{n}") for n in range(100)}) > 80
    assert Timing(cron="@daily").delay_of(NOON, "a") == 0


def test_the_delay_of_a_run_is_the_same_in_every_process() -> None:
    ask = (
        f"from fairque.core.timing import Timing; print(Timing(every=100, jitter=9**9).delay_of({NOON}, 'é'))"
    )
    other = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert int(other.stdout) == Timing(every=100, jitter=9**9).delay_of(NOON, "é")


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of a cron expression, every and at, not none of them"),
        ({"expr": "@daily", "every": 60}, "not cron and every"),
        ({"expr": "@daily", "every": 60, "at": 5}, "not cron and every and at"),
        ({"expr": timedelta(1)}, "cron must be a string, not timedelta: .* an interval is every="),
        ({"expr": "61 * * * *"}, "the minute field '61'"),
        ({"expr": "0 0 31 2 *"}, "never fires: no year has such a day"),
        ({"expr": "@daily", "timezone": "Mars/Base"}, "timezone 'Mars/Base' is unknown"),
        ({"expr": "@daily", "timezone": UTC}, "timezone must be a string, not timezone"),
        ({"expr": "@daily", "timezone": None}, "timezone must be a string, not NoneType"),
        (
            {"expr": "@yearly", "start": 86_400, "end": 2 * 86_400},
            "cron '@yearly' never fires between start and",
        ),
        ({"every": 0.05}, "every must be from 100 to .* ms .200 years., not 50"),
        ({"every": "60"}, "every must be seconds or a timedelta, not str"),
        ({"every": True}, "every must be seconds or a timedelta, not bool"),
        ({"every": float("nan")}, "every must be a finite number"),
        ({"every": timedelta.max}, "every is over 200 years"),
        ({"every": 60, "timezone": "Europe/Berlin"}, "timezone 'Europe/Berlin' has no meaning with every"),
        (
            {"every": 60, "start": 2, "end": 1},
            "end must not be before start: 1970-.*01.* is before 1970-.*02",
        ),
        ({"at": datetime(2026, 1, 1)}, "at needs a time zone"),  # noqa: DTZ001
        ({"at": -1}, "at must not be negative"),
        ({"at": 5, "timezone": "Europe/Berlin"}, "timezone 'Europe/Berlin' has no meaning with at"),
        ({"at": 5, "start": 1}, "start 1000 has no meaning with at"),
        ({"at": 5, "end": 9}, "end 9000 has no meaning with at"),
        ({"every": 60, "jitter": -1}, "jitter must not be negative"),
        ({"every": 60, "start": "today"}, "start must be seconds"),
    ],
)
def test_bad_input_is_refused_with_the_field_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleValidationError, match=message):
        Timing.create(**options)


def test_a_number_that_is_none_is_refused_without_a_conversion_too() -> None:
    for bad in ({"at": True}, {"at": 5.0}, {"every": 1000, "jitter": None}, {"cron": "@daily", "anchor": 5}):
        with pytest.raises(ScheduleValidationError):
            Timing(**bad)


# --- what is stored -----------------------------------------------------------------------------------


@given(TIMINGS)
def test_a_timing_is_the_same_after_it_was_stored(timing: Timing) -> None:
    assert Timing.decode(timing.encode()) == timing


def test_only_what_was_set_is_stored() -> None:
    assert Timing(cron="@daily").encode() == b'{"cron":"@daily"}'


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (b'{"cron":"61 * * * *"}', "the minute field '61'"),
        (b'{"cron":"@daily","timezone":"Mars/Base"}', "Mars/Base"),
        (b'{"cron":5}', "cron"),
        (b'{"every":1}', "every must be from 100"),
        (b'{"every":1e300}', "every"),
        (b"{}", "give one of"),
        (b"[]", "array"),
        (b"{", "truncated"),
        (b"\xff", "malformed"),
        (b'{"cron":"\xff"}', ""),
        ("\ud800", ""),
    ],
)
def test_what_is_stored_wrongly_is_refused(stored: bytes | str, message: str) -> None:
    with pytest.raises(ScheduleValidationError, match=f"a stored timing cannot be read: .*{message}"):
        Timing.decode(stored)


def test_a_stored_record_that_holds_a_bad_timing_tells_where() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"the minute field '61'.*at `\$\[\.\.\.\]`") as raised:
        msgspec.json.decode(b'{"a":{"cron":"61 * * * *"}}', type=dict[str, Timing])
    assert isinstance(raised.value.__cause__, ScheduleValidationError)


def test_who_has_no_cron_schedules_does_not_load_what_reads_them() -> None:
    ask = (
        "import sys, fairque; from fairque.core.timing import Timing; Timing(every=100).after(0); "
        "print({'cronsim', 'zoneinfo'} & set(sys.modules))"
    )
    other = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert other.stdout == "set()\n"
