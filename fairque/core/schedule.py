"""Schedules: what is pushed again and again, when, and how it went so far. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from fairque.core.exceptions import ScheduleValidationError, TaskValidationError
from fairque.core.header import encode_header
from fairque.core.ids import new_id
from fairque.core.keys import check_id
from fairque.core.models import Task
from fairque.core.timing import Timing
from fairque.core.units import Moment, Seconds, from_ms, moment_to_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

CatchUp: TypeAlias = Literal["latest", "all", "none"]
Overlap: TypeAlias = Literal["allow", "skip"]

LONGEST_ID = 230  # characters: the ids of its tasks are longer by the fire time
MOST_CAUGHT_UP = 10_000
LARGEST_METADATA = 65_536  # bytes
MOST_TIMES = 10_000  # that next_fire_times gives


class Progress(msgspec.Struct, frozen=True):
    """What a schedule has done so far. Times are the server's, in milliseconds."""

    revision: str = ""
    fire: int | None = None
    created_at: int | None = None
    fired: int = 0
    last_fire: int | None = None
    last_task: str | None = None
    skipped: int = 0
    failures: int = 0
    last_error: str | None = None
    last_failed_at: int | None = None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A task that is pushed at certain times, for one user. Immutable; a scheduler adds and changes it.

    Attributes:
        schedule_id: Unique within the user.
        timing: When it fires.
        task: What it pushes, under ids of its own.
        catch_up: What becomes of fire times at which no scheduler was there: `latest` makes up for the last
            of them, `all` for each, `none` for none.
        max_catch_up: With `all`, how many of the last ones at the most.
        overlap: `skip` pushes nothing while the last task it has pushed has not ended.
        active: Whether it fires.
        metadata: The caller's own, as JSON has it.
        origin: Where it was declared: by a `call`, in `code` (`@task(cron=…)`), or in a `config`.
        progress: What it has done so far.
        defect: Why it cannot fire: what is stored of it cannot be read.
    """

    schedule_id: str
    timing: Timing
    task: Task[Any]
    catch_up: CatchUp = "latest"
    max_catch_up: int = 100
    overlap: Overlap = "allow"
    active: bool = True
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)
    origin: str = "call"
    progress: Progress = Progress()
    defect: str | None = None

    @classmethod
    def create(
        cls,
        expr: str | None,
        task: Task[Any] | None,
        *,
        every: Seconds | None = None,
        at: Moment | None = None,
        user_id: str | None = None,
        timezone: str = "UTC",
        schedule_id: str | None = None,
        catch_up: CatchUp = "latest",
        max_catch_up: int = 100,
        jitter: Seconds | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        overlap: Overlap = "allow",
        active: bool = True,
        metadata: Mapping[str, Any] | None = None,
        origin: str = "call",
    ) -> Schedule:
        """A schedule that is not added yet. Parameters as for `TaskScheduler.add_schedule`.

        Raises:
            ScheduleValidationError: A value is out of its range; the message names it.
        """
        if isinstance(expr, Task):
            raise ScheduleValidationError(
                "expr is a Task: give the cron expression first, or the task by name: "
                "add_schedule(task=…, every=…)"
            )
        return cls(
            schedule_id=_check_schedule_id(schedule_id),
            timing=Timing.create(
                expr, every=every, at=at, timezone=timezone, start=start, end=end, jitter=jitter
            ),
            task=_check_task(task, user_id),
            catch_up=_one_of("catch_up", catch_up, ("latest", "all", "none")),
            max_catch_up=_whole("max_catch_up", max_catch_up, MOST_CAUGHT_UP),
            overlap=_one_of("overlap", overlap, ("allow", "skip")),
            active=_switch("active", active),
            metadata=_check_metadata(metadata),
            origin=origin,
        )

    def changed(self, **changes: Any) -> Schedule:
        """A copy with other settings, by the names of `create`'s parameters.

        Raises:
            ScheduleValidationError: One is unknown or out of its range; the message names it.
        """
        if self.defect:
            raise ScheduleValidationError(
                f"schedule {self.schedule_id!r} cannot be changed: {self.defect}; add_schedule with "
                "replace=True puts a whole one in its place"
            )
        unknown = sorted(changes.keys() - _CHANGEABLE)
        if unknown:
            raise ScheduleValidationError(
                f"a schedule has no {unknown[0]!r} to change: change one of {', '.join(sorted(_CHANGEABLE))}"
            )
        timing = self.timing
        settings: dict[str, Any] = {
            "expr": timing.cron,
            "every": self.every,
            "at": self.at,
            "timezone": timing.timezone,
            "start": self.start,
            "end": self.end,
            "jitter": self.jitter,
            "task": self.task,
        }
        if changes.keys() & _TIMES:
            settings |= dict.fromkeys(_TIMES)
            # What has no meaning with the new times goes with the old ones.
            settings |= {} if changes.get("expr") else {"timezone": "UTC"}
            settings |= {} if changes.get("at") is None else {"start": None, "end": None}
        kept = {name: getattr(self, name) for name in _SETTINGS}
        new = Schedule.create(
            **(settings | kept | changes),
            schedule_id=self.schedule_id,
            user_id=self.user_id,
            origin=self.origin,
        )
        if new.has_timing_of(self):
            new = msgspec.structs.replace(new, timing=self.timing)
        return msgspec.structs.replace(new, progress=self.progress)

    def has_timing_of(self, other: Schedule) -> bool:
        """Whether both fire at the same times, wherever an interval counts from."""
        return _unanchored(self.timing) == _unanchored(other.timing)

    # --- what it is ---

    @property
    def user_id(self) -> str:
        """Whose task it pushes."""
        return self.task.user_id or ""

    @property
    def cron(self) -> str | None:
        """Its cron expression, if it has one."""
        return self.timing.cron

    @property
    def every(self) -> timedelta | None:
        """Its interval, if it has one."""
        return None if self.timing.every is None else timedelta(milliseconds=self.timing.every)

    @property
    def at(self) -> datetime | None:
        """When it fires, if it does so once."""
        return from_ms(self.timing.at)

    @property
    def timezone(self) -> str:
        """The time zone of its cron expression."""
        return self.timing.timezone

    @property
    def start(self) -> datetime | None:
        """Before this it does not fire."""
        return from_ms(self.timing.start)

    @property
    def end(self) -> datetime | None:
        """After this it does not fire."""
        return from_ms(self.timing.end)

    @property
    def jitter(self) -> timedelta | None:
        """By how much less than this it may be late, so that not all fire at once."""
        return timedelta(milliseconds=self.timing.jitter) if self.timing.jitter else None

    def next_fire_times(self, n: int = 1, *, after: Moment | None = None) -> list[datetime]:
        """Its next fire times, without jitter: at most `n`, fewer where it ends before.

        Args:
            n: How many.
            after: From when on; if not given, from where it is, or for one that is not added, from now on.
        """
        count = _whole("n", n, MOST_TIMES)
        if after is not None:
            times = self.timing.next(moment_to_ms(after, "after"), count)
        elif self.progress.fire is not None:
            times = [self.progress.fire, *self.timing.next(self.progress.fire, count - 1)]
        elif self.progress.revision:
            times = []
        else:
            times = self.timing.next(round(datetime.now(UTC).timestamp() * 1000), count)
        return [datetime.fromtimestamp(time / 1000, UTC) for time in times]

    # --- what happened to it ---

    @property
    def next_fire_time(self) -> datetime | None:
        """When it fires next, without jitter; None for one that is paused, has ended, or is not added."""
        return from_ms(self.progress.fire)

    @property
    def created_at(self) -> datetime | None:
        """When it was added, by the server's clock."""
        return from_ms(self.progress.created_at)

    @property
    def fired(self) -> int:
        """How many tasks it has pushed."""
        return self.progress.fired

    @property
    def skipped(self) -> int:
        """How many tasks it has not pushed because the last one had not ended."""
        return self.progress.skipped

    @property
    def last_fire_time(self) -> datetime | None:
        """The last fire time that was dealt with."""
        return from_ms(self.progress.last_fire)

    @property
    def last_task_id(self) -> str | None:
        """The id of the last task it has pushed."""
        return self.progress.last_task

    @property
    def failures(self) -> int:
        """How many times it could not push."""
        return self.progress.failures

    @property
    def last_error(self) -> str | None:
        """Why it could not push, the last time."""
        return self.progress.last_error

    @property
    def last_failed_at(self) -> datetime | None:
        """When that was, by the server's clock."""
        return from_ms(self.progress.last_failed_at)


