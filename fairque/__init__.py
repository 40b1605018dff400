"""FairQueue: a task queue on Redis or Valkey that gives every user a fair share of the workers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fairque.core.context import TaskContext, TaskInterrupted, current_task
from fairque.core.exceptions import (
    BatchError,
    ConfigurationError,
    DecodeError,
    DependencyCycleError,
    DurabilityError,
    EmbeddedServerError,
    EncodeError,
    FairQueueError,
    ForkedLoopError,
    FunctionConflictError,
    GraphTooLargeError,
    LeaseLostError,
    PayloadTooLargeError,
    QueueClosedError,
    QueueFullError,
    ResultExpiredError,
    ResultTimeoutError,
    ScheduleExistsError,
    ScheduleNotFoundError,
    ScheduleValidationError,
    ScriptError,
    ServerError,
    ServerLoadingError,
    ServerOutOfMemoryError,
    ServerPermissionError,
    ServerReadOnlyError,
    ServerUnavailableError,
    SlotMovedError,
    TaskCanceledError,
    TaskError,
    TaskFailedError,
    TaskNotFoundError,
    TaskProcessError,
    TaskStateError,
    TaskValidationError,
    UnknownDependencyError,
    UnknownFunctionError,
    UnsafeServerError,
    XComKeyError,
    XComUnavailableError,
)
from fairque.core.function import TaskFunction
from fairque.core.models import Priority, Task, TaskState
from fairque.core.pipeline import Pipeline, parallel, sequential
from fairque.core.records import Attempt, Explanation, QueueHealth, QueueStats, RepairReport, UserStats
from fairque.core.retry import Retry
from fairque.core.schedule import Schedule
from fairque.core.task_graph import GraphNode, TaskGraph
from fairque.core.xcom import xcom_pull, xcom_push, xcom_task
from fairque.decorator import task
from fairque.queue.handle import AsyncTaskHandle, TaskHandle
from fairque.queue.pipeline_handle import AsyncPipelineHandle, PipelineHandle, PipelineProgress
from fairque.queue.xcom import AsyncXComManager, XComManager
from fairque.worker.handler import AsyncTaskHandler, TaskHandler

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
    from fairque.queue.async_queue import AsyncTaskQueue
    from fairque.queue.queue import TaskQueue
    from fairque.scheduler.async_scheduler import AsyncTaskScheduler
    from fairque.scheduler.scheduler import TaskScheduler
    from fairque.worker.async_worker import AsyncWorker
    from fairque.worker.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "AsyncPipelineHandle",
    "AsyncTaskHandle",
    "AsyncTaskHandler",
    "AsyncTaskQueue",
    "AsyncTaskScheduler",
    "AsyncWorker",
    "AsyncXComManager",
    "Attempt",
    "BatchError",
    "ConfigurationError",
    "DecodeError",
    "DependencyCycleError",
    "DurabilityError",
    "EmbeddedServerError",
    "EncodeError",
    "Explanation",
    "FairQueueConfig",
    "FairQueueError",
    "ForkedLoopError",
    "FunctionConflictError",
    "GraphNode",
    "GraphTooLargeError",
    "LeaseLostError",
    "PayloadTooLargeError",
    "Pipeline",
    "PipelineHandle",
    "PipelineProgress",
    "Priority",
    "QueueClosedError",
    "QueueConfig",
    "QueueFullError",
    "QueueHealth",
    "QueueStats",
    "RedisConfig",
    "RepairReport",
    "ResultExpiredError",
    "ResultTimeoutError",
    "Retention",
    "Retry",
    "Schedule",
    "ScheduleExistsError",
    "ScheduleNotFoundError",
    "ScheduleValidationError",
    "SchedulerConfig",
    "ScriptError",
    "SentinelConfig",
    "ServerError",
    "ServerLoadingError",
    "ServerOutOfMemoryError",
    "ServerPermissionError",
    "ServerReadOnlyError",
    "ServerUnavailableError",
    "SlotMovedError",
    "Task",
    "TaskCanceledError",
    "TaskContext",
    "TaskError",
    "TaskFailedError",
    "TaskFunction",
    "TaskGraph",
    "TaskHandle",
    "TaskHandler",
    "TaskInterrupted",
    "TaskNotFoundError",
    "TaskProcessError",
    "TaskQueue",
    "TaskScheduler",
    "TaskState",
    "TaskStateError",
    "TaskValidationError",
    "UnknownDependencyError",
    "UnknownFunctionError",
    "UnsafeServerError",
    "UserPolicy",
    "UserStats",
    "Worker",
    "WorkerConfig",
    "XComKeyError",
    "XComManager",
    "XComUnavailableError",
    "current_task",
    "load_scheduler_config",
    "load_worker_config",
    "parallel",
    "sequential",
    "task",
    "xcom_pull",
    "xcom_push",
    "xcom_task",
]


# What needs redis or pydantic loads when it is first asked for: both take longer than all the rest, and a
# module of tasks, in a process that only runs them, needs neither.
_HOMES = {
    "AsyncTaskQueue": "fairque.queue.async_queue",
    "AsyncTaskScheduler": "fairque.scheduler.async_scheduler",
    "AsyncWorker": "fairque.worker.async_worker",
    "TaskQueue": "fairque.queue.queue",
    "TaskScheduler": "fairque.scheduler.scheduler",
    "Worker": "fairque.worker.worker",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fairque' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "fairque.core.config")), name)
