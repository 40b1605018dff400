"""The task. One wire form, one encode, one decode.

On the wire a task is a header (one JSON object of named fields, read by the scripts), a newline, and the
opaque body.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, cast

import msgspec

from fairque.core import codec
from fairque.core.composable import Composable
from fairque.core.exceptions import DecodeError, PayloadTooLargeError, TaskValidationError
from fairque.core.header import (
    Header,
    OnUpstreamFailure,
    Priority,
    decode_header,
    encode_header,
    header_changes,
)
from fairque.core.ids import new_id
from fairque.core.keys import check_id
from fairque.core.outputs import Output, find_outputs, from_marks, replace_outputs, to_marks
from fairque.core.records import Attempt, Run
from fairque.core.units import Moment, Seconds, from_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

__all__ = [
    "LIVE",
    "TERMINAL",
    "Header",
    "Priority",
    "Task",
    "TaskState",
    "decode_record",
    "decode_task",
    "encode_task",
]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

MOST_DEPENDENCIES = 100_000  # of one task


class _Identified(Protocol):
    """A task or a handle."""

    @property
    def task_id(self) -> str: ...


class _Ending(Protocol):
    """A pipeline's handle: to depend on it is to depend on its last steps."""

    @property
    def result_ids(self) -> tuple[str, ...]: ...


Dependency: TypeAlias = _Identified | _Ending | str
Dependencies: TypeAlias = Iterable[Dependency]


class TaskState(StrEnum):
    """Where a task is. The state is not stored: it follows from the place the task is in."""

    SCHEDULED = "SCHEDULED"
    DEFERRED = "DEFERRED"
    QUEUED = "QUEUED"
    STARTED = "STARTED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended. A FAILED one can still be requeued."""
        return self in TERMINAL


TERMINAL = frozenset({TaskState.FINISHED, TaskState.FAILED, TaskState.CANCELED})
LIVE = frozenset(TaskState) - TERMINAL


