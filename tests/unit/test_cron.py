"""Cron expressions: which are allowed, and when they fire, above all where a clock is put forward or back."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fairque.core.cron import NICKNAMES, cron_after, parse_cron
from fairque.core.exceptions import ScheduleValidationError
from fairque.core.zones import load_zone

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
LORD_HOWE, AUCKLAND = "Australia/Lord_Howe", "Pacific/Auckland"
SAO_PAULO, APIA = "America/Sao_Paulo", "Pacific/Apia"

MINUTE, HOUR, DAY = 60, 3600, 86_400


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text + "+00:00").timestamp())


def fires(expr: str, timezone: str, begin: str, count: int) -> list[str]:
    """The next fire times as `month-day hour:minute[:second]` in UTC; no seconds where there are none."""
    found, second = [], seconds(begin)
    for _ in range(count):
        fire = cron_after(expr, timezone, second)
        assert fire is not None
        second = fire
        found.append(datetime.fromtimestamp(fire, UTC).strftime("%m-%d %H:%M:%S").removesuffix(":00"))
    return found


# What the clocks do and when (UTC), by each country's law; the instants below follow from it, by hand.
#   Berlin     2026-03-29 01:00, 02:00 +1    → 03:00 +2     2026-10-25 01:00, 03:00 +2  → 02:00 +1
#   New York   2026-03-08 07:00, 02:00 -5    → 03:00 -4     2026-11-01 06:00, 02:00 -4  → 01:00 -5
#   Lord Howe  2026-10-03 15:30, 02:00 +10½  → 02:30 +11    2026-04-04 15:00, 02:00 +11 → 01:30 +10½
#   Auckland   2026-09-26 14:00, 02:00 +12   → 03:00 +13    2026-04-04 14:00, 03:00 +13 → 02:00 +12
#   São Paulo  2018-11-04 03:00, 00:00 -3    → 01:00 -2     2018-02-18 02:00, 00:00 -2  → 23:00 -3
#   Apia       2011-12-30 10:00, 00:00 -10 of the 30th → 00:00 +14 of the 31st
FORWARD = [
    (BERLIN, "30 2 * * *", "2026-03-28T12:00", ["03-29 01:00", "03-30 00:30"]),
    (BERLIN, "0 30 2 * * *", "2026-03-28T12:00", ["03-29 01:00", "03-30 00:30"]),
    (BERLIN, "0,30 2 * * *", "2026-03-28T12:00", ["03-29 01:00", "03-30 00:00", "03-30 00:30"]),
    (BERLIN, "0 2,3 * * *", "2026-03-28T12:00", ["03-29 01:00", "03-30 00:00", "03-30 01:00"]),
    (BERLIN, "30 2,3 * * *", "2026-03-28T12:00", ["03-29 01:00", "03-29 01:30", "03-30 00:30"]),
    (BERLIN, "*/30 * * * *", "2026-03-29T00:00", ["03-29 00:30", "03-29 01:00", "03-29 01:30"]),
    (BERLIN, "0 */2 * * *", "2026-03-28T22:00", ["03-28 23:00", "03-29 02:00", "03-29 04:00"]),
    (BERLIN, "*/20 2 * * *", "2026-03-28T12:00", ["03-30 00:00", "03-30 00:20"]),
    (NEW_YORK, "30 2 * * *", "2026-03-07T12:00", ["03-08 07:00", "03-09 06:30"]),
    (
        NEW_YORK,
        "15,45 1-3 * * *",
        "2026-03-07T12:00",
        ["03-08 06:15", "03-08 06:45", "03-08 07:00", "03-08 07:15", "03-08 07:45", "03-09 05:15"],
    ),
    (NEW_YORK, "0 * * * *", "2026-03-08T05:30", ["03-08 06:00", "03-08 07:00", "03-08 08:00"]),
    (LORD_HOWE, "15 2 * * *", "2026-10-03T00:00", ["10-03 15:30", "10-04 15:15"]),
    (LORD_HOWE, "45 2 * * *", "2026-10-03T00:00", ["10-03 15:45", "10-04 15:45"]),
    (LORD_HOWE, "0,15,30 2 * * *", "2026-10-03T00:00", ["10-03 15:30", "10-04 15:00", "10-04 15:15"]),
    (LORD_HOWE, "*/30 * * * *", "2026-10-03T14:45", ["10-03 15:00", "10-03 15:30", "10-03 16:00"]),
    (LORD_HOWE, "0 * * * *", "2026-10-03T14:00", ["10-03 14:30", "10-03 16:00", "10-03 17:00"]),
    (AUCKLAND, "30 2 * * *", "2026-09-26T00:00", ["09-26 14:00", "09-27 13:30"]),
    (AUCKLAND, "30 2 27 9 *", "2026-09-26T00:00", ["09-26 14:00", "09-26 13:30"]),
    (AUCKLAND, "* 30 2 * * *", "2026-09-26T00:00", ["09-26 14:00", "09-27 13:30", "09-27 13:30:01"]),
    (SAO_PAULO, "0 0 * * *", "2018-11-03T12:00", ["11-04 03:00", "11-05 02:00"]),
    (SAO_PAULO, "0 0,1 * * *", "2018-11-03T12:00", ["11-04 03:00", "11-05 02:00", "11-05 03:00"]),
    (APIA, "0 9 * * *", "2011-12-29T12:00", ["12-29 19:00", "12-30 10:00", "12-30 19:00"]),
    (APIA, "0 0 * * *", "2011-12-29T12:00", ["12-30 10:00", "12-31 10:00"]),
    (APIA, "0 9 30 12 *", "2011-01-01T00:00", ["12-30 10:00", "12-29 19:00"]),
    (APIA, "0 */6 * * *", "2011-12-30T03:00", ["12-30 04:00", "12-30 10:00", "12-30 16:00"]),
    (APIA, "* * 30 12 *", "2011-01-01T00:00", ["12-29 10:00", "12-29 10:01"]),
]
BACK = [
    (BERLIN, "30 2 * * *", "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
    (BERLIN, "0 30 2 * * *", "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
    (BERLIN, "0 2,3 * * *", "2026-10-24T12:00", ["10-25 00:00", "10-25 02:00", "10-26 01:00"]),
    (BERLIN, "30 2 * * *", "2026-10-25T01:10", ["10-26 01:30"]),
    (
        BERLIN,
        "*/30 * * * *",
        "2026-10-25T00:00",
        ["10-25 00:30", "10-25 01:00", "10-25 01:30", "10-25 02:00"],
    ),
    (BERLIN, "0 */2 * * *", "2026-10-24T22:00", ["10-25 00:00", "10-25 01:00", "10-25 03:00"]),
    (
        BERLIN,
        "*/30 2 25 10 *",
        "2026-10-24T12:00",
        ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30"],
    ),
    (NEW_YORK, "30 1 * * *", "2026-10-31T12:00", ["11-01 05:30", "11-02 06:30"]),
    (NEW_YORK, "30 1,2 * * *", "2026-10-31T12:00", ["11-01 05:30", "11-01 07:30", "11-02 06:30"]),
    (NEW_YORK, "30 * * * *", "2026-11-01T04:45", ["11-01 05:30", "11-01 06:30", "11-01 07:30"]),
    (LORD_HOWE, "45 1 * * *", "2026-04-04T00:00", ["04-04 14:45", "04-05 15:15"]),
    (LORD_HOWE, "0 2 * * *", "2026-04-04T00:00", ["04-04 15:30", "04-05 15:30"]),
    (LORD_HOWE, "*/30 * * * *", "2026-04-04T14:00", ["04-04 14:30", "04-04 15:00", "04-04 15:30"]),
    (
        LORD_HOWE,
        "*/15 1 * * *",
        "2026-04-04T00:00",
        [
            "04-04 14:00",
            "04-04 14:15",
            "04-04 14:30",
            "04-04 14:45",
            "04-04 15:00",
            "04-04 15:15",
            "04-05 14:30",
        ],
    ),
    (LORD_HOWE, "0 * * * *", "2026-04-04T13:30", ["04-04 14:00", "04-04 15:30", "04-04 16:30"]),
    (AUCKLAND, "30 2 * * *", "2026-04-04T00:00", ["04-04 13:30", "04-05 14:30"]),
    (AUCKLAND, "0 3 * * *", "2026-04-04T00:00", ["04-04 15:00", "04-05 15:00"]),
    (
        AUCKLAND,
        "*/30 * * * *",
        "2026-04-04T13:00",
        ["04-04 13:30", "04-04 14:00", "04-04 14:30", "04-04 15:00"],
    ),
    (AUCKLAND, "0 */2 * * *", "2026-04-04T12:00", ["04-04 13:00", "04-04 14:00", "04-04 16:00"]),
    (SAO_PAULO, "30 23 * * *", "2018-02-17T12:00", ["02-18 01:30", "02-19 02:30"]),
    (SAO_PAULO, "0 0 * * *", "2018-02-17T12:00", ["02-18 03:00", "02-19 03:00"]),
]
NEVER_SHIFTED = [
    ("UTC", "0 9 * * *", "2026-03-28T12:00", ["03-29 09:00", "03-30 09:00"]),
    ("Asia/Tokyo", "0 9 * * *", "2026-03-28T12:00", ["03-29 00:00", "03-30 00:00"]),
    ("Asia/Kathmandu", "0 9 * * *", "2026-03-28T12:00", ["03-29 03:15", "03-30 03:15"]),
    ("Asia/Kathmandu", "0 * * * *", "2026-03-28T12:00", ["03-28 12:15", "03-28 13:15"]),
]


@pytest.mark.parametrize(("timezone", "expr", "begin", "expected"), FORWARD)
def test_a_time_that_the_clock_leaves_out_fires_at_the_shift(
    timezone: str, expr: str, begin: str, expected: list[str]
) -> None:
    assert fires(expr, timezone, begin, len(expected)) == expected


@pytest.mark.parametrize(("timezone", "expr", "begin", "expected"), BACK)
def test_a_time_that_comes_twice_fires_once_unless_it_is_periodic(
    timezone: str, expr: str, begin: str, expected: list[str]
) -> None:
    assert fires(expr, timezone, begin, len(expected)) == expected


@pytest.mark.parametrize(("timezone", "expr", "begin", "expected"), NEVER_SHIFTED)
def test_a_zone_without_shifts_is_a_matter_of_its_offset(
    timezone: str, expr: str, begin: str, expected: list[str]
) -> None:
    assert fires(expr, timezone, begin, len(expected)) == expected


@pytest.mark.parametrize(
    ("expr", "begin", "expected"),
    [
        ("0 0 29 2 *", "2026-01-01T00:00", ["2028-02-29", "2032-02-29"]),
        ("0 0 29 2 *", "2096-03-01T00:00", ["2104-02-29"]),
        ("0 0 L * *", "2028-01-31T00:00", ["2028-02-29", "2028-03-31", "2028-04-30"]),
        ("0 0 LW * *", "2026-01-01T00:00", ["2026-01-30", "2026-02-27"]),
        ("0 0 * * 5L", "2026-11-01T00:00", ["2026-11-27", "2026-12-25"]),
        ("0 0 * * 1#2", "2026-11-01T00:00", ["2026-11-09", "2026-12-14"]),
        ("0 0 * 2 MON#5", "2026-01-01T00:00", ["2044-02-29", "2072-02-29"]),
        # Both day fields count where one begins with a star, either where none does.
        ("0 0 13 * 5", "2026-11-01T00:00", ["2026-11-06", "2026-11-13", "2026-11-20"]),
        ("0 0 */13 * 5", "2026-11-01T00:00", ["2026-11-27", "2027-01-01"]),
        ("0 0 13 * */5", "2026-11-01T00:00", ["2026-11-13", "2026-12-13"]),
        ("0 0 30 2 MON", "2026-01-01T00:00", ["2026-02-02", "2026-02-09"]),
        ("0 0 * * sun", "2026-11-01T00:00", ["2026-11-08"]),
        ("0 0 * * 7", "2026-11-01T00:00", ["2026-11-08"]),
        ("0 0 1 jan,JUL *", "2026-11-01T00:00", ["2027-01-01", "2027-07-01"]),
        ("0 0 1 JUL/2 *", "2026-11-01T00:00", ["2027-07-01", "2027-09-01", "2027-11-01", "2028-07-01"]),
    ],
)
def test_the_day_fields_mean_what_they_mean_to_debians_cron(
    expr: str, begin: str, expected: list[str]
) -> None:
    second, found = seconds(begin), []
    for _ in expected:
        fire = cron_after(expr, "UTC", second)
        assert fire is not None
        second = fire
        found.append(datetime.fromtimestamp(fire, UTC).date().isoformat())
    assert found == expected


def test_seconds_are_the_first_of_six_fields() -> None:
    assert fires("*/25 0 12 * * *", "UTC", "2026-11-01T00:00", 4) == [
        "11-01 12:00",
        "11-01 12:00:25",
        "11-01 12:00:50",
        "11-02 12:00",
    ]


@pytest.mark.parametrize(("nickname", "expr"), NICKNAMES.items())
def test_a_nickname_is_short_for_an_expression(nickname: str, expr: str) -> None:
    assert fires(nickname, BERLIN, "2026-01-01T00:00", 3) == fires(expr, BERLIN, "2026-01-01T00:00", 3)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ("", "has 0 fields: give five"),
        ("* * * *", "has 4 fields: give five"),
        ("* * * * * * *", "has 7 fields: give five .* or six with the second"),
        ("60 * * * * *", "the second field '60'.* allowed are 0-59"),
        ("60 * * * *", "the minute field '60' of cron '60 .* allowed are 0-59"),
        ("*/0 * * * *", r"the minute field '\*/0'"),
        ("*/90 * * * *", r"the minute field '\*/90'.*a step is at most 60 here; .* every="),
        ("0 24 * * *", "the hour field '24'.* allowed are 0-23"),
        ("0 0 0 * *", "the day of month field '0'.* allowed are 1-31, L"),
        ("0 0 L/2 * *", "the day of month field 'L/2'.*take no step"),
        ("0 0 1,LW/2 * *", "the day of month field '1,LW/2'.*take no step"),
        ("0 0 1 13 *", "the month field '13'.* allowed are 1-12 or JAN-DEC"),
        ("0 0 1 JANUARY *", "the month field 'JANUARY'"),
        ("0 0 * * 8", "the day of week field '8'.* allowed are 0-7 or SUN-SAT"),
        ("0 0 * * FRI-MON", "the day of week field 'FRI-MON'"),
        ("0 0 * * 1#6", "the day of week field '1#6'"),
        ("0 0 * * L", "the day of week field 'L'"),
        ("0 0 ? * *", "the day of month field '\\?'"),
        ("0, 0 * * *", "the minute field '0,'"),
        ("-1 0 * * *", "the minute field '-1'"),
        ("0 0 31 2 *", "never fires: no year has such a day .day of month '31', month '2'"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6 *", "never fires"),
        ("0 0 30-31 2 */2", "never fires"),
        ("@reboot", "'@reboot' is not supported: give .* @hourly"),
        ("@every 5m", "'@every 5m' is not supported"),
        ("0 0 * * \u017fun", "printable ASCII"),  # this letter becomes an S in capitals
        ("0 0 * * \u0661", "printable ASCII"),  # a digit, elsewhere
        ("0 0 * *\n*", "printable ASCII"),
        ("0 0 * *\x1f*", "printable ASCII"),
        ("0\t0 * * *", "printable ASCII"),
        ("0 0 * * " + "1," * 1000, "cron has 2,008 characters, the limit is 1,000"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_field_named(expr: str, message: str) -> None:
    with pytest.raises(ScheduleValidationError, match=message):
        parse_cron(expr)


@given(st.text("0123456789*/,-#LW ?@AFIMNOR", max_size=30) | st.text(max_size=20))
def test_any_text_is_an_expression_that_fires_or_is_refused(text: str) -> None:
    try:
        parse_cron(text)
    except ScheduleValidationError:
        return
    assert cron_after(text, "UTC", 0) is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Europe/Berlni", r"'Europe/Berlni' is unknown \(did you mean .*Europe/Berlin"),
        ("europe/berlin", "did you mean Europe/Berlin"),
        ("Berlin", r"did you mean Europe/Berlin\?"),
        ("New York", r"did you mean America/New_York\?"),
        ("", "timezone '' is unknown: give a name of the IANA data base"),
        ("+05:00", "is unknown"),
        ("Europe", "is unknown"),
        ("../etc/passwd", "is unknown"),
        ("/usr/share/zoneinfo/UTC", "is unknown"),
        ("UTC\0", "is unknown"),
        ("\ud800", "is unknown"),
        ("localtime", "is unknown"),
        ("posix/UTC", "is unknown"),
        ("right/UTC", "is unknown"),
        ("x" * 100_000, "x'… is unknown"),
    ],
)
def test_an_unknown_zone_is_refused_with_those_that_are_near(name: str, message: str) -> None:
    with pytest.raises(ScheduleValidationError, match=message) as raised:
        load_zone(name)
    assert len(str(raised.value)) < 400


def test_zones_are_known_where_the_system_has_no_data() -> None:
    ask = "from fairque.core.cron import cron_after; print(cron_after('0 9 * * *', 'Europe/Berlin', 0))"
    bare = {**os.environ, "PYTHONTZPATH": ""}
    other = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, env=bare)
    assert int(other.stdout) == 8 * HOUR


# --- against a clock that is watched minute by minute -------------------------------------------------

STEP = 10 * DAY
ZONES = sorted(
    name for name in available_timezones() if not name.startswith(("Etc/", "localtime", "Factory"))
)


@cache
def shifts(name: str) -> list[int]:
    """Most of the zone's shifts from 1970 to 2040, each as a full hour up to an hour before it."""
    zone = ZoneInfo(name)

    def offset(second: int) -> timedelta | None:
        return datetime.fromtimestamp(second, zone).utcoffset()

    near = [at for at in range(0, 70 * 365 * DAY, STEP) if offset(at) != offset(at + STEP)]
    return [max(hour for hour in range(at, at + STEP, HOUR) if offset(hour) == offset(at)) for at in near]


