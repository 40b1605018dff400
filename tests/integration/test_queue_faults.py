"""Lost replies, flushed scripts, and servers that are full, a replica or gone."""

from __future__ import annotations

import itertools
import re
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from redis import Redis

from fairque.core.config import FairQueueConfig, RedisConfig, UserPolicy
from fairque.core.exceptions import (
    ScriptError,
    ServerError,
    ServerLoadingError,
    ServerOutOfMemoryError,
    ServerReadOnlyError,
    ServerUnavailableError,
    SlotMovedError,
)
from fairque.core.models import Task, TaskState
from fairque.queue.queue import TaskQueue
from fairque.utils import listener, lua_manager
from fairque.utils.embedded import EmbeddedServer
from tests.support.actions import drain, eventually, make, names, popped, push
from tests.support.faces import Background, open_face
from tests.support.invariants import check_invariants
from tests.support.proxy import BlackHole, DroppingProxy, FarServer, ShortBreath
from tests.support.servers import OwnServer, own_server

ROOT = "fq:{default:0}"
FAR_SECONDS = 0.1


@contextmanager
def opened(face: str, config: FairQueueConfig) -> Iterator[TaskQueue]:
    queue = open_face(face, config)
    try:
        yield queue
    finally:
        queue.close()


@contextmanager
def through_proxy(
    face: str, config: FairQueueConfig, server: EmbeddedServer, drops: Callable[[bytes], bool]
) -> Iterator[tuple[TaskQueue, DroppingProxy]]:
    proxy = DroppingProxy(server.socket_path, drops)
    redis = RedisConfig(host="127.0.0.1", port=proxy.port)
    try:
        with opened(face, config.model_copy(update={"redis": redis})) as queue:
            yield queue, proxy
    finally:
        proxy.close()


# --- connections that vanish without a word ---


@pytest.fixture
def hole(server: EmbeddedServer) -> Iterator[BlackHole]:
    hole = BlackHole(server.socket_path)
    yield hole
    hole.close()


def test_a_blocking_pop_notices_that_its_connection_has_vanished(
    face: str, config: FairQueueConfig, hole: BlackHole, raw: Redis
) -> None:
    redis = RedisConfig(host="127.0.0.1", port=hole.port, socket_timeout=0.2)
    with opened(face, config.model_copy(update={"redis": redis})) as queue:
        popper = Background(lambda: queue.pop("w", block=60))
        eventually(lambda: any(client["cmd"] == "blpop" for client in raw.client_list()))
        hole.vanish()
        with pytest.raises(ServerUnavailableError):
            popper.value(within=10)
        push(queue, "u", "t")
        assert popped(queue, block=1).task_id == "t"


def test_a_blocking_pop_outwaits_the_longest_wait_of_one_command(
    face: str, config: FairQueueConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lua_manager, "LONGEST_BLOCK", 0.05)
    with opened(face, config) as queue:
        popper = Background(lambda: queue.pop("w", block=10))
        time.sleep(0.2)
        push(queue, "u", "t")
        assert popper.value().task_id == "t"
        queue.release(popper.value())


