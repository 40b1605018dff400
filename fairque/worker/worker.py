"""The blocking face of the worker."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

from fairque.worker.async_worker import AsyncWorker

if TYPE_CHECKING:
    from types import TracebackType


LAST_MOMENT_SECONDS = 0.5


class Worker:
    """`AsyncWorker` for programs without an event loop: `run()` blocks, `start()` works in the background.

    Takes the same arguments. As a context manager it works in the background until the block ends.
    """

    def __init__(self, source: Any = None, **options: Any) -> None:
        self.engine = AsyncWorker(source, **options)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def worker_id(self) -> str:
        """Under which the server knows it."""
        return self.engine.worker_id

    def run(self) -> None:
        """Work until stopped, by `stop` from another thread, by SIGTERM or SIGINT, or by a burst's end.

        Raises:
            RuntimeError: It works already.
        """
        # Not asyncio.run: that waits for tasks and threads which do not end, however long.
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self.engine.run())
        finally:
            _close(loop)

    def start(self) -> None:
        """Work in a background thread until `stop`.

        Raises:
            RuntimeError: It works already.
        """
        if self._thread is not None:
            raise RuntimeError(f"worker {self.worker_id} works already: stop() it first")
        self.engine.forget_stop()
        self._thread = threading.Thread(target=self._run_in_thread, name="fairque-worker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop; running tasks get `graceful_shutdown_timeout`. Returns when a started worker has ended.

        Raises:
            Exception: What ended the background worker, if it was not this call.
        """
        self.engine.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self.engine.forget_stop()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def join(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for a started worker to end by itself (a burst): whether it has."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - raised again by stop()
            self._error = error


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop, giving what is left on it a moment to end."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=LAST_MOMENT_SECONDS))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
