"""XCom: data that a user's tasks leave for each other, by namespace and key, for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from fairque import (
    AsyncTaskQueue,
    AsyncXComManager,
    ConfigurationError,
    DecodeError,
    EncodeError,
    FairQueueConfig,
    LeaseLostError,
    PayloadTooLargeError,
    QueueClosedError,
    RedisConfig,
    Task,
    TaskQueue,
    TaskValidationError,
    XComKeyError,
    XComManager,
)
from fairque.core import codec
from fairque.core.calls import Call, Flow
from fairque.queue import xcom_commands
from fairque.queue.xcom_commands import XComCommands
from fairque.utils.embedded import EmbeddedServer
from tests.integration.conftest import OpenQueue
from tests.support.actions import eventually, lapse, popped, push, server_ms, sleep_past
from tests.support.faces import FACES, open_face
from tests.support.invariants import check_invariants
from tests.support.proxy import DroppingProxy

ODD = ["x" * 256, "🍵" * 256, "a:b", "a%3Ab", "{default:0}", "  ", 'say "no"\n', "\0\x7f", "日本語, étude"]


def index_of(root: str, user: str = "u", namespace: str = "default") -> str:
    return f"{root}:xcoms:{user}:{namespace}"


def value_of(root: str, key: str, user: str = "u", namespace: str = "default") -> str:
    return f"{root}:xcom:{user}:{namespace}:{key}"


# --- what is pushed can be pulled ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, False, "", "text", [1, {"a": None}], 1.5, {"ü": "🍵"}])
def test_what_is_pushed_comes_back(queue: TaskQueue, value: Any) -> None:
    xcom = queue.xcom("u")
    xcom.push("key", value)
    assert xcom.pull("key") == value
    assert xcom.pull_all() == {"key": value}


def test_a_push_takes_the_place_of_the_one_before(queue: TaskQueue) -> None:
    xcom = queue.xcom("u")
    xcom.push("key", "old")
    xcom.push("key", "new")
    assert xcom.pull_all() == {"key": "new"}


def test_no_user_sees_another_s_data(queue: TaskQueue) -> None:
    one, other = queue.xcom("one"), queue.xcom("other")
    one.push("key", 1)
    assert (other.pull("key", default=None), other.pull_all()) == (None, {})
    assert (other.clear(), other.delete("key")) == (0, False)
    assert one.pull("key") == 1


def test_a_namespace_is_apart_from_the_others(queue: TaskQueue) -> None:
    xcom = queue.xcom("u")
    xcom.push("key", "in default")
    xcom.push("key", "in n", namespace="n")
    assert (xcom.pull("key"), xcom.pull("key", namespace="n")) == ("in default", "in n")
    assert xcom.clear("n") == 1
    assert (xcom.pull_all(), xcom.pull_all("n")) == ({"key": "in default"}, {})


def test_a_manager_may_have_a_namespace_of_its_own(queue: TaskQueue) -> None:
    xcom = queue.xcom("u", namespace="n")
    xcom.push("key", 1)
    assert (xcom.user_id, xcom.namespace) == ("u", "n")
    assert queue.xcom("u").pull_many(["key"], namespace="n") == {"key": 1}
    assert queue.xcom("u").pull_all() == {}
    assert (xcom.delete("key", namespace="default"), xcom.delete("key")) == (False, True)


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_any_text_is_a_user_a_namespace_and_a_key(queue: TaskQueue, odd: str) -> None:
    for user, namespace, key in ((odd, "n", "k"), ("u", odd, "k"), ("u", "n", odd), (odd, odd, odd)):
        xcom = queue.xcom(user, namespace=namespace)
        xcom.push(key, [user, namespace, key])
        assert xcom.pull(key) == [user, namespace, key]
        assert xcom.pull_all() == {key: [user, namespace, key]}
        assert xcom.pull_many([key, "none"]) == {key: [user, namespace, key]}
    assert xcom.delete(odd)
    assert queue.xcom("u", namespace=odd).clear() == 1


def test_parts_that_look_alike_once_joined_stay_apart(queue: TaskQueue) -> None:
    places = [("a:b", "c", "d"), ("a", "b:c", "d"), ("a", "b", "c:d"), ("a%3Ab", "c", "d")]
    for place in places:
        queue.xcom(place[0]).push(place[2], place, namespace=place[1])
    for place in places:
        assert queue.xcom(place[0]).pull_all(place[1]) == {place[2]: list(place)}


@pytest.mark.parametrize("name", ["json", "msgpack", "pickle"])
def test_values_are_carried_by_the_queue_s_codec(
    open_queue: OpenQueue, raw: Redis, root: str, name: Any
) -> None:
    xcom = open_queue(codec=name).xcom("u")
    xcom.push("key", {"a": [1, None]})
    assert raw.get(value_of(root, "key")) == codec.encode({"a": [1, None]}, name)
    assert xcom.pull("key") == {"a": [1, None]}


def test_a_pickle_is_not_read_where_pickle_is_not_the_codec(open_queue: OpenQueue) -> None:
    open_queue(codec="pickle").xcom("u").push("key", {1})
    with pytest.raises(DecodeError, match=r"queue\.codec is not set to pickle"):
        open_queue().xcom("u").pull("key")


# --- it expires ---------------------------------------------------------------------------------------


def test_a_value_expires_and_leaves_nothing(queue: TaskQueue, raw: Redis, root: str) -> None:
    xcom = queue.xcom("u")
    xcom.push("key", 1, ttl=0.05)
    xcom.push("other", 1, ttl=timedelta(milliseconds=60), namespace="n")
    sleep_past(raw, server_ms(raw) + 61)
    assert (xcom.pull("key", default="gone"), xcom.pull_all(), xcom.pull_many(["key"])) == ("gone", {}, {})
    assert raw.keys(f"{root}:xcom*") == []


@pytest.mark.parametrize(
    ("ttl", "milliseconds"),
    [(None, 86_400_000), (1, 1_000), (0.0005, 1), (1e-9, 1), (timedelta(days=2), 172_800_000)],
)
def test_the_ttl_is_kept_to_the_millisecond_and_a_setting_where_none_is_given(
    queue: TaskQueue, raw: Redis, root: str, ttl: Any, milliseconds: int
) -> None:
    before = int(server_ms(raw))
    queue.xcom("u").push("long", 1, ttl=500_000)
    queue.xcom("u").push("key", 1, ttl=ttl)
    entry = raw.zscore(index_of(root), "key")
    assert entry is not None
    assert before + milliseconds <= entry <= server_ms(raw) + milliseconds
    if milliseconds > 1:
        assert raw.pexpiretime(value_of(root, "key")) == entry


def test_the_longest_ttl_stays_exact(queue: TaskQueue, raw: Redis, root: str) -> None:
    queue.xcom("u").push("key", 1, ttl=200 * 365.25 * 86400)
    end = raw.pexpiretime(value_of(root, "key"))
    assert end == raw.zscore(index_of(root), "key") == raw.pexpiretime(index_of(root))
    assert 6_311_520_000_000 <= end - server_ms(raw) + 1_000 < 6_311_520_002_000


def test_the_ttl_where_none_is_given_is_a_setting(open_queue: OpenQueue, raw: Redis, root: str) -> None:
    open_queue(xcom_ttl=7.0).xcom("u").push("key", 1)
    assert 6_000 < raw.pttl(value_of(root, "key")) <= 7_000


@pytest.mark.parametrize("ttls", [(100, 10), (10, 100)], ids=["by a shorter life", "by a longer life"])
def test_a_value_is_overwritten_with_its_life(
    queue: TaskQueue, raw: Redis, root: str, ttls: tuple[float, float]
) -> None:
    xcom = queue.xcom("u")
    for ttl in ttls:
        xcom.push("key", ttl, ttl=ttl)
    end = raw.pexpiretime(value_of(root, "key"))
    assert 0 < end - server_ms(raw) <= ttls[1] * 1000
    assert end == raw.zscore(index_of(root), "key") == raw.pexpiretime(index_of(root))


def test_the_index_ends_with_its_latest_value_whatever_becomes_of_that(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    xcom, index = queue.xcom("u"), index_of(root)
    for key, ttl in (("mid", 200), ("late", 300), ("soon", 100)):
        xcom.push(key, 1, ttl=ttl)
    ends = {key: raw.pexpiretime(value_of(root, key)) for key in ("soon", "mid", "late")}
    assert raw.pexpiretime(index) == ends["late"]
    assert xcom.delete("late")
    assert raw.pexpiretime(index) == ends["mid"]
    xcom.push("mid", 1, ttl=50)
    assert raw.pexpiretime(index) == ends["soon"]
    assert xcom.delete("mid")
    assert xcom.delete("soon")
    assert raw.keys(f"{root}:xcom*") == []


@pytest.mark.parametrize("write", ["push", "delete", "clear"])
def test_a_write_sweeps_a_bounded_number_of_expired_entries(
    queue: TaskQueue, raw: Redis, root: str, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    xcom, index = queue.xcom("u"), index_of(root)
    monkeypatch.setattr(xcom_commands, "CHUNK", 1)
    xcom.push("stays", 1)
    for number in range(70):
        xcom.push(f"key {number}", 1, ttl=1)
    # They expire at once: a wait would let some go while others are pushed.
    past = int(server_ms(raw)) - 1_000
    for number in range(70):
        raw.pexpireat(value_of(root, f"key {number}"), past)
        raw.zadd(index, {f"key {number}": past})
    assert xcom.pull_all() == {"stays": 1}
    if write == "push":
        xcom.push("stays", 2)
        assert raw.zcard(index) == 71 - xcom_commands.SWEPT
    elif write == "delete":
        assert not xcom.delete("key 0")
        assert raw.zcard(index) == 71 - xcom_commands.SWEPT - 1
    else:
        commands = queue.commands.shards[0].xcom("u")
        assert next(_replies(queue, commands.clear())) == [0, 71 - xcom_commands.SWEPT - 1]
    while raw.zcard(index) > 1:
        xcom.push("stays", 3)
    assert xcom.pull_all() == {"stays": 3}


def _replies(queue: TaskQueue, flow: Flow[Any]) -> Any:
    """A flow's replies, one after another, over a blocking manager."""
    with TaskQueue(queue.config) as other:
        step = next(flow)
        while True:
            assert isinstance(step, Call)
            reply = other.manager.execute(step)
            yield list(reply)
            try:
                step = flow.send(reply)
            except StopIteration:
                return