def test_a_waiting_result_hears_again_after_its_connection_has_vanished(
    face: str, config: FairQueueConfig, hole: BlackHole, raw: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(listener, "ANSWER_SECONDS", 0.5)
    redis = RedisConfig(host="127.0.0.1", port=hole.port, socket_timeout=0.5)
    with (
        opened(face, config) as direct,
        opened(face, config.model_copy(update={"redis": redis})) as queue,
    ):
        handle = direct.push(make("u", "t"))
        waiter = Background(lambda: queue.handle("u", "t").result(20))
        eventually(lambda: len(raw.pubsub_channels()) == 2)
        time.sleep(0.5)  # quiet, and yet alive: the connection is kept
        before = _listeners(raw)
        assert len(before) == 1
        hole.vanish()
        eventually(lambda: len(_listeners(raw) - before) == 1)
        direct.finish(popped(direct), "heard")
        start = time.monotonic()
        assert waiter.value() == "heard"
        assert time.monotonic() - start < 3
        assert handle.state() is TaskState.FINISHED


def _listeners(raw: Redis) -> set[str]:
    return {client["id"] for client in raw.client_list(_type="pubsub")}


# --- lost replies ---


class FirstReplies:
    """Chooses the first reply to the push of each task; the repeat is let through."""

    def __init__(self) -> None:
        self.lost: set[bytes] = set()

    def __call__(self, request: bytes) -> bool:
        pushed = re.search(rb'\n"(\d+)"\r\n$', request)
        if pushed is None or pushed[1] in self.lost:
            return False
        self.lost.add(pushed[1])
        return True


def test_a_thousand_pushes_whose_replies_are_lost_leave_a_thousand_tasks(
    face: str, config: FairQueueConfig, server: EmbeddedServer, raw: Redis, root: str
) -> None:
    drops = FirstReplies()
    with opened(face, config) as direct:
        direct.push(make("other", "loads the script"))
        with through_proxy(face, config, server, drops) as (queue, proxy):
            # Our own repeats would pause between tries; the callers' repeats are what this is about.
            queue.manager.retry_window = 0
            pushers = [Background(_push_twice, queue, range(start, 1000, 10)) for start in range(10)]
            for pusher in pushers:
                pusher.value()
        assert proxy.dropped == len(drops.lost) == 1000
        assert raw.zcard(f"{root}:lane:u") == 1000
        assert direct.stats().totals["pushed"] == 1001
        assert {task.task_id for task in direct.pop_batch("w", 1000, users=["u"])} == set(
            map(str, range(1000))
        )


def _push_twice(queue: TaskQueue, numbers: range) -> None:
    for number in numbers:
        task = make("u", str(number))
        with pytest.raises(ServerUnavailableError):
            queue.push(task)
        assert not queue.push(task).created, "its first push was carried out"


def test_the_queue_repeats_an_idempotent_call_by_itself(
    face: str, config: FairQueueConfig, server: EmbeddedServer
) -> None:
    lost: list[bytes] = []

    def drops(request: bytes) -> bool:
        # The first reply to each different call.
        if b"EVAL" not in request or request in lost:
            return False
        lost.append(request)
        return True

    with opened(face, config) as direct, through_proxy(face, config, server, drops) as (queue, _):
        # The push was carried out before its reply was lost, so the repeat finds it known.
        assert not queue.push(make("u", "t")).created
        task = popped(direct)
        queue.heartbeat([task])
        queue.finish(task, "once")
        assert queue.handle("u", "t").result(0) == "once"
        push(direct, "u", "v", max_retries=0)
        task = popped(direct)
        assert queue.fail(task, "no") is TaskState.FAILED
        assert len(direct.handle("u", "v").info().history) == 1
        push(direct, "u", "x")
        assert queue.cancel("u", "x")
        assert direct.stats().totals == {
            "pushed": 3,
            "started": 2,
            "finished": 1,
            "failed": 1,
            "canceled": 1,
        }


def test_a_claim_whose_reply_is_lost_is_not_repeated_and_comes_back_after_its_lease(
    face: str, config: FairQueueConfig, server: EmbeddedServer
) -> None:
    numbers = itertools.count()  # the first call looks at the server
    lossy = through_proxy(face, config, server, lambda request: b"EVAL" in request and next(numbers) == 1)
    with opened(face, config) as direct, lossy as (queue, proxy):
        push(direct, "u", "a", "b")
        with pytest.raises(ServerUnavailableError):
            queue.pop("w", lease=0.001)
        assert proxy.dropped == 1
        assert direct.stats().started == 1
        eventually(lambda: direct.reclaim() == [("u", "a")])
        assert names(drain(queue)) == ["a", "b"]


def test_a_batch_whose_replies_are_lost_is_complete_after_its_repeat(
    face: str, config: FairQueueConfig, server: EmbeddedServer
) -> None:
    numbers = itertools.count()  # the first call looks at the server
    lossy = through_proxy(
        face, config, server, lambda request: b"EVAL" in request and next(numbers) in {1, 2}
    )
    with opened(face, config) as direct, lossy as (queue, _):
        handles = queue.push_batch([make("u", str(number)) for number in range(1000)])
        assert len(handles) == 1000
        assert names(direct.pop_batch("w", 1000)) == [str(number) for number in range(1000)]


def test_the_scripts_of_a_large_batch_are_under_way_at_once(
    face: str, config: FairQueueConfig, server: EmbeddedServer
) -> None:
    far = FarServer(server.socket_path, FAR_SECONDS)
    redis = RedisConfig(host="127.0.0.1", port=far.port)
    with opened(face, config.model_copy(update={"redis": redis})) as queue:
        push(queue, "u", "first")
        began = time.monotonic()
        handles = queue.push_batch([make("u", str(number)) for number in range(2000)])
        took = time.monotonic() - began
        assert names(queue.pop_batch("w", 1000)) == ["first", *map(str, range(999))]
    far.close()
    assert all(handle.created for handle in handles)
    assert took < 8 * FAR_SECONDS  # ten scripts


def test_what_was_answered_before_a_connection_was_lost_is_not_asked_again(
    face: str, config: FairQueueConfig, server: EmbeddedServer
) -> None:
    answer = len(b"*200\r\n") + 200 * len(b":1\r\n")
    proxy = ShortBreath(server.socket_path)
    redis = RedisConfig(host="127.0.0.1", port=proxy.port)
    with opened(face, config.model_copy(update={"redis": redis})) as queue:
        push(queue, "u", "first")
        proxy.end_after(3 * answer + 100)
        handles = queue.push_batch([make("u", str(number)) for number in range(1000)])
        assert names(queue.pop_batch("w", 1000)) == ["first", *map(str, range(999))]
    proxy.close()
    # Of what was sent again, known by then, nobody can say whether it was.
    assert [handle.created for handle in handles] == [True] * 600 + [False] * 400


# --- flushed scripts ---


def test_flushing_scripts_all_the_time_surfaces_nowhere(
    queue: TaskQueue, raw: Redis, server: EmbeddedServer
) -> None:
    stop = threading.Event()

    def flush() -> int:
        rounds = 0
        with Redis(unix_socket_path=server.socket_path) as client:
            while not stop.is_set():
                client.script_flush()
                rounds += 1
        return rounds

    flusher = Background(flush)
    try:
        finished = 0
        for number in range(100):
            push(queue, "u", *(f"{number}-{i}" for i in range(5)))
            queue.push(make("v", str(number)))
            tasks = queue.pop_batch("w", 6)
            queue.heartbeat(tasks)
            queue.finish_batch((task, None) for task in tasks)
            finished += len(tasks)
            assert queue.handle("v", str(number)).state() is TaskState.FINISHED
    finally:
        stop.set()
    assert flusher.value() > 20
    assert finished == 600
    assert queue.stats().totals["finished"] == 600


def test_a_big_batch_survives_a_flush(queue: TaskQueue, raw: Redis) -> None:
    raw.script_flush()
    handles = queue.push_batch([make("u", str(number)) for number in range(1000)])
    assert all(handle.created for handle in handles)
    raw.script_flush()
    assert len(queue.pop_batch("w", 1000)) == 1000


# --- a server that is full, a replica, loading or gone ---


def test_a_full_server_refuses_pushes_and_still_drains(face: str) -> None:
    with (
        own_server("--maxmemory-policy", "noeviction") as server,
        server.client() as raw,
        opened(face, server.config()) as queue,
    ):
        push(queue, "u", *(str(number) for number in range(300)), max_retries=0)
        queue.fail(popped(queue), "for later")
        running = popped(queue)
        queue.xcom("u").push("key", 1)
        raw.config_set("maxmemory", "1mb")  # it holds more than that empty
        before = raw.keys("*")
        for attempt in (
            lambda: queue.push(make("u", "one too many")),
            lambda: push(queue, "u", "x", "y"),
            lambda: queue.requeue("u", "0"),
            lambda: queue.xcom("u").push("another", 1),
        ):
            with pytest.raises(ServerOutOfMemoryError, match="let workers drain the queue"):
                attempt()
        assert sorted(raw.keys("*")) == sorted(before)
        assert queue.get("u", "one too many") is None
        # What an operator does about it works, and a worker that has policies to publish can start.
        queue.pause()
        queue.set_policy("u", UserPolicy(weight=2.0))
        users = {"default": UserPolicy(max_concurrency=500)}
        with opened(face, server.config().model_copy(update={"users": users})) as worker:
            worker.resume()
            assert worker.get_policy("u") == UserPolicy(weight=2.0, max_concurrency=500)
        assert queue.xcom("u").clear() == 1
        # Everything that leads to the end of a task goes on.
        queue.heartbeat([running])
        queue.release([running])
        assert queue.cancel("u", "299")
        again = popped(queue, lease=0.001)
        assert again.task_id == "1"
        eventually(lambda: queue.reclaim() == [("u", "1")])
        assert len(drain(queue, 50)) == 298
        assert queue.handle("u", "5").state() is TaskState.FINISHED
        assert queue.stats().queued == 0
        raw.config_set("maxmemory", "0")
        check_invariants(raw, ROOT)  # reads in a MULTI, which Redis 7.0 refuses while it is full
        assert queue.push(make("u", "one too many")).created


def test_a_replica_says_that_it_is_one(face: str) -> None:
    with own_server() as server, server.client() as raw, opened(face, server.config()) as queue:
        push(queue, "u", "t")
        task = popped(queue)
        raw.replicaof("127.0.0.1", 1)
        for attempt in (
            lambda: queue.push(make("u", "t2")),
            lambda: queue.pop("w"),
            lambda: queue.finish(task),
            lambda: queue.push_batch([make("u", "t3")]),
        ):
            with pytest.raises(ServerReadOnlyError):
                attempt()
        raw.replicaof("NO", "ONE")
        queue.finish(task, "after the failover")
        assert queue.handle("u", "t").result(0) == "after the failover"


class _Refusing(socketserver.BaseRequestHandler):
    """Answers every script with one error: what a server says in states that are hard to bring one into."""

    answer: bytes

    def handle(self) -> None:
        while request := self.request.recv(1 << 16):
            commands = request.count(b"EVAL") or request.count(b"SETINFO") or 1
            self.request.sendall((self.answer if b"EVAL" in request else b"+OK\r\n") * commands)


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ("LOADING Valkey is loading the dataset in memory", ServerLoadingError),
        ("MASTERDOWN Link with MASTER is down", ServerLoadingError),
        ("READONLY You can't write against a read only replica.", ServerReadOnlyError),
        ("OOM command not allowed when used memory > 'maxmemory'.", ServerOutOfMemoryError),
        ("MOVED 3999 127.0.0.1:6381", SlotMovedError),
        ("ASK 3999 127.0.0.1:6381", SlotMovedError),
        ("CLUSTERDOWN The cluster is down", ServerUnavailableError),
        ("TRYAGAIN Multiple keys request during rehashing of slot", ServerUnavailableError),
        ("BUSY Valkey is busy running a script.", ServerUnavailableError),
        ("NOREPLICAS Not enough good replicas to write.", ServerUnavailableError),
        ("MISCONF Errors writing to the AOF file: No space left on device", ServerUnavailableError),
        ("ERR something nobody thought of", ScriptError),
        ("NOPERM this user has no permissions to run the 'evalsha' command", ServerError),
    ],
)
def test_each_refusal_of_the_server_has_its_own_error(
    face: str, config: FairQueueConfig, answer: str, meaning: type[ServerError]
) -> None:
    handler = type("Handler", (_Refusing,), {"answer": f"-{answer}\r\n".encode()})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as refusing:
        refusing.daemon_threads = True
        serving = Background(lambda: refusing.serve_forever(poll_interval=0.01))
        redis = RedisConfig(host="127.0.0.1", port=refusing.server_address[1], protocol=2)
        with opened(face, config.model_copy(update={"redis": redis})) as queue:
            queue.manager.retry_window = 0
            for attempt in (
                lambda: queue.push(make("u", "t")),
                lambda: queue.push_batch([make("u", "t")] * 3),
            ):
                with pytest.raises(ServerError) as caught:
                    attempt()
                assert type(caught.value) is meaning or (meaning is ServerError)
        refusing.shutdown()
        serving.value()


