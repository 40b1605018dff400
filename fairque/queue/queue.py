"""The blocking face of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from fairque.core.calls import single
from fairque.core.models import Priority, Task, TaskState
from fairque.core.pipeline import Pipeline
from fairque.core.xcom_defaults import DEFAULT_NAMESPACE
from fairque.queue.connect import Connection
from fairque.queue.durability import Durability
from fairque.queue.handle import TaskHandle
from fairque.queue.pipeline_handle import PipelineHandle
from fairque.queue.shards import commands_of
from fairque.queue.xcom import XComManager
from fairque.utils.lua_manager import LuaScriptManager

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Unpack

    from fairque.core.calls import Flow
    from fairque.core.config import FairQueueConfig
    from fairque.core.header import OnUpstreamFailure
    from fairque.core.models import Dependencies, Dependency
    from fairque.core.records import Explanation, QueueHealth, QueueStats, RepairReport, UserStats
    from fairque.core.task_graph import TaskGraph
    from fairque.core.units import Moment, Seconds
    from fairque.core.user_policy import UserPolicy
    from fairque.queue.checks import Missing, PushOptions
    from fairque.queue.pushing import Batch

R = TypeVar("R")
T = TypeVar("T")


class TaskQueue:
    """A queue of tasks that gives every user a fair share. Safe to use from several threads.

    Users take turns by start-time fair queueing (P. Goyal, H. M. Vin, H. Cheng: "Start-time Fair Queueing",
    SIGCOMM 1996): while two users both have ready tasks, what they are served differs by at most one task
    each.

    Args:
        source: A URL (`redis://`, `rediss://`, `unix://`, `embedded://`), a `FairQueueConfig`, or nothing:
            then the environment (`FAIRQUE_…`), `fairque.yaml` and localhost decide, in this order.

    Raises:
        ConfigurationError: The source cannot be used; the message says why.
    """

    def __init__(self, source: str | FairQueueConfig | None = None) -> None:
        self._connection = Connection(source)
        self.config = self._connection.config
        self.commands = commands_of(self.config)
        self._durability = Durability(self.config)
        self.manager = LuaScriptManager(self.config.redis, opening=self.commands.opening)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; an embedded server stops with its last user."""
        self.manager.close()
        self._connection.close()

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow of calls to its end (for parts of FairQueue that are written as flows)."""
        return self.manager.run(flow)

    # --- pushing ---

    @overload
    def push(self, task: Task[R], **options: Unpack[PushOptions]) -> TaskHandle[R]: ...
    @overload
    def push(self, task: Pipeline[R], **options: Unpack[PushOptions]) -> PipelineHandle[R]: ...
    def push(
        self,
        task: Task[R] | Pipeline[R],
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
        missing: Missing | None = None,
        durable: bool | None = None,
    ) -> TaskHandle[R] | PipelineHandle[R]:
        """Push one task, or a pipeline of them. The options replace those of the task, or of all steps.

        A repeat with a known `(user_id, task_id)` changes nothing and returns a handle with
        `created=False`; so a push whose reply was lost can be repeated safely.

        Args:
            task: Made by calling a task function, or by `Task.create`; or a pipeline, which comes as a whole.
            user_id: Whose task it is; required here or on the task.
            task_id: 1 to 256 characters, unique within the user; not for a pipeline.
            priority: Among the same user's tasks.
            delay: Seconds or timedelta until it may run; of a pipeline, until its first steps may.
            execute_after: The earliest start: an aware datetime or seconds since 1970.
            expires_at: If it has not started by then it fails as `expired`.
            max_retries: Attempts after the first.
            timeout: Seconds one attempt may take.
            group: A part of the user's work (a project, say); the user's turns go round its groups.
            depends_on: Tasks of the same user (tasks, handles or ids) that must have ended before it starts.
            on_upstream_failure: If one of those fails or is canceled: `wait` (until it is requeued), `cancel`
                this one too, or `run` it anyway.
            missing: `wait` also waits for tasks that are to be pushed later; `fail` if None.
            durable: Return once it cannot be lost with one node (`queue.durability` says what that means); as
                `queue.durable` says if None.

        Returns:
            A handle on the task; on a pipeline a `PipelineHandle`, which has one for each step.

        Raises:
            TaskValidationError: A value is missing or out of its range; nothing was written.
            UnknownDependencyError: It depends on a task that is not known; nothing was written.
            DependencyCycleError: It would wait for itself; nothing was written.
            QueueFullError: The user or the queue has as many waiting tasks as it may; nothing was written.
            DurabilityError: It was carried out, and not confirmed as durable in time; it may be repeated.
            ServerError: The server refused or could not be reached; the push may be repeated.
        """
        options: dict[str, Any] = {
            "user_id": user_id,
            "task_id": task_id,
            "priority": priority,
            "delay": delay,
            "execute_after": execute_after,
            "expires_at": expires_at,
            "max_retries": max_retries,
            "timeout": timeout,
            "group": group,
            "depends_on": depends_on,
            "on_upstream_failure": on_upstream_failure,
            "missing": missing,
        }
        if isinstance(task, Pipeline):
            built, batch = self.commands.push_pipeline(task, **options)
            steps = self._push(batch, durable)
            return PipelineHandle(self, steps[0].user_id, built, steps)
        flow = self.commands.push(task, **options)
        receipt = self.run(self._durability.flow(flow, durable=durable))
        return TaskHandle(self, receipt.task, created=receipt.created)

    def push_batch(
        self,
        tasks: Iterable[Task[R]],
        *,
        user_id: str | None = None,
        missing: Missing | None = None,
        durable: bool | None = None,
    ) -> list[TaskHandle[R]]:
        """Push many tasks, 200 or 4 MiB in a script; several are under way at once.

        Tasks that depend on each other arrive as a whole: none of them starts before the last is there.

        Args:
            tasks: They may belong to different users.
            user_id: The user of those that name none, and of all others as well.
            missing: `wait` lets them depend on tasks that are to be pushed later; `fail` if None.
            durable: As for `push`.

        Returns:
            A handle for each task, in order.

        Raises:
            BatchError: One task is bad (`index` says which); nothing was written.
            UnknownDependencyError: One depends on a task that is neither known nor in the batch; nothing was
                written.
            DependencyCycleError: Some would wait for each other; nothing was written.
            QueueFullError: The batch has no room under a limit of waiting tasks; nothing was written, unless
                others took the room while a batch of over 200 tasks was under way. Pushing it again adds
                what is missing.
            DurabilityError: A part was carried out, and not confirmed as durable in time; the batch may be
                repeated.
            ServerError: The server refused or could not be reached; the whole batch may be repeated.
        """
        batch = self.commands.push_batch(list(tasks), user_id=user_id, missing=missing)
        return self._push(batch, durable)

    def _push(self, batch: Batch, durable: bool | None) -> list[TaskHandle[Any]]:
        replies = []
        for calls in batch.rounds:
            replies += self.manager.execute_all(self._durability.calls(calls, durable=durable))
        created = batch.created(replies)
        return [TaskHandle(self, task, created=flag) for task, flag in zip(batch.tasks, created, strict=True)]

    def add_dependency(
        self,
        user_id: str,
        task_id: str,
        depends_on: Dependency | Dependencies,
        *,
        missing: Missing | None = None,
    ) -> TaskState:
        """Let a task that has not started wait for others of its user, too.

        Args:
            user_id: Whose task it is.
            task_id: Its id.
            depends_on: One or several tasks, handles or ids.
            missing: `wait` also waits for tasks that are to be pushed later; `fail` if None.

        Returns:
            DEFERRED, or the state it had if all of them have finished; CANCELED if one has failed and the
            task's `on_upstream_failure` says so.

        Raises:
            TaskNotFoundError: No such task is known.
            TaskStateError: It has started, or ended.
            UnknownDependencyError: One of the others is not known; nothing was written.
            DependencyCycleError: It would wait for itself; nothing was written.
            GraphTooLargeError: Too many tasks hang together to rule that out; nothing was written.
        """
        return self.run(self.commands.of(user_id).add_dependency(user_id, task_id, depends_on, missing))

    def handle(self, user_id: str, task_id: str) -> TaskHandle[Any]:
        """A handle on a task that was pushed elsewhere. Asks the server nothing yet."""
        return TaskHandle(self, Task(task_id=task_id, user_id=user_id), created=False)

    # --- claiming ---

    def pop(
        self,
        worker_id: str,
        *,
        users: Sequence[str] | None = None,
        lease: Seconds | None = None,
        block: Seconds | None = None,
    ) -> Task[Any] | None:
        """Claim the task that is next in fair order.

        Args:
            worker_id: Who claims it.
            users: Pick among these users only; among all if None.
            lease: Seconds until it must be finished or renewed; the queue's `lease_seconds` if None.
            block: Seconds to wait for a task if none is ready; not at all if None.

        Returns:
            The task, or None. Every popped task must be finished, failed or released.

        Raises:
            TaskValidationError: A value is out of its range.
            ServerError: The server refused or could not be reached.
        """
        return self.run(self.commands.pop(worker_id, users=users, lease=lease, block=block))

    def pop_batch(
        self,
        worker_id: str,
        limit: int,
        *,
        users: Sequence[str] | None = None,
        lease: Seconds | None = None,
        block: Seconds | None = None,
    ) -> list[Task[Any]]:
        """Claim up to `limit` tasks (1 to 1,000), in fair order; otherwise as `pop`."""
        return self.run(self.commands.pop_batch(worker_id, limit, users=users, lease=lease, block=block))

    def steal(
        self,
        worker_id: str,
        *,
        users: Sequence[str] | None = None,
        lease: Seconds | None = None,
        block: Seconds | None = None,
    ) -> Task[Any] | None:
        """Claim a task of others' users, counted as stolen; otherwise as `pop`."""
        return self.run(self.commands.pop(worker_id, users=users, lease=lease, block=block, steal=True))

    def fill_inputs(self, task: Task[Any]) -> Task[Any]:
        """A popped task with results in the place of the outputs that its arguments name. Workers do this.

        Returns:
            The task, with the same lease; the output of a task that failed or was canceled is None.

        Raises:
            ResultExpiredError: A result is no longer kept.
            DecodeError: The body, or a result, cannot be decoded.
            ServerError: The server refused or could not be reached.
        """
        return self.run(self.commands.of(task.user_id).inputs(task))

    # --- ending an attempt ---

    def finish(self, task: Task[Any], result: Any = None) -> None:
        """Finish a popped task with its result. A repeat by the same attempt is harmless.

        Raises:
            LeaseLostError: This attempt no longer holds the lease; nothing was changed.
            EncodeError: The codec cannot carry the result.
            ServerError: The server refused or could not be reached.
        """
        self.run(self.commands.finish([(task, result)]))

    def finish_batch(self, results: Iterable[tuple[Task[Any], Any] | Task[Any]]) -> None:
        """Finish popped tasks, each given as `(task, result)`, or alone for a result of None.

        Raises:
            LeaseLostError: Some attempts no longer hold their lease (`lost` names them); the others of
                their chunk of 200 are finished.
            EncodeError: The codec cannot carry a result; nothing was changed.
            ServerError: The server refused or could not be reached.
        """
        self.run(self.commands.finish(results))

    def fail(self, task: Task[Any], error: BaseException | str, *, failure_type: str = "failed") -> TaskState:
        """Fail a popped task: it is retried later, or goes to the dead letter queue.

        Args:
            task: As popped.
            error: What went wrong; kept in the history, and asked by the retry policy.
            failure_type: `failed` and `timeout` may be retried, `invalid` is not. `unknown` is no failure:
                the task waits for somebody who knows its function, for `queue.unknown_task_grace`.

        Returns:
            SCHEDULED if there will be another attempt, else FAILED.

        Raises:
            LeaseLostError: This attempt no longer holds the lease; nothing was changed.
            ServerError: The server refused or could not be reached.
        """
        return self.run(self.commands.of(task.user_id).fail(task, error, failure_type=failure_type))

    def heartbeat(self, tasks: Iterable[Task[Any]] | Task[Any], *, lease: Seconds | None = None) -> None:
        """Renew the leases of popped tasks from now on.

        Args:
            tasks: One or several, as popped.
            lease: Seconds; the queue's `lease_seconds` if None.

        Raises:
            LeaseLostError: Some leases are lost (`lost` names them); the others were renewed.
            ServerError: The server refused or could not be reached.
        """
        self.run(self.commands.heartbeat(tasks, lease=lease))

    def release(self, tasks: Iterable[Task[Any]] | Task[Any]) -> None:
        """Hand one or several popped tasks back, to the places they had in their lanes. No crash is counted.

        Raises:
            LeaseLostError: Some leases are lost (`lost` names them); the others were handed back.
            ServerError: The server refused or could not be reached.
        """
        self.run(self.commands.release(tasks))

    # --- the rest of a task's life ---

    def reclaim(self, limit: int = 100) -> list[tuple[str, str]]:
        """Take back up to `limit` tasks whose lease has expired. Workers do this by themselves.

        Returns:
            (user_id, task_id) of each; those over `max_crashes` went to the dead letter queue.
        """
        return self.run(self.commands.reclaim(limit))

    def cancel(self, user_id: str, task_id: str, *, cascade: bool = False) -> bool:
        """Cancel a task. A running one learns it at its next heartbeat.

        Of the tasks that depend on it, each does what its `on_upstream_failure` says.

        Args:
            user_id: Whose task it is.
            task_id: Its id.
            cascade: Cancel everything that depends on it, too, directly or not; also where it failed or was
                canceled before.

        Returns:
            True if it is canceled now (or was before), False if it had ended otherwise.

        Raises:
            TaskNotFoundError: No such task is known.
        """
        return self.run(self.commands.of(user_id).cancel(user_id, task_id, cascade=cascade))

    def requeue(self, user_id: str, task_id: str) -> TaskHandle[Any]:
        """Take a task out of the dead letter queue and queue it again; its retries begin anew.

        Raises:
            TaskNotFoundError: No such task is known.
            TaskStateError: It is not FAILED.
        """
        return TaskHandle(self, self.run(self.commands.of(user_id).requeue(user_id, task_id)), created=False)

    def get(self, user_id: str, task_id: str) -> Task[Any] | None:
        """Everything known of a task: state, times, attempts, errors. None if it is not known."""
        return self.run(single(self.commands.of(user_id).get(user_id, task_id)))

    def cleanup_expired_tasks(self, limit: int = 1000) -> int:
        """Remove up to `limit` ended tasks past their retention. Workers do this by themselves.

        Returns:
            How many were removed.
        """
        return self.run(self.commands.cleanup(limit))

    def repair(self, *, dry_run: bool = False) -> RepairReport:
        """Find what a loss of data has left behind, and make what is derived follow from the tasks again.

        Safe while workers run and others push. No task is lost whose record is there: one that is in no place
        is queued again, or put where its run says that it ended.

        Args:
            dry_run: Only look.

        Returns:
            What was found, by kind; `is_clean` where nothing was wrong.

        Raises:
            ServerError: The server refused or could not be reached; repair may be run again.
        """
        return self.run(self.commands.repair(dry_run=dry_run))

    # --- shares and limits ---

    def set_policy(self, user_id: str, policy: UserPolicy) -> None:
        """Set a user's share and limits, in place of what was set before; its backlog follows at once.

        What the policy leaves unset comes from the configuration: the user's entry in `users`, then
        `default`. A user paused by `pause_user` stays so, unless the policy sets `paused` itself.

        Raises:
            TaskValidationError: The user id cannot be one, or the policy is no `UserPolicy`.
            ServerError: The server refused or could not be reached.
        """
        self.run(self.commands.of(user_id).policies.set(user_id, policy))

    def update_policy(self, user_id: str, **changes: Any) -> UserPolicy:
        """Change some fields of what was set for a user, and leave the others; the policy that counts then.

        Raises:
            ConfigurationError: A field is unknown or out of its range; the message names it.
            ServerError: The server refused or could not be reached.
        """
        return self.run(self.commands.of(user_id).policies.update(user_id, changes))

    def get_policy(self, user_id: str) -> UserPolicy:
        """The policy that counts for a user: what was set, over the configuration's."""
        return self.run(self.commands.of(user_id).policies.get(user_id))

    def clear_policy(self, user_id: str) -> None:
        """Forget what was set for a user, a pause included: the configuration's policy counts again."""
        self.run(self.commands.of(user_id).policies.clear(user_id))

    def pause_user(self, user_id: str) -> None:
        """Start no more tasks of a user. It can still push; what runs goes on."""
        self.run(self.commands.of(user_id).policies.pause_user(user_id, paused=True))

    def resume_user(self, user_id: str) -> None:
        """Let a paused user go on."""
        self.run(self.commands.of(user_id).policies.pause_user(user_id, paused=False))

    def pause(self) -> None:
        """Start no more tasks of anybody. Pushes are accepted; what runs goes on."""
        self.run(self.commands.pause(paused=True))

    def resume(self) -> None:
        """Let a paused queue go on."""
        self.run(self.commands.pause(paused=False))

    # --- cross-task data ---

    def xcom(self, user_id: str, *, namespace: str = DEFAULT_NAMESPACE) -> XComManager:
        """The cross-task data of a user. Closing the manager leaves this queue open.

        Args:
            user_id: Whose data.
            namespace: Where the manager's calls go that name none.

        Raises:
            TaskValidationError: The user id or the namespace cannot be one.
        """
        return XComManager(self, user_id, namespace=namespace)

    # --- looking ---

    def stats(self) -> QueueStats:
        """How many tasks are where, and how many transitions there were."""
        return self.run(self.commands.stats())

    def health(self) -> QueueHealth:
        """Whether the server answers and is set up for a queue; `problems` say what to change."""
        return self.run(self.commands.health())

    def users(self, limit: int = 100, offset: int = 0) -> list[UserStats]:
        """A page of the users known, those with live tasks first."""
        return self.run(self.commands.users(limit, offset))

    def user_stats(self, user_id: str) -> UserStats | None:
        """One user's part in the queue; None if the user is not known."""
        return self.run(self.commands.of(user_id).user_stats(user_id))

    def explain(self, user_id: str, task_id: str) -> Explanation:
        """Why a task is not running: who is ahead, what holds its user back, and when it may start.

        Raises:
            TaskNotFoundError: No such task is known.
        """
        return self.run(self.commands.of(user_id).explain(user_id, task_id))

    def graph(self, user_id: str, task_id: str, limit: int = 10_000) -> TaskGraph:
        """The tasks that depend on one and that it depends on, directly or not, with their states.

        Args:
            user_id: Whose task it is.
            task_id: Its id.
            limit: How many tasks at most; `is_whole` tells whether these are all.

        Raises:
            TaskNotFoundError: No such task is known.
        """
        return self.run(self.commands.of(user_id).graph(user_id, task_id, limit))

    def failed_tasks(self, user_id: str | None = None, limit: int = 100, offset: int = 0) -> list[Task[Any]]:
        """A page of the dead letter queue, the latest first.

        Args:
            user_id: Only this user's; looks through the whole dead letter queue for them, in steps.
            limit: 1 to 1,000.
            offset: How many to skip.
        """
        return self.run(self.commands.failed_tasks(user_id, limit, offset))