class Task(
    msgspec.Struct, Composable[R_co], Generic[R_co], frozen=True, kw_only=True, repr_omit_defaults=True
):
    """A piece of work of one user. Immutable; `with_options` makes a changed copy.

    Made by calling a task function, or by `Task.create` for a `TaskHandler`; pushing it runs it. The id is
    made here, so pushing the same task twice runs it once.
    """

    task_id: str
    user_id: str | None = None
    header: Header = Header()
    arguments: Any = None  # as given: (args, kwargs) for a function, else the payload; None once decoded
    body: bytes | None = None  # as it came from the server
    unpickle: bool = False  # whether a pickled body may be read: the queue's configuration opted in
    # The function's annotation for its result. None would let msgspec carry a task as if it were data.
    returns: Any = Any
    defect: str | None = None  # why the record that came from the server cannot be read
    depends_on: tuple[str, ...] = ()  # ids of tasks of the same user that have to end before it starts
    pulls: tuple[tuple[str, str], ...] = ()  # parameters that a step of its pipeline fills: (parameter, step)
    has_own_id: bool = False  # whether the caller chose its id
    state: TaskState | None = None
    run: Run = Run()

    @classmethod
    def create(
        cls,
        *,
        user_id: str | None = None,
        payload: Any = None,
        task_id: str | None = None,
        priority: Priority | int = Priority.NORMAL,
        delay: Seconds | None = None,
        execute_after: Moment | None = None,
        expires_at: Moment | None = None,
        max_retries: int | None = None,
        timeout: Seconds | None = None,
        group: str | None = None,
        depends_on: Dependencies | None = None,
        on_upstream_failure: OnUpstreamFailure | None = None,
        name: str | None = None,
    ) -> Task[Any]:
        """A task without a function, for a `TaskHandler`.

        Args:
            user_id: Whose task it is; may also be given to `push`.
            payload: What the handler gets; anything the codec can carry.
            task_id: 1 to 256 characters, unique within the user; a UUIDv7 if not given.
            priority: Among the same user's tasks.
            delay: Seconds or timedelta from the push until it may run.
            execute_after: The earliest start: an aware datetime or seconds since 1970.
            expires_at: If it has not started by then it fails as `expired`.
            max_retries: Attempts after the first; the queue's `max_retries` if not given.
            timeout: Seconds one attempt may take; none if not given.
            group: A part of the user's work (a project, say); the user's turns go round its groups.
            depends_on: Tasks of the same user that must have ended before it starts, or their ids.
            on_upstream_failure: If one of those fails or is canceled: `wait` until it is requeued, `cancel`
                this one too, or `run` it anyway.
            name: What it is called as a step of a pipeline.

        Raises:
            TaskValidationError: A value is out of its range; the message names it.
        """
        task: Task[Any] = cls(task_id=new_id(), arguments=payload)
        return task.with_options(
            user_id=user_id,
            task_id=task_id,
            priority=priority,
            delay=delay,
            execute_after=execute_after,
            expires_at=expires_at,
            max_retries=max_retries,
            timeout=timeout,
            group=group,
            depends_on=depends_on,
            on_upstream_failure=on_upstream_failure,
            name=name,
        )

    def with_options(
        self,
        *,
        user_id: str | None = None,
        task_id: str | None = None,
        priority: Priority | int | None = None,
        delay: Seconds | None = None,
        execute_after: Moment | None = None,
        expires_at: Moment | None = None,
        max_retries: int | None = None,
        timeout: Seconds | None = None,
        group: str | None = None,
        depends_on: Dependencies | None = None,
        on_upstream_failure: OnUpstreamFailure | None = None,
        name: str | None = None,
    ) -> Task[R_co]:
        """A copy with the given options changed; what is None stays. Parameters as in `create`."""
        fields: dict[str, Any] = {}
        in_header = (priority, delay, execute_after, expires_at, max_retries, timeout, group, name)
        if on_upstream_failure is not None or in_header.count(None) < len(in_header):
            changes = header_changes(
                priority=priority,
                delay=delay,
                execute_after=execute_after,
                expires_at=expires_at,
                max_retries=max_retries,
                timeout=timeout,
                group=group,
                on_upstream_failure=on_upstream_failure,
                step=name,
            )
            fields["header"] = msgspec.structs.replace(self.header, **changes)
        if user_id is not None:
            fields["user_id"] = check_id(user_id, "user_id")
        if task_id is not None:
            fields |= {"task_id": check_id(task_id, "task_id"), "has_own_id": True}
        if depends_on is not None:
            fields["depends_on"] = dependency_ids(depends_on, user_id or self.user_id)
        return msgspec.structs.replace(self, **fields) if fields else self

    # --- what it is ---

    @property
    def function(self) -> str | None:
        """The registered name of its function; None for a handler's task."""
        return self.header.function

    @property
    def priority(self) -> Priority:
        """Its priority among its user's tasks."""
        return Priority(self.header.priority)

    @property
    def payload(self) -> Any:
        """A handler task's payload; for a function's task `{"args": […], "kwargs": {…}}`.

        Raises:
            DecodeError: The body that came from the server cannot be decoded.
        """
        if self.function is None:
            return self._value()
        args, kwargs = self.call_arguments()
        return {"args": list(args), "kwargs": dict(kwargs)}

    def call_arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments of a function's task, not yet converted to its annotations.

        Raises:
            DecodeError: The body that came from the server cannot be decoded.
        """
        match self._value():
            case [[*args]] | ([*args],):
                return args, {}
            case [[*args], dict(kwargs)] | ([*args], dict(kwargs)):
                return args, kwargs
        raise DecodeError(f"the body of task {self.task_id!r} holds no arguments: expected [args, kwargs]")

    def _value(self) -> Any:
        if self.body is None:
            return self.arguments
        value = codec.decode(self.body, allow_pickle=self.unpickle)
        return from_marks(value) if self.header.inputs else value

    def with_inputs(self, results: Callable[[str], Any]) -> Task[R_co]:
        """A copy with results in the place of outputs (for whoever runs tasks); `results` gives one by id.

        Raises:
            DecodeError: The body that came from the server cannot be decoded.
        """
        filled = replace_outputs(self._value(), lambda output: results(output.task_id))
        return msgspec.structs.replace(self, arguments=filled, body=None)

    def inputs(self) -> list[str]:
        """The ids of the tasks whose results its arguments name, each once, in order.

        Raises:
            DecodeError: The body that came from the server cannot be decoded.
        """
        return find_outputs(self._value()) if self.header.inputs or self.body is None else []

    @property
    def output(self) -> R_co:
        """Its result, as an argument of another task of the same user, which depends on this one then."""
        return Output(self.task_id)  # type: ignore[return-value]  # it stands for an R_co

    @property
    def on_upstream_failure(self) -> str:
        """What becomes of it if a task it depends on fails: `wait`, `cancel` or `run`."""
        return self.header.on_upstream_failure

    @property
    def name(self) -> str | None:
        """What it is called as a step of a pipeline: the name it was given, or its function's own."""
        if self.header.step is not None or self.function is None:
            return self.header.step
        return self.function.rpartition(":")[2].rpartition(".")[2]

    @property
    def group(self) -> str | None:
        """The part of its user's work that it belongs to; the user's turns go round its groups."""
        return self.header.group

    @property
    def schedule_id(self) -> str | None:
        """The id of the schedule that pushed it."""
        return self.header.schedule

    @property
    def fire_time(self) -> datetime | None:
        """For which of its schedule's fire times it was pushed."""
        return from_ms(self.header.fire_time)

    @property
    def max_retries(self) -> int | None:
        """Attempts after the first; None leaves it to the function or the queue."""
        return self.header.max_retries

    @property
    def timeout(self) -> float | None:
        """Seconds one attempt may take."""
        return None if self.header.timeout is None else self.header.timeout / 1000

    @property
    def execute_after(self) -> datetime | None:
        """The earliest start the caller asked for."""
        return from_ms(self.header.execute_after)

    @property
    def expires_at(self) -> datetime | None:
        """When it fails as `expired` if it has not started."""
        return from_ms(self.header.expires_at)

    @property
    def created_at(self) -> datetime | None:
        """When it was pushed, by the pushing client's clock (for information; it decides nothing)."""
        return from_ms(self.header.created_at or None)

    # --- what happened to it ---

    @property
    def attempt(self) -> int:
        """The number of the current or last attempt, which is also its fencing number; 0 before the first."""
        return self.run.attempt

    @property
    def worker_id(self) -> str | None:
        """Who runs it, or ran it last."""
        return self.run.worker

    @property
    def due_at(self) -> datetime | None:
        """When a SCHEDULED task becomes ready."""
        return from_ms(self.run.due_at)

    @property
    def queued_at(self) -> datetime | None:
        """When it became ready to run, by the server's clock."""
        return from_ms(self.run.queued_at)

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt began, by the server's clock."""
        return from_ms(self.run.started_at)

    @property
    def finished_at(self) -> datetime | None:
        """When it ended, by the server's clock."""
        return from_ms(self.run.finished_at)

    @property
    def lease_expires_at(self) -> datetime | None:
        """Until when its worker holds it, unless a heartbeat renews the lease."""
        return from_ms(self.run.lease_expires_at)

    @property
    def failure_type(self) -> str | None:
        """`failed`, `timeout`, `expired`, `poisoned` or `invalid` for a FAILED task."""
        return self.run.failure_type

    @property
    def error(self) -> str | None:
        """The last error's message."""
        return self.run.error

    @property
    def failures(self) -> int:
        """How many attempts failed (crashes not counted)."""
        return self.run.failures

    @property
    def crashes(self) -> int:
        """How many attempts ended with a lost lease."""
        return self.run.crashes

    @property
    def history(self) -> tuple[Attempt, ...]:
        """Its last ended attempts that did not succeed, oldest first."""
        return self.run.history


