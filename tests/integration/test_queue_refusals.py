"""What is refused before anything is written, with an error that names the value and the limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from redis import Redis

from fairque.core.exceptions import (
    BatchError,
    EncodeError,
    LeaseLostError,
    PayloadTooLargeError,
    TaskValidationError,
)
from fairque.core.models import Task, TaskState
from fairque.decorator import task
from fairque.queue.queue import TaskQueue
from tests.integration.conftest import OpenQueue
from tests.support.actions import make, popped, push


@pytest.fixture(autouse=True)
def _nothing_is_written(request: pytest.FixtureRequest, raw: Redis, prefix: str) -> Any:
    yield
    if "writes" not in request.keywords:
        assert raw.keys(f"{prefix}*") == []


@task(name="refusals:paint")
def paint(canvas: str, colour: Any = None, **more: Any) -> None: ...


class Opaque:
    pass


NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - the point


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no user": ({}, "the task has no user: give user_id to push"),
    "user not text": ({"user_id": 7}, "user_id must be a string, not int: 7"),
    "user empty": ({"user_id": ""}, "user_id is empty: give 1 to 256 characters"),
    "user too long": ({"user_id": "x" * 257}, "user_id has 257 characters, the limit is 256"),
    "user not unicode": ({"user_id": "\ud83d"}, "user_id is not valid unicode"),
    "id not text": ({"user_id": "u", "task_id": b"t"}, "task_id must be a string, not bytes"),
    "id empty": ({"user_id": "u", "task_id": ""}, "task_id is empty"),
    "id too long": ({"user_id": "u", "task_id": "🎌" * 257}, "task_id has 257 characters, the limit is 256"),
    "id not unicode": ({"user_id": "u", "task_id": "a\udfffb"}, "task_id is not valid unicode"),
    "priority 0": ({"user_id": "u", "priority": 0}, r"VERY_LOW \(1\) … CRITICAL \(6\), not 0"),
    "priority 7": ({"user_id": "u", "priority": 7}, "priority must be one of"),
    "priority -1": ({"user_id": "u", "priority": -1}, "priority must be one of"),
    "priority 3.0": ({"user_id": "u", "priority": 3.0}, "priority must be one of .* not 3.0"),
    "priority True": ({"user_id": "u", "priority": True}, "priority must be one of .* not True"),
    "priority text": ({"user_id": "u", "priority": "HIGH"}, "priority must be one of .* not 'HIGH'"),
    "delay negative": ({"user_id": "u", "delay": -0.001}, "delay must not be negative: -0.001"),
    "delay negative timedelta": (
        {"user_id": "u", "delay": timedelta(seconds=-1)},
        "delay must not be negative",
    ),
    "delay NaN": ({"user_id": "u", "delay": math.nan}, "delay must be a finite number of seconds, not nan"),
    "delay infinite": (
        {"user_id": "u", "delay": math.inf},
        "delay must be a finite number of seconds, not inf",
    ),
    "delay text": ({"user_id": "u", "delay": "5"}, "delay must be seconds or a timedelta, not str: '5'"),
    "delay bool": ({"user_id": "u", "delay": True}, "delay must be seconds or a timedelta, not bool"),
    "delay endless": ({"user_id": "u", "delay": 1e18}, "delay is over 200 years"),
    "delay enormous": ({"user_id": "u", "delay": 10**400}, "delay is over 200 years"),
    "execute_after NaN": (
        {"user_id": "u", "execute_after": math.nan},
        "execute_after must be a finite number",
    ),
    "execute_after naive": (
        {"user_id": "u", "execute_after": NAIVE},
        "execute_after needs a time zone",
    ),
    "execute_after negative": ({"user_id": "u", "execute_after": -1}, "execute_after must not be negative"),
    "both times": ({"user_id": "u", "delay": 1, "execute_after": 1}, "give delay or execute_after, not both"),
    "expires_at NaN": ({"user_id": "u", "expires_at": math.nan}, "expires_at must be a finite number"),
    "expires_at naive": (
        {"user_id": "u", "expires_at": NAIVE},
        "expires_at needs a time zone",
    ),
    "retries negative": ({"user_id": "u", "max_retries": -1}, "max_retries must be a whole number from 0"),
    "retries 1.5": ({"user_id": "u", "max_retries": 1.5}, "max_retries must be a whole number"),
    "retries endless": ({"user_id": "u", "max_retries": 10**7}, "from 0 to 1,000,000, not 10000000"),
    "timeout 0": ({"user_id": "u", "timeout": 0}, "timeout must be longer than 0 s"),
    "timeout NaN": ({"user_id": "u", "timeout": math.nan}, "timeout must be a finite number"),
    "timeout negative": ({"user_id": "u", "timeout": -5}, "timeout must not be negative"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_a_bad_option_is_refused_by_name(queue: TaskQueue, case: str) -> None:
    options, message = BAD_OPTIONS[case]
    with pytest.raises(TaskValidationError, match=message):
        queue.push(Task.create(), **options)


@pytest.mark.parametrize("case", [case for case in BAD_OPTIONS if case != "no user"])
def test_a_task_with_a_bad_option_cannot_even_be_made(case: str, raw: Redis, prefix: str) -> None:
    options, message = BAD_OPTIONS[case]
    with pytest.raises(TaskValidationError, match=message):
        Task.create(**options)


@pytest.mark.parametrize("thing", [None, "text", {"user_id": "u"}, paint, lambda: None])
def test_only_a_task_can_be_pushed(queue: TaskQueue, thing: Any) -> None:
    with pytest.raises(TaskValidationError, match=r"push takes a Task, not .*: call the task function"):
        queue.push(thing, user_id="u")


def test_the_payload_may_have_its_limit_and_not_a_byte_more(
    queue: TaskQueue, raw: Redis, prefix: str
) -> None:
    with pytest.raises(PayloadTooLargeError, match="has 1,048,577 bytes, the limit is 1,048,576") as caught:
        queue.push(Task.create(user_id="u", payload="x" * (1_048_576 - 1)))
    assert (caught.value.size, caught.value.limit) == (1_048_577, 1_048_576)
    assert raw.keys(f"{prefix}*") == []
    fits = queue.push(Task.create(user_id="u", payload="x" * (1_048_576 - 2)))
    assert popped(queue).payload == "x" * (1_048_576 - 2)
    assert fits.cancel()
    _drop(raw, prefix)


def _drop(raw: Redis, prefix: str) -> None:
    raw.delete(*raw.keys(f"{prefix}*"))


def test_the_limit_of_payloads_is_a_setting(open_queue: OpenQueue) -> None:
    queue = open_queue(max_payload_bytes=10)
    with pytest.raises(PayloadTooLargeError, match="has 11 bytes, the limit is 10"):
        queue.push(Task.create(user_id="u", payload="x" * 9))
    with pytest.raises(PayloadTooLargeError, match="has 12 bytes, the limit is 10"):
        queue.push(Task.create(user_id="u", payload="éé" * 2 + "xx"))


BAD_ARGUMENTS: dict[str, tuple[Callable[[], Task[Any]], str]] = {
    "an object": (lambda: paint("c", Opaque()), "argument 'colour' cannot be carried as json: .*Opaque"),
    "by keyword": (lambda: paint("c", colour=Opaque()), "argument 'colour' cannot be carried"),
    "deep inside": (
        lambda: paint("c", more={"a": [1, {"b": Opaque()}]}),
        r"argument 'more'\['a'\]\[1\]\['b'\]",
    ),
    "NaN": (
        lambda: paint("c", math.nan),
        "argument 'colour' cannot be carried as json: nan has no JSON form",
    ),
    "infinity inside": (
        lambda: paint("c", [1, None, -math.inf]),
        r"argument 'colour'\[2\] .*-inf has no JSON form",
    ),
    "a key that is no text": (lambda: paint("c", {None: 1}), "argument 'colour' cannot be carried"),
    "half a character": (lambda: paint("\ud83d"), "argument 'canvas' cannot be carried"),
    "a number without end": (lambda: paint("c", 10**5000), "argument 'colour' cannot be carried"),
    "a function": (lambda: paint("c", print), "argument 'colour' cannot be carried"),
    "a complex number": (lambda: paint("c", 1j), "argument 'colour' cannot be carried"),
}


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_an_argument_that_json_cannot_carry_is_named(queue: TaskQueue, case: str) -> None:
    build, message = BAD_ARGUMENTS[case]
    with pytest.raises(EncodeError, match=message):
        queue.push(build(), user_id="u")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (Opaque(), "payload cannot be carried as json"),
        ({"a": {"b": [0, Opaque()]}}, r"payload\['a'\]\['b'\]\[1\] cannot be carried"),
        (_circle(), "payload cannot be carried as json: it contains itself, or is nested too deep"),
        ({"x": math.nan}, r"payload\['x'\] cannot be carried as json: nan"),
        ({(1, 2): "x"}, "payload cannot be carried"),
    ],
)
def test_a_payload_that_json_cannot_carry_is_named_by_its_path(
    queue: TaskQueue, payload: Any, message: str
) -> None:
    with pytest.raises(EncodeError, match=message):
        queue.push(Task.create(user_id="u", payload=payload))


@pytest.mark.parametrize("index", [0, 1, 199, 200, 777, 999])
def test_one_bad_task_of_a_batch_is_named_and_none_is_pushed(queue: TaskQueue, index: int) -> None:
    tasks = [make("u", str(i)) for i in range(1000)]
    tasks[index] = Task.create(payload="no user")
    with pytest.raises(
        BatchError, match=f"task {index} of the batch was refused, nothing was pushed: .*no user"
    ) as e:
        queue.push_batch(tasks)
    assert e.value.index == index
    assert isinstance(e.value.__cause__, TaskValidationError)


def test_a_batch_names_the_task_whose_payload_is_bad(queue: TaskQueue) -> None:
    good = make("u", "good")
    with pytest.raises(BatchError, match=r"task 1 of the batch .*argument 'colour'"):
        queue.push_batch([good, paint("c", Opaque()).with_options(user_id="u")])
    with pytest.raises(BatchError, match=r"task 2 of the batch .*push takes a Task, not str"):
        queue.push_batch([good, good, cast("Task[Any]", "no task")])


BAD_CLAIMS: dict[str, tuple[Callable[[TaskQueue], Any], str]] = {
    "no worker": (lambda q: q.pop(""), "worker_id is empty"),
    "worker None": (lambda q: q.pop(None), "worker_id must be a string"),  # type: ignore[arg-type]
    "worker too long": (lambda q: q.pop("w" * 257), "worker_id has 257 characters"),
    "limit 0": (lambda q: q.pop_batch("w", 0), "limit must be a whole number from 1 to 1,000, not 0"),
    "limit 1001": (lambda q: q.pop_batch("w", 1001), "limit must be a whole number from 1 to 1,000"),
    "limit True": (lambda q: q.pop_batch("w", True), "limit must be a whole number"),
    "limit 1.5": (lambda q: q.pop_batch("w", 1.5), "limit must be a whole number"),  # type: ignore[arg-type]
    "users text": (
        lambda q: q.pop("w", users="abc"),
        "users must be a list of user ids, not one string: 'abc'",
    ),
    "users of numbers": (lambda q: q.pop("w", users=[1]), "users must be a string"),  # type: ignore[list-item]
    "users too many": (lambda q: q.pop("w", users=[str(i) for i in range(1001)]), "names 1,001 users"),
    "lease 0": (lambda q: q.pop("w", lease=0), "lease must be longer than 0 s"),
    "lease NaN": (lambda q: q.pop("w", lease=math.nan), "lease must be a finite number"),
    "lease negative": (lambda q: q.steal("w", lease=-1), "lease must not be negative"),
    "block negative": (lambda q: q.pop("w", block=-1), "block must not be negative"),
    "block NaN": (lambda q: q.pop_batch("w", 1, block=math.nan), "block must be a finite number"),
    "reclaim 0": (lambda q: q.reclaim(0), "limit must be a whole number"),
    "cleanup 1001": (lambda q: q.cleanup_expired_tasks(1001), "limit must be a whole number"),
    "page 0": (lambda q: q.users(limit=0), "limit must be a whole number"),
    "offset -1": (lambda q: q.users(offset=-1), "whole number from 0 to 1,000,000,000,000, not -1"),
    "offset 10¹³": (lambda q: q.users(offset=10**13), "not 10000000000000"),
    "failed offset": (lambda q: q.failed_tasks(offset=True), "offset must be a whole number"),
    "failed of nobody": (lambda q: q.failed_tasks(""), "user_id is empty"),
    "get no user": (lambda q: q.get("", "t"), "user_id is empty"),
    "get long id": (lambda q: q.get("u", "t" * 257), "task_id has 257 characters"),
    "cancel None": (lambda q: q.cancel("u", None), "task_id must be a string"),  # type: ignore[arg-type]
    "requeue empty": (lambda q: q.requeue("u", ""), "task_id is empty"),
}


@pytest.mark.parametrize("case", BAD_CLAIMS)
def test_a_call_with_a_bad_value_is_refused_by_name(queue: TaskQueue, case: str) -> None:
    call, message = BAD_CLAIMS[case]
    with pytest.raises(TaskValidationError, match=message):
        call(queue)


def test_a_result_that_cannot_be_carried_leaves_the_task_running(
    queue: TaskQueue, raw: Redis, prefix: str
) -> None:
    push(queue, "u", "a", "b")
    a, b = queue.pop_batch("w", 2)
    with pytest.raises(EncodeError, match="Opaque"):
        queue.finish(a, Opaque())
    with pytest.raises(EncodeError, match="nan has no JSON form"):
        queue.finish_batch([(a, "fine"), (b, math.nan)])
    assert queue.handle("u", "a").state() is TaskState.STARTED
    queue.finish_batch([(a, Decimal("1.5")), (b, None)])
    with pytest.raises(LeaseLostError):
        queue.release([a])
    _drop(raw, prefix)


# What a hostile or broken producer sends past our client is refused by the script itself.
BAD_RECORDS = [
    b"",
    b"no json\n[]",
    b"[1,2]x\n[]",
    b'"text"\n[]',
    b"5\n[]",
    b"null\n[]",
    b'{"priority":0}\n[]',
    b'{"priority":7}\n[]',
    b'{"priority":2.5}\n[]',
    b'{"priority":"3"}\n[]',
    b'{"delay":-1}\n[]',
    b'{"delay":"soon"}\n[]',
    b'{"delay":1e300}\n[]',
    b'{"execute_after":-5}\n[]',
    b'{"execute_after":9e15}\n[]',
    b'{"execute_after":[]}\n[]',
    b'{"execute_after":1.5}\n[]',
    b'{"expires_at":"never"}\n[]',
    b'{"timeout":-1}\n[]',
    b'{"max_retries":0.5}\n[]',
    b'{"created_at":{}}\n[]',
]


@pytest.mark.parametrize("record", BAD_RECORDS)
def test_the_script_refuses_a_bad_record_before_its_first_write(
    open_queue: OpenQueue, raw: Redis, prefix: str, record: bytes, root: str
) -> None:
    from fairque.utils.script_loader import ScriptLoader  # noqa: PLC0415 - below the queue

    script = ScriptLoader().load("push").source
    good = b'{"function":"f"}\n[]'
    with pytest.raises(Exception, match="BADTASK 1 its "):
        raw.eval(script, 1, root, b'{"ageing_us":1}', "u", "good", good, "u", "bad", record)
