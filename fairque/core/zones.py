"""Time zones: what the clock on the wall shows, and where it is put forward or back.

Instants are whole seconds since 1970 UTC, as a shift is never between two seconds. Two shifts of a zone are
taken to be more than a day apart.
"""

from __future__ import annotations

import difflib
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from fairque.core.exceptions import ScheduleValidationError

LONGEST_NAME = 100
NEAR = 0.6  # how alike names must be to be suggested, of 1
MOST_SUGGESTED = 3


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo:
    """The time zone of this name.

    Raises:
        ScheduleValidationError: There is none; the message suggests names that are near.
    """
    # Such names are files too: the machine's own zone, a placeholder, and copies, one with leap seconds.
    if len(name) <= LONGEST_NAME and not name.startswith(("localtime", "Factory", "posix", "right")):
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            pass
    shown = repr(name[:LONGEST_NAME]) + ("…" if len(name) > LONGEST_NAME else "")
    raise ScheduleValidationError(
        f"timezone {shown} is unknown{_near(name[:LONGEST_NAME])}: give a name of the IANA data base such as "
        "'UTC', 'Europe/Berlin' or 'Asia/Tokyo'"
    )


def _near(name: str) -> str:
    """` (did you mean …?)`, or nothing. The city alone is near, too."""
    names = {known.lower(): known for known in available_timezones() if not known.startswith("Etc/")}
    cities = [key for key in names if key.rpartition("/")[2] == name.lower().replace(" ", "_")]
    near = cities or difflib.get_close_matches(name.lower(), names, MOST_SUGGESTED, NEAR)
    shown = " or ".join(sorted(names[key] for key in near)[:MOST_SUGGESTED])
    return f" (did you mean {shown}?)" if shown else ""


def wall(zone: ZoneInfo, second: int) -> datetime:
    """What the clock shows, as a naive datetime."""
    return datetime.fromtimestamp(second, zone).replace(tzinfo=None, fold=0)


def instants(zone: ZoneInfo, shown: datetime) -> tuple[int, int]:
    """When the clock shows this: twice the same instant, as a rule.

    The first is the earlier one of a time that comes twice. It is the later one for a time that the clock
    leaves out: then neither shows it, and the shift lies between them, as `find_shift` takes it.
    """
    aware = shown.replace(tzinfo=zone)
    return int(aware.timestamp()), int(aware.replace(fold=1).timestamp())


def find_shift(zone: ZoneInfo, before: int, after: int) -> int:
    """The instant of the shift that lies after `before`, and at `after` at the latest."""
    offset = _offset(zone, after)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(zone, middle) == offset:
            after = middle
        else:
            before = middle
    return after


def _offset(zone: ZoneInfo, second: int) -> object:
    return datetime.fromtimestamp(second, zone).utcoffset()
