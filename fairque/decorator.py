"""`@task`: registers a function, so that calling it builds a task."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    get_args,
    overload,
)

import msgspec

from fairque.core.exceptions import ScheduleValidationError, TaskValidationError
from fairque.core.function import AsyncTaskFunction, Executor, TaskFunction, function_name
from fairque.core.header import Header, Priority
from fairque.core.models import Task
from fairque.core.plan import check_pulled
from fairque.core.registry import registry
from fairque.core.retry import ExceptionTypes, RetryPolicy
from fairque.core.units import Seconds, to_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fairque.core.context import TaskContext
    from fairque.core.header import OnUpstreamFailure
    from fairque.core.schedule import CatchUp, Overlap


P = ParamSpec("P")
R = TypeVar("R")


class _Untyped:
    """For type checkers: only a parameter of type Any or object takes it, or one without annotation.

    Such a first parameter would take a TaskContext too, and be mistaken for one; a function that has it keeps
    its result's type but not its parameters'.
    """


@dataclass(frozen=True, slots=True)
class _TaskDecorator:
    """`@task(…)` with its options, waiting for the function."""

    name: str | None
    header: Header
    retry: RetryPolicy
    pull: dict[str, str]
    auto_xcom: bool
    executor: Executor | None
    interrupt: bool
    cron: dict[str, Any] | None

    @overload
    def __call__(
        self, function: Callable[Concatenate[_Untyped, P], Coroutine[Any, Any, R]]
    ) -> AsyncTaskFunction[..., R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[_Untyped, P], R]) -> TaskFunction[..., R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]]
    ) -> AsyncTaskFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[TaskContext, P], R]) -> TaskFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> AsyncTaskFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> TaskFunction[P, R]: ...
    def __call__(self, function: Callable[..., Any]) -> TaskFunction[..., Any]:
        if isinstance(function, TaskFunction):
            raise TaskValidationError(f"{function.name} is a task function already: decorate it once")
        if not callable(function) or inspect.isclass(function):
            raise TaskValidationError(f"@task decorates functions, not {function!r}; options go by keyword")
        if self.name is None and not hasattr(function, "__qualname__"):
            raise TaskValidationError(f"{function!r} has no name of its own: give one with @task(name=…)")
        name = self.name or function_name(function)
        if self.pull:
            check_pulled(name, inspect.signature(function).parameters.values(), self.pull)
        is_async = inspect.iscoroutinefunction(function)
        if is_async and self.executor is not None:
            raise TaskValidationError(
                f"{name} is an async def, which runs on the worker's event loop: "
                f"executor={self.executor!r} is for plain functions"
            )
        header = msgspec.structs.replace(self.header, function=name)
        kind = AsyncTaskFunction if is_async else TaskFunction
        registered: TaskFunction[..., Any] = kind(
            function,
            name=name,
            header=header,
            retry=self.retry,
            pull=self.pull,
            auto_xcom=self.auto_xcom,
            executor=self.executor,
            interrupt=self.interrupt,
            cron=self.cron,
        )
        registry.add(registered)
        return registered


class _Options(TypedDict, total=False):
    """For type checkers: the options of `task`, as its signature has them, but for `pull`."""

    name: str | None
    priority: Priority | int
    max_retries: int | None
    timeout: Seconds | None
    retry_on: type[BaseException] | ExceptionTypes
    no_retry_on: type[BaseException] | ExceptionTypes
    retry_delay: Seconds
    max_retry_delay: Seconds
    on_upstream_failure: OnUpstreamFailure | None
    auto_xcom: bool
    executor: Executor | None
    interrupt: bool
    cron: str | None
    timezone: str
    user_id: str | None
    catch_up: CatchUp
    overlap: Overlap


class _PullingDecorator(Protocol):
    """For type checkers: which arguments a call has to give depends on what is pulled."""

    @overload
    def __call__(self, function: Callable[..., Coroutine[Any, Any, R]]) -> AsyncTaskFunction[..., R]: ...
    @overload
    def __call__(self, function: Callable[..., R]) -> TaskFunction[..., R]: ...


@overload
def task(
    function: Callable[Concatenate[_Untyped, P], Coroutine[Any, Any, R]], /
) -> AsyncTaskFunction[..., R]: ...
@overload
def task(function: Callable[Concatenate[_Untyped, P], R], /) -> TaskFunction[..., R]: ...
@overload
def task(
    function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]], /
) -> AsyncTaskFunction[P, R]: ...
@overload
def task(function: Callable[Concatenate[TaskContext, P], R], /) -> TaskFunction[P, R]: ...
@overload
def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTaskFunction[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> TaskFunction[P, R]: ...
@overload
def task(*, pull: Mapping[str, str], **options: Unpack[_Options]) -> _PullingDecorator: ...
@overload
def task(*, pull: None = None, **options: Unpack[_Options]) -> _TaskDecorator: ...
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    priority: Priority | int = Priority.NORMAL,
    max_retries: int | None = None,
    timeout: Seconds | None = None,
    retry_on: type[BaseException] | ExceptionTypes = (Exception,),
    no_retry_on: type[BaseException] | ExceptionTypes = (),
    retry_delay: Seconds = 1.0,
    max_retry_delay: Seconds = 300.0,
    on_upstream_failure: OnUpstreamFailure | None = None,
    pull: Mapping[str, str] | None = None,
    auto_xcom: bool = False,
    executor: Executor | None = None,
    interrupt: bool = True,
    cron: str | None = None,
    timezone: str = "UTC",
    user_id: str | None = None,
    catch_up: CatchUp = "latest",
    overlap: Overlap = "allow",
) -> Any:
    """Register a function as a task: `@task` or `@task(priority=Priority.HIGH, timeout=30)`.

    Args:
        function: The function, plain or `async def`.
        name: What it is called on the wire; `module:qualname` if not given.
        priority: Of its tasks, among the same user's.
        max_retries: Attempts after the first; the queue's `max_retries` if not given.
        timeout: Seconds one attempt may take; none if not given.
        retry_on: Exception classes that are worth another attempt.
        no_retry_on: Exception classes that are not, even if `retry_on` covers them.
        retry_delay: Seconds, the cap of the delay before the first retry; it doubles from there.
        max_retry_delay: Seconds, the cap of every delay.
        on_upstream_failure: If a task that it depends on fails or is canceled: `wait`, `cancel` or `run`.
        pull: Parameters that get the result of a step of the same pipeline, unless the call gives them:
            `{"rows": "extract"}`.
        auto_xcom: Publish the result as XCom too, under the step's name.
        executor: Where a plain function runs: in a `thread` of the worker, or in a `process` of its own,
            which is killed when the task is canceled or past its timeout, and may crash without harm to
            others. The worker's `executor` if not given.
        interrupt: Whether `TaskInterrupted` may be raised in a thread that runs the function and is not
            wanted any more. Without it, `TaskContext.canceled` is all that such a thread is told.
        cron: Push it at these times, for `user_id`, without arguments: a schedule under the function's name,
            which workers and schedulers put on the server when they start. A scheduler must run to fire it.
        timezone: In which `cron` is read, by its name.
        user_id: Whose task that is.
        catch_up: As for `TaskScheduler.add_schedule`.
        overlap: As there.

    Raises:
        TaskValidationError: An option is out of its range, or names an executor for an `async def`.
        ScheduleValidationError: `cron` or what goes with it is wrong; the message names it.
        FunctionConflictError: Another function has this name.
    """
    # One check for the options a task and its function share.
    defaults = Task.create(
        priority=priority, max_retries=max_retries, timeout=timeout, on_upstream_failure=on_upstream_failure
    ).header
    retry = RetryPolicy(
        base_delay=to_seconds(retry_delay, "retry_delay"),
        max_delay=to_seconds(max_retry_delay, "max_retry_delay"),
        retry_on=_exception_types(retry_on, "retry_on"),
        no_retry_on=_exception_types(no_retry_on, "no_retry_on"),
    )
    if executor not in (None, *get_args(Executor)):
        raise TaskValidationError(f"executor must be 'thread' or 'process', not {executor!r}")
    if not isinstance(interrupt, bool):
        raise TaskValidationError(f"interrupt must be True or False, not {interrupt!r}")
    decorator = _TaskDecorator(
        name,
        defaults,
        retry,
        _checked_pull(pull),
        auto_xcom,
        executor=executor,
        interrupt=interrupt,
        cron=_checked_cron(cron, timezone=timezone, user_id=user_id, catch_up=catch_up, overlap=overlap),
    )
    return decorator if function is None else decorator(function)


def _checked_cron(cron: str | None, **options: Any) -> dict[str, Any] | None:
    """The options of the schedule that is declared; None for none. What is wrong is said where it stands."""
    if cron is None:
        given = [name for name, value in options.items() if value not in (None, "UTC", "latest", "allow")]
        if given:
            raise ScheduleValidationError(
                f"{given[0]} is for the schedule of @task(cron=…), and cron is not given"
            )
        return None
    from fairque.core.schedule import Schedule  # noqa: PLC0415 - few programs have schedules

    Schedule.create(cron, Task.create(), **options)
    return {"expr": cron, **options}


def _checked_pull(pull: Mapping[str, str] | None) -> dict[str, str]:
    if pull is not None and not isinstance(pull, Mapping):
        raise TaskValidationError(
            f"pull maps names of parameters to names of steps, as {{'rows': 'extract'}}, not {pull!r}"
        )
    for parameter, step in (pull or {}).items():
        if not isinstance(parameter, str) or not isinstance(step, str) or not step:
            raise TaskValidationError(f"pull maps names of parameters to names of steps, not {pull!r}")
    return dict(pull or {})


def _exception_types(value: Any, what: str) -> ExceptionTypes:
    types = value if isinstance(value, tuple) else (value,)
    for item in types:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise TaskValidationError(f"{what} takes exception classes, not {item!r}")
    return types
