"""A port that answers probes, as those of Kubernetes, from threads of its own."""

from __future__ import annotations

import json
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any

from fairque.core.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fairque.worker.vitals import Health

LIVE = ("/live", "/livez", "/healthz")
READY = ("/ready", "/readyz")
LARGEST_PORT = 65535


class HealthPort:
    """Answers `GET /live` and `GET /ready` with 200 or 503, and JSON that says why.

    Args:
        host: The address to listen on: `127.0.0.1` for this machine, `0.0.0.0` or `::` for all.
        port: The port; 0 for a free one.
        ask: Gives the health at this moment.

    Raises:
        ConfigurationError: There is no such address, or the port is taken.
    """

    def __init__(self, host: str, port: int, ask: Callable[[], Health]) -> None:
        if not 0 <= port <= LARGEST_PORT:
            raise ConfigurationError(
                f"--health-port {port}: must be 1 to {LARGEST_PORT}, or 0 for a free one"
            )

        try:
            self._server = _Server.on(host, port)
        except OSError as error:
            raise ConfigurationError(
                f"--health-host {host} --health-port {port} cannot be used: {error.strerror or error}; "
                "choose another port, or an address of this machine"
            ) from error
        self._server.ask = ask
        self._thread = threading.Thread(target=self._server.serve_forever, name="fairque-health", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        host, port = self._server.socket.getsockname()[:2]
        name = str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingTCPServer):
    allow_reuse_address = True  # or a restart within a minute would fail
    daemon_threads = True
    block_on_close = False
    ask: Callable[[], Health]

    @classmethod
    def on(cls, host: str, port: int) -> _Server:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        kind: Any = type("_Server", (cls,), {"address_family": family})
        server: _Server = kind(address, _Handler)
        return server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone: nobody needs to know."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5  # seconds for a request

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if path not in (*LIVE, *READY):
            self._send(HTTPStatus.NOT_FOUND, {"error": "there are /live and /ready"})
            return
        health = self.server.ask()
        is_well = health.live if path in LIVE else health.ready
        self._send(HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE, health.body)

    def _send(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Probes come every few seconds."""

    def version_string(self) -> str:
        return "fairque"
