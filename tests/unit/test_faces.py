"""One behaviour, two faces: signatures and docstrings are the same but for `async` and the classes' names."""

from __future__ import annotations

import inspect
import re

import pytest

from fairque.queue.async_queue import AsyncTaskQueue
from fairque.queue.handle import AsyncTaskHandle, TaskHandle
from fairque.queue.pipeline_handle import AsyncPipelineHandle, PipelineHandle
from fairque.queue.queue import TaskQueue
from fairque.queue.xcom import AsyncXComManager, XComManager
from fairque.scheduler.async_scheduler import AsyncTaskScheduler
from fairque.scheduler.scheduler import TaskScheduler

PAIRS = [
    (TaskQueue, AsyncTaskQueue),
    (TaskHandle, AsyncTaskHandle),
    (PipelineHandle, AsyncPipelineHandle),
    (XComManager, AsyncXComManager),
    (TaskScheduler, AsyncTaskScheduler),
]
# One blocks or works in a thread, the other is a coroutine of its loop.
ENGINE = {"run", "start", "stop", "forget_stop", "close"}
# Nothing to wait for: these ask the server nothing.
PLAIN = {"handle", "named", "xcom"}


def public(cls: type) -> dict[str, object]:
    return {
        name: inspect.getattr_static(cls, name)
        for base in cls.__mro__
        for name in vars(base)
        if not name.startswith("_") and base is not object
        if not ("add_schedule" in base.__dict__ and name in ENGINE)
    }


METHODS = [
    (blocking, other, name)
    for blocking, other in PAIRS
    for name, method in sorted(public(blocking).items())
    if inspect.isfunction(method)
]


def as_blocking(text: str) -> str:
    return re.sub(r"\bAsync(?=Task|Pipeline|XCom)", "", text)


@pytest.mark.parametrize(("blocking", "other"), PAIRS)
def test_both_faces_have_the_same_public_names(blocking: type, other: type) -> None:
    assert sorted(public(blocking)) == sorted(public(other))


@pytest.mark.parametrize(
    ("blocking", "other", "name"), METHODS, ids=lambda item: getattr(item, "__name__", item)
)
def test_a_method_has_the_same_signature_and_docstring_on_both_faces(
    blocking: type, other: type, name: str
) -> None:
    left, right = getattr(blocking, name), getattr(other, name)
    assert as_blocking(str(inspect.signature(right))) == str(inspect.signature(left))
    assert inspect.getdoc(left)
    assert inspect.getdoc(right) == inspect.getdoc(left)
    assert not inspect.iscoroutinefunction(left)
    assert inspect.iscoroutinefunction(right) is (name not in PLAIN)


@pytest.mark.parametrize(("blocking", "other"), PAIRS)
def test_both_faces_are_made_from_the_same(blocking: type, other: type) -> None:
    left, right = inspect.signature(blocking), inspect.signature(other)
    assert as_blocking(str(right)) == as_blocking(str(left))


@pytest.mark.parametrize(
    ("blocking", "other"), [(TaskQueue, AsyncTaskQueue), (XComManager, AsyncXComManager)]
)
def test_what_is_opened_closes_as_a_context_on_both_faces(blocking: type, other: type) -> None:
    assert hasattr(blocking, "__enter__")
    assert hasattr(blocking, "__exit__")
    assert hasattr(other, "__aenter__")
    assert hasattr(other, "__aexit__")