_SETTINGS = ("catch_up", "max_catch_up", "overlap", "active", "metadata")
_TIMES = {"expr", "every", "at"}
_CHANGEABLE = {*_SETTINGS, *_TIMES, "task", "timezone", "start", "end", "jitter"}


class Definition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is stored of a schedule besides its task and its progress."""

    timing: Timing
    catch_up: CatchUp = "latest"
    max_catch_up: int = 100
    overlap: Overlap = "allow"
    active: bool = True
    metadata: dict[str, Any] = {}
    origin: str = "call"


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Definition).decode


def encode_definition(schedule: Schedule) -> bytes:
    """The wire form of what a schedule is, without its task."""
    return _encode(
        Definition(
            timing=schedule.timing,
            catch_up=schedule.catch_up,
            max_catch_up=schedule.max_catch_up,
            overlap=schedule.overlap,
            active=schedule.active,
            metadata=dict(schedule.metadata),
            origin=schedule.origin,
        )
    )


def decode_schedule(text: bytes, schedule_id: str, task: Task[Any], progress: Progress) -> Schedule:
    """The schedule of a wire form. What cannot be read has a `defect`: it must not stand in others' way."""
    try:
        stored = _decode(text)
    except (msgspec.MsgspecError, TaskValidationError) as error:
        defect = f"what is stored of the schedule cannot be read: {error}"
        never = Timing(at=0)
        return Schedule(schedule_id=schedule_id, timing=never, task=task, progress=progress, defect=defect)
    settings = {name: getattr(stored, name) for name in (*_SETTINGS, "timing", "origin")}
    return Schedule(**settings, schedule_id=schedule_id, task=task, progress=progress, defect=task.defect)


