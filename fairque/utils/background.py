"""Running an asyncio engine from programs without an event loop."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from fairque.core.exceptions import FairQueueError
from fairque.utils.loops import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("fairque")

LAST_MOMENT_SECONDS = 0.5


class Engine(Protocol):
    """What runs until it is stopped."""

    async def run(self) -> None:
        """Work until stopped."""

    def stop(self) -> None:
        """Ask it to stop. From any thread."""

    def forget_stop(self) -> None:
        """Let the next `run` work although `stop` was called before it."""


class Background:
    """Runs an engine: `run()` blocks, `start()` works in a thread of its own.

    Args:
        engine: The engine.
        name: Who works, for an error.
        thread: What a thread of its own is called.
    """

    def __init__(self, engine: Engine, name: str, *, thread: str) -> None:
        self._engine = engine
        self._name = name
        self._thread_name = thread
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Run the engine here, on a loop of its own, to its end.

        Raises:
            ConfigurationError: There is no such loop as the environment asks for.
        """
        self._run_on(new_event_loop())

    def _run_on(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not asyncio.run: that waits for tasks and threads which do not end, however long.
        try:
            loop.run_until_complete(self._engine.run())
        finally:
            _close(loop)

    def start(self) -> None:
        """Run the engine in a thread until `stop`.

        Raises:
            RuntimeError: It works already.
            ConfigurationError: There is no such loop as the environment asks for.
        """
        if self._thread is not None:
            raise RuntimeError(f"{self._name} works already: stop() it first")
        loop = new_event_loop()
        self._engine.forget_stop()
        self._thread = threading.Thread(
            target=self._run_in_thread, args=(loop,), name=self._thread_name, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop the engine. Returns when a started one has ended.

        Raises:
            Exception: What ended the thread, if it was not this call.
        """
        self._engine.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._engine.forget_stop()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def join(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for a started engine to end by itself: whether it has."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def _run_in_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._run_on(loop)
        except BaseException as error:
            self._error = error  # raised again by stop(), which may be long after
            # A FairQueue error says all that there is to say.
            unexpected = not isinstance(error, FairQueueError)
            logger.error("%s has ended, for good: %s", self._name, error, exc_info=unexpected)  # noqa: TRY400 - see above


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop, giving what is left on it a moment to end."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=LAST_MOMENT_SECONDS))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@contextmanager
def ending_signals(handler: Any) -> Iterator[None]:
    """Handle SIGTERM and SIGINT in the main thread, unless the application does."""
    taken: list[signal.Signals] = []
    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            if _is_default(number):
                loop.add_signal_handler(number, handler)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def _is_default(number: signal.Signals) -> bool:
    current = signal.getsignal(number)
    if current in (signal.SIG_DFL, signal.default_int_handler):
        return True
    # asyncio.run puts a handler of its own on SIGINT, which cancels the main task.
    return getattr(getattr(current, "func", None), "__name__", "") == "_on_sigint"
