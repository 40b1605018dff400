"""What the commands of `fairque schedule` share: opening a scheduler, and lines that show schedules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fairque.cli.options import configuration
from fairque.cli.showing import NONE, add_id, count, emit, plain, print_fitting, seconds, table
from fairque.core.exceptions import (
    ConfigurationError,
    DecodeError,
    ScheduleExistsError,
    ScheduleNotFoundError,
)

if TYPE_CHECKING:
    from rich.table import Table

    from fairque.core.schedule import Schedule
    from fairque.scheduler.scheduler import TaskScheduler

LONGEST_CALL = 200  # characters of a task's arguments in one line
TIMES = 5
# The least important one last: a narrow terminal has no room for it.
COLUMNS = ("next", "state", "when", "fired", "last")


@contextmanager
def open_schedules(config: Path | None, url: str | None, queue: str | None) -> Iterator[TaskScheduler]:
    """A scheduler that does not run; errors say what to type."""
    from fairque.scheduler.scheduler import TaskScheduler  # noqa: PLC0415 - --help and --version stay fast

    with TaskScheduler(configuration(config, url, queue)) as schedules:
        try:
            yield schedules
        except ScheduleExistsError as error:
            raise ConfigurationError(
                f"user {error.user_id!r} has another schedule {error.schedule_id!r}: --replace puts this one "
                "in its place"
            ) from None
        except ScheduleNotFoundError as error:
            raise ConfigurationError(
                f"user {error.user_id!r} has no schedule {error.schedule_id!r}: fairque schedule list shows "
                "those that there are"
            ) from None


def tell(found: Schedule, *, as_json: bool) -> None:
    """What became of a schedule, and when it fires next."""
    if as_json:
        emit(**schedule_row(found))
        return
    following = found.next_fire_time
    if following is None:
        then = "it does not fire" if found.active else "fairque schedule resume lets it fire"
    else:
        then = f"next {local(following, found.timezone)}{away(following)}"
    typer.echo(f"{named(found.user_id, found.schedule_id)} is {state_of(found)}: {then}")


def named(user_id: str, schedule_id: str) -> str:
    """A schedule by its name."""
    return f"schedule {plain(schedule_id)} of user {plain(user_id)}"


def state_of(schedule: Schedule) -> str:
    """Whether it fires."""
    if schedule.defect:
        return "unreadable"
    if not schedule.active:
        return "paused"
    if schedule.next_fire_time is None:
        return "ended"
    failed, fired = schedule.last_failed_at, schedule.last_fire_time
    return "failing" if failed and (fired is None or failed >= fired) else "active"


def schedule_row(schedule: Schedule) -> dict[str, Any]:
    """A schedule for machines; durations are seconds."""
    every, jitter = schedule.every, schedule.jitter
    return {
        "user_id": schedule.user_id,
        "schedule_id": schedule.schedule_id,
        "state": state_of(schedule),
        "cron": schedule.cron,
        "every": every and every.total_seconds(),
        "at": None if schedule.defect else schedule.at,
        "timezone": schedule.timezone,
        "start": schedule.start,
        "end": schedule.end,
        "jitter": jitter and jitter.total_seconds(),
        "task": schedule.task.function,
        "payload": _payload(schedule),
        **{
            name: getattr(schedule, name)
            for name in (
                *("catch_up", "max_catch_up", "overlap", "active", "metadata", "origin", "created_at"),
                *("next_fire_time", "last_fire_time", "last_task_id", "fired", "skipped"),
                *("failures", "last_error", "last_failed_at", "defect"),
            )
        },
    }


def _payload(schedule: Schedule) -> Any:
    try:
        return schedule.task.payload
    except DecodeError:  # a pickle, say
        return None


def when(schedule: Schedule) -> str:
    """When it fires, in few words."""
    if schedule.defect:
        return NONE
    if schedule.cron is not None:
        zone = "" if schedule.timezone == "UTC" else f" {schedule.timezone}"
        return schedule.cron + zone
    if schedule.every is not None:
        interval = f"{schedule.every.total_seconds():,.3f}".rstrip("0").rstrip(".")
        return f"every {interval} s"
    return "once"


def local(moment: datetime | None, timezone: str) -> str:
    """A time in a time zone."""
    from fairque.core.zones import load_zone  # noqa: PLC0415 - --help and --version stay fast

    if moment is None:
        return NONE
    here = moment.astimezone(load_zone(timezone))
    fraction = f".{here.microsecond // 1000:03d}" if here.microsecond else ""
    return f"{here:%Y-%m-%d %H:%M:%S}{fraction} {here:%Z}"


def print_schedules(schedules: Sequence[Schedule]) -> None:
    """A table of schedules, times in the zone of each."""
    cells = [
        {
            "when": plain(when(schedule)),
            "next": local(schedule.next_fire_time, schedule.timezone),
            "last": local(schedule.last_fire_time, schedule.timezone),
            "fired": f"{schedule.fired:,}",
            "state": state_of(schedule),
        }
        for schedule in schedules
    ]
    print_fitting(lambda shown: _table(schedules, cells, shown), COLUMNS)


def _table(schedules: Sequence[Schedule], cells: Sequence[dict[str, str]], shown: Sequence[str]) -> Table:
    from rich.text import Text  # noqa: PLC0415 - not needed for --json

    found = table("user")
    add_id(found, "id")
    names = [name for name in cells[0] if name in shown]
    for name in names:
        found.add_column(name, justify="right" if name == "fired" else "left", no_wrap=True)
    for schedule, row in zip(schedules, cells, strict=True):
        ids = Text(plain(schedule.user_id)), Text(plain(schedule.schedule_id))
        found.add_row(*ids, *(Text(row[name]) for name in names))
    return found


def lines_of(schedule: Schedule) -> Iterator[tuple[str, str]]:
    """What there is to say of a schedule, by name; nothing of what is at its default."""
    if schedule.defect:
        yield "unreadable", plain(schedule.defect)
        return
    timing, zone = when(schedule), schedule.timezone
    yield "when", plain(f"{timing}, {local(schedule.at, zone)}" if schedule.at else timing)
    yield "task", _call(schedule)
    yield from _limits(schedule)
    times = schedule.next_fire_times(TIMES) if schedule.next_fire_time else []
    for number, time in enumerate(times):
        yield "" if number else "next", f"{local(time, zone)}{'' if number else away(time)}"
    yield (
        "so far",
        f"{schedule.fired:,} fired, {schedule.skipped:,} skipped, {schedule.failures:,} failed",
    )
    if schedule.last_fire_time:
        yield "last", local(schedule.last_fire_time, zone)
    if schedule.last_task_id:
        yield "last task", plain(schedule.last_task_id)
    if schedule.last_error:
        yield "last error", f"{local(schedule.last_failed_at, zone)}: {plain(schedule.last_error)}"
    if schedule.metadata:
        yield "metadata", plain(json.dumps(dict(schedule.metadata), ensure_ascii=False))
    yield "added", f"{local(schedule.created_at, zone)}, by {_ORIGINS.get(schedule.origin, schedule.origin)}"


_ORIGINS = {"call": "a call, or fairque schedule", "code": "@task(cron=…)", "config": "a configuration"}


def _limits(schedule: Schedule) -> Iterator[tuple[str, str]]:
    zone, jitter = schedule.timezone, schedule.jitter
    if schedule.start:
        yield "start", local(schedule.start, zone)
    if schedule.end:
        yield "end", local(schedule.end, zone)
    if jitter:
        yield "jitter", f"less than {seconds(jitter.total_seconds())} late"
    most = f", at most the last {schedule.max_catch_up:,}" if schedule.catch_up == "all" else ""
    yield "catch up", f"{schedule.catch_up} of missed times{most}"
    if schedule.overlap == "skip":
        yield "overlap", "skip while the last task has not ended"


def _call(schedule: Schedule) -> str:
    """The task as one would write it."""

    def shown(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, default=str)

    task = schedule.task
    try:
        if task.function is None:
            text = f"for a handler, payload {shown(task.payload)}"
        else:
            args, kwargs = task.call_arguments()
            given = [*map(shown, args), *(f"{name}={shown(value)}" for name, value in kwargs.items())]
            text = f"{task.function}({', '.join(given)})"
    except DecodeError:
        text = f"{task.function or 'for a handler'}, with arguments that cannot be shown here"
    return plain(text if len(text) <= LONGEST_CALL else f"{text[:LONGEST_CALL]}…")


def away(moment: datetime) -> str:
    """How far away a time is, by the clock here."""
    left = (moment - datetime.now(UTC)).total_seconds()
    return f", in {seconds(round(left))}" if left >= 1 else ", now"


def more_than(limit: int) -> str:
    """That there are others."""
    return f"… and more than {count(limit, 'schedule')}: fairque schedule list --limit {10 * limit}"
