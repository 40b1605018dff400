"""A registered function: what calling it builds, and how stored arguments fit it again."""

from __future__ import annotations

import inspect
import sys
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar

from fairque.core.composable import Composable
from fairque.core.context import TaskContext
from fairque.core.exceptions import ScheduleValidationError, TaskValidationError
from fairque.core.ids import new_id
from fairque.core.models import Task
from fairque.core.outputs import Output
from fairque.core.plan import Fitted, Plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from fairque.core.header import Header
    from fairque.core.pipeline import Parallel
    from fairque.core.retry import RetryPolicy
    from fairque.core.schedule import Schedule

P = ParamSpec("P")
R = TypeVar("R")

Executor: TypeAlias = Literal["thread", "process"]


class TaskFunction(Generic[P, R]):
    """A function registered as a task. Calling it builds a `Task`; pushing that runs it on a worker.

    Attributes:
        name: The name it is registered under; the only thing of it that travels.
        function: The function itself.
        header: The options every task of it starts with.
        retry: Its retry policy; `max_retries` None means the queue's.
        is_async: Whether it is an `async def`.
        pull: Parameters that get the result of a step of the same pipeline: parameter → the step's name.
        auto_xcom: Whether results are published as XCom under the step's name.
        executor: Where a plain function runs; None leaves it to the worker.
        interrupt: Whether `TaskInterrupted` may be raised in it while it runs in a thread.
        cron: The options of the schedule that `@task(cron=…)` declares; None without one.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        header: Header,
        retry: RetryPolicy,
        pull: Mapping[str, str] | None = None,
        auto_xcom: bool = False,
        executor: Executor | None = None,
        interrupt: bool = True,
        cron: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.header = header
        self.retry = retry
        self.pull = dict(pull or {})
        self.auto_xcom = auto_xcom
        self.executor = executor
        self.interrupt = interrupt
        self.cron = cron
        self.is_async = inspect.iscoroutinefunction(function)
        update_wrapper(self, function)

    def __reduce__(self) -> tuple[Any, ...]:
        return _registered, (self.name,)  # by its name, as on the wire

    def __repr__(self) -> str:
        return f"<task function {self.name}>"

    if not TYPE_CHECKING:  # where they are errors anyway

        def _not_a_step(self, other: object) -> None:
            """A step of a pipeline is a task, not its function; to forget the call is a frequent mistake."""
            from fairque.core.pipeline import sequential  # noqa: PLC0415 - pipelines are made of tasks

            sequential(self, other)

        __rshift__ = __lshift__ = __or__ = __rrshift__ = __rlshift__ = __ror__ = _not_a_step

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """A task that will call the function with these arguments.

        Raises:
            TypeError: The arguments do not fit the function's signature.
            TaskValidationError: A task stands where its result was meant.
        """
        plan = self._plan
        for value in (*args, *kwargs.values()):
            if isinstance(value, Composable):
                what = f"task {value.name or value.task_id!r}" if isinstance(value, Task) else repr(value)
                raise TaskValidationError(
                    f"an argument of {self.name} is {what} itself: pass its .output, which is its result"
                )
        if not self.pull:
            plan.check(args, kwargs)
            return Task(task_id=new_id(), header=self.header, arguments=(args, kwargs), returns=plan.returns)
        given = plan.given(args, kwargs, optional=self.pull)
        pulls = tuple((parameter, step) for parameter, step in self.pull.items() if parameter not in given)
        return Task(
            task_id=new_id(), header=self.header, arguments=(args, kwargs), returns=plan.returns, pulls=pulls
        )

    def map(self, items: Iterable[Any], **common: Any) -> Parallel[R]:
        """A task for each item, given as the first argument; `common` goes to all. They run side by side.

        Raises:
            TypeError: The arguments do not fit the function's signature.
            TaskValidationError: There are no items, or they are no list of items.
        """
        from fairque.core.pipeline import mapped  # noqa: PLC0415 - pipelines are made of tasks

        if isinstance(items, (str, bytes)):
            raise TaskValidationError(
                f"{self.name}.map takes the items of a list, not the characters of {items!r:.50}"
            )
        if isinstance(items, Output):
            raise TaskValidationError(
                f"{self.name}.map needs its items when the pipeline is made, and {items!r} comes only when "
                "that task has run: map in a task of its own, which pushes the others"
            )
        call: Callable[..., Task[R]] = self
        return mapped([call(item, **common) for item in items], self.name)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the body here and now, without a queue. For an `async def` it returns the coroutine."""
        plan = self._plan
        context = plan.context_parameter
        if context is None or context in kwargs or (args and isinstance(args[0], TaskContext)):
            return self.function(*args, **kwargs)  # type: ignore[no-any-return]
        bound = plan.signature.bind(*args, **kwargs)
        local = TaskContext(user_id="local", task_id="local")
        return self.invoke(Fitted(bound.args, bound.kwargs), local)  # type: ignore[no-any-return]

    def scheduled(self) -> Schedule | None:
        """The schedule that `@task(cron=…)` declares, under the function's name; None without one.

        Raises:
            ScheduleValidationError: The function needs arguments, and a schedule has none to give.
        """
        if self.cron is None:
            return None
        from fairque.core.schedule import Schedule  # noqa: PLC0415 - few programs have schedules

        call: Callable[[], Task[R]] = self  # it may need arguments
        try:
            task = call()
        except TypeError as error:
            raise ScheduleValidationError(
                f"{self.name} cannot be scheduled by @task(cron=…): {error}; give its parameters defaults, "
                "or add_schedule a task with arguments"
            ) from None
        return Schedule.create(task=task, schedule_id=self.name, origin="code", **self.cron)

    @property
    def returns(self) -> Any:
        """The annotation of the result."""
        return self._plan.returns

    @property
    def parameters(self) -> list[str]:
        """The names of its parameters, in order."""
        return list(self._plan.signature.parameters)

    def fit(self, args: list[Any], kwargs: dict[str, Any]) -> Fitted:
        """Convert decoded arguments to the annotations.

        Raises:
            DecodeError: The arguments do not fit the signature or the annotations.
        """
        return self._plan.fit(args, kwargs)

    def invoke(self, fitted: Fitted, context: TaskContext) -> Any:
        """Call the function with fitted arguments; an `async def` gives its coroutine."""
        plan = self._plan
        if plan.context_parameter is not None:
            fitted = plan.with_context(fitted, context)
        return self.function(*fitted.args, **fitted.kwargs)

    @cached_property
    def _plan(self) -> Plan:
        return Plan(self.name, self.function, self.pull)


class AsyncTaskFunction(TaskFunction[P, R]):
    """A `TaskFunction` of an `async def`: the same, but `call` gives an awaitable."""

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:  # type: ignore[override]
        """Run the body here and now, without a queue: `await f.call(…)`."""
        return super().call(*args, **kwargs)  # type: ignore[return-value]


def _registered(name: str) -> TaskFunction[..., Any]:
    from fairque.core.registry import registry  # noqa: PLC0415 - the registry holds functions

    return registry.get(name)


# The program, and what it is called where a process of a worker imports it (as multiprocessing does).
MAIN_NAMES = ("__main__", "__mp_main__")


def function_name(function: Callable[..., Any]) -> str:
    """`module:qualname`. A script's `__main__` is named by its file, as a worker will import it."""
    module = function.__module__
    if module in MAIN_NAMES:
        main = sys.modules[module]
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        if spec is not None:
            module = spec.name.removesuffix(".__main__")
        elif file is not None:
            module = file.rpartition("/")[2].removesuffix(".py")
    return f"{module}:{function.__qualname__}"
