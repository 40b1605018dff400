"""The least that the server's ACL must allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairque.utils.listener import IDLE_CHANNEL

if TYPE_CHECKING:
    from fairque.core.config import FairQueueConfig

# What the scripts call: the server checks that against the user who runs them.
IN_SCRIPTS = (
    *("exists", "get", "getrange", "mget", "set", "unlink", "persist", "pexpire", "pexpireat", "pexpiretime"),
    *("hdel", "hexists", "hget", "hgetall", "hincrby", "hlen", "hmget", "hset", "hsetnx"),
    *("zadd", "zcard", "zcount", "zmscore", "zrange", "zrangebylex", "zrangebyscore", "zrank", "zrem"),
    *("zremrangebyrank", "zremrangebyscore", "zrevrange", "zscan", "zscore"),
    *("sadd", "smembers", "srem", "llen", "ltrim", "rpush", "publish", "info", "time"),
    *("scan", "ttl", "type"),  # of a repair
)
# What clients say: they run scripts, block on a wake-up, and listen for ended tasks.
OF_CLIENTS = (
    "evalsha",
    "eval",
    "blpop",
    "subscribe",
    "unsubscribe",
    "ping",
    "select",
    "client|setname",
    "wait",
)
OF_CLUSTER_CLIENTS = ("cluster|slots", "command", "asking")
FOR_DISKS = ("waitaof",)  # of durable pushes; a server before 7.2 does not know it


def acl_rule(config: FairQueueConfig, user: str) -> str:
    """The command that makes a user who may do all that a queue needs, and nothing else.

    The password is left open. A script that lacks a command may stop half way: no rule must have less.

    Args:
        config: Names the queue, and says whether the server is a cluster.
        user: The name; without spaces.
    """
    keys = f"{config.queue.prefix}:{{{config.queue.name}:*"
    of_clients = [*OF_CLIENTS]
    if config.redis.cluster:
        of_clients += OF_CLUSTER_CLIENTS
    if config.queue.durability.disk:
        of_clients += FOR_DISKS
    commands = [*of_clients, *IN_SCRIPTS]
    allowed = " ".join(f"+{command}" for command in commands)
    return f"ACL SETUSER {user} reset on >PASSWORD ~{keys} &{keys} &{IDLE_CHANNEL} {allowed}"
