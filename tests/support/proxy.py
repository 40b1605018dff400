"""A TCP proxy in front of a server's unix socket that loses replies, as a bad network does."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator


class DroppingProxy:
    """Passes everything on, but for the replies that `drops` chooses: then it cuts the connection.

    The server has carried out the command by then. `drops` is asked with the request's bytes once the reply
    to it has come; or `before` the request goes to the server, which then never gets it.
    """

    def __init__(self, socket_path: str, drops: Callable[[bytes], bool], *, before: bool = False) -> None:
        self._socket_path = socket_path
        self._drops = drops
        self._before = before
        self.dropped = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._socket_path)
        with self._lock:
            self._open |= {client, server}
        # A client of ours sends one request (or one pipeline) and reads its replies, so turns alternate.
        with client, server, contextlib.suppress(OSError):
            self._alternate(client, server)
        with self._lock:
            self._open -= {client, server}

    def _alternate(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            request = client.recv(1 << 20)
            if not request:
                return
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while more := client.recv(1 << 20):
                    request += more
            client.setblocking(True)
            if self._before and self._drops(request):
                self.dropped += 1
                return
            server.sendall(request)
            reply = server.recv(1 << 20)
            if not reply:
                return
            if not self._before and self._drops(request):
                self.dropped += 1
                return
            client.sendall(reply)

    def close(self) -> None:
        # A blocked accept() does not notice that its socket is closed; a connection wakes it.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


class BlackHole:
    """A TCP proxy whose connections can vanish without a word, as when a host is lost; new ones work."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._ends: list[socket.socket] = []
        self._vanished: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def vanish(self) -> None:
        """Pass nothing on any more of what the connections of now say; they stay open."""
        self._vanished |= set(self._ends)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._socket_path)
                self._ends += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if source not in self._vanished:
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class FarServer(BlackHole):
    """A TCP proxy that holds back what the server answers for some seconds."""

    def __init__(self, socket_path: str, seconds: float) -> None:
        self._seconds = seconds
        super().__init__(socket_path)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if source.family == socket.AF_UNIX:
                    time.sleep(self._seconds)
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)


class ShortBreath(BlackHole):
    """A TCP proxy that ends a connection once, after so many more bytes of answers."""

    def __init__(self, socket_path: str) -> None:
        self._left = 0  # none: it is sound
        super().__init__(socket_path)

    def end_after(self, answers: int) -> None:
        """Pass on so many bytes, and end the connection that they are for."""
        self._left = answers

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if source.family != socket.AF_UNIX or not self._left:
                    target.sendall(data)
                    continue
                target.sendall(data[: self._left])
                self._left = max(0, self._left - len(data))
                if not self._left:
                    break
            for end in (source, target):
                end.shutdown(socket.SHUT_RDWR)


class BadNetwork(BlackHole):
    """A TCP proxy that loses a share of what the server answers, each time with the connection.

    Args:
        socket_path: Of the server.
        lost: Which share of the answers is lost.
    """

    def __init__(self, socket_path: str, lost: float) -> None:
        self._lost = lost
        self._is_cut = False
        self.dropped = 0
        super().__init__(socket_path)

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Within it nothing passes, and connections end."""
        self._is_cut = True
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            self._is_cut = False

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with source, target, contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self._is_cut or (source.family == socket.AF_UNIX and random.random() < self._lost):
                    self.dropped += 1
                    break
                target.sendall(data)
            # The other direction's thread is blocked in recv(), which does not notice a closed socket.
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