def task_by_name(
    function: str | None, args: list[Any], kwargs: dict[str, Any], payload: Any, **options: Any
) -> Task[Any]:
    """A task of a function of which only the registered name is known; a handler's without one.

    Args:
        function: The name; None for a handler's task.
        args: The function's arguments by position.
        kwargs: And by name.
        payload: What a handler gets.
        options: As for `Task.create`.

    Raises:
        TaskValidationError: An option is out of its range; the message names it.
    """
    task: Task[Any] = Task.create(payload=payload, **options)
    if function is None:
        return task
    header = msgspec.structs.replace(task.header, function=function)
    return msgspec.structs.replace(task, header=header, arguments=(args, kwargs))


def naming_outputs(task: Task[R]) -> Task[R]:
    """The task with its outputs as they travel, depending on the tasks they are of."""
    ids = dict.fromkeys((*task.depends_on, *find_outputs(task.arguments)))
    return msgspec.structs.replace(
        task,
        arguments=to_marks(task.arguments),
        header=msgspec.structs.replace(task.header, inputs=True),
        depends_on=tuple(ids),
    )


def listed(given: Dependency | Dependencies) -> Dependencies:
    """Dependencies where one alone is allowed, too."""
    if isinstance(given, str):
        return [given]
    return cast("Dependencies", [given] if _is_one(given) else given)


