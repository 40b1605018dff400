"""How the scripts' replies read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import msgspec

from fairque.core.keys import GATE, split_member, unescape
from fairque.core.models import Priority, Task, TaskState, decode_record, decode_task
from fairque.core.records import Attempt, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

CLAIM_HEAD = 5  # values of the reply of claim.lua that come before its tasks
CRITICAL_BAND = 4_000_000_000_000_000  # as in includes/lane.lua


class Fate(IntEnum):
    """What a heartbeat learned of an attempt."""

    LOST = 0
    HELD = 1
    CANCELED = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim's tasks, and what to expect of the next one.

    Attributes:
        tasks: What was claimed.
        more: Whether somebody has more ready tasks.
        unfinished: Whether it spent its limit on expired tasks: the next claim goes on from there.
        pause: In how many seconds a scheduled task is due; None if there is none.
        advance: By how much it moved the virtual time of its shard's active users, on an average.
        alone: Whether the last task is one crash from poisoned: nothing should be started beside it.
    """

    tasks: tuple[Task[Any], ...]
    more: bool
    unfinished: bool
    pause: float | None
    advance: float
    alone: bool


def read_flags(reply: Any) -> list[bool]:
    """Ones and zeros."""
    return [flag == 1 for flag in reply]


def read_fates(reply: Any) -> list[Fate]:
    """The fates of heartbeats."""
    return [Fate(fate) for fate in reply]


def read_state(reply: Any) -> TaskState:
    """A state's name."""
    return TaskState(reply.decode())


def read_depended(reply: Any) -> tuple[TaskState, bool]:
    """The reply of depend.lua."""
    state, is_added = reply
    return read_state(state), is_added == 1


def read_cleaned(reply: Any) -> tuple[int, bool]:
    """The reply of cleanup.lua."""
    removed, is_more = reply
    return removed, is_more == 1


def read_states(reply: Any) -> list[TaskState | None]:
    """States' names; None for an unknown task."""
    return [None if state is None else read_state(state) for state in reply]


def read_results(reply: Any) -> list[tuple[TaskState | None, bytes | None]]:
    """The reply of results.lua."""
    return [(None if state is None else read_state(state), data) for state, data in groups(reply, 2)]


def read_members(reply: Any) -> list[tuple[str, str]]:
    """Members as (user_id, task_id)."""
    return [split_member(name) for name in reply]


@dataclass(frozen=True, slots=True)
class TaskReader:
    """Reads replies that hold tasks.

    Args:
        ageing_us: The queue's ageing per level of priority, in microseconds.
        unpickle: Whether pickled bodies may be read.
    """

    ageing_us: int
    unpickle: bool

    def claim(self, reply: Any, worker_id: str, lease_ms: int) -> Claim:
        """The reply of claim.lua."""
        pause, more, now, advance, alone = reply[:CLAIM_HEAD]
        expires = now + lease_ms
        tasks = [self._claimed(fields, worker_id, now, expires) for fields in groups(reply[CLAIM_HEAD:], 5)]
        return Claim(
            tuple(tasks),
            more=more >= 1,
            unfinished=more == 2,  # noqa: PLR2004 - as claim.lua says
            pause=None if pause < 0 else pause / 1000,
            advance=float(advance),
            alone=alone == 1,
        )

    def _claimed(self, fields: list[Any], worker_id: str, now: int, expires: int) -> Task[Any]:
        """One of a claim's tasks. It is made in one go: there are many of them."""
        name, attempt, claimed, failures, record = fields
        header, body, defect = decode_record(record)
        user_id, task_id = split_member(name)
        claim = claimed.decode()
        place = claim.partition(":")[0]
        run = Run(
            attempt=attempt,
            claim=claim,
            place=place,
            worker=worker_id,
            queued_at=self._queued_at(int(place), header.priority) if place else None,
            started_at=now,
            lease_expires_at=expires,
            failures=failures,
        )
        return Task(
            task_id=task_id,
            user_id=user_id,
            header=header,
            body=body,
            unpickle=self.unpickle,
            defect=defect,
            state=TaskState.STARTED,
            run=run,
        )

    def one(self, reply: Any, user_id: str, task_id: str) -> Task[Any]:
        """The reply of get.lua."""
        state_name, score, record, fields, blockers = reply
        state, at = TaskState(state_name.decode()), int(score)
        run = _run(fields)
        if state is TaskState.QUEUED:
            run = msgspec.structs.replace(run, place=str(at))
        elif state is TaskState.SCHEDULED:
            run = msgspec.structs.replace(run, due_at=at // 1000)
        elif state is TaskState.STARTED:
            run = msgspec.structs.replace(run, lease_expires_at=at)
        task = self._task(record, user_id, task_id, state, run)
        ids = (unescape(name.decode()) for name in blockers if not name.startswith(GATE))
        return msgspec.structs.replace(task, depends_on=tuple(ids))

    def failed(self, reply: Any) -> tuple[int, list[Task[Any]]]:
        """The reply of failed.lua: how many were looked at, and the tasks."""
        return reply[0], [
            self._task(record, *split_member(name), TaskState.FAILED, _run(fields))
            for name, record, fields in groups(reply[1:], 3)
        ]

    def _task(self, record: bytes, user_id: str, task_id: str, state: TaskState, run: Run) -> Task[Any]:
        task = decode_task(record, user_id, task_id, state=state, run=run, unpickle=self.unpickle)
        if not run.place:
            return task
        run = msgspec.structs.replace(run, queued_at=self._queued_at(int(run.place), task.header.priority))
        return msgspec.structs.replace(task, run=run)

    def _queued_at(self, place: int, priority: int) -> int:
        """When (ms) a task took its place: the inverse of `place_of` in includes/lane.lua."""
        if priority == Priority.CRITICAL:
            return (place + CRITICAL_BAND) // 1000
        return (place + (priority - 1) * self.ageing_us) // 1000


def _place(claim: str) -> str:
    """The place in its lane that a task was claimed from, as includes/fence.lua writes it."""
    return claim.partition(":")[0]


def _run(fields: list[bytes]) -> Run:
    """The fields of a run hash (field, value, …)."""
    stored = {name.decode(): value for name, value in groups(fields, 2)}
    claim = stored.get("claim", b"").decode()
    return Run(
        attempt=int(stored.get("attempt", 0)),
        claim=claim,
        place=_place(claim),
        worker=_text(stored.get("worker")),
        started_at=_whole(stored.get("started_at")),
        finished_at=_whole(stored.get("finished_at")),
        failures=int(stored.get("failures", 0)),
        crashes=int(stored.get("crashes", 0)),
        failure_type=_text(stored.get("failure_type")),
        error=_text(stored.get("error")),
        history=_decode_history(stored.get("history", b"[]")),
    )


_decode_history = msgspec.json.Decoder(tuple[Attempt, ...]).decode


def given_by(reply: Any) -> int:
    """How many tasks a reply of claim.lua holds."""
    return (len(reply) - CLAIM_HEAD) // 5


def gives_suspect(reply: Any) -> bool:
    """Whether the last of them is to run alone."""
    return bool(reply[CLAIM_HEAD - 1])


def groups(values: list[Any], size: int) -> Iterator[list[Any]]:
    """A flat reply in pieces."""
    return (values[i : i + size] for i in range(0, len(values), size))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _whole(value: bytes | None) -> int | None:
    return None if value is None else int(value)