def are_alike(one: Schedule, other: Schedule) -> bool:
    """Whether two schedules of one id mean the same; whether they are active does not count."""
    return (
        one.has_timing_of(other)
        and all(getattr(one, name) == getattr(other, name) for name in _SETTINGS if name != "active")
        and one.origin == other.origin
    )


# --- firing ---


def fire_times(schedule: Schedule, now: int, grace: int) -> tuple[list[int], int]:
    """The fire times that a schedule which is due makes up for at `now`, and the last one that is dealt with.

    Args:
        schedule: It has a next fire time.
        now: The server's time, in milliseconds.
        grace: Milliseconds by which a fire time may be late before it counts as missed.
    """
    first = schedule.progress.fire or 0
    if schedule.catch_up == "all":
        times = _latest_due(schedule, first, now, schedule.max_catch_up)
    elif _is_in_time(schedule, first, now, grace):
        times = [first]  # and the next one after it
    else:
        times = _latest_due(schedule, first, now, 1)
    if schedule.catch_up == "none" and not _is_in_time(schedule, times[-1], now, grace):
        return [], times[-1]
    return times, times[-1]


def _is_in_time(schedule: Schedule, fire: int, now: int, grace: int) -> bool:
    """Its jitter may let any run be so late, and one that is held back may hold back others."""
    return now - fire <= schedule.timing.jitter + grace


def _latest_due(schedule: Schedule, first: int, now: int, count: int) -> list[int]:
    """The last `count` fire times that are due; one that its jitter holds back holds back what follows it."""
    timing = schedule.timing
    for until in (now, now - timing.jitter):
        times = timing.latest(first, until, count)
        due = list(takewhile(lambda time: _due(schedule, time) <= now, times))
        if due:
            return due
    return [first]


def _due(schedule: Schedule, fire: int) -> int:
    key = f"{schedule.user_id}:{schedule.schedule_id}"
    return fire + schedule.timing.delay_of(fire, key)


