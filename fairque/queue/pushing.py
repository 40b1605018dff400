"""Pushing tasks, batches and pipelines, as values: all is checked before the first call."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    from fairque.core.pipeline import Pipeline
    from fairque.core.pipeline_build import BuiltPipeline


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a push: the task with its user, and whether it is new."""

    task: Task[Any]
    created: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks with their user, and the calls that push them.

    The first call says whether there is room for all, and comes before the others. Of these the last
    `in_order` come one after the other.
    """

    tasks: Sequence[Task[Any]]
    places: Sequence[Sequence[int]]
    calls: Sequence[Call[list[bool]]]
    in_order: int

    def rounds(self) -> list[Sequence[Call[list[bool]]]]:
        """What may be under way at once, one after the other."""
        last = len(self.calls) - self.in_order
        return [self.calls[:1], self.calls[1:last], *([call] for call in self.calls[max(1, last) :])]

    def created(self, replies: Iterable[list[bool]]) -> list[bool]:
        """Whether each task is new, by the calls' replies."""
        flags = [False] * len(self.tasks)
        for places, reply in zip(self.places, replies, strict=True):
            for place, flag in zip(places, reply, strict=True):
                flags[place] = flag
        return flags


class PushCommands(Commands):
    """The operations that bring tasks."""

    def __init__(self, config: QueueConfig) -> None:
        super().__init__(config)
        self._plain_options = self._options(ageing_us=self._ageing_us, max_queued=config.max_queued)

    def push(self, task: Task[Any], *, missing: Missing | None = None, **options: Any) -> Flow[Receipt]:
        """Push one task; `options` as for `Task.with_options`."""
        prepared, record = self._ready(task, options)
        check_missing(missing)
        together, in_order = parts_of([prepared], [len(record)])
        created: list[bool] = []
        for part in together + in_order:  # several only if it depends on thousands
            tasks, records = ([prepared], [record]) if part.places else ([], [])
            created += yield self._push_call(tasks, records, part, missing)
        return Receipt(prepared, created[0])

    def push_batch(
        self, tasks: Sequence[Task[Any]], *, user_id: str | None = None, missing: Missing | None = None
    ) -> Batch:
        """The tasks with their user, and the calls that push them. All are checked first."""
        check_missing(missing)
        prepared, records = [], []
        for index, task in enumerate(tasks):
            try:
                ready, record = self._ready(task, {"user_id": user_id})
            except FairQueueError as error:
                raise BatchError(index, error) from error
            prepared.append(ready)
            records.append(record)
        together, in_order = parts_of(prepared, [len(record) for record in records])
        parts = together + in_order
        calls = []
        for number, part in enumerate(parts):
            rest = rest_by_user(prepared, part) if number == 0 and len(parts) > 1 else None
            chosen = [prepared[place] for place in part.places], [records[place] for place in part.places]
            calls.append(self._push_call(*chosen, part, missing, rest))
        return Batch(prepared, [part.places for part in parts], calls, len(in_order))

    def push_pipeline(
        self, pipeline: Pipeline[Any], *, missing: Missing | None = None, **options: Any
    ) -> tuple[BuiltPipeline, Batch]:
        """The pipeline's tasks, and the calls that push them; `options` as for `Pipeline.with_options`."""
        if options.pop("task_id", None) is not None:
            raise TaskValidationError("a pipeline has no task_id of its own: give its steps one, if you must")
        built = pipeline.build(**options)
        try:
            return built, self.push_batch(built.tasks, missing=missing)
        except BatchError as error:
            name = built.tasks[error.index].name
            raise TaskValidationError(
                f"step {name!r} was refused, nothing was pushed: {error.__cause__}"
            ) from error

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
        if any(value is not None for value in options.values()):
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

    def _push_call(
        self,
        tasks: Sequence[Task[Any]],
        records: Sequence[bytes],
        part: Part,
        missing: Missing | None,
        rest: dict[str, int] | None = None,
    ) -> Call[list[bool]]:
        """`rest` counts what comes with other parts of a batch, by user."""
        options = self._plain_options
        if rest or part.depends_on or part.gate or part.check:
            options = self._options(
                **self._ending, max_queued=self.config.max_queued, rest=rest or None, **part.options(missing)
            )
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
