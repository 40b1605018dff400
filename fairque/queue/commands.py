"""Every queue operation as a value: which script, which arguments, how its reply reads. No I/O here."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fairque.core import codec
from fairque.core.calls import Call, Flow, Wait
from fairque.core.composable import Composable
from fairque.core.exceptions import (
    BatchError,
    DecodeError,
    EncodeError,
    FairQueueError,
    LeaseLostError,
    PayloadTooLargeError,
    ResultExpiredError,
    TaskNotFoundError,
    TaskStateError,
    TaskValidationError,
)
from fairque.core.keys import Keys, check_id, escape, member
from fairque.core.models import (
    MOST_DEPENDENCIES,
    Task,
    TaskState,
    dependency_ids,
    encode_task,
    listed,
    naming_outputs,
)
from fairque.core.outputs import OutputFound
from fairque.core.registry import registry
from fairque.core.units import Seconds, to_ms, to_seconds
from fairque.core.xcom_defaults import DEFAULT_NAMESPACE
from fairque.queue import looking, replies
from fairque.queue.batches import CHUNK, CHUNK_EDGES, Part, parts_of, rest_by_user
from fairque.queue.checks import (
    Missing,
    batch_limit,
    check_missing,
    graph_limit,
    member_of,
    page_offset,
    user_names,
)
from fairque.queue.explain import explain
from fairque.queue.failure import history_entry, retry_delay
from fairque.queue.graphs import ENOUGH_IDS, dead_end, walk
from fairque.queue.policies import PolicyCommands
from fairque.queue.replies import Claim, Fate, TaskReader
from fairque.queue.xcom_commands import XComCommands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fairque.core.config import QueueConfig
    from fairque.core.models import Dependencies, Dependency
    from fairque.core.pipeline import Pipeline
    from fairque.core.pipeline_build import BuiltPipeline
    from fairque.core.records import Explanation, QueueHealth, QueueStats, UserStats
    from fairque.core.task_graph import TaskGraph
    from fairque.core.user_policy import UserPolicy

T = TypeVar("T")

# An idle worker looks again after so many seconds at the latest, in case a wake-up was lost with its taker.
IDLE_SECONDS = 2.0
LOOKED_AT = 500  # tasks of one script that looks
INPUT_BYTES = 4 * 1024 * 1024  # of results in one reply, but for the last
IDLE_USER_MS = 3_600_000
LOOK_AGAIN_MS = 60_000  # at a task past its retention that others depend on
MOST_STEPS = 20  # of one cleanup
MOST_UNFRUITFUL = 1_000  # claims in a row that gave nothing though tasks are ready


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


class QueueCommands:
    """The operations of one queue. Both faces are a thin layer over this.

    Args:
        config: The queue's settings.
        policies: Those of the configuration; None where it has none to publish.
    """

    def __init__(self, config: QueueConfig, policies: Mapping[str, UserPolicy] | None = None) -> None:
        self.config = config
        self.keys = Keys(config.prefix, config.name)
        self._root = self.keys.root
        self.policies = PolicyCommands(self._root, policies)
        # What a client says before anything else, so that no task is dispatched against the configuration.
        self.opening = None if policies is None else self.policies.publish
        self._ageing_us = round(config.ageing_seconds * 1_000_000)
        self._reader = TaskReader(self._ageing_us, unpickle=config.codec == "pickle")
        kept = {
            state: to_ms(getattr(config.retention, state), state)
            for state in ("finished", "failed", "canceled")
        }
        window = to_ms(config.push_retry_window, "push_retry_window")
        # A task stays known for the retry window even where its result is not kept, so that a push repeated
        # after a lost reply adds nothing.
        self._retention = {state: max(duration, window) for state, duration in kept.items()}
        self._result_ms = kept["finished"]
        # What every script needs that may end a task, and release others by that.
        self._ending = {"ageing_us": self._ageing_us, "retention": self._retention}
        self._requeue_options = self._options(ageing_us=self._ageing_us)
        self._push_options = self._options(ageing_us=self._ageing_us, max_queued=config.max_queued)
        self._ending_options = self._options(**self._ending)
        self._finish_options = self._options(**self._ending, result_ms=self._result_ms)

    @staticmethod
    def _options(**options: Any) -> bytes:
        return msgspec.json.encode({name: value for name, value in options.items() if value is not None})

    def _call(
        self, script: str, args: Iterable[Any], read: Callable[[Any], T], *, idempotent: bool = True
    ) -> Call[T]:
        return Call(script, self._root, tuple(args), read, idempotent)

    # --- pushing ---

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
        options = self._push_options
        if rest or part.depends_on or part.gate or part.check:
            options = self._options(
                **self._ending, max_queued=self.config.max_queued, rest=rest or None, **part.options(missing)
            )
        args: list[Any] = [options]
        for task, record in zip(tasks, records, strict=True):
            args += (escape(task.user_id or ""), escape(task.task_id), record)
        return self._call("push", args, replies.read_flags)

    # --- claiming ---

    def claim(
        self,
        worker_id: str,
        limit: int,
        *,
        users: Sequence[str] | None = None,
        lease: Seconds | None = None,
        steal: bool = False,
        claimant: str | None = None,
        claim_id: int = 0,
    ) -> Call[Claim]:
        """Claim up to `limit` tasks in fair order.

        With a claimant (a name that nobody else uses, also not another worker of the same id) the claim may
        be repeated under its id if its reply was lost: it gives the same tasks again.
        """
        check_id(worker_id, "worker_id")
        lease_ms = self._lease_ms(lease)
        options = self._options(
            worker=worker_id,
            limit=batch_limit(limit),
            lease_ms=lease_ms,
            users=user_names(users),
            steal=steal or None,
            cost=self.config.cost,
            claimant=claimant,
            claim=None if claimant is None else claim_id,
            **self._ending,
        )

        def read(reply: Any) -> Claim:
            return self._reader.claim(reply, worker_id, lease_ms)

        return self._call("claim", (options,), read, idempotent=claimant is not None)

    def pop_batch(
        self,
        worker_id: str,
        limit: int,
        *,
        users: Sequence[str] | None = None,
        lease: Seconds | None = None,
        block: Seconds | None = None,
        steal: bool = False,
    ) -> Flow[list[Task[Any]]]:
        """Claim up to `limit` tasks; with `block` wait up to so many seconds for the first."""
        call = self.claim(worker_id, limit, users=users, lease=lease, steal=steal)
        deadline = time.monotonic() + (0 if block is None else to_seconds(block, "block"))
        unfruitful = 0
        while True:
            claim = yield call
            if claim.unfinished and not claim.tasks and unfruitful < MOST_UNFRUITFUL:
                unfruitful += 1
                continue
            remaining = deadline - time.monotonic()
            if claim.tasks or remaining <= 0:
                return list(claim.tasks)
            yield self.idle(claim, remaining, picky=users is not None)

    def idle(self, claim: Claim, longest: float, *, picky: bool) -> Wait:
        """What to wait for after a claim that gave nothing."""
        if claim.more:
            # The rest of a long promotion or expiry; or, for a picky worker, others' work: the wake-up was
            # passed on, and a moment's pause lets its owner take it.
            return Wait(min(longest, random.uniform(0.01, 0.03) if picky else 0))  # noqa: S311 - jitter
        pause = IDLE_SECONDS if claim.pause is None else min(IDLE_SECONDS, claim.pause)
        return Wait(min(longest, pause), key=self.keys.wake)

    def pop(self, worker_id: str, **options: Any) -> Flow[Task[Any] | None]:
        """Claim one task."""
        tasks = yield from self.pop_batch(worker_id, 1, **options)
        return tasks[0] if tasks else None

    def _lease_ms(self, lease: Seconds | None) -> int:
        milliseconds = to_ms(self.config.lease_seconds if lease is None else lease, "lease")
        if milliseconds == 0:
            raise TaskValidationError("lease must be longer than 0 s")
        return milliseconds

    # --- ending an attempt ---

    def encode_result(self, result: Any) -> bytes:
        """A result on the wire.

        Raises:
            EncodeError: The codec cannot carry it.
            PayloadTooLargeError: It exceeds `max_payload_bytes`; a huge one would keep the server from
                everybody else.
        """
        try:
            data = codec.encode(result, self.config.codec, what="result")
        except OutputFound:
            raise EncodeError("a result cannot hold the output of another task: return its value") from None
        if len(data) > self.config.max_payload_bytes:
            raise PayloadTooLargeError(len(data), self.config.max_payload_bytes, "result")
        return data

    def finish_call(self, items: Sequence[tuple[Task[Any], bytes]]) -> Call[list[bool]]:
        """Finish tasks with encoded results: which were accepted."""
        args: list[Any] = [self._finish_options]
        for task, result in items:
            args += (*_fence(task), result)
        return self._call("finish", args, replies.read_flags)

    def finish(self, items: Iterable[tuple[Task[Any], Any] | Task[Any]]) -> Flow[None]:
        """Finish tasks with their results; refuse those whose lease is lost."""
        results = [(item, None) if isinstance(item, Task) else item for item in items]
        pairs = [(task, self.encode_result(result)) for task, result in results]
        for start in range(0, len(pairs), CHUNK):
            chunk = pairs[start : start + CHUNK]
            accepted = yield self.finish_call(chunk)
            _refuse_lost([task for task, _ in chunk], accepted)

    def fail_call(
        self, task: Task[Any], error: BaseException | str, *, failure_type: str = "failed"
    ) -> tuple[Call[bool], TaskState]:
        """The call that fails an attempt, and the state the task will have by the retry decision."""
        entry = history_entry(error, failure_type)
        delay = retry_delay(task, error, failure_type, self.config.max_retries)
        options = self._options(
            entry=entry,
            retry_ms=None if delay is None else to_ms(delay, "retry delay"),
            **self._ending,
        )
        call = self._call("fail", (options, *_fence(task)), bool)
        return call, TaskState.FAILED if delay is None else TaskState.SCHEDULED

    def fail(
        self, task: Task[Any], error: BaseException | str, *, failure_type: str = "failed"
    ) -> Flow[TaskState]:
        """Fail an attempt: retry it later, or put it in the dead letter queue."""
        call, state = self.fail_call(task, error, failure_type=failure_type)
        _refuse_lost([task], [(yield call)])
        return state

    def heartbeat_call(
        self, tasks: Sequence[Task[Any]], *, worker_id: str | None = None, lease: Seconds | None = None
    ) -> Call[list[Fate]]:
        """Renew leases: what became of each."""
        options = self._options(worker=worker_id, lease_ms=self._lease_ms(lease))
        args = [options, *(part for task in tasks for part in _fence(task))]
        return self._call("heartbeat", args, replies.read_fates)

    def heartbeat(
        self, tasks: Iterable[Task[Any]] | Task[Any], *, lease: Seconds | None = None
    ) -> Flow[None]:
        """Renew leases; refuse lost ones after the others were renewed."""
        known = _listed(tasks)
        fates = yield self.heartbeat_call(known, lease=lease)
        _refuse_lost(known, [fate is Fate.HELD for fate in fates])

    def release_call(
        self, tasks: Sequence[Task[Any]], *, leaving: str | None = None, claimant: str = ""
    ) -> Call[list[bool]]:
        """Hand tasks back to their lanes; `leaving` names a worker that takes its leave."""
        options = self._options(leaving=leaving, claimant=claimant)
        args = [options, *(part for task in tasks for part in _fence(task))]
        return self._call("release", args, replies.read_flags)

    def release(self, tasks: Iterable[Task[Any]] | Task[Any]) -> Flow[None]:
        """Hand tasks back to their lanes; refuse those whose lease is lost."""
        known = _listed(tasks)
        _refuse_lost(known, (yield self.release_call(known)))

    # --- the rest of a task's life ---

    def reclaim(self, limit: int = 100) -> Call[list[tuple[str, str]]]:
        """Take back the tasks whose lease has expired."""
        options = self._options(limit=batch_limit(limit), max_crashes=self.config.max_crashes, **self._ending)
        return self._call("reclaim", (options,), replies.read_members)

    def cancel(self, user_id: str, task_id: str, *, cascade: bool = False) -> Flow[bool]:
        """Cancel a live task: whether it is canceled now."""
        states = yield self._cancel_call([member_of(user_id, task_id)], cascade=cascade)
        if states[0] is None:
            raise TaskNotFoundError(user_id, task_id)
        return states[0] is TaskState.CANCELED

    def cancel_all(self, user_id: str, task_ids: Sequence[str]) -> Flow[int]:
        """Cancel tasks in this order: how many of them are canceled now."""
        canceled = 0
        for start in range(0, len(task_ids), CHUNK):
            names = [member_of(user_id, task_id) for task_id in task_ids[start : start + CHUNK]]
            states = yield self._cancel_call(names, cascade=False)
            canceled += states.count(TaskState.CANCELED)
        return canceled

    def _cancel_call(self, names: Sequence[str], *, cascade: bool) -> Call[list[TaskState | None]]:
        options = self._options(**self._ending, cascade=True) if cascade else self._ending_options
        return self._call("cancel", (options, *names), replies.read_states)

    def add_dependency(
        self,
        user_id: str,
        task_id: str,
        depends_on: Dependencies | Dependency,
        missing: Missing | None = None,
    ) -> Flow[TaskState]:
        """Make a task that has not started wait for others too: its state now."""
        name = member_of(user_id, task_id)
        ids = dependency_ids(listed(depends_on), user_id)
        state: TaskState | None = None
        for start in range(0, len(ids), CHUNK_EDGES):
            options = self._options(**self._ending, missing=check_missing(missing))
            args = (options, name, *map(escape, ids[start : start + CHUNK_EDGES]))
            now, is_added = yield self._call("depend", args, replies.read_depended)
            if not is_added:
                raise TaskStateError(
                    user_id, task_id, f"is {now.value}: only one that has not started can depend on more"
                )
            state = now
        if state is None:
            raise TaskValidationError("depends_on names no task: give one or several tasks, or their ids")
        return state

    def requeue(self, user_id: str, task_id: str) -> Flow[Task[Any]]:
        """Take a task out of the dead letter queue."""
        name = member_of(user_id, task_id)
        state = yield self._call(
            "requeue", (self._requeue_options, name), replies.read_state, idempotent=False
        )
        if state is not TaskState.FAILED:
            raise TaskStateError(user_id, task_id, f"is {state.value}: only a FAILED task can be requeued")
        return Task(task_id=task_id, user_id=user_id)

    def get(self, user_id: str, task_id: str) -> Call[Task[Any] | None]:
        """All that is known of a task."""

        def read(reply: Any) -> Task[Any] | None:
            return self._reader.one(reply, user_id, task_id) if reply else None

        return self._call("get", (b"{}", member_of(user_id, task_id)), read)

    def fate_call(self, user_id: str, task_id: str) -> Call[list[Any]]:
        """A task's state, and its result or error."""
        return self._call("result", (b"{}", member_of(user_id, task_id)), list)

    def states(self, user_id: str, task_ids: Sequence[str]) -> Flow[list[TaskState | None]]:
        """Where tasks are; None for one that is not known."""
        found: list[TaskState | None] = []
        for start in range(0, len(task_ids), LOOKED_AT):
            names = [member_of(user_id, task_id) for task_id in task_ids[start : start + LOOKED_AT]]
            found += yield self._call("states", (b"{}", *names), replies.read_states)
        return found

    def results(
        self, user_id: str, task_ids: Sequence[str]
    ) -> Flow[dict[str, tuple[TaskState | None, bytes | None]]]:
        """State and encoded result of each task; None for a state that is not known, and for no result."""
        results: dict[str, tuple[TaskState | None, bytes | None]] = {}
        options = self._options(bytes=INPUT_BYTES)
        while len(results) < len(task_ids):
            asked = task_ids[len(results) : len(results) + LOOKED_AT]
            names = [member(user_id, task_id) for task_id in asked]
            found = yield self._call("results", (options, *names), replies.read_results)
            results |= dict(zip(asked, found, strict=False))
        return results

    def inputs(self, task: Task[Any]) -> Flow[Task[Any]]:
        """A popped task with the results that its arguments name; None for that of a task without one."""
        user_id = task.user_id or ""
        found = yield from self.results(user_id, task.inputs())
        results: dict[str, Any] = {}
        for task_id, (state, data) in found.items():
            if data is None and state in {None, TaskState.FINISHED}:
                raise ResultExpiredError(user_id, task_id)
            try:
                results[task_id] = None if data is None else self.decode_result(data, Any)
            except DecodeError as error:
                raise DecodeError(f"the result of task {task_id!r} cannot be an argument: {error}") from error
        return task.with_inputs(results.__getitem__)

    def decode_result(self, data: bytes, returns: Any) -> Any:
        """A result as the function's annotation has it."""
        value = codec.decode(data, allow_pickle=self._reader.unpickle)
        return codec.convert(value, returns, "the result")

    def cleanup(self, limit: int = 1000) -> Flow[int]:
        """Remove tasks past their retention, in as many steps as the graphs among them take."""
        removed = 0
        for _ in range(MOST_STEPS):
            count, is_more = yield self.cleanup_call(batch_limit(limit) - removed)
            removed += count
            if not is_more or removed >= limit:
                break
        return removed

    def cleanup_call(self, limit: int) -> Call[tuple[int, bool]]:
        """One step: how many tasks were removed, and whether there may be more to do."""
        options = self._options(
            limit=limit,
            idle_user_ms=IDLE_USER_MS,
            look_again_ms=min(LOOK_AGAIN_MS, max(self._retention["finished"], 1)),
            **self._ending,
        )
        return self._call("cleanup", (options,), replies.read_cleaned)

    # --- cross-task data ---

    def xcom(
        self, user_id: str, *, namespace: str = DEFAULT_NAMESPACE, attempt: Task[Any] | None = None
    ) -> XComCommands:
        """The operations on a user's XCom; those that write count only while `attempt` holds its lease."""
        fence = None if attempt is None else _fence(attempt)
        return XComCommands(self.config, self._root, user_id, namespace=namespace, fence=fence)

    # --- looking ---

    def stats(self) -> Call[QueueStats]:
        """Numbers of the queue."""
        return self._call("stats", (b"{}",), looking.read_stats)

    def health(self) -> Call[QueueHealth]:
        """Whether the server is fit."""
        return self._call("health", (b"{}",), looking.read_health)

    def users(self, limit: int = 100, offset: int = 0) -> Call[list[UserStats]]:
        """A page of users."""
        options = self._options(limit=batch_limit(limit), offset=page_offset(offset))
        return self._call("users", (options,), looking.read_users)

    def user_stats(self, user_id: str) -> Flow[UserStats | None]:
        """One user's part in the queue."""
        found = yield self._call("users", (b"{}", escape(check_id(user_id, "user_id"))), looking.read_users)
        return found[0] if found else None

    def explain(self, user_id: str, task_id: str) -> Flow[Explanation]:
        """Why a task is not running."""

        def read(reply: Any) -> Explanation | None:
            return None if reply is None else explain(reply, user_id, task_id)

        found: Explanation | None = yield self._call("explain", (b"{}", member_of(user_id, task_id)), read)
        if found is None:
            raise TaskNotFoundError(user_id, task_id)
        return found

    def dead_end(self, user_id: str, task_ids: Sequence[str]) -> Flow[str | None]:
        """The id of an ended task without which one of these can never start; None if all may."""
        options = self._options(limit=MOST_DEPENDENCIES, enough=ENOUGH_IDS, upstream=True)

        def look(names: Sequence[str]) -> Call[Any]:
            return self._call("graph", (options, *names), list)

        return dead_end(user_id, task_ids, look)

    def graph(self, user_id: str, task_id: str, limit: int = 10_000) -> Flow[TaskGraph]:
        """All tasks that hang together with one."""
        member_of(user_id, task_id)  # checked first

        options = self._options(limit=graph_limit(limit) + 1, enough=ENOUGH_IDS)

        def look(names: Sequence[str]) -> Call[Any]:
            return self._call("graph", (options, *names), list)

        return walk(user_id, task_id, limit, look)

    def failed_tasks(
        self, user_id: str | None = None, limit: int = 100, offset: int = 0
    ) -> Flow[list[Task[Any]]]:
        """A page of the dead letter queue; with a user, looks through it in bounded steps."""
        limit, offset = batch_limit(limit), page_offset(offset)
        user = None if user_id is None else escape(check_id(user_id, "user_id"))
        found: list[Task[Any]] = []
        position, skip = (offset, 0) if user is None else (0, offset)
        while True:
            options = self._options(limit=limit, offset=position, user=user)
            seen, tasks = yield self._call("failed", (options,), self._reader.failed)
            found += tasks
            position += seen
            if user is None or seen < limit or len(found) >= skip + limit:
                return found[skip : skip + limit]


def _not_pushed(given: object) -> str:
    match given:
        case Composable():
            how = "push a pipeline by itself, or join several with parallel(…)"
        case list() | tuple():
            how = "push_batch takes several tasks"
        case _:
            how = "call the task function, or Task.create(…)"
    return f"what is pushed must be a Task, not {type(given).__name__}: {how}"


def _listed(tasks: Iterable[Task[Any]] | Task[Any]) -> list[Task[Any]]:
    return [tasks] if isinstance(tasks, Task) else list(tasks)


def _fence(task: Task[Any]) -> tuple[str, int, str]:
    """What an attempt shows to prove that it is the one that holds the lease."""
    if task.user_id is None or not task.run.place:
        raise TaskValidationError(f"task {task.task_id!r} was not popped from the queue: it has no lease")
    return member(task.user_id, task.task_id), task.attempt, task.run.place


def _refuse_lost(tasks: Sequence[Task[Any]], held: Sequence[bool]) -> None:
    lost = [task for task, fine in zip(tasks, held, strict=True) if not fine]
    if lost:
        error = LeaseLostError(lost[0].user_id or "", lost[0].task_id, lost[0].attempt)
        error.lost = tuple((task.user_id or "", task.task_id) for task in lost)
        raise error