def due_of(schedule: Schedule, fire: int | None) -> tuple[str, str]:
    """A fire time and when it is due, as the scripts take them."""
    return ("", "") if fire is None else (str(fire), str(_due(schedule, fire)))


def task_id_of(schedule: Schedule, fire: int) -> str:
    """The id of the task for a fire time: whoever pushes it, it is the same."""
    moment = datetime.fromtimestamp(fire / 1000, UTC)
    fraction = f".{fire % 1000:03d}" if fire % 1000 else ""
    return f"{schedule.schedule_id}@{moment:%Y%m%dT%H%M%S}{fraction}Z"


def record_of(schedule: Schedule, fire: int, created_at: int) -> bytes:
    """The wire form of the task for a fire time."""
    header = msgspec.structs.replace(
        schedule.task.header, schedule=schedule.schedule_id, fire_time=fire, created_at=created_at
    )
    return encode_header(header) + b"\n" + (schedule.task.body or b"")


# --- what is allowed ---


def _unanchored(timing: Timing) -> Timing:
    return msgspec.structs.replace(timing, anchor=None)


def _check_schedule_id(given: str | None) -> str:
    if given is None:
        return new_id()
    try:
        check_id(given, "schedule_id")
    except TaskValidationError as error:
        raise ScheduleValidationError(str(error)) from None
    if len(given) > LONGEST_ID:
        raise ScheduleValidationError(
            f"schedule_id has {len(given)} characters, the limit is {LONGEST_ID}: {given[:40]!r}…"
        )
    return given


def _check_task(task: object, user_id: str | None) -> Task[Any]:
    if not isinstance(task, Task):
        raise ScheduleValidationError(
            f"a schedule pushes one Task, not {type(task).__name__}: call the task function, or "
            "Task.create(…); for a pipeline, schedule a task that pushes it"
        )
    if user_id is not None:
        try:
            task = task.with_options(user_id=user_id)
        except TaskValidationError as error:
            raise ScheduleValidationError(str(error)) from None
    if task.user_id is None:
        raise ScheduleValidationError("the task has no user: give user_id, or task.with_options(user_id=…)")
    for has_it, what, advice in _cannot_be_scheduled(task):
        if has_it:
            raise ScheduleValidationError(f"a scheduled task cannot have {what}: {advice}")
    return task


def _cannot_be_scheduled(task: Task[Any]) -> Iterable[tuple[bool, str, str]]:
    header = task.header
    yield task.has_own_id, "a task_id of its own", "each of its tasks has one by its fire time"
    yield (
        header.execute_after is not None,
        "execute_after",
        "the schedule says when it runs; delay adds to that",
    )
    yield header.expires_at is not None, "expires_at", "it would hold for the first of its tasks only"
    links = bool(task.depends_on or task.pulls or (task.body is None and task.inputs()))
    yield links, "dependencies", "schedule a task that pushes the others"


def _one_of(what: str, given: object, allowed: tuple[str, ...]) -> Any:
    if given not in allowed:
        raise ScheduleValidationError(f"{what} must be one of {', '.join(allowed)}, not {given!r}")
    return given


def _whole(what: str, given: object, most: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= most:
        raise ScheduleValidationError(f"{what} must be a whole number from 1 to {most:,}, not {given!r}")
    return given


def _switch(what: str, given: object) -> bool:
    if not isinstance(given, bool):
        raise ScheduleValidationError(f"{what} must be True or False, not {given!r}")
    return given


def _check_metadata(given: object) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ScheduleValidationError(f"metadata must be a mapping, not {type(given).__name__}: {given!r}")
    try:
        text = msgspec.json.encode(dict(given))
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError) as error:
        raise ScheduleValidationError(f"metadata cannot be carried as JSON: {error}") from None
    if len(text) > LARGEST_METADATA:
        raise ScheduleValidationError(f"metadata has {len(text):,} bytes, the limit is {LARGEST_METADATA:,}")
    return msgspec.json.decode(text, type=dict[str, Any])
