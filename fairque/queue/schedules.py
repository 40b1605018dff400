"""Operations on schedules, as values. No I/O here."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from fairque.core.exceptions import (
    FairQueueError,
    ScheduleExistsError,
    ScheduleNotFoundError,
    ScheduleValidationError,
)
from fairque.core.ids import new_id
from fairque.core.keys import check_id, escape, split_member, unescape
from fairque.core.models import TaskState, decode_task
from fairque.core.records import Run
from fairque.core.schedule import (
    Progress,
    Schedule,
    are_alike,
    decode_schedule,
    due_of,
    encode_definition,
    record_of,
)
from fairque.queue import checks
from fairque.queue.base import Commands
from fairque.queue.batches import cut_by_size
from fairque.queue.firing import Shot, aim, at_once, explained, member_of
from fairque.queue.pushing import Receipt
from fairque.queue.replies import groups
from fairque.utils.meanings import refusal_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fairque.core.calls import Call, Flow
    from fairque.core.config import QueueConfig
    from fairque.core.models import Task
    from fairque.queue.commands import ShardCommands
    from fairque.queue.shards import QueueCommands

# Of one script, to bound how long the server is busy with it, and what a reply holds.
CHUNK = 100
PAGE_BYTES = 1024 * 1024

CHANGES = 20  # times that a schedule is read again because somebody else was faster

Change: TypeAlias = "Callable[[Schedule], Schedule]"


def add_all(commands: QueueCommands, schedules: Iterable[Schedule], *, replace: bool) -> Flow[list[Schedule]]:
    """Add schedules, each in its user's shard. Raises as `ScheduleCommands.add` does."""
    given = list(schedules)
    by_shard: dict[ShardCommands, list[int]] = defaultdict(list)
    for place, schedule in enumerate(given):
        if not isinstance(schedule, Schedule):
            raise ScheduleValidationError(f"add_schedules takes Schedules, not {type(schedule).__name__}")
        by_shard[commands.of(schedule.user_id)].append(place)
    refuse_twins(given)
    added: dict[int, Schedule] = {}
    for shard, places in by_shard.items():
        new = yield from shard.schedules.add([given[place] for place in places], replace=replace)
        added |= dict(zip(places, new, strict=True))
    return [added[place] for place in range(len(given))]