@st.composite
def zones_and_shifts(draw: st.DrawFn) -> tuple[str, int]:
    name = draw(st.sampled_from(ZONES))
    assume(shifts(name))
    return name, draw(st.sampled_from(shifts(name)))


def values(size: int) -> st.SearchStrategy[tuple[str, set[int]]]:
    """A field as text, and the values it stands for."""
    every = st.just(("*", set(range(size))))
    stepped = st.integers(1, size).map(lambda step: (f"*/{step}", set(range(0, size, step))))
    listed = st.sets(st.integers(0, size - 1), min_size=1, max_size=4).map(
        lambda some: (",".join(map(str, some)), some)
    )
    return every | stepped | listed | listed


def watched(name: str, minutes: set[int], hours: set[int], seconds: range, *, is_periodic: bool) -> list[int]:
    """When it fires, by looking at the clock at every minute."""
    zone = ZoneInfo(name)
    fires, seen = [], set[datetime]()
    before = datetime.fromtimestamp(seconds[0] - MINUTE, zone).replace(tzinfo=None)
    for second in seconds:
        now = datetime.fromtimestamp(second, zone).replace(tzinfo=None, fold=0)
        left_out = 0 if is_periodic else int((now - before) / timedelta(minutes=1)) - 1
        shown = {now} | {now - timedelta(minutes=ago) for ago in range(1, left_out + 1)}
        new = shown if is_periodic else shown - seen
        if any(one.minute in minutes and one.hour in hours for one in new):
            fires.append(second)
        seen |= shown
        before = now
    return fires


