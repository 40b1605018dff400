"""What a schedule that is due does, as values: the tasks it pushes, and when it fires next."""

from __future__ import annotations

from typing import Any

import msgspec

from fairque.core.keys import escape, member
from fairque.core.schedule import Schedule, due_of, fire_times, record_of, task_id_of
from fairque.utils.meanings import refusal_in

# Of one script, to bound how long the server is busy with it, and what it is sent.
MOST_TASKS = 200
MOST_BYTES = 4 * 1024 * 1024
AGAIN_MS = 60_000  # until a schedule is looked at again that could not be read


class Shot(msgspec.Struct, frozen=True):
    """What a schedule that is due is to do, and what became of it.

    Attributes:
        schedule: As it was seen.
        following: Its next fire time, and when that is due, as the scripts take them.
        tasks: Records by the ids of the tasks.
        last: The last fire time that is dealt with.
        problem: Why there are none; later, why they could not be pushed.
        pushed: How many were; None where somebody else was faster.
    """

    schedule: Schedule
    following: tuple[str, str]
    tasks: dict[str, bytes]
    last: int | None = None
    problem: str = ""
    pushed: int | None = 0

    @property
    def arguments(self) -> list[Any]:
        """Of fire.lua."""
        seen = self.schedule.progress
        fire = "" if seen.fire is None else str(seen.fire)
        given: list[Any] = [
            member_of(self.schedule),
            seen.revision,
            fire,
            self.schedule.overlap,
            *self.following,
        ]
        given += ("" if self.last is None else str(self.last), self.problem, len(self.tasks))
        for task_id, record in self.tasks.items():
            given += (escape(task_id), record)
        return given

    @property
    def size(self) -> int:
        """The bytes of its tasks."""
        return sum(map(len, self.tasks.values()))

    def hit(self, reply: int | bytes) -> Shot:
        """With what fire.lua said."""
        if isinstance(reply, bytes):
            return msgspec.structs.replace(self, problem=explained(reply.decode()))
        return msgspec.structs.replace(self, pushed=None if reply < 0 else reply)


def aim(schedule: Schedule, now: int, grace: int) -> Shot:
    """What a schedule that is due is to do.

    Args:
        schedule: As it was seen.
        now: The server's time, in milliseconds.
        grace: Milliseconds by which a fire time may be late before it counts as missed.
    """
    fire = schedule.progress.fire
    if schedule.defect:
        again = ("", "") if fire is None else (str(fire), str(now + AGAIN_MS))
        return Shot(schedule, again, {}, problem=schedule.defect)
    if fire is None or fire > now:  # spoilt by hand
        following = schedule.timing.after(now) if fire is None else fire
        return Shot(schedule, due_of(schedule, following), {}, problem="it was due without a fire time")
    times, last = fire_times(schedule, now, grace)
    if times:
        times = times[: _most_tasks(schedule)]  # the others follow: the next fire time is due then
        last = times[-1]
    tasks = {task_id_of(schedule, time): record_of(schedule, time, now) for time in times}
    return Shot(schedule, due_of(schedule, schedule.timing.after(last)), tasks, last)


def _most_tasks(schedule: Schedule) -> int:
    size = len(schedule.task.body or b"")
    return max(1, min(MOST_TASKS, MOST_BYTES // max(size, 1)))


def at_once(shots: list[Shot]) -> list[Shot]:
    """As many of the shots as one script takes: at least one."""
    tasks = size = 0
    for number, shot in enumerate(shots):
        tasks += len(shot.tasks)
        size += shot.size
        if number and (tasks > MOST_TASKS or size > MOST_BYTES):
            return shots[:number]
    return shots


def explained(text: str) -> str:
    """What a script's refusal means, in words."""
    refusal = refusal_in(text)
    return text if refusal is None else str(refusal)


def member_of(schedule: Schedule) -> str:
    """The name of a schedule in the shard's sets."""
    return member(schedule.user_id, schedule.schedule_id)
