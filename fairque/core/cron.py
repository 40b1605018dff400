"""Cron expressions: what is allowed, and when they fire.

The fields are those of Debian's cron: minute, hour, day of month, month, day of week, and seconds before
them where there are six. Days match if both day fields do, as long as one of them begins with `*`; else if
either does. `L` is the last day of the month, `LW` its last working day, `5L` its last Friday and `1#2` its
second Monday.

Where the clock of the zone is put forward or back, the kind of expression decides, as in Debian's cron, but
exactly, and with six fields as with five:

- Neither the minute nor the hour field begins with `*`: the expression names times of the day, and each
  comes once a day. A time that the clock leaves out fires at the shift, with all others that it leaves out;
  one that the clock shows twice fires the first time only.
- One of them begins with `*`: the expression fires whenever the clock shows a time that matches. So
  `*/30 * * * *` goes on every half hour; `0 */2 * * *` may fire 1 or 3 hours after the last time, and twice
  at a time that the clock shows twice.
"""

from __future__ import annotations

import copy
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from cronsim import CronSim, CronSimError

from fairque.core.exceptions import ScheduleValidationError
from fairque.core.zones import find_shift, instants, load_zone, wall

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

LONGEST = 1000  # characters; every field as a full list stays below
SECOND = timedelta(seconds=1)

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_EPOCH = datetime.fromtimestamp(0, UTC).replace(tzinfo=None)
_STEP = re.compile(r"/(\d+)")
_STEP_OF_LAST = re.compile(r"(?<![A-Z])LW?/", re.IGNORECASE)


class _Field(NamedTuple):
    name: str
    values: int
    allowed: str


_FIELDS = (
    _Field("second", 60, "0-59"),
    _Field("minute", 60, "0-59"),
    _Field("hour", 24, "0-23"),
    _Field("day of month", 31, "1-31, L for the last day or LW for the last working day"),
    _Field("month", 12, "1-12 or JAN-DEC"),
    _Field(
        "day of week", 7, "0-7 or SUN-SAT (0 and 7 are Sunday), 5L for the last Friday, 1#2 the second Monday"
    ),
)
_FIVE, _SIX = 5, 6


class Cron(NamedTuple):
    """A parsed expression. `is_periodic` tells the two kinds apart."""

    times: CronSim
    is_periodic: bool

    def after(self, zone: ZoneInfo, second: int) -> int | None:
        """The first fire time later than `second`, or None if there is none within some 50 years."""
        return self._after_shown(zone, second) if self.is_periodic else self._after_named(zone, second)

    def _after_named(self, zone: ZoneInfo, second: int) -> int | None:
        here = wall(zone, second)
        first, _ = instants(zone, here)
        if first < second:  # the clock shows it again: all that comes twice has fired
            here = wall(zone, find_shift(zone, first, second) - 1)
        shown = self._next(here)
        if shown is None:
            return None
        first, again = instants(zone, shown)
        return first if first <= again else find_shift(zone, again, first)

    def _after_shown(self, zone: ZoneInfo, second: int) -> int | None:
        here = wall(zone, second)
        found = self._show(zone, here, second)
        _, again = instants(zone, here)
        if again > second:  # the clock will be put back soon, and what lies before `here` come again
            shift = find_shift(zone, second, again)
            later = self._show(zone, wall(zone, shift) - SECOND, shift - 1)
            found = min((fire for fire in (found, later) if fire is not None), default=None)
        return found

    def _show(self, zone: ZoneInfo, here: datetime, second: int) -> int | None:
        """When, after `second`, the clock shows the next time after `here` that it does show."""
        while (shown := self._next(here)) is not None:
            first, again = instants(zone, shown)
            if first <= again:
                return first if first > second else again
            here = wall(zone, find_shift(zone, again, first)) - SECOND
        return None

    def _next(self, here: datetime) -> datetime | None:
        times = copy.copy(self.times)  # parsed once; it only replaces its `dt`
        times.dt = here
        return next(times, None)


def check_cron(expr: str, timezone: str) -> None:
    """Accept an expression and a time zone.

    Raises:
        ScheduleValidationError: One of them is wrong.
    """
    parse_cron(expr)
    load_zone(timezone)


def cron_after(expr: str, timezone: str, second: int) -> int | None:
    """The first fire time later than `second`, in seconds since 1970 UTC, or None if there is none.

    Raises:
        ScheduleValidationError: The expression or the time zone is wrong.
    """
    return parse_cron(expr).after(load_zone(timezone), second)


@lru_cache(maxsize=10_000)
def parse_cron(expr: str) -> Cron:
    """Parse an expression, once for each text.

    Raises:
        ScheduleValidationError: A field is wrong, or it can never fire; the message names the field.
    """
    if len(expr) > LONGEST:
        raise ScheduleValidationError(f"cron has {len(expr):,} characters, the limit is {LONGEST:,}")
    # Other letters can turn into ours in capitals, and other blanks divide fields.
    if not expr.isascii() or not expr.isprintable():
        raise ScheduleValidationError(f"cron {expr!r} may hold printable ASCII characters only")
    fields = _fields(expr)
    for field, text in zip(_FIELDS, fields, strict=True):
        _check_field(field, text, expr)
    try:
        times = CronSim(" ".join(fields), _EPOCH)
        never = next(copy.copy(times), None) is None
    except CronSimError:
        never = True
    if never:
        raise ScheduleValidationError(
            f"cron {expr!r} never fires: no year has such a day (day of month {fields[3]!r}, month "
            f"{fields[4]!r}, day of week {fields[5]!r})"
        )
    return Cron(times, is_periodic="*" in {fields[1][0], fields[2][0]})


def _fields(expr: str) -> list[str]:
    """The six fields; the seconds are 0 where there are five."""
    if expr.startswith("@"):
        if expr not in NICKNAMES:
            raise ScheduleValidationError(
                f"cron {expr!r} is not supported: give five or six fields, or one of {', '.join(NICKNAMES)}"
            )
        expr = NICKNAMES[expr]
    fields = expr.split()
    if len(fields) not in {_FIVE, _SIX}:
        raise ScheduleValidationError(
            f"cron {expr!r} has {len(fields)} fields: give five (minute, hour, day of month, month, day of "
            "week), or six with the second before them"
        )
    return ["0"] * (_SIX - len(fields)) + fields


def _check_field(field: _Field, text: str, expr: str) -> None:
    why = _fault(field, text)
    if why is not None:
        raise ScheduleValidationError(f"the {field.name} field {text!r} of cron {expr!r} is wrong: {why}")


@lru_cache(maxsize=10_000)  # expressions differ, and most of their fields do not
def _fault(field: _Field, text: str) -> str | None:
    index = _FIELDS.index(field)
    try:
        CronSim(" ".join([*"*" * index, text, *"*" * (_SIX - 1 - index)]), _EPOCH)
    except CronSimError:
        return (
            f"allowed are {field.allowed}; * for all, a-b for a range, /n for every n-th of them, commas "
            "between several"
        )
    if any(int(step) > field.values for step in _STEP.findall(text)):
        return f"a step is at most {field.values} here; an interval of any length is every=…"
    if _STEP_OF_LAST.search(text):  # it would be passed over
        return "L and LW are one day, and take no step"
    return None
