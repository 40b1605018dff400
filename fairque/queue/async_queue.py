"""The asyncio face of the queue. What each method does is said once, in `TaskQueue`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from fairque.core.calls import single
from fairque.core.models import Priority, Task, TaskState
from fairque.core.pipeline import Pipeline
from fairque.core.xcom_defaults import DEFAULT_NAMESPACE
from fairque.queue.connect import Connection
from fairque.queue.docstrings import take_docstrings
from fairque.queue.durability import Durability
from fairque.queue.handle import AsyncTaskHandle, TaskHandle
from fairque.queue.pipeline_handle import AsyncPipelineHandle, PipelineHandle
from fairque.queue.queue import TaskQueue
from fairque.queue.shards import commands_of
from fairque.queue.xcom import AsyncXComManager, XComManager
from fairque.utils.async_lua_manager import AsyncLuaScriptManager

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


class AsyncTaskQueue:
    """`TaskQueue` for asyncio: the same operations with `await`. Belongs to one event loop.

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
        self.manager = AsyncLuaScriptManager(self.config.redis, opening=self.commands.opening)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self.manager.close()
        self._connection.close()

    async def run(self, flow: Flow[T]) -> T:
        return await self.manager.run(flow)

    # --- pushing ---

    @overload
    async def push(self, task: Task[R], **options: Unpack[PushOptions]) -> AsyncTaskHandle[R]: ...
    @overload
    async def push(self, task: Pipeline[R], **options: Unpack[PushOptions]) -> AsyncPipelineHandle[R]: ...
    async def push(
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
    ) -> AsyncTaskHandle[R] | AsyncPipelineHandle[R]:
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
            steps = await self._push(batch, durable)
            return AsyncPipelineHandle(self, steps[0].user_id, built, steps)
        flow = self.commands.push(task, **options)
        receipt = await self.run(self._durability.flow(flow, durable=durable))
        return AsyncTaskHandle(self, receipt.task, created=receipt.created)

    async def push_batch(
        self,
        tasks: Iterable[Task[R]],
        *,
        user_id: str | None = None,
        missing: Missing | None = None,
        durable: bool | None = None,
    ) -> list[AsyncTaskHandle[R]]:
        batch = self.commands.push_batch(list(tasks), user_id=user_id, missing=missing)
        return await self._push(batch, durable)

    async def _push(self, batch: Batch, durable: bool | None) -> list[AsyncTaskHandle[Any]]:
        replies = []
        for calls in batch.rounds:
            replies += await self.manager.execute_all(self._durability.calls(calls, durable=durable))
        created = batch.created(replies)
        return [
            AsyncTaskHandle(self, task, created=flag) for task, flag in zip(batch.tasks, created, strict=True)
        ]

    async def add_dependency(
        self,
        user_id: str,
        task_id: str,
        depends_on: Dependency | Dependencies,
        *,
        missing: Missing | None = None,
    ) -> TaskState:
        return await self.run(self.commands.of(user_id).add_dependency(user_id, task_id, depends_on, missing))

    def handle(self, user_id: str, task_id: str) -> AsyncTaskHandle[Any]:
        return AsyncTaskHandle(self, Task(task_id=task_id, user_id=user_id), created=False)

    # --- claiming ---

    async def pop(
        self,
        worker_id: str,
        *,
        users: Sequence[str] | None = None,
        lease: Seconds | None = None,
        block: Seconds | None = None,
    ) -> Task[Any] | None:
        return await self.run(self.commands.pop(worker_id, users=users, lease=lease, block=block))

    async def pop_batch(
        self,
        worker_id: str,
        limit: int,
        *,
        users: Sequence[str] | None = None,
        lease: Seconds | None = None,
        block: Seconds | None = None,
    ) -> list[Task[Any]]:
        return await self.run(
            self.commands.pop_batch(worker_id, limit, users=users, lease=lease, block=block)
        )

    async def steal(
        self,
        worker_id: str,
        *,
        users: Sequence[str] | None = None,
        lease: Seconds | None = None,
        block: Seconds | None = None,
    ) -> Task[Any] | None:
        return await self.run(self.commands.pop(worker_id, users=users, lease=lease, block=block, steal=True))

    async def fill_inputs(self, task: Task[Any]) -> Task[Any]:
        return await self.run(self.commands.of(task.user_id).inputs(task))

    # --- ending an attempt ---

    async def finish(self, task: Task[Any], result: Any = None) -> None:
        await self.run(self.commands.finish([(task, result)]))

    async def finish_batch(self, results: Iterable[tuple[Task[Any], Any] | Task[Any]]) -> None:
        await self.run(self.commands.finish(results))

    async def fail(
        self, task: Task[Any], error: BaseException | str, *, failure_type: str = "failed"
    ) -> TaskState:
        return await self.run(self.commands.of(task.user_id).fail(task, error, failure_type=failure_type))

    async def heartbeat(
        self, tasks: Iterable[Task[Any]] | Task[Any], *, lease: Seconds | None = None
    ) -> None:
        await self.run(self.commands.heartbeat(tasks, lease=lease))

    async def release(self, tasks: Iterable[Task[Any]] | Task[Any]) -> None:
        await self.run(self.commands.release(tasks))

    # --- the rest of a task's life ---

    async def reclaim(self, limit: int = 100) -> list[tuple[str, str]]:
        return await self.run(self.commands.reclaim(limit))

    async def cancel(self, user_id: str, task_id: str, *, cascade: bool = False) -> bool:
        return await self.run(self.commands.of(user_id).cancel(user_id, task_id, cascade=cascade))

    async def requeue(self, user_id: str, task_id: str) -> AsyncTaskHandle[Any]:
        return AsyncTaskHandle(
            self, await self.run(self.commands.of(user_id).requeue(user_id, task_id)), created=False
        )

    async def get(self, user_id: str, task_id: str) -> Task[Any] | None:
        return await self.run(single(self.commands.of(user_id).get(user_id, task_id)))

    async def cleanup_expired_tasks(self, limit: int = 1000) -> int:
        return await self.run(self.commands.cleanup(limit))

    async def repair(self, *, dry_run: bool = False) -> RepairReport:
        return await self.run(self.commands.repair(dry_run=dry_run))

    # --- shares and limits ---

    async def set_policy(self, user_id: str, policy: UserPolicy) -> None:
        await self.run(self.commands.of(user_id).policies.set(user_id, policy))

    async def update_policy(self, user_id: str, **changes: Any) -> UserPolicy:
        return await self.run(self.commands.of(user_id).policies.update(user_id, changes))

    async def get_policy(self, user_id: str) -> UserPolicy:
        return await self.run(self.commands.of(user_id).policies.get(user_id))

    async def clear_policy(self, user_id: str) -> None:
        await self.run(self.commands.of(user_id).policies.clear(user_id))

    async def pause_user(self, user_id: str) -> None:
        await self.run(self.commands.of(user_id).policies.pause_user(user_id, paused=True))

    async def resume_user(self, user_id: str) -> None:
        await self.run(self.commands.of(user_id).policies.pause_user(user_id, paused=False))

    async def pause(self) -> None:
        await self.run(self.commands.pause(paused=True))

    async def resume(self) -> None:
        await self.run(self.commands.pause(paused=False))

    # --- cross-task data ---

    def xcom(self, user_id: str, *, namespace: str = DEFAULT_NAMESPACE) -> AsyncXComManager:
        return AsyncXComManager(self, user_id, namespace=namespace)

    # --- looking ---

    async def stats(self) -> QueueStats:
        return await self.run(self.commands.stats())

    async def health(self) -> QueueHealth:
        return await self.run(self.commands.health())

    async def users(self, limit: int = 100, offset: int = 0) -> list[UserStats]:
        return await self.run(self.commands.users(limit, offset))

    async def user_stats(self, user_id: str) -> UserStats | None:
        return await self.run(self.commands.of(user_id).user_stats(user_id))

    async def explain(self, user_id: str, task_id: str) -> Explanation:
        return await self.run(self.commands.of(user_id).explain(user_id, task_id))

    async def graph(self, user_id: str, task_id: str, limit: int = 10_000) -> TaskGraph:
        return await self.run(self.commands.of(user_id).graph(user_id, task_id, limit))

    async def failed_tasks(
        self, user_id: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[Task[Any]]:
        return await self.run(self.commands.failed_tasks(user_id, limit, offset))


# Each method's docstring is its blocking twin's.
take_docstrings(AsyncTaskQueue, TaskQueue)
take_docstrings(AsyncTaskHandle, TaskHandle)
take_docstrings(AsyncPipelineHandle, PipelineHandle)
take_docstrings(AsyncXComManager, XComManager)
