"""The configuration: what it accepts, what it refuses, and what it says then."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fairque.core.config import (
    FairQueueConfig,
    QueueConfig,
    RedisConfig,
    Retention,
    SchedulerConfig,
    SentinelConfig,
    UserPolicy,
    WorkerConfig,
    load_scheduler_config,
    load_worker_config,
)
from fairque.core.exceptions import ConfigurationError
from fairque.core.strict import StrictModel
from fairque.core.tls_config import TlsConfig

EXAMPLES = Path(__file__).parents[2] / "config"
MODELS: list[type[StrictModel]] = [*StrictModel.__subclasses__(), *TlsConfig.__subclasses__()]


@pytest.fixture(autouse=True)
def _only_our_own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("FAIRQUE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refusal(of: type[StrictModel], **settings: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        of(**settings)
    return str(caught.value)


def write(folder: Path, **files: str) -> Path:
    for stem, text in files.items():
        (folder / f"{stem}.yaml").write_text(text, encoding="utf-8")
    return folder


# --- single values ------------------------------------------------------------------------------------


def test_the_defaults_are_the_documented_ones() -> None:
    config = FairQueueConfig()
    queue = config.queue
    assert (queue.name, queue.prefix, queue.shards, queue.codec, queue.cost) == (
        "default",
        "fq",
        1,
        "json",
        "tasks",
    )
    assert (queue.lease_seconds, queue.ageing_seconds, queue.push_retry_window) == (30, 60, 60)
    assert (queue.max_payload_bytes, queue.max_retries, queue.max_crashes) == (1024 * 1024, 3, 3)
    assert (queue.max_xcom_bytes, queue.xcom_ttl) == (256 * 1024, 86400)
    assert queue.retention == Retention(finished=86400, failed=7 * 86400, canceled=3600)
    assert config.worker == WorkerConfig(concurrency=10, graceful_shutdown_timeout=30, steal_targets=[])
    assert (config.redis.host, config.redis.port, config.redis.db) == ("localhost", 6379, 0)


def test_a_duration_is_a_number_of_seconds_or_a_timedelta() -> None:
    assert QueueConfig.model_validate({"lease_seconds": timedelta(minutes=2)}).lease_seconds == 120
    assert QueueConfig(lease_seconds=2).lease_seconds == 2.0
    assert Retention.model_validate({"finished": timedelta(0)}).finished == 0


@pytest.mark.parametrize("value", [0, -1, True, "30", math.nan, math.inf, None, timedelta(-1)])
def test_a_lease_refuses_what_is_no_positive_number(value: object) -> None:
    assert "lease_seconds: " in refusal(QueueConfig, lease_seconds=value)


@pytest.mark.parametrize(
    ("model", "settings", "complaint"),
    [
        (QueueConfig, {"lease_second": 3}, "lease_second: unknown key (did you mean lease_seconds?)"),
        (QueueConfig, {"name": "a{b}"}, "name: String should match pattern '^[A-Za-z0-9_.-]+$', not 'a{b}'"),
        (QueueConfig, {"name": "ok\n"}, "name: String should match pattern"),
        (QueueConfig, {"prefix": ""}, "prefix: String should match pattern"),
        (QueueConfig, {"shards": 129}, "shards: must be less than or equal to 128, not 129"),
        (QueueConfig, {"shards": True}, "shards: must be a valid integer"),
        (QueueConfig, {"cost": "money"}, "cost: must be 'tasks' or 'time', not 'money'"),
        (QueueConfig, {"max_queued": 0}, "max_queued: must be greater than or equal to 1"),
        (QueueConfig, {"max_queued": 2**53 + 1}, "max_queued: must be less than or equal to"),
        (QueueConfig, {"codec": "yaml"}, "codec: must be 'json', 'msgpack' or 'pickle'"),
        (
            QueueConfig,
            {"ageing_seconds": 1.1e7},
            "ageing_seconds: must be less than or equal to 10000000",
        ),
        (QueueConfig, {"max_payload_bytes": 1.5}, "max_payload_bytes: must be a valid integer"),
        (QueueConfig, {"max_xcom_bytes": 0}, "max_xcom_bytes: must be greater than or equal to 1"),
        (QueueConfig, {"xcom_ttl": 0}, "xcom_ttl: must be greater than 0"),
        (QueueConfig, {"xcom_ttl": 1e10}, "xcom_ttl: must be less than or equal to 6311520000"),
        (
            QueueConfig,
            {"retention": {"failed": -1}},
            "retention.failed: must be greater than or equal to 0",
        ),
        (QueueConfig, {"retention": 5}, "retention: must be a mapping of keys to values"),
        (WorkerConfig, {"concurrency": 0}, "concurrency: must be greater than or equal to 1"),
        (WorkerConfig, {"assigned_users": "acme"}, "assigned_users: must be a list of user ids"),
        (WorkerConfig, {"assigned_users": [42]}, "assigned_users: user id 42 must be text: put it in quotes"),
        (WorkerConfig, {"assigned_users": ["a", "b", "a"]}, "assigned_users: listed twice: 'a'"),
        (
            WorkerConfig,
            {"assigned_users": [""]},
            "assigned_users: a user id has 1 to 256 characters, this one has 0",
        ),
        (WorkerConfig, {"steal_targets": ["x" * 257]}, "steal_targets: a user id has 1 to 256 characters"),
        (WorkerConfig, {"steal_targets": "all"}, 'steal_targets: must be a list of user ids, or "*" for all'),
        (
            WorkerConfig,
            {"assigned_users": ["a"], "steal_targets": ["a"]},
            "assigned_users and steal_targets both",
        ),
        (SchedulerConfig, {"interval": 1}, "interval: unknown key"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    model: type[StrictModel], settings: dict[str, Any], complaint: str
) -> None:
    assert refusal(model, **settings).startswith(f"{model.__name__}: {complaint}")


def test_all_problems_are_listed_at_once_one_a_line() -> None:
    text = refusal(FairQueueConfig, queue={"name": 5, "colour": 1}, redis={"port": 0})
    assert [line.split(": ")[1] for line in text.splitlines()] == ["redis.port", "queue.name", "queue.colour"]


def test_a_setting_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        QueueConfig().name = "other"  # type: ignore[misc]


def test_everyone_may_be_stolen_from_next_to_assigned_users() -> None:
    assert WorkerConfig(assigned_users=["a"], steal_targets="*").steal_targets == "*"


# --- workers and users --------------------------------------------------------------------------------


def test_a_worker_is_called_by_its_name_unless_it_has_an_id() -> None:
    config = FairQueueConfig(workers={"w1": WorkerConfig(), "w2": WorkerConfig(id="x")})
    assert {name: worker.id for name, worker in config.workers.items()} == {"w1": "w1", "w2": "x"}


def test_a_user_assigned_to_two_workers_is_refused_naming_all_three() -> None:
    text = refusal(FairQueueConfig, workers={n: {"assigned_users": ["acme"]} for n in ("w1", "w2")})
    assert text == "FairQueueConfig: workers: user 'acme' is assigned to both 'w1' and 'w2'"


def test_two_workers_with_one_id_are_refused() -> None:
    text = refusal(FairQueueConfig, workers={"w1": {}, "w2": {"id": "w1"}})
    assert "'w1' and 'w2' have the same id 'w1'" in text


def test_the_only_worker_is_unambiguous_and_several_are_not() -> None:
    assert FairQueueConfig(workers={"w": WorkerConfig(concurrency=3)}).worker.concurrency == 3
    with pytest.raises(ConfigurationError, match=r"several are configured \(a, b\)"):
        _ = FairQueueConfig(workers={"a": WorkerConfig(), "b": WorkerConfig()}).worker


def test_users_have_policies_and_a_section_that_is_missing_publishes_none() -> None:
    assert FairQueueConfig().policies is None
    assert FairQueueConfig(users={}).policies == {}
    users = {"default": UserPolicy(weight=2.0), "acme": UserPolicy(max_concurrency="50%")}
    assert FairQueueConfig(users=users).policies == users


@pytest.mark.parametrize("user", ["", "x" * 257])
def test_a_policy_of_what_can_be_no_user_is_refused(user: str) -> None:
    assert "users: a user id has 1 to 256 characters" in refusal(FairQueueConfig, users={user: UserPolicy()})


def test_a_policy_in_a_file_is_refused_by_the_path_of_its_key(tmp_path: Path) -> None:
    write(tmp_path, f="users: {acme: {weight: 0, rat: 1}, default: {burst: 3}}")
    with pytest.raises(ConfigurationError) as caught:
        FairQueueConfig.from_yaml(tmp_path / "f.yaml")
    text = str(caught.value)
    assert "users.acme.weight: must be greater than 0, not 0" in text
    assert "users.acme.rat: unknown key (did you mean rate?)" in text
    assert "users.default: burst has no effect without rate" in text


@pytest.mark.parametrize("user", ["defualt", "Default", "DEFAULT", "defaults", "defalt", "deafult"])
def test_a_default_that_is_misspelt_is_no_user_by_mistake(user: str) -> None:
    text = refusal(FairQueueConfig, users={"acme": UserPolicy(), user: UserPolicy(weight=2.0)})
    assert text.startswith(f"FairQueueConfig: users: {user!r} is nearly default: write default for")
    assert text.endswith("if this is a user, add an entry default: {} as well")
    assert user in FairQueueConfig(users={"default": UserPolicy(), user: UserPolicy()}).users


@pytest.mark.parametrize("user", ["fault", "default-2", "default1", "defaulters", "d"])
def test_other_names_are_not_taken_for_the_default(user: str) -> None:
    assert user in FairQueueConfig(users={user: UserPolicy()}).users


def test_a_user_id_that_is_no_unicode_is_refused_by_name() -> None:
    text = refusal(FairQueueConfig, users={"a\ud800": UserPolicy()})
    assert text == "FairQueueConfig: users: user id 'a\\ud800' is not valid unicode (a lone surrogate)"
    assert "surrogate" in refusal(WorkerConfig, assigned_users=["\udfff"])


@pytest.mark.parametrize("user", ["42", "yes", "1.5", "2024-01-01", "null"])
def test_a_user_id_that_yaml_does_not_read_as_text_is_refused(tmp_path: Path, user: str) -> None:
    write(tmp_path, f=f"users: {{{user}: {{weight: 2}}}}")
    with pytest.raises(ConfigurationError) as caught:
        FairQueueConfig.from_yaml(tmp_path / "f.yaml")
    key = {"yes": "True", "null": "None"}.get(user, user)
    assert str(caught.value) == f"{tmp_path / 'f.yaml'}: users: the key {key} must be text: put it in quotes"


# --- the address of the server ------------------------------------------------------------------------


def test_what_a_url_says_can_be_read_from_the_settings() -> None:
    config = RedisConfig(url="rediss://bob:s%40c@cache.test:6380/2?socket_timeout=3&ssl_check_hostname=false")
    assert (config.host, config.port, config.db, config.username) == ("cache.test", 6380, 2, "bob")
    assert config.password is not None
    assert config.password.get_secret_value() == "s@c"
    assert (config.ssl, config.socket_timeout, config.ssl_check_hostname) == (True, 3.0, False)
    assert RedisConfig(url="unix:///run/x.sock?db=1").unix_socket_path == "/run/x.sock"
    assert RedisConfig(url="redis://[::1]:7000").host == "::1"


def test_a_url_may_be_completed_and_may_be_repeated() -> None:
    assert RedisConfig(url="redis://h", port=7, password=SecretStr("x"), db=3).port == 7
    assert RedisConfig(url="redis://h:7", host="h", port=7).port == 7


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"url": "redis://h", "host": "g"}, "host differs from what url says"),
        ({"url": "redis://:a@h", "password": "b"}, "password differs from what url says"),
        ({"url": "redis://h/1?db=2"}, "url says db twice, and differently"),
        ({"url": "redis://h", "ssl": True}, "ssl differs from what url says"),
        ({"url": "redis://h/first"}, "url must end in the number of a database"),
        ({"url": "redis://h?url=redis://g"}, "url cannot name another url"),
        ({"url": "redis://h?socket_timeout=soon"}, "socket_timeout: must be a valid number"),
        ({"url": "redis://h?colour=1"}, "colour: unknown key"),
        ({"url": "unix://relative/path"}, "url must hold an absolute path"),
        ({"url": "http://h"}, "url must begin with redis://"),
        ({"url": "redis://", "unix_socket_path": "/s"}, "unix_socket_path cannot be combined with url"),
        ({"unix_socket_path": "/s", "port": 6379}, "unix_socket_path cannot be combined with port"),
        ({"url": "embedded://", "password": "x"}, "an embedded:// url cannot be combined with password"),
        ({"cluster": True, "db": 1}, "cluster cannot be combined with db"),
        (
            {"host": "h", "sentinel": {"hosts": ["a:1"], "master": "m"}},
            "sentinel cannot be combined with host",
        ),
        ({"sentinel": {"hosts": ["a"], "master": "m"}}, "sentinel.hosts.0: must be written as host:port"),
        ({"sentinel": {"hosts": [], "master": "m"}}, "sentinel.hosts: "),
        ({"ssl_ca_certs": "/ca"}, "ssl_ca_certs has no effect without ssl: true"),
        ({"ssl": True, "ssl_keyfile": "/k"}, "ssl_keyfile and ssl_password need ssl_certfile"),
        (
            {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": True},
            "ssl_check_hostname cannot be checked",
        ),
        ({"ssl": True, "ssl_validate_ocsp": True, "ssl_validate_ocsp_stapled": True}, "choose one of"),
        ({"ssl": True, "ssl_ocsp_expected_cert": "x"}, "ssl_ocsp_context and ssl_ocsp_expected_cert need"),
        ({"ssl": True, "ssl_ocsp_context": "x"}, "ssl_ocsp_context: must be an OpenSSL.SSL.Context"),
        ({"ssl": True, "ssl_include_verify_flags": ["X"]}, "ssl_include_verify_flags: X: no such flag"),
        ({"protocol": 4}, "protocol: must be 2 or 3"),
        ({"password": 123}, "password: must be a valid string"),
    ],
)
def test_an_address_that_contradicts_itself_is_refused(settings: dict[str, Any], complaint: str) -> None:
    assert refusal(RedisConfig, **settings).startswith(f"RedisConfig: {complaint}")


@pytest.mark.parametrize(
    "url", ["redis://:hun/ter2@h", "redis://:hun#ter2@h", "http://u:hunter2@h", "redis://:hunter2@h/x"]
)
def test_a_password_shows_neither_in_a_complaint_nor_in_its_cause(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisConfig(url=url)
    assert not re.search("hun|ter2", str(caught.value))
    assert caught.value.__cause__ is None


def test_a_password_of_the_wrong_type_does_not_show_even_in_the_error_of_the_model_itself() -> None:
    with pytest.raises(ValueError, match="password") as caught:
        RedisConfig.model_validate({"password": ["hunter2"]})
    assert "hunter2" not in str(caught.value)


def test_a_password_shows_in_no_repr_and_no_dump() -> None:
    sentinel = SentinelConfig(hosts=["s:1"], master="m", password=SecretStr("hunter2"))
    config = FairQueueConfig(redis=RedisConfig(sentinel=sentinel, password=SecretStr("hunter2")))
    from_url = RedisConfig(url="rediss://u:hunter2@h?ssl_certfile=/c&ssl_password=hunter2")
    for text in (
        repr(config),
        str(config),
        config.model_dump_json(),
        repr(from_url),
        from_url.model_dump_json(),
    ):
        assert "hunter2" not in text


def test_an_embedded_url_is_valid_but_makes_no_client() -> None:
    config = RedisConfig(url="embedded:///var/tmp/fq")
    assert config.is_embedded
    assert config.url == "embedded:///var/tmp/fq"
    for create in (config.create_redis_client, config.create_async_redis_client):
        with pytest.raises(ConfigurationError, match="TaskQueue"):
            create()


# --- clients, as far as they can be looked at without a server -----------------------------------------


def test_connection_settings_reach_the_connections_of_both_faces() -> None:
    config = RedisConfig(
        url="redis://u:p@h:7/3?client_name=me&health_check_interval=9",
        protocol=2,
        socket_timeout=4,
        socket_connect_timeout=2,
        socket_keepalive=False,
    )
    expected = {
        "host": "h",
        "port": 7,
        "db": 3,
        "username": "u",
        "password": "p",
        "client_name": "me",
        "protocol": 2,
        "health_check_interval": 9.0,
        "socket_timeout": 4.0,
        "socket_connect_timeout": 2.0,
        "socket_keepalive": False,
        "decode_responses": False,
    }
    for client in (config.create_redis_client(), config.create_async_redis_client()):
        given: dict[str, Any] = client.connection_pool.connection_kwargs  # type: ignore[union-attr]
        assert {name: given[name] for name in expected} == expected


def test_no_client_repeats_a_command_by_itself() -> None:
    for client in (RedisConfig().create_redis_client(), RedisConfig().create_async_redis_client()):
        assert client.get_retry().get_retries() == 0  # type: ignore[union-attr]


def test_a_blocking_client_waits_for_ever_on_connections_of_its_own() -> None:
    config = RedisConfig(socket_timeout=1, socket_connect_timeout=2)
    usual, patient = config.create_redis_client(), config.create_redis_client(blocking=True)
    given = patient.connection_pool.connection_kwargs  # type: ignore[union-attr]
    assert (given["socket_timeout"], given["socket_connect_timeout"]) == (None, 2)
    assert patient.connection_pool is not usual.connection_pool  # type: ignore[union-attr]


def test_a_limited_pool_waits_for_a_free_connection_and_an_unlimited_one_has_no_limit() -> None:
    for limited in (
        RedisConfig(max_connections=3).create_redis_client(),
        RedisConfig(max_connections=3).create_async_redis_client(),
    ):
        pool = limited.connection_pool  # type: ignore[union-attr]
        assert (type(pool).__name__, pool.max_connections) == ("BlockingConnectionPool", 3)
    assert RedisConfig().create_redis_client().connection_pool.max_connections == 2**31  # type: ignore[union-attr]


def test_sentinel_settings_go_to_the_sentinels_and_the_others_to_the_master() -> None:
    config = RedisConfig(
        username="master-user",
        password=SecretStr("p"),
        ssl=True,
        ssl_ca_certs="/ca",
        max_connections=2,
        sentinel=SentinelConfig(
            hosts=["s1:26379", "[::1]:5"], master="m", username="watch", password=SecretStr("q")
        ),
    )
    for client in (config.create_redis_client(), config.create_async_redis_client()):
        pool: Any = client.connection_pool  # type: ignore[union-attr]
        assert (pool.service_name, pool.connection_kwargs["username"]) == ("m", "master-user")
        assert (pool.connection_kwargs["ssl_ca_certs"], pool.max_connections, pool.timeout) == ("/ca", 2, 20)
        asked = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
        assert [(a["host"], a["port"], a["username"]) for a in asked] == [
            ("s1", 26379, "watch"),
            ("::1", 5, "watch"),
        ]
        assert "ssl_ca_certs" not in asked[0]


def test_a_setting_that_a_cluster_client_cannot_take_is_refused_instead_of_dropped() -> None:
    config = RedisConfig(cluster=True, ssl=True, ssl_ciphers="ECDHE", ssl_ca_path="/ca")
    with pytest.raises(ConfigurationError, match=r"ssl_ciphers: redis-py's blocking cluster client"):
        config.create_redis_client()
    with pytest.raises(ConfigurationError, match=r"ssl_ca_path: redis-py's asyncio cluster client"):
        config.create_async_redis_client()
    with pytest.raises(ConfigurationError, match=r"redis.health_check_interval: "):
        RedisConfig(cluster=True, health_check_interval=1).create_redis_client()


def test_a_configuration_made_in_code_loads_no_yaml_and_no_settings_machinery() -> None:
    code = (
        "import sys; from fairque.core.config import FairQueueConfig as C; C(redis={'url': 'redis://h:1/2'});"
        "print([m for m in ('yaml', 'pydantic_settings', 'typer', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- files --------------------------------------------------------------------------------------------


def test_a_file_is_read_and_the_environment_lies_on_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, f="redis: {host: h, port: 7}\nqueue:\nworkers: {w1: {concurrency: 2}}\n")
    monkeypatch.setenv("FAIRQUE_REDIS__PORT", "8")
    monkeypatch.setenv("FAIRQUE_REDIS__PASSWORD", "007")
    monkeypatch.setenv("FAIRQUE_WORKERS__W1__ASSIGNED_USERS", '["a", b]')
    monkeypatch.setenv("FAIRQUE_WORKERS__W1__STEAL_TARGETS", "*")
    config = FairQueueConfig.from_yaml(folder / "f.yaml")
    assert (config.redis.host, config.redis.port, config.queue) == ("h", 8, QueueConfig())
    assert config.redis.password is not None
    assert config.redis.password.get_secret_value() == "007"
    assert config.worker == WorkerConfig(id="w1", concurrency=2, assigned_users=["a", "b"], steal_targets="*")


def test_load_takes_the_file_of_the_current_folder_and_without_one_localhost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FairQueueConfig.load() == FairQueueConfig()
    monkeypatch.setenv("FAIRQUE_QUEUE__LEASE_SECONDS", "1.5")
    write(tmp_path, fairque="queue: {name: emails, lease_seconds: 9}")
    assert FairQueueConfig.load().queue == QueueConfig(name="emails", lease_seconds=1.5)


def test_a_url_that_is_given_wins_over_one_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRQUE_REDIS__URL", "redis://other:1")
    monkeypatch.setenv("FAIRQUE_REDIS__PASSWORD", "x")
    config = FairQueueConfig.from_url("redis://mine:2").redis
    assert (config.host, config.port, config.password is not None) == ("mine", 2, True)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("queue: {lease_second: 3}", "f.yaml: queue.lease_second: unknown key (did you mean lease_seconds?)"),
        ("queu: {}", "f.yaml: queu: unknown key (did you mean queue?)"),
        ("redis: {port: yes}", "f.yaml: redis.port: must be a valid integer"),
        ("redis: {host: h}\nredis: {port: 1}", "f.yaml, line 2: the key redis appears twice"),
        ("redis:\n  port: 1\n  port: 2", "f.yaml, line 3: the key port appears twice"),
        ("redis: [", "f.yaml, line 1: not valid YAML: "),
        ("redis:\n\tport: 1", "f.yaml, line 2: not valid YAML: "),
        ("- a", "f.yaml: must hold a mapping of sections"),
        ("redis: 5", "f.yaml: redis: must be a mapping of keys to values"),
        ("users: {42: {}}", "f.yaml: users: the key 42 must be text: put it in quotes"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_file_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    write(tmp_path, f=text)
    with pytest.raises(ConfigurationError) as caught:
        FairQueueConfig.from_yaml("f.yaml")
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize(
    "value", ["*hunter2", "!hunter2", "%hunter2", "@hunter2", "'hunter2", "{hunter2", "[hunter2: x"]
)
def test_a_password_that_breaks_the_yaml_does_not_show(tmp_path: Path, value: str) -> None:
    write(tmp_path, f=f"redis:\n  password: {value}\n")
    with pytest.raises(ConfigurationError) as caught:
        FairQueueConfig.from_yaml("f.yaml")
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: there is no such file"):
        FairQueueConfig.from_yaml("nowhere.yaml")


# --- environment --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        (
            "FAIRQUE_REDIS__PORT",
            "x",
            "environment variable FAIRQUE_REDIS__PORT: redis.port: must be",
        ),
        (
            "FAIRQUE_QUEUE__NAM",
            "x",
            "environment variable FAIRQUE_QUEUE__NAM: queue.nam: unknown key (did you mean",
        ),
        (
            "FAIRQUE_QUEU__NAME",
            "x",
            "environment variable FAIRQUE_QUEU__NAME: unknown section queu (did you mean",
        ),
        ("FAIRQUE_QUEUE", "{}", "environment variable FAIRQUE_QUEUE: names a whole section"),
        (
            "FAIRQUE_REDIS_PASSWORD",
            "hunter2",
            "environment variable FAIRQUE_REDIS_PASSWORD: unknown setting (did you mean FAIRQUE_REDIS__",
        ),
        (
            "FAIRQUE_QUEUE__RETENTION__FAILED",
            "-1",
            "environment variable FAIRQUE_QUEUE__RETENTION__FAILED: queue.retention.failed: must be",
        ),
        (
            "FAIRQUE_REDIS__SSL",
            "maybe",
            "environment variable FAIRQUE_REDIS__SSL: redis.ssl: must be a valid",
        ),
    ],
)
def test_a_mistake_in_the_environment_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        FairQueueConfig.load()
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("50%", "50%"), ("12.5 %", "12.5%"), ("null", None)])
def test_a_limit_in_the_environment_is_a_number_or_a_share(
    monkeypatch: pytest.MonkeyPatch, text: str, value: object
) -> None:
    monkeypatch.setenv("FAIRQUE_USERS__ACME__MAX_CONCURRENCY", text)
    assert FairQueueConfig.load().users["acme"].max_concurrency == value


def test_a_wrong_limit_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRQUE_USERS__ACME__MAX_CONCURRENCY", "0")
    with pytest.raises(ConfigurationError, match=r"users\.acme\.max_concurrency: must be .*, not 0$"):
        FairQueueConfig.load()


def test_a_contradiction_names_every_place_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, f="redis: {url: 'redis://h'}")
    monkeypatch.setenv("FAIRQUE_REDIS__HOST", "g")
    with pytest.raises(
        ConfigurationError, match=r"^f\.yaml, environment variable FAIRQUE_REDIS__HOST: redis: host"
    ):
        FairQueueConfig.from_yaml("f.yaml")


def test_other_programs_may_use_variables_that_look_like_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRQUE_TEST_SERVER", "x")
    assert FairQueueConfig.load() == FairQueueConfig()


# --- one file per process -----------------------------------------------------------------------------


def test_a_worker_file_lies_over_the_common_one_and_the_environment_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path,
        common="redis: {host: h, port: 1}\nqueue: {retention: {failed: 5}}\nworker: {concurrency: 4}\n",
        w1="worker: {assigned_users: [a]}\nredis: {port: 2}\nqueue: {retention: {finished: 6}}\n",
    )
    monkeypatch.setenv("FAIRQUE_WORKER__GRACEFUL_SHUTDOWN_TIMEOUT", "7")
    config = load_worker_config("w1", tmp_path)
    assert (config.redis.host, config.redis.port) == ("h", 2)
    assert config.queue.retention == Retention(failed=5, finished=6)
    assert config.workers == {
        "w1": WorkerConfig(id="w1", assigned_users=["a"], concurrency=4, graceful_shutdown_timeout=7)
    }


def test_a_scheduler_file_makes_a_scheduler_and_no_worker(tmp_path: Path) -> None:
    write(tmp_path, common="worker: {concurrency: 4}\n", s1="scheduler:\nqueue: {name: q}\n")
    config = load_scheduler_config("s1", tmp_path)
    assert (config.scheduler, config.workers, config.queue.name) == (SchedulerConfig(id="s1"), {}, "q")


def test_a_user_assigned_in_two_worker_files_is_refused(tmp_path: Path) -> None:
    write(
        tmp_path,
        common="",
        w1="worker: {assigned_users: [acme, a]}",
        w2="worker: {assigned_users: [b, acme]}",
        scheduler="scheduler:",
    )
    with pytest.raises(ConfigurationError) as caught:
        load_worker_config("w2", tmp_path)
    text = str(caught.value)
    assert "user 'acme' is assigned to both 'w2' and 'w1'" in text
    assert str(tmp_path / "w1.yaml") in text
    assert str(tmp_path / "w2.yaml") in text


@pytest.mark.parametrize(
    ("common", "mine", "complaint"),
    [
        ("", "worker: {concurency: 1}", "w.yaml: worker.concurency: unknown key (did you mean concurrency?)"),
        (
            "worker: {concurrency: no}",
            "worker:",
            "common.yaml: worker.concurrency: must be a valid integer",
        ),
        ("", "redis: {host: h}", "w.yaml: worker: this section is missing"),
        ("", "worker:\nworkers: {}", "w.yaml: workers: give each worker a file of its own"),
    ],
)
def test_a_mistake_in_a_worker_file_is_named_as_it_is_written(
    tmp_path: Path, common: str, mine: str, complaint: str
) -> None:
    write(tmp_path, common=common, w=mine)
    with pytest.raises(ConfigurationError) as caught:
        load_worker_config("w", ".")
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize("name", ["", "..", "../w", "a/b", "a\\b", "common"])
def test_a_name_that_is_no_file_of_the_folder_is_refused(name: str) -> None:
    for load in (load_worker_config, load_scheduler_config):
        with pytest.raises(ConfigurationError, match="cannot name a"):
            load(name, ".")


# --- the examples -------------------------------------------------------------------------------------


def test_the_example_files_load_as_they_are() -> None:
    assert load_worker_config("worker", EXAMPLES).worker.steal_targets == "*"
    assert load_scheduler_config("scheduler", EXAMPLES).scheduler.id == "scheduler"
    assert FairQueueConfig.from_yaml(EXAMPLES / "common.yaml").redis.host == "localhost"


def test_the_example_files_show_every_setting() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.yaml"))
    for model in MODELS:
        missing = [name for name in model.model_fields if not re.search(rf"\b{name}\b", text)]
        assert not missing, f"{model.__name__}: {missing}"


def test_every_setting_says_what_it_means() -> None:
    for model in (
        RedisConfig,
        SentinelConfig,
        QueueConfig,
        Retention,
        WorkerConfig,
        SchedulerConfig,
        UserPolicy,
    ):
        assert [name for name, field in model.model_fields.items() if not field.description] == []