# --- limits -------------------------------------------------------------------------------------------


def test_a_value_over_the_limit_is_refused_and_the_setting_named(
    open_queue: OpenQueue, raw: Redis, root: str
) -> None:
    xcom = open_queue(max_xcom_bytes=10).xcom("u")
    with pytest.raises(
        PayloadTooLargeError,
        match=r"^the encoded XCom value 'key' has 11 bytes, the limit is 10: .* raise queue\.max_xcom_bytes$",
    ) as caught:
        xcom.push("key", "x" * 9)
    assert (caught.value.size, caught.value.limit, caught.value.setting) == (11, 10, "queue.max_xcom_bytes")
    assert raw.keys(f"{root}:xcom*") == []
    xcom.push("key", "x" * 8)


def test_the_limit_is_256_kib_where_none_is_set(queue: TaskQueue) -> None:
    queue.xcom("u").push("key", "x" * (262_144 - 2))
    with pytest.raises(PayloadTooLargeError, match="the limit is 262,144"):
        queue.xcom("u").push("key", "x" * (262_144 - 1))


def test_a_value_that_cannot_be_carried_is_named(queue: TaskQueue) -> None:
    with pytest.raises(EncodeError, match=r"XCom value 'key'\['a'\] cannot be carried as json"):
        queue.xcom("u").push("key", {"a": object()})


