"""What an error means: of a script, of the server, of the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis import exceptions as redis_errors

from fairque.core.exceptions import (
    DependencyCycleError,
    FairQueueError,
    GraphTooLargeError,
    LeaseLostError,
    QueueFullError,
    ScriptError,
    ServerError,
    ServerLoadingError,
    ServerOutOfMemoryError,
    ServerPermissionError,
    ServerReadOnlyError,
    ServerUnavailableError,
    SlotMovedError,
    TaskNotFoundError,
    TaskValidationError,
    UnknownDependencyError,
)
from fairque.core.keys import split_member, unescape

if TYPE_CHECKING:
    from collections.abc import Callable


def meaning_of(error: Exception, script: str) -> Exception:
    """The FairQueue error that a client's or the server's error means."""
    if isinstance(error.__cause__, redis_errors.AuthenticationError):
        error = error.__cause__  # which the asyncio client hides in a lost connection
    for kind, meaning in _SERVER_ERRORS:
        if isinstance(error, kind):
            return meaning(_advice(meaning, error))
    if not isinstance(error, redis_errors.RedisError):
        return error
    if any(words in str(error) for words in _DENIED_IN_SCRIPT):
        return ServerPermissionError(_advice(ServerPermissionError, error))
    refusal = refusal_in(str(error))
    if refusal is not None:
        return refusal
    code = str(error).partition(" ")[0]
    if code in _SERVER_CODES:
        return _SERVER_CODES[code](_advice(_SERVER_CODES[code], error))
    return ScriptError(script, str(error))


def refusal_in(text: str) -> FairQueueError | None:
    """The error that a script means by `CODE detail`; None for any other text."""
    code, _, detail = text.partition(" ")
    return _CODES[code](detail) if code in _CODES else None


def _queue_full(limit: str, current: str, coming: str, user: str = "") -> QueueFullError:
    return QueueFullError(unescape(user) or None, int(limit), int(current), int(coming))


def _graph_too_large(limit: str, task: str) -> GraphTooLargeError:
    return GraphTooLargeError(*split_member(task.encode()), int(limit))


def _lease_lost(attempt: str, name: str) -> LeaseLostError:
    return LeaseLostError(*split_member(name.encode()), int(attempt))


# What a script answers with `redis.error_reply("CODE detail")`, and the exception that it means.
_CODES: dict[str, Callable[[str], FairQueueError]] = {
    "UNKNOWNTASK": lambda detail: TaskNotFoundError(*split_member(detail.encode())),
    "QUEUEFULL": lambda detail: _queue_full(*detail.split(" ", 3)),
    "UNKNOWNDEPENDENCY": lambda detail: UnknownDependencyError(*map(unescape, detail.split(":"))),
    "CYCLE": lambda detail: DependencyCycleError(tuple(unescape(task) for task in detail.split(":")[1:])),
    "GRAPHTOOLARGE": lambda detail: _graph_too_large(*detail.split(" ", 1)),
    "LEASELOST": lambda detail: _lease_lost(*detail.split(" ", 1)),
    "BADTASK": lambda detail: TaskValidationError("task {} of the batch: {}".format(*detail.split(" ", 1))),
}

# The server's own words, by the first word of its reply.
_SERVER_CODES: dict[str, type[ServerError]] = {
    "OOM": ServerOutOfMemoryError,
    "READONLY": ServerReadOnlyError,
    "LOADING": ServerLoadingError,
    "MASTERDOWN": ServerLoadingError,
    "MOVED": SlotMovedError,
    "ASK": SlotMovedError,
    # What passes by itself: a long script, replicas that are away (min-replicas-to-write), a full disk.
    "BUSY": ServerUnavailableError,
    "NOREPLICAS": ServerUnavailableError,
    "MISCONF": ServerUnavailableError,
    "UNBLOCKED": ServerUnavailableError,
}

_SERVER_ERRORS: tuple[tuple[type[Exception], type[ServerError]], ...] = (
    (redis_errors.NoPermissionError, ServerPermissionError),
    (redis_errors.AuthenticationError, ServerPermissionError),
    (redis_errors.OutOfMemoryError, ServerOutOfMemoryError),
    (redis_errors.ReadOnlyError, ServerReadOnlyError),
    (redis_errors.BusyLoadingError, ServerLoadingError),
    (redis_errors.MasterDownError, ServerLoadingError),
    (redis_errors.MovedError, SlotMovedError),
    (redis_errors.AskError, SlotMovedError),
    (redis_errors.ClusterDownError, ServerUnavailableError),
    (redis_errors.TryAgainError, ServerUnavailableError),
    (redis_errors.ClusterError, ServerUnavailableError),
    (redis_errors.ConnectionError, ServerUnavailableError),
    (redis_errors.TimeoutError, ServerUnavailableError),
    (redis_errors.RedisClusterException, ServerUnavailableError),
    (OSError, ServerUnavailableError),
)


# What a script ends with that may not do something. It has no word of its own.
_DENIED_IN_SCRIPT = ("ACL failure in script", "The user executing the script can't")


def _advice(kind: type[ServerError], error: Exception) -> str:
    text = str(error) or type(error).__name__
    if kind is ServerOutOfMemoryError:
        return (
            f"the server is out of memory (maxmemory): {text} — let workers drain the queue, or give it more"
        )
    if isinstance(error, redis_errors.AuthenticationError):
        return f"the server does not let this user in: {text} — check redis.username and redis.password"
    if kind is ServerPermissionError:
        return (
            f"the server's ACL does not let this user do what a queue needs: {text} — make it anew with the "
            "rule that `fairque acl` prints for this prefix and queue"
        )
    if kind is ServerUnavailableError and isinstance(error, redis_errors.ResponseError):
        return f"the server refuses for now: {text} — try again, or see what it lacks"
    if kind is ServerUnavailableError:
        return f"the server cannot be reached: {text} — check the URL and that the server is running"
    return text
