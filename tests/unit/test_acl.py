"""The rule of least privilege allows what the scripts call, and nothing else."""

from __future__ import annotations

import re

from fairque import FairQueueConfig, QueueConfig, RedisConfig
from fairque.queue.acl import IN_SCRIPTS, OF_CLIENTS, OF_CLUSTER_CLIENTS, acl_rule
from fairque.utils.script_loader import SCRIPTS, ScriptLoader

CALL = re.compile(r"redis\.p?call\(\s*([^\s,)]+)")


def test_the_rule_lists_exactly_the_commands_that_scripts_call() -> None:
    called = set()
    for path in SCRIPTS.rglob("*.lua"):
        for word in CALL.findall(path.read_text(encoding="utf-8")):
            assert re.fullmatch(r"'[A-Z]+'", word), (
                f"{path.name}: the command stands there as a word, not {word}"
            )
            called.add(word.strip("'").lower())
    assert len(IN_SCRIPTS) == len(set(IN_SCRIPTS))
    assert set(IN_SCRIPTS) == called


def test_nothing_dangerous_is_allowed() -> None:
    everything = {*IN_SCRIPTS, *OF_CLIENTS, *OF_CLUSTER_CLIENTS}
    dangerous = {
        "keys",
        "flushall",
        "flushdb",
        "config",
        "acl",
        "debug",
        "shutdown",
        "script",
        "client",
    }
    assert everything.isdisjoint(dangerous)
    assert not [word for word in everything if word.startswith("@")]


def test_the_rule_names_the_keys_and_channels_of_one_queue() -> None:
    config = FairQueueConfig(queue=QueueConfig(prefix="p", name="mail"))
    words = acl_rule(config, "billing").split(" ")
    assert words[:6] == ["ACL", "SETUSER", "billing", "reset", "on", ">PASSWORD"]
    assert [word for word in words if word[0] == "~"] == ["~p:{mail:*"]
    assert [word for word in words if word[0] == "&"] == ["&p:{mail:*", "&fairque:listening"]
    assert "+cluster|slots" not in words
    cluster = FairQueueConfig(redis=RedisConfig(cluster=True))
    assert {"+cluster|slots", "+command"} <= set(acl_rule(cluster, "x").split(" "))


def test_what_may_still_be_said_to_a_full_server() -> None:
    """A script that adds work, or data, is refused there; all that leads to an end of it is not."""
    by_flag: dict[str, set[str]] = {}
    for name in ScriptLoader().names():
        first = ScriptLoader().load(name).source.partition("\n")[0]
        by_flag.setdefault(first.removeprefix("#!lua").strip(), set()).add(name)
    assert by_flag[""] == {"push", "depend", "requeue", "xcom_push", "put_schedules", "fire"}
    assert by_flag["flags=allow-oom"] == {
        *("claim", "finish", "fail", "unknown", "release", "reclaim", "heartbeat", "cancel", "cleanup"),
        *("configure", "open", "refresh", "set_policy", "pause", "xcom_delete", "xcom_clear"),
        *("xcom_push_running", "remove_schedule", "mend_schedules"),
        *("mend_edges", "mend_shard", "mend_tasks", "mend_users", "mend_xcom"),
    }
    assert by_flag.keys() == {"", "flags=allow-oom", "flags=no-writes"}