def test_writes_wait_for_replicas_that_are_away(face: str) -> None:
    with own_server() as server, server.client() as raw, opened(face, server.config()) as queue:
        push(queue, "u", "t")
        raw.config_set("min-replicas-to-write", "1")
        queue.manager.retry_window = 0
        with pytest.raises(ServerUnavailableError, match="refuses for now: NOREPLICAS"):
            queue.push(make("u", "t2"))
        queue.manager.retry_window = 5
        pusher = Background(lambda: queue.push(make("u", "t2")))
        time.sleep(0.05)
        raw.config_set("min-replicas-to-write", "0")
        assert pusher.value().created


def test_a_cluster_without_a_node_is_unavailable(face: str) -> None:
    redis = RedisConfig(host="127.0.0.1", port=1, cluster=True, retry_window=1)
    with (
        pytest.raises(ServerUnavailableError, match="cannot be reached"),
        opened(face, FairQueueConfig(redis=redis)) as queue,
    ):
        queue.push(make("u", "t"))


def test_a_server_that_is_gone_is_unavailable_and_then_is_used_again(face: str) -> None:
    with (
        own_server("--appendonly", "yes", "--appendfsync", "always") as server,
        opened(face, server.config()) as queue,
    ):
        push(queue, "u", "a", "b")
        task = popped(queue)
        server.stop()
        start = time.monotonic()
        for attempt in (
            lambda: queue.push(make("u", "c")),
            lambda: queue.pop("w"),
            lambda: queue.pop("w", block=5),
            lambda: queue.handle("u", "a").result(5),
        ):
            with pytest.raises(ServerUnavailableError, match="check the URL and that the server is running"):
                attempt()
        assert time.monotonic() - start < 10
        server.start()
        queue.finish(task, "across a restart")
        assert queue.handle("u", "a").result(0) == "across a restart"
        assert popped(queue).task_id == "b"