def list_all(
    commands: QueueCommands,
    *,
    user_id: str | None = None,
    active: bool | None = None,
    limit: int | None = None,
) -> Flow[list[Schedule]]:
    """Schedules, shard by shard, read in pages."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ScheduleValidationError(
            f"limit must be a whole number from 1 on, or None for all, not {limit!r}"
        )
    shards = commands.shards if user_id is None else [commands.of(user_id)]
    found: list[Schedule] = []
    for shard in shards:
        after = b""
        while True:
            after, page = yield shard.schedules.page(after, user_id)
            found += [schedule for schedule in page if active in (None, schedule.active)]
            if limit is not None and len(found) >= limit:
                return found[:limit]
            if not after:
                break
    return found


class ScheduleCommands(Commands):
    """The operations on the schedules of one shard.

    Args:
        config: The queue's settings.
        shard: The number of the shard.
        encode: The wire form of a task.
    """

    def __init__(self, config: QueueConfig, shard: int, encode: Callable[[Task[Any]], bytes]) -> None:
        super().__init__(config, shard)
        self._encode = encode
        self._fire_options = {"ageing_us": self._ageing_us, "max_queued": config.max_queued}

    @property
    def topic(self) -> str:
        """The channel that says when a schedule is due sooner than all before."""
        return f"{self._root}:schedules"

    # --- adding and changing ---

    def add(
        self, schedules: Sequence[Schedule], *, replace: bool = False, declared: bool = False
    ) -> Flow[list[Schedule]]:
        """Add schedules; those that are there and alike stay as they are.

        Args:
            schedules: Of users of this shard.
            replace: Put the others in place of what is there under their ids.
            declared: They are what code or a configuration says: they replace what is there, but what is
                paused stays so, and one may have ended.

        Raises:
            ScheduleExistsError: A different one is there, and `replace` is not given.
            ScheduleValidationError: One would never fire.
        """
        added: list[Schedule] = []
        encoded = [self._encoded(schedule) for schedule in schedules]
        sizes = [len(schedule.task.body or b"") for schedule in encoded]
        for run in cut_by_size(range(len(encoded)), sizes, most=CHUNK, most_bytes=PAGE_BYTES):
            chunk = [encoded[place] for place in run]
            added += yield from self._add_some(chunk, replace=replace, declared=declared)
        return added

    def _add_some(self, schedules: list[Schedule], *, replace: bool, declared: bool) -> Flow[list[Schedule]]:
        added: dict[int, Schedule] = {}
        for _ in range(CHANGES):
            open_ = [place for place in range(len(schedules)) if place not in added]
            now, found = yield self._get([member_of(schedules[place]) for place in open_])
            changes: dict[int, tuple[Schedule, Schedule | None]] = {}
            for place, known in zip(open_, found, strict=True):
                given = schedules[place]
                if known is not None and _is_same(known, given):
                    added[place] = known
                    continue
                if known is not None and not (replace or declared):
                    raise ScheduleExistsError(given.user_id, given.schedule_id)
                if known is not None and declared:
                    given = msgspec.structs.replace(given, active=known.active)
                new = _settled(given, known, now)
                if not declared:
                    _refuse_ended(new, known)
                changes[place] = new, known
            done = yield self._put(changes.values())
            added |= {
                place: new
                for (place, (new, _)), is_done in zip(changes.items(), done, strict=True)
                if is_done
            }
            if len(added) == len(schedules):
                return [added[place] for place in range(len(schedules))]
        raise _changing_all_the_time(schedules[0])

    def change(self, user_id: str, schedule_id: str, change: Change) -> Flow[Schedule]:
        """Put what `change` makes of a schedule in its place; it may be called several times.

        Raises:
            ScheduleNotFoundError: There is none.
            ScheduleValidationError: What is stored of it cannot be read.
        """
        for _ in range(CHANGES):
            now, known = yield from self._found(user_id, schedule_id)
            new = self._encoded(change(known))
            new = _settled(new, known, now)
            _refuse_ended(new, known)
            if (yield self._put([(new, known)]))[0]:
                return new
        raise _changing_all_the_time(known)

    def remove(self, user_id: str, schedule_id: str) -> Call[bool]:
        """Forget a schedule: whether it was there."""
        return self._call(
            "remove_schedule", (b"{}", checks.member_of(user_id, schedule_id, "schedule_id")), bool
        )

    def _encoded(self, schedule: Schedule) -> Schedule:
        """With its task as it is stored."""
        task = schedule.task
        if task.body is not None:
            return schedule
        body = self._encode(task).partition(b"\n")[2]
        return msgspec.structs.replace(schedule, task=msgspec.structs.replace(task, body=body))

    def _put(self, changes: Iterable[tuple[Schedule, Schedule | None]]) -> Call[list[bool]]:
        """Put schedules in the place of those that were seen."""
        args: list[Any] = [b"{}"]
        for new, known in changes:
            seen = known.progress if known else Progress()
            args += (member_of(new), seen.revision, "" if seen.fire is None else str(seen.fire))
            record = record_of(new, 0, 0)
            args += (new.progress.revision, encode_definition(new), record)
            args += (*due_of(new, new.progress.fire), new.progress.created_at)
        return self._call("put_schedules", args, lambda reply: [flag == 1 for flag in reply])

    # --- looking ---

    def get(self, user_id: str, schedule_id: str) -> Flow[Schedule]:
        """A schedule.

        Raises:
            ScheduleNotFoundError: There is none.
        """
        _, known = yield from self._found(user_id, schedule_id)
        return known

    def page(self, after: bytes, user_id: str | None) -> Call[tuple[bytes, list[Schedule]]]:
        """A page of the schedules, and where the next one begins (empty on the last)."""
        user = None if user_id is None else escape(check_id(user_id, "user_id"))
        options = self._options(limit=CHUNK, bytes=PAGE_BYTES, user=user)

        def read(reply: Any) -> tuple[bytes, list[Schedule]]:
            return reply[0], [self._read(name, fields) for name, fields in groups(reply[1:], 2)]

        return self._call("list_schedules", (options, after), read)

    def _found(self, user_id: str, schedule_id: str) -> Flow[tuple[int, Schedule]]:
        now, (known,) = yield self._get([checks.member_of(user_id, schedule_id, "schedule_id")])
        if known is None:
            raise ScheduleNotFoundError(user_id, schedule_id)
        return now, known

    def _get(self, members: Sequence[str]) -> Call[tuple[int, list[Schedule | None]]]:
        def read(reply: Any) -> tuple[int, list[Schedule | None]]:
            found = [
                fields and self._read(name.encode(), fields)
                for name, fields in zip(members, reply[1:], strict=True)
            ]
            return reply[0], found

        return self._call("get_schedules", (b"{}", *members), read)

    def _read(self, name: bytes, fields: list[bytes | None]) -> Schedule:
        user_id, schedule_id = split_member(name)
        revision, definition, record, fire, created, fired, last, task_id, skipped, failures, error, at = (
            fields
        )
        progress = Progress(
            revision=(revision or b"").decode(),
            fire=_whole(fire),
            created_at=_whole(created),
            fired=_whole(fired) or 0,
            last_fire=_whole(last),
            last_task=None if task_id is None else unescape(task_id.decode()),
            skipped=_whole(skipped) or 0,
            failures=_whole(failures) or 0,
            last_error=None if error is None else explained(error.decode()),
            last_failed_at=_whole(at),
        )
        task = decode_task(
            record or b"",
            user_id,
            new_id(),
            state=TaskState.SCHEDULED,
            run=Run(),
            unpickle=self._reader.unpickle,
        )
        header = msgspec.structs.replace(task.header, schedule=None, fire_time=None, created_at=0)
        task = msgspec.structs.replace(task, header=header, state=None)
        return decode_schedule(definition or b"", schedule_id, task, progress)

    # --- firing ---

    def fire_due(self, grace: int) -> Flow[tuple[list[Shot], float | None]]:
        """Fire what is due. Returns what became of each, and the seconds until more is due (None for never).

        Args:
            grace: Milliseconds by which a fire time may be late before it counts as missed.
        """
        options = self._options(limit=CHUNK, bytes=PAGE_BYTES)
        now, pause, due = yield self._call("due_schedules", (options,), self._read_due)
        shots = [aim(schedule, now, grace) for schedule in due]
        done: list[Shot] = []
        while shots:
            some = at_once(shots)
            shots = shots[len(some) :]
            args: list[Any] = [self._options(**self._fire_options)]
            for shot in some:
                args += shot.arguments
            replies = yield self._call("fire", args, list)
            done += [shot.hit(reply) for shot, reply in zip(some, replies, strict=True)]
        return done, pause

    def fire_by_hand(self, user_id: str, schedule_id: str) -> Flow[Receipt]:
        """Push a schedule's task now, besides its fire times, also while it is paused.

        Raises:
            ScheduleNotFoundError: There is none.
            QueueFullError: The user, or the queue, may not have more waiting tasks.
        """
        options = self._options(**self._fire_options, by_hand=True)
        name = f"{schedule_id}@{new_id()}"
        for _ in range(CHANGES):
            now, known = yield from self._found(user_id, schedule_id)
            if known.defect:
                raise ScheduleValidationError(known.defect)
            shot = Shot(known, ("", ""), {name: record_of(known, now, now)})
            reply = yield self._call("fire", (options, *shot.arguments), lambda reply: reply[0])
            if isinstance(reply, bytes):
                raise refusal_in(reply.decode()) or ScheduleValidationError(reply.decode())
            if reply >= 0:
                task = msgspec.structs.replace(known.task, task_id=name)
                return Receipt(task, created=True)
        raise _changing_all_the_time(known)

    def _read_due(self, reply: Any) -> tuple[int, float | None, list[Schedule]]:
        now, pause, *due = reply
        schedules = [self._read(name, fields) for name, fields in groups(due, 2)]
        return now, None if pause < 0 else pause / 1000, schedules


def _is_same(known: Schedule, given: Schedule) -> bool:
    """Whether the schedule that is there is the one given, however often it has fired."""
    return (
        not known.defect
        and are_alike(known, given)
        and (known.task.header, known.task.body) == (given.task.header, given.task.body)
    )


def _settled(given: Schedule, known: Schedule | None, now: int) -> Schedule:
    """The schedule as it is put on the server: when it fires next, and from when on it counts.

    Where its times stay the same it goes on from where it was.
    """
    if known is not None and not known.defect and given.has_timing_of(known):
        timing, goes_on = known.timing, known.active
    else:
        timing, goes_on = given.timing.anchored(_anchor(given, known) or now), False
    progress = known.progress if known else Progress()
    fire = progress.fire if goes_on else timing.after(now)
    fire = fire if given.active else None
    created = now if progress.created_at is None else progress.created_at
    progress = msgspec.structs.replace(progress, revision=new_id(), fire=fire, created_at=created)
    return msgspec.structs.replace(given, timing=timing, progress=progress)


def _anchor(given: Schedule, known: Schedule | None) -> int | None:
    """Where an interval that stays counts from, whatever else of its times changes."""
    return known.timing.anchor if known is not None and given.every == known.every else None


def refuse_twins(schedules: Sequence[Schedule]) -> None:
    """Of two with one id only one can be there."""
    seen: set[tuple[str, str]] = set()
    for schedule in schedules:
        name = schedule.user_id, schedule.schedule_id
        if name in seen:
            raise ScheduleValidationError(f"schedule {name[1]!r} of user {name[0]!r} is given twice")
        seen.add(name)


def _refuse_ended(schedule: Schedule, known: Schedule | None) -> None:
    """One whose times are those that were there may have come to its end."""
    if known is not None and schedule.has_timing_of(known):
        return
    if schedule.active and schedule.progress.fire is None:
        raise ScheduleValidationError(
            f"schedule {schedule.schedule_id!r} would never fire: its at, or its end, has passed by the "
            "server's clock"
        )


def _changing_all_the_time(schedule: Schedule) -> FairQueueError:
    return ScheduleValidationError(
        f"schedule {schedule.schedule_id!r} of user {schedule.user_id!r} is being changed all the time: "
        "try again"
    )


def _whole(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None
