"""Every error FairQueue raises. All derive from `FairQueueError`; each message says what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairque.core import portable

if TYPE_CHECKING:
    from collections.abc import Sequence


class FairQueueError(portable.Portable):
    """Base of all errors raised by FairQueue."""


# --- what the caller passed ---------------------------------------------------------------------------


class ConfigurationError(FairQueueError):
    """A setting is unknown, missing or wrong; the message names the file and the path of the key."""


class TaskValidationError(FairQueueError, ValueError):
    """A task was refused before anything was written; the message names the value and the limit."""


class PayloadTooLargeError(TaskValidationError):
    """The encoded payload, result or XCom value exceeds the limit that `setting` names."""

    def __init__(
        self, size: int, limit: int, what: str = "payload", setting: str = "queue.max_payload_bytes"
    ) -> None:
        super().__init__(
            f"the encoded {what} has {size:,} bytes, the limit is {limit:,}: store the data elsewhere and "
            f"pass a reference, or raise {setting}"
        )
        self.size = size
        self.limit = limit
        self.setting = setting


class QueueFullError(FairQueueError):
    """A push was refused: the user, or the queue, may not have so many waiting tasks. Nothing was written.

    `user_id` is None where the queue's own limit was met; `current` is how many are waiting, and `coming` how
    many the push would add. Where `coming` alone is more than `limit`, the push never fits: split it.
    """

    def __init__(self, user_id: str | None, limit: int, current: int, coming: int = 1) -> None:
        whose = "the queue" if user_id is None else f"user {user_id!r}"
        setting = "queue.max_queued" if user_id is None else "max_queued of its policy"
        push = f", this push adds {coming:,}" if coming > 1 else ""
        advice = "push again when some have run" if coming <= limit else "it never fits: push fewer at a time"
        super().__init__(
            f"{whose} has {current:,} waiting tasks{push} and the limit is {limit:,}: {advice}, "
            f"or raise {setting}"
        )
        self.user_id = user_id
        self.limit = limit
        self.current = current
        self.coming = coming


class DependencyCycleError(TaskValidationError):
    """A dependency was refused: what depends on each other in a circle could never start.

    `cycle` holds the names in the direction in which work would flow, the first one again at the end. The
    message leaves out the middle of a long one.
    """

    def __init__(self, cycle: tuple[str, ...]) -> None:
        shown, most = list(cycle), 10
        if len(cycle) > most:
            shown = [*cycle[: most // 2], f"… {len(cycle) - most:,} more …", *cycle[-most // 2 :]]
        super().__init__(
            f"the dependencies would form a cycle, and none of it could ever start: {' → '.join(shown)}; "
            "leave out one of these arrows"
        )
        self.cycle = cycle


class EncodeError(TaskValidationError):
    """A value cannot be carried by the codec; the message says which argument."""


class ScheduleValidationError(TaskValidationError):
    """A schedule was refused; the message names the field, the value and what is allowed."""


class DecodeError(FairQueueError):
    """A body or result cannot be decoded, or does not fit the function's annotations."""


class FunctionConflictError(FairQueueError):
    """Two different functions were registered under one name."""


class UnknownFunctionError(FairQueueError):
    """No function of this name is registered in this process."""

    def __init__(self, name: str | None) -> None:
        super().__init__(
            f"no function named {name!r} is registered here: import the module that defines it before the "
            "worker starts"
            if name
            else "this task names no function: give the worker a handler (handler=…) for such tasks"
        )
        self.name = name


# --- what became of a task ----------------------------------------------------------------------------


class TaskError(FairQueueError):
    """Base of the errors about one task; carries `user_id` and `task_id`."""

    def __init__(self, user_id: str, task_id: str, message: str) -> None:
        super().__init__(f"task {task_id!r} of user {user_id!r} {message}")
        self.user_id = user_id
        self.task_id = task_id


class TaskNotFoundError(TaskError):
    """The server knows no such task: never pushed, or cleaned up after its retention."""

    def __init__(self, user_id: str, task_id: str, message: str | None = None) -> None:
        super().__init__(
            user_id,
            task_id,
            message or "is not known: it was never pushed, or its retention has passed (queue.retention)",
        )