def test_a_waiting_result_survives_a_restart(face: str) -> None:
    with (
        own_server("--appendonly", "yes", "--appendfsync", "always") as server,
        opened(face, server.config()) as queue,
    ):
        handle = queue.push(make("u", "t"))
        task = popped(queue)
        waiter = Background(lambda: handle.result(20))
        with server.client() as raw:
            eventually(lambda: len(raw.pubsub_channels()) == 2)
        server.stop()
        server.start()
        start = time.monotonic()
        queue.finish(task, "at last")
        assert waiter.value() == "at last"
        assert time.monotonic() - start < 3


def test_a_call_is_repeated_while_a_server_restarts(face: str) -> None:
    with own_server() as server, opened(face, server.config()) as queue:
        push(queue, "u", "t")
        server.stop()
        pusher = Background(lambda: queue.push(make("u", "t2")))
        _pause_then_start(server)
        assert pusher.value().created


def _pause_then_start(server: OwnServer) -> None:
    time.sleep(0.05)
    server.start()


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_carry_a_whole_life(
    face: str, config: FairQueueConfig, server: EmbeddedServer, protocol: Literal[2, 3]
) -> None:
    redis = RedisConfig(unix_socket_path=server.socket_path, protocol=protocol)
    with opened(face, config.model_copy(update={"redis": redis})) as queue:
        handle = queue.push(make("u", "t"))
        waiter = Background(lambda: handle.result(10))
        queue.finish(popped(queue), {"a": 1.5})
        assert waiter.value() == {"a": 1.5}
        push(queue, "u", "v", max_retries=0, expires_at=4e9)
        queue.fail(popped(queue, block=5), ValueError("no"))
        assert [task.error for task in queue.failed_tasks()] == ["ValueError: no"]
        assert queue.handle("u", "v").info().history[0].error == "ValueError: no"
        assert [user.virtual_time for user in queue.users()] == [2.0]
        assert queue.stats().totals["finished"] == 1
        assert queue.health().version
        queue.push(make("u", "w", delay=60))
        due = queue.handle("u", "w").info().due_at
        assert due is not None


def test_a_wrong_kind_of_key_is_a_script_error_and_not_ours_to_hide(
    queue: TaskQueue, raw: Redis, root: str
) -> None:
    raw.set(f"{root}:ring", "not a ring")
    with pytest.raises(ServerError, match=r"script 'claim' failed: .*WRONGTYPE"):
        queue.pop("w")
    raw.delete(f"{root}:ring")
    assert queue.push(Task.create(user_id="u")).created
