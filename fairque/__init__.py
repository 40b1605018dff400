"""FairQueue: a task queue on Redis or Valkey that gives every user a fair share of the workers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fairque.core.config import (
        FairQueueConfig,
        QueueConfig,
        RedisConfig,
        Retention,
        SchedulerConfig,
        SentinelConfig,
        UserPolicy,
        WorkerConfig,
        load_scheduler_config,
        load_worker_config,
    )
    from fairque.core.context import TaskContext, current_task
    from fairque.core.exceptions import (
        BatchError,
        ConfigurationError,
        DecodeError,
        EmbeddedServerError,
        EncodeError,
        FairQueueError,
        FunctionConflictError,
        LeaseLostError,
        PayloadTooLargeError,
        ResultExpiredError,
        ResultTimeoutError,
        ScriptError,
        ServerError,
        ServerLoadingError,
        ServerOutOfMemoryError,
        ServerReadOnlyError,
        ServerUnavailableError,
        SlotMovedError,
        TaskCanceledError,
        TaskError,
        TaskFailedError,
        TaskNotFoundError,
        TaskStateError,
        TaskValidationError,
        UnknownFunctionError,
    )
    from fairque.core.function import TaskFunction
    from fairque.core.models import Priority, QueueHealth, QueueStats, Task, TaskState, UserStats
    from fairque.core.retry import Retry
    from fairque.decorator import task
    from fairque.queue.async_queue import AsyncTaskQueue
    from fairque.queue.handle import AsyncTaskHandle, TaskHandle
    from fairque.queue.queue import TaskQueue
    from fairque.worker.async_worker import AsyncWorker
    from fairque.worker.handler import AsyncTaskHandler, TaskHandler
    from fairque.worker.worker import Worker

# Where each public name lives. They load when they are first asked for, so that importing fairque stays
# light: a producer loads no worker, and nobody loads pydantic before a configuration is made.
_HOMES = {
    "fairque.core.config": (
        "FairQueueConfig",
        "QueueConfig",
        "RedisConfig",
        "Retention",
        "SchedulerConfig",
        "SentinelConfig",
        "UserPolicy",
        "WorkerConfig",
        "load_scheduler_config",
        "load_worker_config",
    ),
    "fairque.core.context": ("TaskContext", "current_task"),
    "fairque.core.exceptions": (
        "BatchError",
        "ConfigurationError",
        "DecodeError",
        "EmbeddedServerError",
        "EncodeError",
        "FairQueueError",
        "FunctionConflictError",
        "LeaseLostError",
        "PayloadTooLargeError",
        "ResultExpiredError",
        "ResultTimeoutError",
        "ScriptError",
        "ServerError",
        "ServerLoadingError",
        "ServerOutOfMemoryError",
        "ServerReadOnlyError",
        "ServerUnavailableError",
        "SlotMovedError",
        "TaskCanceledError",
        "TaskError",
        "TaskFailedError",
        "TaskNotFoundError",
        "TaskStateError",
        "TaskValidationError",
        "UnknownFunctionError",
    ),
    "fairque.core.function": ("TaskFunction",),
    "fairque.core.models": ("Priority", "QueueHealth", "QueueStats", "Task", "TaskState", "UserStats"),
    "fairque.core.retry": ("Retry",),
    "fairque.decorator": ("task",),
    "fairque.queue.async_queue": ("AsyncTaskQueue",),
    "fairque.queue.handle": ("AsyncTaskHandle", "TaskHandle"),
    "fairque.queue.queue": ("TaskQueue",),
    "fairque.worker.async_worker": ("AsyncWorker",),
    "fairque.worker.handler": ("AsyncTaskHandler", "TaskHandler"),
    "fairque.worker.worker": ("Worker",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'fairque' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