class ScheduleNotFoundError(FairQueueError):
    """There is no such schedule: it was never added, or was removed."""

    def __init__(self, user_id: str, schedule_id: str) -> None:
        super().__init__(
            f"user {user_id!r} has no schedule {schedule_id!r}: list_schedules(user_id=…) shows those that "
            "there are"
        )
        self.user_id = user_id
        self.schedule_id = schedule_id


class ScheduleExistsError(FairQueueError):
    """A schedule was not added: another one has its id. Nothing was changed."""

    def __init__(self, user_id: str, schedule_id: str) -> None:
        super().__init__(
            f"user {user_id!r} has another schedule {schedule_id!r}: give replace=True to put this one in "
            "its place, change it with update_schedule, or choose another id"
        )
        self.user_id = user_id
        self.schedule_id = schedule_id


class ResultExpiredError(TaskNotFoundError):
    """The task has finished, but its result is no longer kept."""

    def __init__(self, user_id: str, task_id: str) -> None:
        super().__init__(
            user_id,
            task_id,
            "has no result on the server any more: read it sooner, or raise queue.retention.finished",
        )


class TaskFailedError(TaskError):
    """The task is in the dead letter queue. `failure_type` and `error` tell why."""

    def __init__(self, user_id: str, task_id: str, failure_type: str, error: str) -> None:
        super().__init__(
            user_id,
            task_id,
            f"failed ({failure_type}): {error or 'no message'} — requeue(user_id, task_id) runs it again",
        )
        self.failure_type = failure_type
        self.error = error


class TaskCanceledError(TaskError):
    """The task was canceled before it could finish."""

    def __init__(self, user_id: str, task_id: str) -> None:
        super().__init__(user_id, task_id, "was canceled; push it again under a new id if it is still wanted")


class ResultTimeoutError(TaskError, TimeoutError):
    """The task had not ended when the caller's timeout passed. It goes on; ask again."""

    def __init__(self, user_id: str, task_id: str, seconds: float) -> None:
        super().__init__(user_id, task_id, f"has not ended within {seconds:g} s; it goes on, ask again later")
        self.seconds = seconds


class TaskStateError(TaskError):
    """The operation does not apply to the state the task is in."""


class LeaseLostError(TaskError):
    """This attempt no longer holds the lease, so its outcome was refused; another attempt may be running.

    For a batch it names the first such task; `lost` holds (user_id, task_id) of all. The rest went through.
    """

    lost: tuple[tuple[str, str], ...]

    def __init__(self, user_id: str, task_id: str, attempt: int) -> None:
        self.lost = ((user_id, task_id),)
        super().__init__(
            user_id,
            task_id,
            f"is no longer leased to attempt {attempt}: drop its outcome; it was canceled, or its lease ran "
            "out and it is run again",
        )
        self.attempt = attempt


class UnknownDependencyError(TaskError, TaskValidationError):
    """A task depends on one that is neither known to the server nor pushed with it. Nothing was written.

    `dependency` is the id of the unknown one.
    """

    def __init__(self, user_id: str, task_id: str, dependency: str) -> None:
        super().__init__(
            user_id,
            task_id,
            f"depends on {dependency!r}, which is not known: push both together, push that one first, or "
            "wait for it with missing='wait'; a task is forgotten after its retention (queue.retention), and "
            "one that was pushed as a step of a pipeline has another id: that of the pipeline's handle",
        )
        self.dependency = dependency


class GraphTooLargeError(TaskError, TaskValidationError):
    """Too many tasks hang together for the server to tell whether a dependency closes a cycle."""

    def __init__(self, user_id: str, task_id: str, limit: int) -> None:
        super().__init__(
            user_id,
            task_id,
            f"cannot be given this dependency: over {limit:,} others would have to be looked at to rule "
            "out a cycle — name it when the tasks are pushed",
        )
        self.limit = limit


class BatchError(TaskValidationError):
    """One task of a batch was refused, so none was pushed. `index` says which; the cause says why."""

    def __init__(self, index: int, cause: Exception) -> None:
        super().__init__(f"task {index} of the batch was refused, nothing was pushed: {cause}")
        self.index = index


class TaskProcessError(FairQueueError):
    """The process that ran a task, or should have, came to an end of its own; the message tells how."""


# --- cross-task data ----------------------------------------------------------------------------------


