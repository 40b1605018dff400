"""Schedules as of the past: what a test would else have to wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from redis import Redis

from fairque.core.calls import Call, Flow
from fairque.core.schedule import Schedule, due_of, encode_definition, task_id_of
from fairque.core.timing import Timing
from fairque.queue.firing import Shot, member_of
from fairque.queue.queue import TaskQueue
from tests.support.actions import server_ms

GRACE = 1000  # milliseconds; the default of scheduler.misfire_grace


def key_of(root: str, schedule: Schedule) -> str:
    return f"{root}:schedule:{member_of(schedule)}"


def root_of(queue: TaskQueue, schedule: Schedule) -> str:
    return queue.commands.of(schedule.user_id).keys.root


def earlier(timing: Timing, milliseconds: int) -> Timing:
    """What does not depend on a calendar lies so much earlier."""
    names = ("at", "anchor", "start", "end")
    moved = {name: getattr(timing, name) for name in names if getattr(timing, name) is not None}
    return msgspec.structs.replace(timing, **{name: value - milliseconds for name, value in moved.items()})


def write(raw: Redis, root: str, schedule: Schedule) -> None:
    """Put the definition and the next fire time of a schedule over what the server has."""
    fire, due = due_of(schedule, schedule.progress.fire)
    raw.hset(key_of(root, schedule), "definition", encode_definition(schedule))
    if fire:
        raw.hset(key_of(root, schedule), "fire", fire)
        raw.zadd(f"{root}:schedules", {member_of(schedule): int(due)})


def go_back(raw: Redis, root: str, schedule: Schedule, seconds: float) -> Schedule:
    """As if it had been added so many seconds earlier, and nobody had fired it since."""
    milliseconds = round(seconds * 1000)
    fire = schedule.progress.fire
    if schedule.cron is not None:
        fire = schedule.timing.after(int(server_ms(raw)) - milliseconds)
    elif fire is not None:
        fire -= milliseconds
    changed = msgspec.structs.replace(
        schedule,
        timing=earlier(schedule.timing, milliseconds),
        progress=msgspec.structs.replace(schedule.progress, fire=fire),
    )
    write(raw, root, changed)
    return changed


def fire(queue: TaskQueue, grace: int = GRACE) -> list[Shot]:
    """Fire what is due in all shards, until nothing is."""
    shots: list[Shot] = []
    for shard in queue.commands.shards:
        while some := queue.run(shard.schedules.fire_due(grace))[0]:
            shots += some
    return shots


def pushed(shots: list[Shot]) -> int:
    return sum(shot.pushed or 0 for shot in shots)


def ids_of(schedule: Schedule, times: list[int]) -> list[str]:
    """The ids of the tasks for these fire times."""
    return [task_id_of(schedule, time) for time in times]


def task_ids(raw: Redis, root: str, user: str) -> list[str]:
    """The ids of a user's ready tasks, in order."""
    lane: list[bytes] = raw.zrange(f"{root}:lane:{user}", 0, -1)  # type: ignore[assignment]
    return [name.decode().replace("%3A", ":") for name in lane]


class Steps:
    """A flow that is driven by hand, one call after the other."""

    def __init__(self, queue: TaskQueue, flow: Flow[Any]) -> None:
        self._execute: Callable[[Call[Any]], Any] = queue.manager.execute
        self._flow = flow
        self.value: Any = None
        self.is_done = False
        self.call: Any = next(flow)

    def step(self) -> Any:
        """Carry out the next call; its reply."""
        reply = self._execute(self.call)
        try:
            self.call = self._flow.send(reply)
        except StopIteration as stop:
            self.value, self.is_done = stop.value, True
        return reply

    def finish(self) -> Any:
        """Carry out what is left; the flow's value."""
        while not self.is_done:
            self.step()
        return self.value