def _is_one(given: Any) -> bool:
    return isinstance(given, (str, Composable)) or hasattr(given, "task_id") or hasattr(given, "result_ids")


def dependency_ids(given: Dependencies, user_id: str | None) -> tuple[str, ...]:
    """The ids of dependencies that are given as tasks, handles or ids: each once, in order.

    A pipeline's handle stands for its last steps.

    Raises:
        TaskValidationError: One is neither, is of another user, or there are too many.
    """
    if _is_one(given):
        raise TaskValidationError(f"depends_on must be a list of tasks or ids, not one: {given!r}")
    ids: dict[str, None] = {}
    for item in given:
        owner = getattr(item, "user_id", None)
        if owner is not None and user_id is not None and owner != user_id:
            raise TaskValidationError(
                f"a task of user {user_id!r} cannot depend on one of user {owner!r} ({item!r}): "
                "dependencies stay within one user"
            )
        for task_id in getattr(item, "result_ids", None) or [getattr(item, "task_id", item)]:
            if isinstance(task_id, Composable):
                raise TaskValidationError(
                    f"depends_on names the pipeline {task_id!r}, which has no id of its own: push it "
                    "first and give its handle, or compose both with >>"
                )
            ids[check_id(task_id, "depends_on")] = None
    if len(ids) > MOST_DEPENDENCIES:
        raise TaskValidationError(
            f"depends_on names {len(ids):,} tasks, the limit is {MOST_DEPENDENCIES:,}: put tasks in between "
            "that join some of them each"
        )
    return tuple(ids)


def encode_task(
    task: Task[Any],
    *,
    created_at: int,
    max_bytes: int,
    codec_name: codec.Codec,
    parameters: Callable[[], Sequence[str]] = tuple,
) -> bytes:
    """The wire form of a task about to be pushed. `parameters` are asked for when an error names one.

    Raises:
        EncodeError: The codec cannot carry a value; the message says which argument.
        PayloadTooLargeError: The body exceeds `max_bytes`.
    """
    body = task.body
    if body is None:
        arguments = task.arguments
        if task.function is not None and not arguments[1]:
            arguments = arguments[:1]
        body = codec.encode(arguments, codec_name, parameters=None if task.function is None else parameters)
    if len(body) > max_bytes:
        raise PayloadTooLargeError(len(body), max_bytes)
    header = msgspec.structs.replace(task.header, created_at=task.header.created_at or created_at)
    return encode_header(header) + b"\n" + body


def decode_record(record: bytes) -> tuple[Header, bytes, str | None]:
    """Of a wire form the header, the body, and what is wrong with it.

    Whoever claimed it must be able to fail it: one bad record may not stop the others' work.
    """
    head, _, body = record.partition(b"\n")
    try:
        return decode_header(head), body, None
    except msgspec.MsgspecError as error:
        return Header(), body, f"the record of the task cannot be read: {error}"


def decode_task(
    record: bytes, user_id: str, task_id: str, *, state: TaskState, run: Run, unpickle: bool = False
) -> Task[Any]:
    """The task of a wire form. The body stays encoded until it is asked for."""
    header, body, defect = decode_record(record)
    return Task(
        task_id=task_id,
        user_id=user_id,
        header=header,
        body=body,
        unpickle=unpickle,
        defect=defect,
        state=state,
        run=run,
    )
