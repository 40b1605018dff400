"""When a schedule fires, as a value. All instants are integer milliseconds since 1970 UTC.

`every` is elapsed time and knows no time zones. What a cron expression does where the clock is put forward or
back stands in `core/cron.py`. Nothing fires before 1970 or more than 200 years after it.
"""

from __future__ import annotations

import hashlib
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Self

import msgspec

from fairque.core.exceptions import ScheduleValidationError, TaskValidationError
from fairque.core.units import LONGEST, Moment, Seconds, from_ms, moment_to_ms, to_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAST = int(LONGEST) * 1000  # the last instant there is
SHORTEST_EVERY = 100  # milliseconds

_LEAST = {"every": SHORTEST_EVERY, "at": 0, "anchor": 0, "start": 0, "end": 0, "jitter": 0}
_OPTIONS = {"cron": {"timezone", "start", "end"}, "every": {"anchor", "start", "end"}, "at": set[str]()}


class Timing(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a schedule fires: by a cron expression, at an interval, or once. It has one of cron, every and at.

    Attributes:
        cron: Five fields (minute, hour, day of month, month, day of week), six with the second before them,
            or `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`.
        every: The interval in milliseconds.
        at: The one instant.
        timezone: Whose clock `cron` means, as a name of the IANA data base.
        anchor: Where `every` counts from: the first time is one interval later. 1970 if not given.
        start: Nothing fires before it. `every` fires at it first and counts from it.
        end: Nothing fires after it.
        jitter: Up to how many milliseconds later than its time a run may start.

    Raises:
        ScheduleValidationError: A field is wrong; the message names it, its value and what is allowed.
    """

    cron: str | None = None
    every: int | None = None
    at: int | None = None
    timezone: str = "UTC"
    anchor: int | None = None
    start: int | None = None
    end: int | None = None
    jitter: int = 0

    def __post_init__(self) -> None:
        _check_types(self)
        _check_combination(self)
        if self.cron is not None:
            from fairque.core import cron  # noqa: PLC0415 - takes a while to load

            cron.check_cron(self.cron, self.timezone)

    @classmethod
    def create(
        cls,
        expr: str | None = None,
        *,
        every: Seconds | None = None,
        at: Moment | None = None,
        timezone: str = "UTC",
        start: Moment | None = None,
        end: Moment | None = None,
        jitter: Seconds | None = None,
    ) -> Self:
        """A timing in the units of callers: seconds or timedelta, aware datetime or seconds since 1970.

        Raises:
            ScheduleValidationError: An argument is wrong, or the timing would never fire.
        """
        timing = cls(
            cron=expr.strip() if isinstance(expr, str) else expr,
            every=_converted(to_ms, every, "every"),
            at=_converted(moment_to_ms, at, "at"),
            timezone=timezone,
            start=_converted(moment_to_ms, start, "start"),
            end=_converted(moment_to_ms, end, "end"),
            jitter=_converted(to_ms, jitter, "jitter") or 0,
        )
        if timing.after(-1) is None:
            raise ScheduleValidationError(f"cron {expr!r} never fires between start and end: widen them")
        return timing

    @classmethod
    def decode(cls, data: bytes | str) -> Self:
        """The timing that `encode` made.

        Raises:
            ScheduleValidationError: It is none, or not a valid one.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ScheduleValidationError(f"a stored timing cannot be read: {error}") from error

    def encode(self) -> bytes:
        """The timing as JSON, without what is at its default."""
        return msgspec.json.encode(self)

    def anchored(self, instant: int) -> Self:
        """An interval that counts from nowhere yet counts from `instant`; any other stays as it is."""
        if self.every is None or self.start is not None or self.anchor is not None:
            return self
        return msgspec.structs.replace(self, anchor=instant)

    def after(self, instant: int) -> int | None:
        """The first fire time later than `instant`, or None if there is none left."""
        instant = max(instant, -1 if self.start is None else self.start - 1)
        last = LAST if self.end is None else self.end
        if instant >= last:
            return None
        fire = self._after(instant)
        return None if fire is None or fire > last else fire

    def _after(self, instant: int) -> int | None:
        if self.at is not None:
            return self.at if self.at > instant else None
        if self.every is not None:
            base, first = self._base
            return base + self.every * max(first, (instant - base) // self.every + 1)
        from fairque.core import cron  # noqa: PLC0415 - see above

        second = cron.cron_after(str(self.cron), self.timezone, instant // 1000)
        return None if second is None else second * 1000

    @property
    def _base(self) -> tuple[int, int]:
        """Where `every` counts from, and with which number it begins."""
        if self.start is not None:
            return self.start, 0
        return (0, 0) if self.anchor is None else (self.anchor, 1)

    def next(self, instant: int, count: int) -> list[int]:
        """The first `count` fire times later than `instant`, or as many as are left."""
        return list(islice(self._walk(instant), max(count, 0)))

    def latest(self, since: int, until: int, count: int) -> list[int]:
        """The last `count` fire times from `since` to `until`, both included, in ascending order.

        It takes time by `count`, not by how many there are.
        """
        since = since if self.start is None else max(since, self.start)
        until = min(until, LAST if self.end is None else self.end)
        if count < 1:
            return []
        if self.every is not None:
            since = max(since, until - count * self.every)
        return self._latest(since, until, count)

    def _latest(self, since: int, until: int, count: int) -> list[int]:
        """Look for a window up to `until` that holds `count` fire times, and no more than twice as many."""
        too_many = 2 * count + 1
        start, low, high = since, since, until + 1
        while True:
            fires = list(islice(takewhile(until.__ge__, self._walk(start - 1)), too_many))
            if len(fires) == too_many:
                low, guess = start, until - (fires[-1] - fires[0]) * 3 // 4
            elif len(fires) < count and start > low:
                high, guess = start, until - 2 * (until - start)
            else:
                return fires[-count:]
            start = guess if low < guess < high else (low + high) // 2

    def _walk(self, instant: int) -> Iterator[int]:
        fire = self.after(instant)
        while fire is not None:
            yield fire
            fire = self.after(fire)

    def delay_of(self, fire: int, key: str) -> int:
        """How many milliseconds later the run of `fire` starts: below `jitter`, and the same everywhere."""
        if not self.jitter:
            return 0
        digest = hashlib.blake2b(f"{fire}:{key}".encode(errors="surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.jitter


def _check_types(timing: Timing) -> None:
    for name in ("cron", "timezone"):
        text = getattr(timing, name)
        if not isinstance(text, str) and not (text is None and name == "cron"):
            hint = "; an interval is every=…, an instant at=…" if name == "cron" else ""
            raise ScheduleValidationError(
                f"{name} must be a string, not {type(text).__name__}: {text!r}{hint}"
            )
    for name, least in _LEAST.items():
        value = getattr(timing, name)
        if value is None and name != "jitter":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LAST:
            raise ScheduleValidationError(
                f"{name} must be from {least} to {LAST:,} ms (200 years), not {value!r}"
            )


def _check_combination(timing: Timing) -> None:
    given = [name for name in _OPTIONS if getattr(timing, name) is not None]
    if len(given) != 1:
        raise ScheduleValidationError(
            f"give one of a cron expression, every and at, not {' and '.join(given) or 'none of them'}"
        )
    (kind,) = given
    for option in ("timezone", "anchor", "start", "end"):
        value = getattr(timing, option)
        if value not in {None, "UTC"} and option not in _OPTIONS[kind]:
            raise ScheduleValidationError(f"{option} {value!r} has no meaning with {kind}: leave it out")
    if timing.start is not None and timing.end is not None and timing.end < timing.start:
        raise ScheduleValidationError(
            f"end must not be before start: {from_ms(timing.end)} is before {from_ms(timing.start)}"
        )


def _converted(convert: Callable[[Any, str], int], value: Any, what: str) -> int | None:
    if value is None:
        return None
    try:
        return convert(value, what)
    except TaskValidationError as error:
        raise ScheduleValidationError(str(error)) from None
