"""Pushing tasks, batches and pipelines, as values: all is checked before the first call."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from fairque.core.composable import Composable
from fairque.core.exceptions import BatchError, EncodeError, FairQueueError, TaskValidationError
from fairque.core.keys import check_id, escape
from fairque.core.models import Task, encode_task, naming_outputs
from fairque.core.outputs import OutputFound
from fairque.core.registry import registry
from fairque.queue import replies
from fairque.queue.base import Commands
from fairque.queue.batches import Part, parts_of, rest_by_user
from fairque.queue.checks import Missing, check_missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fairque.core.calls import Call, Flow
    from fairque.core.config import QueueConfig


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a push: the task with its user, and whether it is new."""

    task: Task[Any]
    created: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks with their user, and the calls that push them, in rounds.

    The first round says whether there is room for all. Calls of one round may be under way at once.
    """

    tasks: Sequence[Task[Any]]
    pushes: Sequence[Sequence[tuple[Sequence[int], Call[list[bool]]]]]  # the places of a call's tasks, and it

    @property
    def calls(self) -> list[Call[list[bool]]]:
        """All calls, in order."""
        return [call for pushes in self.pushes for _, call in pushes]

    @property
    def rounds(self) -> list[list[Call[list[bool]]]]:
        """The calls that may be under way at once."""
        return [[call for _, call in pushes] for pushes in self.pushes]

    def created(self, replies: Iterable[list[bool]]) -> list[bool]:
        """Whether each task is new, by the replies to all calls in order."""
        flags = [False] * len(self.tasks)
        all_places = [places for pushes in self.pushes for places, _ in pushes]
        for places, reply in zip(all_places, replies, strict=True):
            for place, flag in zip(places, reply, strict=True):
                flags[place] = flag
        return flags


class PushCommands(Commands):
    """The operations that bring tasks."""

    def __init__(self, config: QueueConfig, shard: int = 0) -> None:
        super().__init__(config, shard)
        self._plain_options = self._options(ageing_us=self._ageing_us, max_queued=config.max_queued)

    def push(self, task: Task[Any], options: dict[str, Any], missing: Missing | None) -> Flow[Receipt]:
        """Push one task; `options` as for `Task.with_options`, none of them None."""
        prepared, record = self._ready(task, options)
        check_missing(missing)
        if not prepared.depends_on:
            flags = yield self._push_call([prepared], [record], self._plain_options)
            return Receipt(prepared, flags[0])
        together, in_order = parts_of([prepared], [len(record)])
        created: list[bool] = []
        for part in together + in_order:  # several only if it depends on thousands
            tasks, records = ([prepared], [record]) if part.places else ([], [])
            created += yield self._push_call(tasks, records, self._part_options(part, missing))
        return Receipt(prepared, created[0])

    def ready(self, tasks: Sequence[Task[Any]], user_id: str | None) -> tuple[list[Task[Any]], list[bytes]]:
        """The tasks of a batch with their user, and on the wire. All are checked."""
        prepared, records = [], []
        for index, task in enumerate(tasks):
            try:
                if user_id is not None and isinstance(task, Task):
                    task = replace(task, user_id=user_id)  # noqa: PLW2901 - it is checked with the rest
                ready, record = self._ready(task, {})
            except FairQueueError as error:
                raise BatchError(index, error) from error
            prepared.append(ready)
            records.append(record)
        return prepared, records

    def record(self, task: Task[Any]) -> bytes:
        """The wire form of a task with its user. It is checked."""
        return self._ready(task, {})[1]

    def batch(
        self,
        tasks: Sequence[Task[Any]],
        records: Sequence[bytes],
        missing: Missing | None,
        *,
        ask: bool = False,
    ) -> Batch:
        """The calls that push tasks of this shard, which are `ready`.

        With `ask` a round comes before them that only asks whether they would be refused: other shards are
        asked too, and nothing is pushed to any where one refuses.
        """
        together, in_order = parts_of(tasks, [len(record) for record in records])
        parts = together + in_order
        pushes: list[tuple[Sequence[int], Call[list[bool]]]] = []
        asking = []
        for number, part in enumerate(parts):
            rest = rest_by_user(tasks, part) if number == 0 and len(parts) > 1 else None
            chosen = [tasks[place] for place in part.places], [records[place] for place in part.places]
            options = self._part_options(part, missing, rest)
            pushes.append((part.places, self._push_call(*chosen, options)))
            if ask and number == 0:
                options = self._part_options(part, missing, rest, ask=True)
                asking.append(((), self._push_call(*chosen, options)))
        last = max(1, len(together))
        return Batch(tasks, [asking, pushes[:1], pushes[1:last], *([push] for push in pushes[last:])])

    def _ready(self, task: Task[Any], options: dict[str, Any]) -> tuple[Task[Any], bytes]:
        """The task with its options, and on the wire."""
        task = self._prepare(task, options)
        try:
            return task, self._encode(task)
        except OutputFound:
            task = naming_outputs(task)
        try:
            return task, self._encode(task)
        except OutputFound as error:
            raise EncodeError(f"an output of a task is where it cannot be filled in: {error}") from None

    def _prepare(self, task: Task[Any], options: dict[str, Any]) -> Task[Any]:
        if not isinstance(task, Task):
            raise TaskValidationError(_not_pushed(task))
        if options:
            task = task.with_options(**options)
        if task.user_id is None:
            raise TaskValidationError(
                "the task has no user: give user_id to push, to Task.create or to with_options"
            )
        if task.pulls:
            parameter, step = task.pulls[0]
            raise TaskValidationError(
                f"argument {parameter!r} of {task.function} is pulled from the step {step!r}, and this task "
                "is in no pipeline: push it as part of one, or give the argument"
            )
        check_id(task.user_id, "user_id")
        check_id(task.task_id, "task_id")
        return task

    def _encode(self, task: Task[Any]) -> bytes:
        return encode_task(
            task,
            created_at=time.time_ns() // 1_000_000,
            max_bytes=self.config.max_payload_bytes,
            codec_name=self.config.codec,
            parameters=lambda: registry.parameters(task.function),
        )

    def _part_options(
        self, part: Part, missing: Missing | None, rest: dict[str, int] | None = None, *, ask: bool = False
    ) -> bytes:
        """`rest` counts what comes with other parts of a batch, by user."""
        if not (rest or part.depends_on or part.gate or part.check or ask):
            return self._plain_options
        return self._options(
            **self._ending,
            max_queued=self.config.max_queued,
            rest=rest or None,
            ask=ask or None,
            **part.options(missing),
        )

    def _push_call(
        self, tasks: Sequence[Task[Any]], records: Sequence[bytes], options: bytes
    ) -> Call[list[bool]]:
        args: list[Any] = [options]
        for task, record in zip(tasks, records, strict=True):
            args += (escape(task.user_id or ""), escape(task.task_id), record)
        return self._call("push", args, replies.read_flags)


def _not_pushed(given: object) -> str:
    match given:
        case Composable():
            how = "push a pipeline by itself, or join several with parallel(…)"
        case list() | tuple():
            how = "push_batch takes several tasks"
        case _:
            how = "call the task function, or Task.create(…)"
    return f"push takes a Task, not {type(given).__name__}: {how}"
