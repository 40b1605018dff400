"""How to reach Redis or Valkey: one server, a unix socket, Sentinel or Cluster, with or without TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from fairque.core.exceptions import ConfigurationError
from fairque.core.strict import PositiveSeconds, Seconds, StrictModel, type_under

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from urllib.parse import SplitResult

    import redis
    import redis.asyncio

SCHEMES = ("redis", "rediss", "unix", "embedded")


def _known_flags(names: list[str]) -> list[str]:
    from ssl import VerifyFlags  # noqa: PLC0415 - only TLS users pay for it

    unknown = [name for name in names if name not in VerifyFlags.__members__]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)}: no such flag; known are {', '.join(VerifyFlags.__members__)}"
        )
    return names


def _made_in_code(value: object) -> object:
    if isinstance(value, (str, bytes, int, float, list, dict)):
        raise ValueError("must be an OpenSSL.SSL.Context, which only code can make: leave it out here")  # noqa: TRY004
    return value


VerifyFlagNames = Annotated[list[str], AfterValidator(_known_flags)]


class TlsConfig(StrictModel):
    """TLS towards one kind of server. Each `ssl_*` setting has the name and meaning it has in redis-py."""

    ssl: bool = Field(False, description="Encrypt the connection. A rediss:// URL implies it.")
    ssl_keyfile: str | None = Field(None, description="Path of the client's private key (PEM).")
    ssl_certfile: str | None = Field(None, description="Path of the client's certificate (PEM).")
    ssl_password: SecretStr | None = Field(None, description="Passphrase of the private key.")
    ssl_cert_reqs: Literal["none", "optional", "required"] = Field(
        "required", description="Whether the server's certificate is verified."
    )
    ssl_check_hostname: bool = Field(True, description="Whether the certificate must name the host.")
    ssl_ca_certs: str | None = Field(None, description="Path of a file of trusted CA certificates (PEM).")
    ssl_ca_path: str | None = Field(None, description="Path of a directory of trusted CA certificates.")
    ssl_ca_data: str | None = Field(None, description="The trusted CA certificates themselves (PEM text).")
    ssl_min_version: Literal["TLSv1.2", "TLSv1.3"] | None = Field(
        None, description="Lowest TLS version to accept; unset leaves it to Python's ssl module."
    )
    ssl_ciphers: str | None = Field(None, description="OpenSSL list of ciphers allowed up to TLS 1.2.")
    ssl_include_verify_flags: VerifyFlagNames | None = Field(
        None, description="Names of ssl.VerifyFlags to add, such as VERIFY_X509_STRICT."
    )
    ssl_exclude_verify_flags: VerifyFlagNames | None = Field(
        None, description="Names of ssl.VerifyFlags to take away."
    )
    ssl_validate_ocsp: bool = Field(
        False, description="Ask the certificate's OCSP responder (blocking clients only)."
    )
    ssl_validate_ocsp_stapled: bool = Field(
        False, description="Verify a stapled OCSP response (blocking clients only; needs pyOpenSSL)."
    )
    ssl_ocsp_context: Annotated[Any, BeforeValidator(_made_in_code)] = Field(
        None, description="OpenSSL.SSL.Context for the stapled response; settable from code only."
    )
    ssl_ocsp_expected_cert: str | None = Field(
        None, description="PEM text of the certificate that the stapled OCSP response must carry."
    )

    @model_validator(mode="after")
    def _every_tls_setting_has_an_effect(self) -> Self:
        _refuse(self._tls_conflicts())
        return self

    def _tls_conflicts(self) -> Iterator[str]:
        given = sorted(name for name in self.changed() if name.startswith("ssl_"))
        if given and not self.ssl:
            yield f"{', '.join(given)} has no effect without ssl: true (or a rediss:// URL)"
        if (self.ssl_keyfile or self.ssl_password) and not self.ssl_certfile:
            yield "ssl_keyfile and ssl_password need ssl_certfile"
        if (
            self.ssl_cert_reqs == "none"
            and self.ssl_check_hostname
            and "ssl_check_hostname" in self.model_fields_set
        ):
            yield "ssl_check_hostname cannot be checked with ssl_cert_reqs: none"
        if self.ssl_validate_ocsp and self.ssl_validate_ocsp_stapled:
            yield "choose one of ssl_validate_ocsp and ssl_validate_ocsp_stapled"
        if (self.ssl_ocsp_context or self.ssl_ocsp_expected_cert) and not self.ssl_validate_ocsp_stapled:
            yield "ssl_ocsp_context and ssl_ocsp_expected_cert need ssl_validate_ocsp_stapled: true"

    def changed(self) -> set[str]:
        """The settings that differ from their default."""
        return {
            name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default
        }


def _host_and_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("must be written as host:port, such as sentinel-1:26379")
    return text


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
        pairs = (host.rpartition(":") for host in self.hosts)
        return [(host.strip("[]"), int(port)) for host, _, port in pairs]


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
    cluster: bool = Field(False, description="The server is a cluster; host and port are one of its nodes.")

    @property
    def is_embedded(self) -> bool:
        """Whether the URL asks for the embedded server, which `TaskQueue` starts."""
        return self.url is not None and self.url.startswith("embedded://")

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
        _refuse(f"{name} differs from what url says: give it in one place" for name in differing)
        address = parts.netloc.rpartition("@")[2]
        return {**data, **named, "url": f"{parts.scheme}://{address}{parts.path}"}

    @model_validator(mode="after")
    def _one_way_to_the_server(self) -> Self:
        _refuse(self._address_conflicts())
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
        for what, applies, excluded in rules:
            clash = sorted(given & excluded)
            if applies and clash:
                yield f"{what} cannot be combined with {', '.join(clash)}"


def _refuse(found: Iterable[str]) -> None:
    text = "; ".join(found)
    if text:
        raise ValueError(text)


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
