"""The blocking face of the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from fairque.utils.background import Background
from fairque.worker.async_worker import AsyncWorker

if TYPE_CHECKING:
    from types import TracebackType


class Worker:
    """`AsyncWorker` for programs without an event loop: `run()` blocks, `start()` works in the background.

    Takes the same arguments. As a context manager it works in the background until the block ends. It runs on
    an event loop of its own: uvloop's where that is installed, unless `FAIRQUE_EVENT_LOOP` says otherwise.
    """

    def __init__(self, source: Any = None, **options: Any) -> None:
        self.engine = AsyncWorker(source, **options)
        self._background = Background(self.engine, f"worker {self.worker_id}", thread="fairque-worker")

    @property
    def worker_id(self) -> str:
        """Under which the server knows it."""
        return self.engine.worker_id

    def run(self) -> None:
        """Work until stopped, by `stop` from another thread, by SIGTERM or SIGINT, or by a burst's end.

        Raises:
            RuntimeError: It works already.
            ConfigurationError: `FAIRQUE_EVENT_LOOP` names no event loop, or one that is not installed.
        """
        self._background.run()

    def start(self) -> None:
        """Work in a background thread until `stop`.

        Raises:
            RuntimeError: It works already.
            ConfigurationError: As for `run`.
        """
        self._background.start()

    def stop(self) -> None:
        """Stop; running tasks get `graceful_shutdown_timeout`. Returns when a started worker has ended.

        Raises:
            Exception: What ended the background worker, if it was not this call.
        """
        self._background.stop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for a started worker to end by itself (a burst): whether it has."""
        return self._background.join(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
