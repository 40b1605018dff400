"""What a schedule that is due does, as values: the tasks it pushes, and when it fires next."""

from __future__ import annotations

from typing import Any

import msgspec

from fairque.core.keys import escape, member
from fairque.core.schedule import Schedule, due_of, fire_times, record_of, task_id_of
from fairque.utils.meanings import refusal_in

# Of one script, to bound how long the server is busy with it, and what it is sent.
MOST_TASKS = 200
MOST_BYTES = 1024 * 1024
AGAIN_MS = 60_000  # until a schedule is looked at again that could not be read


class Shot(msgspec.Struct, frozen=True):
    """What a schedule that is due is to do, and what became of it.

    Attributes:
        schedule: As it was seen.
        following: Its next fire time, and when that is due, as the scripts take them.
        tasks: Records by the ids of the tasks.
        problem: Why there are none; later, why they could not be pushed.
        pushed: How many were; None where somebody else was faster.
    """

    schedule: Schedule
    following: tuple[str, str]
    tasks: dict[str, bytes]
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
        given += (self.problem, len(self.tasks))
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
    if schedule.defect:
        return Shot(schedule, (str(schedule.progress.fire), str(now + AGAIN_MS)), {}, schedule.defect)
    times, last = fire_times(schedule, now, grace)
    most = min(MOST_TASKS, MOST_BYTES // (len(schedule.task.body or b"") + 1))
    times = times[: max(1, most)]  # the others follow: the next fire time is due then
    following = schedule.timing.after(times[-1] if times else last)
    tasks = {task_id_of(schedule, time): record_of(schedule, time, now) for time in times}
    return Shot(schedule, due_of(schedule, following), tasks)


def at_once(shots: list[Shot]) -> list[Shot]:
    """As many of the shots as one script takes: at least one."""
    number, size = 0, 0
    for place, shot in enumerate(shots):
        number, size = number + len(shot.tasks), size + shot.size
        if place and (number > MOST_TASKS or size > MOST_BYTES):
            return shots[:place]
    return shots


def explained(text: str) -> str:
    """What a script's refusal means, in words."""
    refusal = refusal_in(text)
    return text if refusal is None else str(refusal)


def member_of(schedule: Schedule) -> str:
    """The name of a schedule in the shard's sets."""
    return member(schedule.user_id, schedule.schedule_id)