@settings(deadline=None)
@given(zones_and_shifts(), values(60), values(24), st.integers(-DAY // MINUTE, 3 * HOUR // MINUTE))
def test_it_fires_when_one_who_watches_the_clock_would_say_so(
    where: tuple[str, int], minute: tuple[str, set[int]], hour: tuple[str, set[int]], more: int
) -> None:
    name, shift = where
    begin = shift + more * MINUTE
    assume(datetime.fromtimestamp(begin, ZoneInfo(name)).second == 0)  # Monrovia was off by seconds
    time = range(begin - 8 * HOUR, begin + 2 * DAY, MINUTE)  # no clock was put back by more
    is_periodic = "*" in {minute[0][0], hour[0][0]}
    expected = watched(name, minute[1], hour[1], time, is_periodic=is_periodic)
    found, fire = [], begin - 1
    while (fire := cron_after(f"{minute[0]} {hour[0]} * * *", name, fire) or time.stop) < time.stop:
        found.append(fire)
    assert found == [fire for fire in expected if fire >= begin]


FIELDS = [
    ["*", "0", "*/7", "59", "5,50"],
    ["*", "0", "30", "*/20", "1,59"],
    ["*", "2", "0,1,2,3,23", "*/5"],
]


@settings(deadline=None)
@given(zones_and_shifts(), st.randoms(use_true_random=False))
def test_fire_times_ascend_and_each_is_found_from_any_instant_before_it(
    where: tuple[str, int], chance: random.Random
) -> None:
    name, shift = where
    expr = " ".join([*map(chance.choice, FIELDS), "* * *"])
    second = shift - chance.randrange(2 * DAY)
    for _ in range(40):
        fire = cron_after(expr, name, second)
        assert fire is not None
        assert fire > second
        between = chance.randrange(second, fire)
        assert cron_after(expr, name, between) == fire
        second = fire if chance.random() < 0.8 else fire + chance.randrange(3600)
