"""Every queue operation as a value: which script, which arguments, how its reply reads. No I/O here."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, TypeVar

from fairque.core.calls import Call, Flow, Wait
from fairque.core.exceptions import (
    LeaseLostError,
    TaskNotFoundError,
    TaskStateError,
    TaskValidationError,
)
from fairque.core.keys import check_id, escape, member
from fairque.core.models import Task, TaskState
from fairque.core.units import Seconds, to_ms
from fairque.core.xcom_defaults import DEFAULT_NAMESPACE
from fairque.queue import looking, replies
from fairque.queue.batches import CHUNK
from fairque.queue.checks import LONGEST_BATCH, batch_limit, member_of, page_offset, user_names
from fairque.queue.dependencies import GraphCommands
from fairque.queue.explain import explain
from fairque.queue.failure import UNKNOWN, history_entry, retry_delay
from fairque.queue.fitness import ServerCheck
from fairque.queue.policies import PolicyCommands
from fairque.queue.pushing import PushCommands
from fairque.queue.repair import RepairCommands
from fairque.queue.replies import Claim, Fate
from fairque.queue.schedules import ScheduleCommands
from fairque.queue.xcom_commands import XComCommands

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fairque.core.config import QueueConfig
    from fairque.core.records import Explanation, QueueHealth, RepairReport, UserStats
    from fairque.core.user_policy import UserPolicy
    from fairque.queue.repair import Progress

T = TypeVar("T")

# An idle worker looks again after so many seconds at the latest, in case a wake-up was lost with its taker.
IDLE_SECONDS = 2.0
IDLE_USER_MS = 3_600_000
LOOK_AGAIN_MS = 60_000  # at a task past its retention that others depend on
MOST_STEPS = 20  # of one cleanup
MOST_UNFRUITFUL = 1_000  # claims in a row that gave nothing though tasks are ready


class ShardCommands(PushCommands, GraphCommands):
    """The operations of one shard of a queue.

    Args:
        config: The queue's settings.
        policies: Those of the configuration for users of this shard; None where it has none to publish.
        shard: The number of the shard.
        allow_eviction: Whether the server may be one that drops keys.
        allow_no_persistence: Whether it may be one that loses them in a crash.
    """

    def __init__(
        self,
        config: QueueConfig,
        policies: Mapping[str, UserPolicy] | None = None,
        shard: int = 0,
        *,
        allow_eviction: bool = False,
        allow_no_persistence: bool = False,
    ) -> None:
        super().__init__(config, shard)
        self.policies = PolicyCommands(self._root, policies)
        self.schedules = ScheduleCommands(config, shard, self.record)
        self.server = ServerCheck(
            self._root, allow_eviction=allow_eviction, allow_no_persistence=allow_no_persistence
        )
        self._requeue_options = self._options(ageing_us=self._ageing_us)
        self._finish_options = self._options(**self._ending, result_ms=self._result_ms)

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
            max_crashes=self.config.max_crashes,
            **self._ending,
        )

        def read(reply: Any) -> Claim:
            return self._reader.claim(reply, worker_id, lease_ms)

        return self._call("claim", (options,), read, idempotent=claimant is not None)

    def fruitful(self, call: Call[Claim]) -> Flow[Claim]:
        """A claim, repeated while it gives nothing though tasks are ready."""
        for _ in range(MOST_UNFRUITFUL):
            claim: Claim = yield call
            if claim.tasks or not claim.unfinished:
                break
        return claim

    def idle(self, claim: Claim, longest: float, *, picky: bool) -> Wait:
        """What to wait for after a claim that gave nothing."""
        if claim.more:
            # The rest of a long promotion or expiry; or, for a picky worker, others' work: the wake-up was
            # passed on, and a moment's pause lets its owner take it.
            return Wait(min(longest, random.uniform(0.01, 0.03) if picky else 0))  # noqa: S311 - jitter
        pause = IDLE_SECONDS if claim.pause is None else min(IDLE_SECONDS, claim.pause)
        return Wait(min(longest, pause), keys=(self.keys.wake,))

    def _lease_ms(self, lease: Seconds | None) -> int:
        milliseconds = to_ms(self.config.lease_seconds if lease is None else lease, "lease")
        if milliseconds == 0:
            raise TaskValidationError("lease must be longer than 0 s")
        return milliseconds

    # --- ending an attempt ---

    def finish_call(self, items: Sequence[tuple[Task[Any], bytes]]) -> Call[list[bool]]:
        """Finish tasks with encoded results: which were accepted."""
        args: list[Any] = [self._finish_options]
        for task, result in items:
            args += (*_fence(task), result)
        return self._call("finish", args, replies.read_flags)

    def finish(self, items: Sequence[tuple[Task[Any], bytes]]) -> Flow[None]:
        """Finish tasks with encoded results; refuse those whose lease is lost."""
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            accepted = yield self.finish_call(chunk)
            _refuse_lost([task for task, _ in chunk], accepted)

    def fail_call(
        self, task: Task[Any], error: BaseException | str, *, failure_type: str = "failed"
    ) -> Call[TaskState | None]:
        """The call that fails an attempt: the state the task has then, or None if the lease is lost."""
        if failure_type == UNKNOWN:
            return self._unknown_call(task, error)
        entry = history_entry(error, failure_type)
        delay = retry_delay(task, error, failure_type, self.config.max_retries)
        options = self._options(
            entry=entry,
            retry_ms=None if delay is None else to_ms(delay, "retry delay"),
            **self._ending,
        )
        state = TaskState.FAILED if delay is None else TaskState.SCHEDULED
        return self._call("fail", (options, *_fence(task)), lambda held: state if held else None)

    def _unknown_call(self, task: Task[Any], error: BaseException | str) -> Call[TaskState | None]:
        """The call that hands back a task whose function is not known here: the server's clock decides."""
        options = self._options(
            entry=history_entry(error, "invalid"),
            grace_ms=to_ms(self.config.unknown_task_grace, "unknown_task_grace"),
            **self._ending,
        )
        args = (options, *_fence(task))
        return self._call("unknown", args, lambda reply: None if reply is None else replies.read_state(reply))

    def fail(
        self, task: Task[Any], error: BaseException | str, *, failure_type: str = "failed"
    ) -> Flow[TaskState]:
        """Fail an attempt: retry it later, or put it in the dead letter queue."""
        state: TaskState | None = yield self.fail_call(task, error, failure_type=failure_type)
        _refuse_lost([task], [state is not None])
        return state or TaskState.FAILED

    def heartbeat_call(
        self, tasks: Sequence[Task[Any]], *, worker_id: str | None = None, lease: Seconds | None = None
    ) -> Call[list[Fate]]:
        """Renew leases: what became of each."""
        options = self._options(worker=worker_id, lease_ms=self._lease_ms(lease))
        args = [options, *(part for task in tasks for part in _fence(task))]
        return self._call("heartbeat", args, replies.read_fates)

    def heartbeat(self, tasks: Sequence[Task[Any]], *, lease: Seconds | None = None) -> Flow[None]:
        """Renew leases; refuse lost ones after the others were renewed."""
        fates = yield self.heartbeat_call(tasks, lease=lease)
        _refuse_lost(tasks, [fate is Fate.HELD for fate in fates])

    def release_call(
        self, tasks: Sequence[Task[Any]], *, leaving: str | None = None, claimants: Sequence[str] = ()
    ) -> Call[list[bool]]:
        """Hand tasks back to their lanes; `leaving` names a worker that takes its leave."""
        options = self._options(leaving=leaving, claimants=claimants)
        args = [options, *(part for task in tasks for part in _fence(task))]
        return self._call("release", args, replies.read_flags)

    def release(self, tasks: Sequence[Task[Any]]) -> Flow[None]:
        """Hand tasks back to their lanes; refuse those whose lease is lost."""
        _refuse_lost(tasks, (yield self.release_call(tasks)))

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

    def repair(self, *, dry_run: bool = False, progress: Progress | None = None) -> Flow[RepairReport]:
        """Make what is derived follow from the tasks again; `progress` is told what is done so far."""
        shard = RepairCommands(
            self._root,
            self._ending,
            lease_ms=self._lease_ms(None),
            ttl_ms=to_ms(self.config.xcom_ttl, "xcom_ttl"),
        )
        return shard.repair(dry_run=dry_run, progress=progress)

    def workers(self) -> Call[list[str]]:
        """The ids of the workers that live, up to a thousand of them."""
        options = self._options(limit=LONGEST_BATCH)
        return self._call("workers", (options,), lambda reply: [name.decode() for name in reply])

    # --- cross-task data ---

    def xcom(
        self, user_id: str, *, namespace: str = DEFAULT_NAMESPACE, attempt: Task[Any] | None = None
    ) -> XComCommands:
        """The operations on a user's XCom; those that write count only while `attempt` holds its lease."""
        fence = None if attempt is None else _fence(attempt)
        return XComCommands(self.config, self._root, user_id, namespace=namespace, fence=fence)

    # --- looking ---

    def stats(self) -> Call[list[Any]]:
        """Numbers of the shard, to be read with those of the others."""
        return self._call("stats", (b"{}",), list)

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

    def failed(self, limit: int, offset: int, user_id: str | None) -> Call[tuple[int, list[Task[Any]]]]:
        """Of a page of the dead letter queue how many were looked at, and the tasks (of that user)."""
        user = None if user_id is None else escape(user_id)
        options = self._options(limit=limit, offset=offset, user=user)
        return self._call("failed", (options,), self._reader.failed)


def _fence(task: Task[Any]) -> tuple[str, int, str]:
    """What an attempt shows to prove that it is the one that holds the lease."""
    if task.user_id is None or not task.run.claim:
        raise TaskValidationError(f"task {task.task_id!r} was not popped from the queue: it has no lease")
    return member(task.user_id, task.task_id), task.attempt, task.run.claim


def _refuse_lost(tasks: Sequence[Task[Any]], held: Sequence[bool]) -> None:
    lost = [task for task, fine in zip(tasks, held, strict=True) if not fine]
    if lost:
        error = LeaseLostError(lost[0].user_id or "", lost[0].task_id, lost[0].attempt)
        error.lost = tuple((task.user_id or "", task.task_id) for task in lost)
        raise error
