"""Builds redis-py clients from a `RedisConfig`: the only part of `core` that knows redis, loaded late."""

from __future__ import annotations

# The next two are imported by the first connection that is made. A fork while a thread imports leaves the
# child waiting for that import for ever, so they are imported here.
import email.parser  # noqa: F401 - for the version of redis-py, from its metadata
import encodings.idna  # noqa: F401 - for host names
import inspect
from ssl import TLSVersion, VerifyFlags
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from fairque.core.exceptions import ConfigurationError
from fairque.core.strict import reveal

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import ModuleType

    from fairque.core.redis_config import RedisConfig, SentinelConfig
    from fairque.core.tls_config import TlsConfig

UNLIMITED = 2**31  # redis-py reads "not given" as a limit of 100, beyond which a command fails
POOL_WAIT_SECONDS = 20


class SentinelPool(redis.sentinel.SentinelConnectionPool):
    """Closes the connections to the sentinels with its own; redis-py leaves them open."""

    def close(self) -> None:
        super().close()
        self.sentinel_manager.close()


class AsyncSentinelPool(redis.asyncio.sentinel.SentinelConnectionPool):
    """The same for asyncio."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


class WaitingSentinelPool(SentinelPool, redis.BlockingConnectionPool):
    """Waits for a free connection instead of failing."""


class AsyncWaitingSentinelPool(AsyncSentinelPool, redis.asyncio.BlockingConnectionPool):
    """The same for asyncio."""


class Face(NamedTuple):
    """All that differs between the blocking and the asyncio half of redis-py."""

    name: str
    client: Any
    connection: ModuleType
    sentinel: Any
    sentinel_pools: tuple[Any, Any]
    retry: Any
    cluster: Any
    taken_by_cluster: Collection[str]


def _parameters(function: Any) -> Collection[str]:
    return inspect.signature(function).parameters.keys()


BLOCKING = Face(
    "redis-py's blocking",
    redis.Redis,
    redis.connection,
    redis.sentinel.Sentinel,
    (SentinelPool, WaitingSentinelPool),
    Retry,
    redis.RedisCluster,
    redis.cluster.REDIS_ALLOWED_KEYS,
)
ASYNC = Face(
    "redis-py's asyncio",
    redis.asyncio.Redis,
    redis.asyncio.connection,
    redis.asyncio.sentinel.Sentinel,
    (AsyncSentinelPool, AsyncWaitingSentinelPool),
    redis.asyncio.retry.Retry,
    redis.asyncio.RedisCluster,
    _parameters(redis.asyncio.RedisCluster.__init__),
)


def connect(config: RedisConfig, *, blocking: bool) -> redis.Redis | redis.RedisCluster:
    return cast("redis.Redis | redis.RedisCluster", _connect(BLOCKING, config, blocking=blocking))


def connect_async(config: RedisConfig, *, blocking: bool) -> redis.asyncio.Redis | redis.asyncio.RedisCluster:
    return cast(
        "redis.asyncio.Redis | redis.asyncio.RedisCluster", _connect(ASYNC, config, blocking=blocking)
    )


def _connect(face: Face, config: RedisConfig, *, blocking: bool) -> Any:
    options = _common_options(face, config)
    options |= {"username": config.username, "password": reveal(config.password)}
    options |= {"client_name": config.client_name, "health_check_interval": config.health_check_interval}
    if blocking:
        options["socket_timeout"] = None
    if config.cluster:
        return _cluster_client(face, config, options)
    options["db"] = config.db
    if config.sentinel:
        return _sentinel_client(face, config, config.sentinel, options)
    return _single_client(face, config, options)


def _common_options(face: Face, config: RedisConfig) -> dict[str, Any]:
    """What every connection gets, the ones to sentinels included."""
    return {
        "socket_timeout": config.socket_timeout,
        "socket_connect_timeout": config.socket_connect_timeout,
        "protocol": config.protocol,
        "decode_responses": False,
        "retry": face.retry(NoBackoff(), 0),
        # Only Redis Enterprise knows the command, and every connection would begin with its error.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _single_client(face: Face, config: RedisConfig, options: dict[str, Any]) -> Any:
    if config.unix_socket_path:
        options |= {"path": config.unix_socket_path}
        options |= {"connection_class": face.connection.UnixDomainSocketConnection}
    else:
        options |= {"host": config.host, "port": config.port, "socket_keepalive": config.socket_keepalive}
    if config.ssl:
        taken = _parameters(face.connection.SSLConnection.__init__)
        options |= {"connection_class": face.connection.SSLConnection}
        options |= _tls_options(config, taken, f"{face.name} connection")
    pool = (
        face.connection.BlockingConnectionPool if config.max_connections else face.connection.ConnectionPool
    )
    return face.client.from_pool(pool(**options, **_pool_limit(config)))


def _sentinel_client(
    face: Face, config: RedisConfig, sentinel: SentinelConfig, options: dict[str, Any]
) -> Any:
    taken, taker = _parameters(face.connection.SSLConnection.__init__), f"{face.name} connection"
    asking = _common_options(face, config)
    asking |= {"username": sentinel.username, "password": reveal(sentinel.password), "ssl": sentinel.ssl}
    asking |= {"socket_keepalive": config.socket_keepalive, **_tls_options(sentinel, taken, taker)}
    options |= {"ssl": config.ssl, "socket_keepalive": config.socket_keepalive}
    options |= _tls_options(config, taken, taker) | _pool_limit(config)
    pool = face.sentinel_pools[config.max_connections is not None]
    manager = face.sentinel(sentinel.addresses(), sentinel_kwargs=asking)
    return manager.master_for(sentinel.master, connection_pool_class=pool, **options)


def _cluster_client(face: Face, config: RedisConfig, options: dict[str, Any]) -> Any:
    taker = f"{face.name} cluster client"
    if "health_check_interval" not in face.taken_by_cluster and options.pop("health_check_interval"):
        raise ConfigurationError(f"redis.health_check_interval: {taker} has no such check; leave it at 0")
    options |= {"host": config.host, "port": config.port, "socket_keepalive": config.socket_keepalive}
    options |= {"ssl": config.ssl, "max_connections": config.max_connections or UNLIMITED}
    # `retry` stays at none: redirections (MOVED, ASK) are followed whatever it says.
    return face.cluster(**options, **_tls_options(config, face.taken_by_cluster, taker))


def _pool_limit(config: RedisConfig) -> dict[str, Any]:
    if config.max_connections is None:
        return {"max_connections": UNLIMITED}
    return {"max_connections": config.max_connections, "timeout": POOL_WAIT_SECONDS}


def _tls_options(tls: TlsConfig, taken: Collection[str], taker: str) -> dict[str, Any]:
    """The `ssl_*` settings as redis-py wants them; what this kind of client cannot do is refused."""
    if not tls.ssl:
        return {}
    names = [name for name in type(tls).model_fields if name.startswith("ssl_")]
    refused = sorted({name for name in names if name not in taken} & tls.changed())
    if refused:
        raise ConfigurationError(
            f"{', '.join(refused)}: {taker} cannot do this; leave it out or use another client"
        )
    return {name: _for_redis(name, getattr(tls, name)) for name in names if name in taken}


def _for_redis(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "ssl_password":
        return reveal(value)
    if name == "ssl_min_version":
        return TLSVersion[value.replace(".", "_")]
    if name.endswith("_verify_flags"):
        return [VerifyFlags[flag] for flag in value]
    return value