BAD: dict[str, tuple[Callable[[XComManager], object], str]] = {
    "an empty key": (lambda xcom: xcom.push("", 1), "key is empty"),
    "a long key": (lambda xcom: xcom.pull("k" * 257), "key has 257 characters, the limit is 256"),
    "no text": (lambda xcom: xcom.delete(5), "key must be a string, not int: 5"),  # type: ignore[arg-type]
    "a surrogate": (lambda xcom: xcom.pull("\ud800"), "key is not valid unicode"),
    "an empty namespace": (lambda xcom: xcom.pull_all(""), "namespace is empty"),
    "a long namespace": (lambda xcom: xcom.clear("n" * 257), "namespace has 257 characters"),
    "a namespace's type": (lambda xcom: xcom.push("k", 1, namespace=b"n"), "namespace must be a string"),  # type: ignore[arg-type]
    "one string": (lambda xcom: xcom.pull_many("abc"), "keys must be a list of keys, not one string: 'abc'"),
    "a bad key of many": (lambda xcom: xcom.pull_many(["a", ""]), "key is empty"),
    "no time": (lambda xcom: xcom.push("k", 1, ttl=0), "ttl must be longer than 0 s, not 0"),
    "no time delta": (lambda xcom: xcom.push("k", 1, ttl=timedelta(0)), "ttl must be longer than 0 s"),
    "a negative ttl": (lambda xcom: xcom.push("k", 1, ttl=-1), "ttl must not be negative: -1"),
    "an endless ttl": (lambda xcom: xcom.push("k", 1, ttl=float("inf")), "ttl must be a finite number"),
    "a ttl too long": (lambda xcom: xcom.push("k", 1, ttl=1e10), "ttl is over 200 years"),
    "a ttl that is a flag": (lambda xcom: xcom.push("k", 1, ttl=True), "ttl must be seconds or a timedelta"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_out_of_its_range_is_refused_before_anything_is_sent(
    queue: TaskQueue, raw: Redis, root: str, case: str
) -> None:
    attempt, message = BAD[case]
    with pytest.raises(TaskValidationError) as caught:
        attempt(queue.xcom("u"))
    assert str(caught.value).startswith(message)
    assert raw.keys(f"{root}:xcom*") == []


@pytest.mark.parametrize("user", ["", 5, "u" * 257])
def test_a_user_id_that_cannot_be_one_is_refused(queue: TaskQueue, user: Any) -> None:
    with pytest.raises(TaskValidationError, match="user_id"):
        queue.xcom(user)


# --- what is missing ----------------------------------------------------------------------------------


def test_a_missing_key_is_an_error_that_says_where_and_what_to_do(queue: TaskQueue) -> None:
    with pytest.raises(XComKeyError) as caught:
        queue.xcom("u", namespace="n").pull("k'ey")
    error = caught.value
    assert isinstance(error, KeyError)
    assert (error.user_id, error.namespace, error.key) == ("u", "n", "k'ey")
    assert str(error) == (
        "user 'u' has no value \"k'ey\" in namespace 'n': it was never pushed there, was removed, or has "
        "expired; push it first, with a longer ttl, or pull it with a default"
    )
    with pytest.raises(XComKeyError, match="in namespace 'other'"):
        queue.xcom("u").pull("key", namespace="other")


def test_a_default_stands_in_for_what_is_missing_and_for_nothing_else(queue: TaskQueue) -> None:
    xcom = queue.xcom("u")
    assert xcom.pull("key", default=None) is None
    xcom.push("key", None)
    assert xcom.pull("key", default=5) is None


# --- many ---------------------------------------------------------------------------------------------


def fill(raw: Redis, root: str, number: int, value: bytes = b"1") -> None:
    """Many values at once, as so many pushes would leave them."""
    end = int(server_ms(raw)) + 1_000_000
    pipe = raw.pipeline(transaction=True)
    for i in range(number):
        pipe.set(value_of(root, f"{i:06d}"), value, pxat=end + i)
        pipe.zadd(index_of(root), {f"{i:06d}": end + i})
    pipe.pexpireat(index_of(root), end + number - 1)
    pipe.execute()


def test_several_keys_are_pulled_at_once_in_the_order_asked(queue: TaskQueue, raw: Redis, root: str) -> None:
    fill(raw, root, 250)
    keys = [f"{i:06d}" for i in range(300)][::-1]
    assert list(queue.xcom("u").pull_many(keys)) == keys[50:]
    assert queue.xcom("u").pull_many([]) == {}


def test_all_of_a_namespace_comes_sorted_over_several_pages(queue: TaskQueue, raw: Redis, root: str) -> None:
    fill(raw, root, 2_500)
    assert list(queue.xcom("u").pull_all()) == [f"{i:06d}" for i in range(2_500)]
    assert len(list(_replies(queue, queue.commands.shards[0].xcom("u").pull_all()))) > 10


def test_a_reply_ends_once_it_has_a_mebibyte(queue: TaskQueue, raw: Redis, root: str) -> None:
    value = codec.encode("x" * 200_000)
    fill(raw, root, 40, value)
    assert queue.xcom("u").pull_all() == {f"{i:06d}": "x" * 200_000 for i in range(40)}
    assert len(queue.xcom("u").pull_many([f"{i:06d}" for i in range(40)])) == 40
    longest = 6 * 200_002  # the sixth reaches the limit
    for flow in (
        queue.commands.shards[0].xcom("u").pull_all(),
        queue.commands.shards[0].xcom("u").pull_many([f"{i:06d}" for i in range(40)]),
    ):
        for reply in _replies(queue, flow):
            values = reply[1].values() if reply and isinstance(reply[0], str) else reply
            assert sum(map(len, values)) <= longest


def test_what_is_there_all_the_time_is_in_pull_all_whatever_is_written_meanwhile(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    fill(raw, root, 1_500)
    xcom = queue.xcom("u")
    pages = _replies(queue, queue.commands.shards[0].xcom("u").pull_all())
    seen: set[str] = set()
    for number, reply in enumerate(pages):
        seen |= set(reply[1])
        # Nothing keeps its place by expiry, and nothing that stays may be missed for it.
        for i in range(number * 40, number * 40 + 40):
            xcom.push(f"{i % 1_500:06d}", "again", ttl=1_000 - (i % 7) * 100)
        xcom.push(f"new {number}", 1)
        xcom.delete(f"new {number - 3}")
    assert seen >= {f"{i:06d}" for i in range(1_500)}


def test_thousands_are_cleared_in_chunks(queue: TaskQueue, raw: Redis, root: str) -> None:
    fill(raw, root, 2_345)
    queue.xcom("u").push("key", 1, namespace="other")
    raw.config_resetstat()
    assert queue.xcom("u").clear() == 2_345
    calls = raw.info("commandstats")
    assert sum(calls.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha")) <= 6
    assert queue.xcom("u").pull_all() == {}
    assert sorted(raw.keys(f"{root}:xcom*")) == [
        value_of(root, "key", namespace="other").encode(),
        index_of(root, namespace="other").encode(),
    ]


def test_a_clear_counts_values_and_not_what_has_expired(queue: TaskQueue, raw: Redis, root: str) -> None:
    xcom = queue.xcom("u")
    xcom.push("soon", 1, ttl=0.01)
    xcom.push("late", 1)
    sleep_past(raw, server_ms(raw) + 11)
    assert xcom.clear() == 1
    assert xcom.clear() == 0


# --- the fence ----------------------------------------------------------------------------------------


def fenced(queue: TaskQueue, task: Task[Any]) -> XComCommands:
    return queue.commands.shards[0].xcom(task.user_id or "", attempt=task)


WRITES: dict[str, Callable[[XComCommands], Flow[Any]]] = {
    "push": lambda xcom: xcom.push("key", "stale"),
    "push of a new key": lambda xcom: xcom.push("new", "stale"),
    "delete": lambda xcom: xcom.delete("key"),
    "delete of nothing": lambda xcom: xcom.delete("nothing"),
    "clear": lambda xcom: xcom.clear(),
}


def reclaimed(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = lapse(queue, raw)
    assert queue.reclaim()
    return task


def run_again(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = reclaimed(queue, raw)
    assert popped(queue, "another").attempt == 2
    return task


def canceled(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = popped(queue)
    assert queue.cancel("u", "t")
    return task


def finished(queue: TaskQueue, raw: Redis) -> Task[Any]:
    task = popped(queue)
    queue.finish(task)
    return task


def another_life(queue: TaskQueue, raw: Redis) -> Task[Any]:
    """The same id and the same number of the attempt, in another life of the task."""
    task = finished(queue, raw)
    for key in raw.keys("*:u:t"):
        if b"xcom" not in key:
            raw.delete(key)
    raw.zrem(f"{queue.commands.shards[0].keys.root}:finished", "u:t")
    push(queue, "u", "t")
    again = popped(queue)
    assert (again.attempt, again.run.claim == task.run.claim) == (1, False)
    return task


@pytest.mark.parametrize("lose", [reclaimed, run_again, canceled, finished, another_life])
@pytest.mark.parametrize("write", WRITES)
def test_an_attempt_that_lost_its_lease_writes_nothing(
    queue: TaskQueue, raw: Redis, root: str, write: str, lose: Callable[..., Task[Any]]
) -> None:
    push(queue, "u", "t")
    queue.xcom("u").push("key", "good")
    task = lose(queue, raw)
    before = _picture(raw, root)
    with pytest.raises(LeaseLostError, match="is no longer leased to attempt 1") as caught:
        queue.run(WRITES[write](fenced(queue, task)))
    assert (caught.value.user_id, caught.value.task_id, caught.value.attempt) == ("u", "t", 1)
    assert _picture(raw, root) == before
    assert queue.run(fenced(queue, task).pull("key")) == "good"  # it may still read


def _picture(raw: Redis, root: str) -> dict[str, Any]:
    keys: Any = raw.keys(f"{root}:xcom*")
    return {key: (raw.dump(key), raw.pexpiretime(key)) for key in keys}


@pytest.mark.parametrize("odd", ["a b", "a:b %", "日 本\n"])
def test_the_refusal_names_a_task_of_any_id(queue: TaskQueue, raw: Redis, odd: str) -> None:
    push(queue, odd, odd)
    task = reclaimed(queue, raw)
    with pytest.raises(LeaseLostError) as caught:
        queue.run(fenced(queue, task).push("key", 1))
    assert (caught.value.user_id, caught.value.task_id) == (odd, odd)


def test_a_retried_attempt_overwrites_what_the_one_before_wrote(queue: TaskQueue, raw: Redis) -> None:
    push(queue, "u", "t")
    first = popped(queue)
    queue.run(fenced(queue, first).push("key", "first"))
    sleep_past(raw, server_ms(raw))
    queue.heartbeat(first, lease=0.001)
    sleep_past(raw, server_ms(raw) + 2)
    assert queue.reclaim()
    second = popped(queue)
    queue.run(fenced(queue, second).push("key", "second"))
    with pytest.raises(LeaseLostError):
        queue.run(fenced(queue, first).push("key", "late"))
    assert queue.xcom("u").pull_all() == {"key": "second"}
    assert queue.run(fenced(queue, second).delete("key")) is True
    assert queue.run(fenced(queue, second).clear()) == 0


def test_a_push_of_an_attempt_is_one_call_that_others_may_send_along(queue: TaskQueue) -> None:
    push(queue, "u", "t")
    task = popped(queue)
    call = fenced(queue, task).push_call("key", [1], ttl=5, namespace="n")
    assert call.script == "xcom_push_running"
    with TaskQueue(queue.config) as other:
        other.manager.execute(call)
    assert queue.xcom("u").pull_all("n") == {"key": [1]}


def test_a_task_that_was_not_popped_has_no_fence(queue: TaskQueue) -> None:
    with pytest.raises(TaskValidationError, match="it has no lease"):
        queue.commands.shards[0].xcom("u", attempt=Task.create(user_id="u"))


# --- managers -----------------------------------------------------------------------------------------


def test_a_manager_that_opened_its_queue_closes_it(config: FairQueueConfig) -> None:
    with XComManager(config, "u", namespace="n") as xcom:
        xcom.push("key", 1)
        assert xcom.pull_all() == {"key": 1}
    with pytest.raises(QueueClosedError):
        xcom.pull("key")


async def test_an_asyncio_manager_that_opened_its_queue_closes_it(config: FairQueueConfig) -> None:
    async with AsyncXComManager(config, "u", namespace="n") as xcom:
        await xcom.push("key", 1)
        assert await xcom.pull_all() == {"key": 1}
    with pytest.raises(QueueClosedError):
        await xcom.pull("key")


async def test_a_manager_does_not_close_a_queue_that_it_was_given(config: FairQueueConfig) -> None:
    with TaskQueue(config) as queue:
        with XComManager(queue, "u") as xcom:
            xcom.push("key", 1)
        assert queue.xcom("u").pull("key") == 1
    async with AsyncTaskQueue(config) as other:
        async with AsyncXComManager(other, "u") as on_loop:
            assert await on_loop.pull("key") == 1
        assert await other.xcom("u").pull("key") == 1


async def test_many_pushes_at_once_are_all_there(config: FairQueueConfig) -> None:
    async with AsyncXComManager(config, "u") as xcom:
        await asyncio.gather(*(xcom.push(f"{i:03d}", i) for i in range(200)))
        assert await xcom.pull_all() == {f"{i:03d}": i for i in range(200)}


@pytest.mark.parametrize("kind", [XComManager, AsyncXComManager])
def test_a_manager_of_something_else_says_what_it_takes(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="a queue is made from a URL"):
        kind(5, "u")
    with pytest.raises(TaskValidationError, match="user_id is empty"):
        kind("embedded://", "")
    with pytest.raises(TaskValidationError, match="namespace is empty"):
        kind("embedded://", "u", namespace="")


def test_a_manager_shows_whose_it_is(config: FairQueueConfig) -> None:
    with XComManager(config, "acme") as xcom:
        assert repr(xcom) == "<XComManager of user 'acme', namespace 'default'>"


# --- lost replies -------------------------------------------------------------------------------------


def test_every_operation_survives_the_loss_of_its_reply(
    face: str, config: FairQueueConfig, server: EmbeddedServer, raw: Redis, root: str
) -> None:
    lost: set[bytes] = set()

    def drops(request: bytes) -> bool:
        """The first reply to each different script call."""
        is_new = b"EVAL" in request and request not in lost
        lost.add(request)
        return is_new

    proxy = DroppingProxy(server.socket_path, drops)
    redis = RedisConfig(host="127.0.0.1", port=proxy.port)
    queue = open_face(face, config.model_copy(update={"redis": redis}))
    try:
        xcom = queue.xcom("u")
        xcom.push("a", 1)
        xcom.push("b", 2)
        assert (xcom.pull("a"), xcom.pull_all()) == (1, {"a": 1, "b": 2})
        assert xcom.delete("a") is False  # it was there, and the repeat found nothing
        assert xcom.pull("a", default=None) is None
        assert xcom.clear() == 0  # the same
        assert proxy.dropped >= 6
    finally:
        queue.close()
        proxy.close()
    assert raw.keys(f"{root}:xcom*") == []


# --- against a model ----------------------------------------------------------------------------------

PLACES = st.tuples(st.sampled_from(["u", "u:", "ü"]), st.sampled_from(["default", "n:1"]))
KEYS = st.sampled_from(["a", "b", ":", "%3A", "d e"])
STEPS = st.one_of(
    st.tuples(st.just("push"), PLACES, KEYS, st.integers(), st.sampled_from([None, 50, 5_000])),
    st.tuples(st.just("push"), PLACES, KEYS, st.none() | st.text(max_size=3), st.none()),
    st.tuples(st.just("delete"), PLACES, KEYS),
    st.tuples(st.just("clear"), PLACES),
    st.tuples(st.just("pull"), PLACES, KEYS),
    st.tuples(st.just("pull_all"), PLACES),
)


@pytest.mark.parametrize("driven", FACES)
def test_any_history_is_that_of_a_dictionary(
    driven: str, config: FairQueueConfig, raw: Redis, root: str
) -> None:
    queue = open_face(driven, config)

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(STEPS, max_size=40))
    def check(steps: list[tuple[Any, ...]]) -> None:
        model: dict[tuple[str, str], dict[str, Any]] = {}
        for what, (user, namespace), *rest in steps:
            xcom, known = queue.xcom(user, namespace=namespace), model.setdefault((user, namespace), {})
            if what == "push":
                key, value, ttl = rest
                xcom.push(key, value, ttl=ttl)
                known[key] = value
            elif what == "delete":
                assert xcom.delete(rest[0]) is (rest[0] in known)
                known.pop(rest[0], None)
            elif what == "clear":
                assert xcom.clear() == len(known)
                known.clear()
            elif what == "pull":
                assert xcom.pull(rest[0], default="none") == known.get(rest[0], "none")
            else:
                assert xcom.pull_all() == known
        check_invariants(raw, root)
        for (user, namespace), known in model.items():
            assert queue.xcom(user).pull_all(namespace) == known
            queue.xcom(user).clear(namespace)
        assert raw.keys(f"{root}:xcom*") == []

    try:
        check()
    finally:
        queue.close()


def test_short_lives_side_by_side_with_long_ones_leave_the_index_as_it_must_be(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    xcom = queue.xcom("u")
    for i in range(120):
        xcom.push(f"{i % 17}", i, ttl=(0.002, 0.02, 60)[i % 3])
        if i % 10 == 0:
            check_invariants(raw, root)
            time.sleep(0.003)
    eventually(lambda: len(xcom.pull_all()) <= 6)
    check_invariants(raw, root)
