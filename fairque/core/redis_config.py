"""How to reach Redis or Valkey: one server, a unix socket, Sentinel or Cluster, with or without TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from fairque.core.exceptions import ConfigurationError
from fairque.core.strict import PositiveSeconds, Seconds, refuse, type_under
from fairque.core.tls_config import TlsConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult

    import redis
    import redis.asyncio

# For how long calls are repeated by default: over a failover, or over a connection that was cut.
FAILOVER_SECONDS = 15.0
HICCUP_SECONDS = 1.0

SCHEMES = ("redis", "rediss", "unix", "embedded")


def _host_and_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("must be written as host:port, such as sentinel-1:26379")
    return text


def addresses_of(hosts: list[str]) -> list[tuple[str, int]]:
    """What `host:port` names, as pairs."""
    pairs = (host.rpartition(":") for host in hosts)
    return [(host.strip("[]"), int(port)) for host, _, port in pairs]


class SentinelConfig(TlsConfig):
    """The sentinels to ask for the current master, and how to log in to them.

    The settings of the master itself (user, password, database, TLS) stand in `redis`, beside this section.
    """

    hosts: list[Annotated[str, AfterValidator(_host_and_port)]] = Field(
        min_length=1, description="Sentinels as host:port; each is tried in turn."
    )
    master: str = Field(min_length=1, description="Name of the master that the sentinels watch.")
    username: str | None = Field(None, description="ACL user of the sentinels.")
    password: SecretStr | None = Field(None, description="Password of the sentinels.")

    def addresses(self) -> list[tuple[str, int]]:
        return addresses_of(self.hosts)


class RedisConfig(TlsConfig):
    """Where the server is and how to talk to it.

    Give a `url`, or `host` and `port`, or `unix_socket_path`, or `sentinel`. What a URL says (its password
    and its options included) is moved into the other settings, so they can always be read there.
    """

    url: str | None = Field(
        None,
        description="redis://, rediss:// (TLS), unix:// or embedded://; options may follow as ?name=value.",
    )
    host: str = Field("localhost", min_length=1, description="Host name or address.")
    port: int = Field(6379, ge=1, le=65535, description="TCP port.")
    unix_socket_path: str | None = Field(None, min_length=1, description="Path of a unix socket.")
    db: int = Field(0, ge=0, description="Number of the database.")
    username: str | None = Field(None, description="ACL user.")
    password: SecretStr | None = Field(None, description="Password.")
    socket_timeout: PositiveSeconds | None = Field(
        5.0, description="Longest wait for a reply, in seconds; unset waits for ever."
    )
    socket_connect_timeout: PositiveSeconds | None = Field(
        5.0, description="Longest wait for a connection, in seconds."
    )
    socket_keepalive: bool = Field(True, description="TCP keepalive, which notices a peer that vanished.")
    health_check_interval: Seconds = Field(
        0.0, description="PING a connection before use when it idled this many seconds; 0 never does."
    )
    max_connections: int | None = Field(
        None,
        ge=1,
        description="Connections per client; a call waits up to 20 s for a free one (a cluster client fails "
        "at once). Unset is no limit.",
    )
    protocol: Literal[2, 3] | None = Field(None, description="RESP version; unset leaves it to redis-py.")
    client_name: str | None = Field(
        None, pattern=r"^[!-~]+$", description="Name shown by CLIENT LIST: printable ASCII, no spaces."
    )
    sentinel: SentinelConfig | None = Field(None, description="Find the master through Sentinel.")
    allow_eviction: bool = Field(
        False,
        description="Use a server whose maxmemory-policy is not noeviction, though it may drop tasks.",
    )
    allow_no_persistence: bool = Field(
        False, description="Do not warn of a server that keeps no append-only file."
    )
    cluster: bool = Field(False, description="The server is a cluster; host and port are one of its nodes.")
    cluster_nodes: list[Annotated[str, AfterValidator(_host_and_port)]] = Field(
        default_factory=list,
        description="More of its nodes as host:port, for a start while the one at host and port is down.",
    )
    retry_window: Seconds | None = Field(
        None,
        description="Seconds after its first failure in which a call is repeated that may be. Unset is 1, "
        "and 15 with Sentinel or a cluster, where another node takes over.",
    )

    @property
    def is_embedded(self) -> bool:
        """Whether the URL asks for the embedded server, which `TaskQueue` starts."""
        return self.url is not None and self.url.startswith("embedded://")

    @property
    def has_other_nodes(self) -> bool:
        """Whether another node takes over when one is lost."""
        return self.cluster or self.sentinel is not None

    def window_of_retries(self) -> float:
        """The `retry_window`, with its default."""
        if self.retry_window is not None:
            return self.retry_window
        return FAILOVER_SECONDS if self.has_other_nodes else HICCUP_SECONDS

    def create_redis_client(self, *, blocking: bool = False) -> redis.Redis | redis.RedisCluster:
        """A client with its own connection pool. Commands are never retried: a timed-out script may have run.

        `blocking=True` is for BLPOP and pub/sub: it has no read timeout, so a wait may last as long as asked.
        """
        self._refuse_embedded()
        from fairque.core import redis_clients  # noqa: PLC0415 - redis-py is loaded when it is needed

        return redis_clients.connect(self, blocking=blocking)

    def create_async_redis_client(
        self, *, blocking: bool = False
    ) -> redis.asyncio.Redis | redis.asyncio.RedisCluster:
        """The same for asyncio. OCSP settings are refused: redis-py has no OCSP on asyncio connections."""
        self._refuse_embedded()
        from fairque.core import redis_clients  # noqa: PLC0415 - redis-py is loaded when it is needed

        return redis_clients.connect_async(self, blocking=blocking)

    def _refuse_embedded(self) -> None:
        if self.is_embedded:
            raise ConfigurationError(
                "redis.url: embedded:// is a server that TaskQueue and AsyncTaskQueue start themselves: give "
                "this configuration to one of them instead of creating a client from it"
            )

    @model_validator(mode="before")
    @classmethod
    def _move_url_into_settings(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("url"), str):
            return data
        parts = _split(data["url"])
        named = _settings_of(parts)
        differing = [name for name, value in named.items() if name in data and _plain(data[name]) != value]
        refuse(f"{name} differs from what url says: give it in one place" for name in differing)
        address = parts.netloc.rpartition("@")[2]
        return {**data, **named, "url": f"{parts.scheme}://{address}{parts.path}"}

    @model_validator(mode="after")
    def _one_way_to_the_server(self) -> Self:
        refuse(self._address_conflicts())
        return self

    def _address_conflicts(self) -> Iterator[str]:
        given = self.changed() | (self.model_fields_set & {"host", "port"})
        if self.url and self.url.startswith("unix:"):
            given.discard("url")  # it is where unix_socket_path comes from
        elsewhere = {"host", "port", "ssl", "sentinel", "cluster"}
        rules = [
            (
                "an embedded:// url",
                self.is_embedded,
                {*elsewhere, "unix_socket_path", "username", "password"},
            ),
            ("unix_socket_path", self.unix_socket_path is not None, {*elsewhere, "url"}),
            ("sentinel", self.sentinel is not None, {"url", "host", "port", "cluster"}),
            ("cluster", self.cluster, {"db"}),
        ]
        if self.cluster_nodes and not self.cluster:
            yield "cluster_nodes needs cluster: true"
        for what, applies, excluded in rules:
            clash = sorted(given & excluded)
            if applies and clash:
                yield f"{what} cannot be combined with {', '.join(clash)}"


def _plain(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _split(url: str) -> SplitResult:
    # The messages repeat nothing of the URL: where it is malformed, any part of it may be the password.
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = None
    if parts is None or parts.fragment:
        raise ValueError("url is malformed: percent-encode special characters in its user name and password")
    if parts.scheme not in SCHEMES:
        raise ValueError("url must begin with redis://, rediss://, unix:// or embedded://")
    return parts


def _settings_of(parts: SplitResult) -> dict[str, Any]:
    """What a URL says, under the names of the settings."""
    found: dict[str, Any] = {}
    if parts.username:
        found["username"] = unquote(parts.username)
    if parts.password:
        found["password"] = unquote(parts.password)
    found |= _location_in(parts)
    for name, value in _options_in(parts.query).items():
        if found.setdefault(name, value) != value:
            raise ValueError(f"url says {name} twice, and differently")
    return found


def _location_in(parts: SplitResult) -> dict[str, Any]:
    if parts.scheme in {"unix", "embedded"}:
        if parts.netloc.rpartition("@")[2] or (parts.scheme == "unix" and not parts.path):
            raise ValueError(f"url must hold an absolute path: {parts.scheme}:///path")
        return {"unix_socket_path": unquote(parts.path)} if parts.scheme == "unix" else {}
    found: dict[str, Any] = {"ssl": parts.scheme == "rediss"}
    if parts.hostname:
        found["host"] = unquote(parts.hostname)
    if parts.port is not None:
        found["port"] = parts.port
    database = parts.path.strip("/")
    if database:
        if not database.isdecimal():
            raise ValueError("url must end in the number of a database, or in none")
        found["db"] = int(database)
    return found


def _options_in(query: str) -> dict[str, Any]:
    if not query:
        return {}
    from fairque.core.config_loading import from_text  # noqa: PLC0415 - loads YAML, which few URLs need

    options = dict(parse_qsl(query, keep_blank_values=True))
    if "url" in options:
        raise ValueError("url cannot name another url")
    return {name: from_text(type_under(RedisConfig, name), text) for name, text in options.items()}
