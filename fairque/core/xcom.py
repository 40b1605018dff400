"""Decorators that move a task's data: what it returns into XCom, and its parameters out of it.

They stand below `@task`, and use the XCom of the task that is running (`current_task().xcom`).
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from fairque.core.context import current_task
from fairque.core.exceptions import TaskValidationError, XComUnavailableError
from fairque.core.function import TaskFunction
from fairque.core.keys import check_id
from fairque.core.xcom_defaults import MISSING, check_ttl
from fairque.core.xcom_pulling import PullPlan, name_of, pull_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fairque.core.units import Seconds

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


def xcom_push(
    key: str, *, ttl: Seconds | None = None, namespace: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Publish what the function returns; it is returned as well. What raises publishes nothing.

    Args:
        key: Under which other tasks of the user pull it.
        ttl: Seconds or timedelta until it expires; `queue.xcom_ttl` if not given.
        namespace: That of the task's pipeline if not given, or `default` without one.

    Raises:
        TaskValidationError: A value is out of its range, or what is decorated is no function.
    """
    if callable(key):
        raise TaskValidationError('xcom_push takes the key of the value: @xcom_push("key")')
    check_id(key, "key")
    if ttl is not None:
        check_ttl(ttl)
    if namespace is not None:
        check_id(namespace, "namespace")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        return _pushing(_checked(function, "xcom_push"), key, {"ttl": ttl, "namespace": namespace})

    return decorate


class Pulling(Protocol[R_co]):
    """To type checkers, a function that pulls parameters.

    They become optional, which a ParamSpec cannot say: of the types only the result's is left. At run time
    `__signature__` says it, and by that the arguments of a task are checked. The arguments are objects here,
    not Any, so that `@task` still tells an `async def` from a plain function.
    """

    def __call__(self, *args: object, **kwargs: object) -> R_co: ...


def xcom_pull(
    parameters: Mapping[str, str] | None = None,
    /,
    *,
    default: Any = MISSING,
    namespace: str | None = None,
    **named: str,
) -> Callable[[Callable[..., R]], Pulling[R]]:
    """Fill parameters from XCom unless the caller gives them: `@xcom_pull(rows="key")`.

    A value is converted to its parameter's annotation, like an argument. Where there is none, `default` is
    taken as it is, or else the parameter's own default; without either the call raises `XComKeyError`. A
    pulled parameter with required ones behind it can be given by keyword only.

    Args:
        parameters: Keys by parameter, also for parameters called `default` and `namespace`.
        default: For each parameter whose key has no value.
        namespace: That of the task's pipeline if not given, or `default` without one.
        named: More keys by parameter.

    Raises:
        TaskValidationError: A key or the namespace cannot be one, or the function has no such parameter.
    """
    if callable(parameters):
        raise TaskValidationError('xcom_pull takes keys by parameter: @xcom_pull(rows="key")')
    keys = {**(parameters or {}), **named}
    if not keys:
        raise TaskValidationError('xcom_pull names no parameter: @xcom_pull(rows="key")')
    for parameter, key in keys.items():
        check_id(key, f"the key for parameter {parameter!r}")
    if namespace is not None:
        check_id(namespace, "namespace")

    def decorate(function: Callable[..., R]) -> Pulling[R]:
        plan = pull_plan(_checked(function, "xcom_pull"), keys, default, namespace)
        return _pulling(function, plan)

    return decorate


def xcom_task(
    *,
    pull: Mapping[str, str] | None = None,
    push: str | None = None,
    default: Any = MISSING,
    ttl: Seconds | None = None,
    namespace: str | None = None,
) -> Callable[[Callable[..., R]], Pulling[R]]:
    """`xcom_pull` and `xcom_push` in one: parameters come out of XCom, and the result goes into it.

    Args:
        pull: Keys by parameter.
        push: The key of the result.
        default: For each parameter whose key has no value.
        ttl: Of the result, as for `xcom_push`.
        namespace: Of both; that of the task's pipeline if not given, or `default` without one.

    Raises:
        TaskValidationError: As for the two; or there is nothing to pull and nothing to push.
    """
    if pull is None and push is None:
        raise TaskValidationError(
            'xcom_task has nothing to do: @xcom_task(pull={"rows": "key"}, push="key"), or one of them'
        )
    if push is None and ttl is not None:
        raise TaskValidationError("ttl is for what is pushed: give push as well")
    if pull is None and default is not MISSING:
        raise TaskValidationError("default is for what is pulled: give pull as well")
    pulling = None if pull is None else xcom_pull(pull, default=default, namespace=namespace)
    pushing = None if push is None else xcom_push(push, ttl=ttl, namespace=namespace)

    def decorate(function: Callable[..., R]) -> Pulling[R]:
        if pulling is not None:
            function = pulling(function)
        return function if pushing is None else pushing(function)

    return decorate