class XComKeyError(FairQueueError, KeyError):
    """There is no value under this key: it was never pushed, was removed, or has expired."""

    def __init__(self, user_id: str, namespace: str, key: str) -> None:
        super().__init__(
            f"user {user_id!r} has no value {key!r} in namespace {namespace!r}: it was never pushed there, "
            "was removed, or has expired; push it first, with a longer ttl, or pull it with a default"
        )
        self.user_id = user_id
        self.namespace = namespace
        self.key = key

    def __str__(self) -> str:
        """The message as it is; a KeyError would show its repr."""
        return str(self.args[0])


class XComUnavailableError(FairQueueError, RuntimeError):
    """The XCom of a task was asked for where there is none, or none that can be used."""

    def __init__(self, what: str, why: str | None = None) -> None:
        why = why or (
            "no worker runs one here: elsewhere use XComManager(source, user_id), or call it within a "
            "TaskContext that has an open_xcom"
        )
        super().__init__(f"{what} needs the XCom of a running task, and {why}")
        self.what = what


# --- the server ---------------------------------------------------------------------------------------


class ServerError(FairQueueError):
    """Base of the errors that come from the server or the way to it."""


class QueueClosedError(FairQueueError, RuntimeError):
    """The queue was closed: open a new one."""

    def __init__(self) -> None:
        super().__init__("this queue has been closed: open a new one, or close it later")


class UnsafeServerError(ConfigurationError):
    """The server may drop tasks: its `maxmemory-policy`, here `policy`, is not `noeviction`."""

    def __init__(self, policy: str) -> None:
        super().__init__(
            f"the server's maxmemory-policy is {policy}: once its memory is full it drops keys, and tasks "
            "with them — CONFIG SET maxmemory-policy noeviction, and a line `maxmemory-policy noeviction` in "
            "its configuration file; or allow it knowingly with redis.allow_eviction: true"
        )
        self.policy = policy


class ServerPermissionError(ServerError):
    """The server does not let this user in (WRONGPASS), or its ACL lacks what a queue needs (NOPERM)."""


class ForkedLoopError(FairQueueError, RuntimeError):
    """A child of a fork went on with its parent's event loop, whose connections belong to the parent."""

    def __init__(self) -> None:
        super().__init__(
            "this event loop was running when the process forked and serves the parent: in the child, use "
            "the queue from a new one (asyncio.run), and leave the child by os._exit"
        )


class ServerUnavailableError(ServerError):
    """The server could not be reached or did not answer in time."""


class DurabilityError(ServerError):
    """A push was carried out, and not confirmed as durable in time: the tasks may exist, and may be lost.

    Attributes:
        tasks: (user_id, task_id) of each task of the script that was not confirmed.
        confirmed: How many replicas had it.
        wanted: How many were asked for.
    """

    def __init__(self, tasks: tuple[tuple[str, str], ...], confirmed: int, wanted: int, why: str) -> None:
        what = "the push" if len(tasks) != 1 else f"the push of task {tasks[0][1]!r} of user {tasks[0][0]!r}"
        many = f" of {len(tasks):,} tasks" if len(tasks) > 1 else ""
        super().__init__(
            f"{what}{many} was carried out, but {why}: it may exist, and be lost in a failover — push it "
            "again, which adds nothing twice and asks again"
        )
        self.tasks = tasks
        self.confirmed = confirmed
        self.wanted = wanted


class ServerOutOfMemoryError(ServerError):
    """The server reached `maxmemory` and refuses writes (OOM)."""


class ServerReadOnlyError(ServerError):
    """The server is a replica (READONLY): a failover is under way, or the address is wrong."""


class ServerLoadingError(ServerError):
    """The server is loading its data (LOADING) and will answer soon."""


class SlotMovedError(ServerError):
    """The cluster slot lives elsewhere (MOVED, ASK): use a cluster client (redis.cluster)."""


class ScriptError(ServerError):
    """A script failed in a way it should not; the message carries the server's words."""

    def __init__(self, script: str, message: str) -> None:
        super().__init__(f"script {script!r} failed: {message}")
        self.script = script


class ScriptSourceError(FairQueueError):
    """A Lua source cannot be assembled: an include is missing, repeated or circular."""

    def __init__(self, file: str, message: str, chain: Sequence[str] = ()) -> None:
        via = f" (included by {' → '.join(chain)})" if chain else ""
        super().__init__(f"{file}: {message}{via}")
        self.file = file


class EmbeddedServerError(FairQueueError):
    """The embedded server could not be found, started or joined."""
