"""What a plan says of a call, against `inspect.Signature.bind`."""

from __future__ import annotations

import inspect
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairque.core.context import TaskContext
from fairque.core.exceptions import DecodeError
from fairque.core.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = TaskContext("u", "t")


def none() -> Any:
    return ()


def plain(a: int, b: str = "b") -> Any:
    return a, b


def only(a: Any, /, b: Any = 1, *, c: Any, d: Any = 2) -> Any:
    return a, b, c, d


def variadic(a: Any, *b: Any, c: Any = 1, **d: Any) -> Any:
    return a, b, c, d


def context_first(context: TaskContext, a: Any, b: Any = 1) -> Any:
    return context, a, b


def context_within(a: Any = 0, context: TaskContext | None = None, b: Any = 1, *, c: Any = 2) -> Any:
    return a, context, b, c


def context_before_more(a: Any, context: TaskContext, *b: Any) -> Any:
    return a, context, b


def context_by_name(a: Any, *, context: TaskContext) -> Any:
    return a, context


FUNCTIONS = [
    none,
    plain,
    only,
    variadic,
    context_first,
    context_within,
    context_before_more,
    context_by_name,
]


def expected(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What a call gives, or its error, by the standard library alone."""
    whole = inspect.signature(function)
    without = [p for p in whole.parameters.values() if p.name != "context"]
    try:
        arguments = whole.replace(parameters=without).bind(*args, **kwargs).arguments
    except TypeError as error:
        return str(error)
    if "context" in whole.parameters:
        arguments["context"] = HERE
    bound = inspect.BoundArguments(
        whole, {name: arguments[name] for name in whole.parameters if name in arguments}
    )
    return function(*bound.args, **bound.kwargs)


@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.just(7) | st.just(8), max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "c", "d", "context"]), st.integers(0, 2)),
)
def test_it_takes_what_the_signature_takes(
    function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> None:
    plan = Plan("f", function, {})
    plan.annotations.clear()  # what is converted stands below
    plan._plain = [None for _ in plan._plain]
    meant = expected(function, args, kwargs)
    if not isinstance(meant, str):
        plan.check(tuple(args), kwargs)
        fitted = plan.with_context(plan.fit(args, kwargs), HERE)
        assert function(*fitted.args, **fitted.kwargs) == meant
        return
    with pytest.raises(TypeError) as refused:
        plan.check(tuple(args), kwargs)
    assert str(refused.value) == meant
    with pytest.raises(DecodeError, match=r"^the arguments do not fit f: ") as unfit:
        plan.fit(args, kwargs)
    assert str(unfit.value).endswith(meant)


def test_the_arguments_given_stay_as_they_are() -> None:
    def function(when: date, more: date) -> None: ...

    args, kwargs = ["2026-05-17"], {"more": "2026-05-18"}
    fitted = Plan("f", function, {}).fit(args, kwargs)
    assert fitted == ((date(2026, 5, 17), date(2026, 5, 18)), {})
    assert (args, kwargs) == (["2026-05-17"], {"more": "2026-05-18"})


@pytest.mark.parametrize(("value", "message"), [(True, "bool"), ("1", "str"), (1.5, "float"), (None, "null")])
def test_a_plain_type_takes_its_own_values_only(value: Any, message: str) -> None:
    with pytest.raises(DecodeError, match=f"argument 'a' of f does not fit .*{message}"):
        Plan("f", plain, {}).fit([value], {})
    with pytest.raises(DecodeError, match=f"argument 'a' of f does not fit .*{message}"):
        Plan("f", plain, {}).fit([], {"a": value})