# --- what the decorators have in common ---


def _checked(function: Callable[P, R], decorator: str) -> Callable[P, R]:
    if isinstance(function, TaskFunction):
        raise TaskValidationError(
            f"{function.name} is a task function already: put @{decorator}(…) below @task"
        )
    if not callable(function) or inspect.isclass(function):
        raise TaskValidationError(f"@{decorator}(…) decorates functions, not {function!r}")
    return function


def _xcom(function: Callable[..., Any], decorator: str) -> Any:
    """The XCom of the task that runs here: to await on the worker's event loop, blocking in a thread."""
    try:
        return current_task().xcom
    except (LookupError, XComUnavailableError):
        raise XComUnavailableError(f"@{decorator}(…) of {name_of(function)}") from None


def _blocking_xcom(function: Callable[..., Any], decorator: str) -> Any:
    xcom = _xcom(function, decorator)
    if inspect.iscoroutinefunction(xcom.push):
        raise XComUnavailableError(
            f"@{decorator}(…) of {name_of(function)}",
            "a plain function cannot wait for it on the event loop: make it an async def, or call it with "
            "asyncio.to_thread",
        )
    return xcom


async def _done(work: Any) -> Any:
    """What a method of an XCom manager gives: awaited, if an `async def` runs where it is to be awaited."""
    return await work if inspect.isawaitable(work) else work


# --- pushing ---


def _pushing(function: Callable[..., Any], key: str, options: dict[str, Any]) -> Callable[..., Any]:
    async def publish(result: Any) -> Any:
        await _done(_xcom(function, "xcom_push").push(key, result, **options))
        return result

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def on_loop(*args: Any, **kwargs: Any) -> Any:
            _xcom(function, "xcom_push")  # where there is none, nothing runs
            return await publish(await function(*args, **kwargs))

        return on_loop

    @functools.wraps(function)
    def in_thread(*args: Any, **kwargs: Any) -> Any:
        xcom = _blocking_xcom(function, "xcom_push")
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):  # a plain function around an `async def`: it is awaited on the loop

            async def later() -> Any:
                return await publish(await result)

            return later()
        xcom.push(key, result, **options)
        return result

    return in_thread


# --- pulling ---


def _pulling(function: Callable[..., Any], plan: PullPlan) -> Callable[..., Any]:
    wrapper: Any
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def on_loop(*args: Any, **kwargs: Any) -> Any:
            arguments = plan.shown.bind(*args, **kwargs).arguments
            if missing := plan.missing(arguments):
                xcom = _xcom(function, "xcom_pull")
                found = await _done(xcom.pull_many(missing.values(), namespace=plan.namespace))
                arguments |= plan.values(missing, xcom, found)
            bound = plan.bound(arguments)
            return await function(*bound.args, **bound.kwargs)

        wrapper = on_loop
    else:

        @functools.wraps(function)
        def in_thread(*args: Any, **kwargs: Any) -> Any:
            arguments = plan.shown.bind(*args, **kwargs).arguments
            if missing := plan.missing(arguments):
                xcom = _blocking_xcom(function, "xcom_pull")
                found = xcom.pull_many(missing.values(), namespace=plan.namespace)
                arguments |= plan.values(missing, xcom, found)
            bound = plan.bound(arguments)
            return function(*bound.args, **bound.kwargs)

        wrapper = in_thread
    wrapper.__signature__ = plan.shown
    return wrapper  # type: ignore[no-any-return]
