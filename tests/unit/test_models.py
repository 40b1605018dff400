"""The task and its one wire form."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairque.core.exceptions import DecodeError, PayloadTooLargeError, TaskValidationError
from fairque.core.models import (
    LIVE,
    TERMINAL,
    Priority,
    Task,
    TaskState,
    decode_task,
    encode_task,
)
from fairque.core.records import Run
from fairque.decorator import task


@task(name="models:resize", priority=Priority.HIGH, timeout=30)
def resize(image: str, width: int = 100, *, grey: bool = False) -> str: ...  # type: ignore[empty-body]


def wire(made: Task[Any], **options: Any) -> bytes:
    defaults: dict[str, Any] = {"created_at": 5, "max_bytes": 10_000, "codec_name": "json"}
    return encode_task(made, **(defaults | options))


def there_and_back(made: Task[Any], **options: Any) -> Task[Any]:
    return decode_task(wire(made, **options), "u", "t", state=TaskState.STARTED, run=Run(attempt=1))


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.integers(1, 6),
        "delay": st.integers(0, 10**9).map(lambda ms: ms / 1000),
        "expires_at": st.integers(0, 10**9).map(lambda ms: ms / 1000),
        "max_retries": st.integers(0, 1_000_000),
        "timeout": st.integers(1, 10**9).map(lambda ms: ms / 1000),
    },
)
PAYLOADS = st.none() | st.text(st.characters(codec="utf-8")) | st.lists(st.integers(-(2**63), 2**63))


@given(OPTIONS, PAYLOADS)
def test_a_task_goes_over_the_wire_unchanged(options: dict[str, Any], payload: Any) -> None:
    made = Task.create(payload=payload, **options)
    back = there_and_back(made, max_bytes=10**9)
    assert back.payload == payload
    assert back.header == msgspec.structs.replace(made.header, created_at=5)


def test_the_wire_is_a_json_object_a_newline_and_the_body() -> None:
    header, newline, body = wire(Task.create(payload={"a": "line\nbreak"}, priority=5)).partition(b"\n")
    assert newline == b"\n"
    assert json.loads(header) == {"priority": 5, "created_at": 5}
    assert body == b'{"a":"line\\nbreak"}'


def test_fields_at_their_default_cost_nothing() -> None:
    assert wire(Task.create(payload=None)) == b'{"created_at":5}\nnull'


def test_a_newline_in_a_function_name_cannot_end_the_header() -> None:
    @task(name="models:\n{}\n")
    def odd() -> None: ...

    assert wire(odd()).count(b"\n") == 1
    assert there_and_back(odd()).function == "models:\n{}\n"


def test_a_body_may_hold_anything() -> None:
    body = b"\n\n\x00\xff{}\n"
    back = decode_task(b'{"created_at":5}\n' + body, "u", "t", state=TaskState.QUEUED, run=Run())
    assert back.body == body
    with pytest.raises(DecodeError):
        _ = back.payload


def test_unknown_fields_of_a_newer_version_are_ignored() -> None:
    record = b'{"priority":4,"invented":{"later":[1]},"function":"f"}\n[[1]]'
    back = decode_task(record, "u", "t", state=TaskState.QUEUED, run=Run())
    assert (back.priority, back.function, back.payload) == (Priority.HIGH, "f", {"args": [1], "kwargs": {}})


def test_arguments_come_back_positional_and_by_keyword() -> None:
    assert there_and_back(resize("cat.png")).call_arguments() == (["cat.png"], {})
    assert there_and_back(resize("cat.png", 7, grey=True)).call_arguments() == (
        ["cat.png", 7],
        {"grey": True},
    )
    assert there_and_back(resize("cat.png", 7, grey=True), codec_name="msgpack").call_arguments() == (
        ["cat.png", 7],
        {"grey": True},
    )


@pytest.mark.parametrize("body", [b"null", b"{}", b"[]", b"5", b"[1,2]", b'[[1],{"a":1},3]', b'["ab"]'])
def test_a_body_that_holds_no_arguments_is_an_error(body: bytes) -> None:
    record = b'{"function":"f"}\n' + body
    back = decode_task(record, "u", "t", state=TaskState.QUEUED, run=Run())
    with pytest.raises(DecodeError, match="the body of task 't' holds no arguments"):
        back.call_arguments()


def test_the_limit_counts_the_bytes_of_the_body() -> None:
    assert wire(Task.create(payload="é"), max_bytes=4)
    with pytest.raises(PayloadTooLargeError, match="has 4 bytes, the limit is 3"):
        wire(Task.create(payload="é"), max_bytes=3)


def test_a_task_is_immutable_and_with_options_copies_it() -> None:
    made = resize("cat.png")
    with pytest.raises(AttributeError):
        made.user_id = "u"  # type: ignore[misc]
    copy = made.with_options(user_id="u", priority=1, delay=timedelta(seconds=2), max_retries=0, timeout=1)
    assert (copy.user_id, copy.priority, copy.max_retries, copy.timeout) == ("u", Priority.VERY_LOW, 0, 1.0)
    assert copy.header.delay == 2000
    assert copy.task_id == made.task_id
    assert (made.user_id, made.priority, made.timeout) == (None, Priority.HIGH, 30.0)
    assert copy.payload == made.payload


def test_what_is_not_given_stays() -> None:
    made = resize("cat.png").with_options(max_retries=4)
    assert made.with_options() == made
    assert made.with_options(priority=6).max_retries == 4


def test_delay_and_execute_after_replace_each_other() -> None:
    noon = datetime(2030, 1, 1, tzinfo=UTC)
    made = Task.create(delay=5).with_options(execute_after=noon)
    assert (made.header.delay, made.execute_after) == (0, noon)
    made = made.with_options(delay=3)
    assert (made.header.delay, made.execute_after) == (3000, None)
    with pytest.raises(TaskValidationError, match="not both"):
        Task.create(delay=1, execute_after=noon)


def test_every_state_is_live_or_terminal() -> None:
    assert {state.value for state in TERMINAL} == {"FINISHED", "FAILED", "CANCELED"}
    assert {state.value for state in LIVE} == {"SCHEDULED", "DEFERRED", "QUEUED", "STARTED"}
    assert all(state.is_terminal is (state in TERMINAL) for state in TaskState)


def test_priorities_are_six_in_order() -> None:
    assert [(p.name, p.value) for p in Priority] == [
        ("VERY_LOW", 1),
        ("LOW", 2),
        ("NORMAL", 3),
        ("HIGH", 4),
        ("VERY_HIGH", 5),
        ("CRITICAL", 6),
    ]
