"""Ends a worker's process as it is asked to, also when a task blocks the event loop.

A thread of its own hears the signals, and the supervisor. The worker does what is asked by itself, as long as
its loop turns; when the time is up and the loop is silent, the thread hands back the tasks and ends the
process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from fairque.core.exceptions import FairQueueError
from fairque.worker.exit_code import ExitCode

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from fairque.worker.async_worker import AsyncWorker
    from fairque.worker.link import Link

logger = logging.getLogger("fairque.worker")

DRAIN = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NOW = (signal.SIGQUIT,)
REPORT_SECONDS = 0.5
SILENT_SECONDS = 0.5  # a loop that has not answered for so long when the time is up is blocked
LAST_WORDS_SECONDS = 15.0  # for a worker whose loop turns, as when the server does not answer
HAND_BACK_SECONDS = 3.0
REPLY_SECONDS = 1.0


class Guard:
    """Takes the signals that end a worker, from where it is entered to where it is left.

    The first SIGTERM, SIGINT or SIGHUP lets running tasks end, for as long as the grace allows; a second one,
    or SIGQUIT, does not wait. Signals that are ignored (as by nohup) stay so.

    Args:
        link: To the supervisor, if there is one. When that is gone, it is as if SIGTERM had come.
    """

    def __init__(self, link: Link | None = None) -> None:
        self._link = link
        self._worker: AsyncWorker | None = None
        self._pid = os.getpid()
        self._bell, self._ear = socket.socketpair()
        self._loops_bell: int | None = None  # by which the worker's loop hears signals, if it would itself
        self._handlers: dict[signal.Signals, Any] = {}
        self._masks = threading.local()  # of threads that fork just now
        self._was_signaled = False
        self._deadline: float | None = None  # when nobody waits for running tasks any more
        self._done = False
        self._thread = threading.Thread(target=self._watch, name="fairque-guard", daemon=True)

    def __enter__(self) -> Self:
        self._bell.setblocking(False)
        for number in (*DRAIN, *NOW):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._hear_in_the_main_thread)
        # The kernel's handler writes the number there whatever the main thread is doing.
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        os.register_at_fork(
            before=self._hold_signals, after_in_parent=self._let_signals, after_in_child=self._let_go
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done = True
        self._bell.send(b"\0")
        self._thread.join()
        self._give_back_signals()
        self._report()
        self._bell.close()
        self._ear.close()
        if self._loops_bell is not None:
            os.close(self._loops_bell)

    def watch(self, worker: AsyncWorker) -> None:
        """From now on there is a worker to end; before, the process just ends."""
        self._worker = worker
        worker.on_start = self._hear_before_the_loop

    def _hear_before_the_loop(self) -> bool:
        """Have signals told to the thread again, on a loop that has begun to listen to them in its place.

        uvloop does so while it runs, which is of no use when it is blocked. It would not let handlers of
        Python's run while it waits, so that it is told by the thread. At its end it sets back what it found.
        asyncio's loop does so when a task gives it a handler.

        Returns:
            Whether it had.
        """
        theirs = signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        if theirs in {-1, self._bell.fileno()}:
            return False
        if self._loops_bell is None:
            self._loops_bell = os.dup(theirs)  # the loop closes its own
        return True

    def _hear_in_the_main_thread(self, number: int, _frame: FrameType | None) -> None:
        """The interpreter's part of a signal: nothing, where the thread has heard it."""
        if not self._done and self._hear_before_the_loop():
            with contextlib.suppress(OSError):
                self._bell.send(bytes((number,)))

    def _hold_signals(self) -> None:
        """Before a fork: a signal for the new child waits until the child has taken leave of this guard."""
        if not self._done:
            self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, (*DRAIN, *NOW))

    def _let_signals(self) -> None:
        mask = self._masks.__dict__.pop("before", None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _let_go(self) -> None:
        """In the child: signals for it must not reach its parent's thread."""
        if not self._done:
            self._done = True
            self._give_back_signals()
        self._let_signals()

    def _give_back_signals(self) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    # --- the thread ---

    def _watch(self) -> None:
        while not self._done:
            ends: list[Any] = [self._ear] if self._link is None else [self._ear, self._link]
            ready, _, _ = select.select(ends, [], [], self._patience())
            if self._ear in ready:
                numbers = self._ear.recv(4096)
                self._tell_the_loop(numbers)
                for number in numbers:
                    self._hear_signal(number)
            if self._link in ready:
                self._hear_supervisor()
            self._report()
            self._end_what_is_late()

    def _tell_the_loop(self, numbers: bytes) -> None:
        if self._loops_bell is not None:
            with contextlib.suppress(OSError):  # it has ended, or has more to hear than it can take in
                os.write(self._loops_bell, numbers)

    def _patience(self) -> float | None:
        return None if self._link is None and self._deadline is None else REPORT_SECONDS / 2

    def _hear_signal(self, number: int) -> None:
        if number in NOW or (number in DRAIN and self._was_signaled):
            self._hurry()
        elif number in DRAIN:
            self._was_signaled = True
            self._drain()

    def _hear_supervisor(self) -> None:
        orders = self._link and self._link.receive()
        if orders is None:
            logger.warning("the supervisor is gone: the worker ends when its running tasks have")
            self._link = None
            self._drain()
        for order in orders or ():
            if order.get("order") == "now":
                self._hurry()
            else:
                self._drain()

    def _drain(self) -> None:
        worker = self._running_worker()
        if self._deadline is None:
            logger.info("worker %s is asked to end", worker.worker_id)
            self._deadline = time.monotonic() + worker.settings.graceful_shutdown_timeout
            worker.stop()

    def _hurry(self) -> None:
        worker = self._running_worker()
        self._deadline = min(self._deadline or float("inf"), time.monotonic())
        worker.hurry()

    def _running_worker(self) -> AsyncWorker:
        """The worker; if there is none yet, nothing is lost when the process ends here and now."""
        if self._worker is None:
            os._exit(ExitCode.DONE)
        return self._worker

    def _report(self) -> None:
        if self._link is not None and self._worker is not None:
            health = self._worker.vitals.health()
            recycling = self._worker.vitals.recycling
            self._link.send(
                {"live": health.live, "ready": health.ready, "recycling": recycling, "body": health.body}
            )

    def _end_what_is_late(self) -> None:
        if self._worker is None or self._deadline is None:
            return
        silence, late = self._worker.vitals.silence(), time.monotonic() - self._deadline
        if late > LAST_WORDS_SECONDS or (late > 0 and silence > SILENT_SECONDS):
            self._end_without_the_loop(self._worker)

    def _end_without_the_loop(self, worker: AsyncWorker) -> None:
        logger.warning(
            "worker %s: a task blocks the event loop and the time is up: the tasks are handed back and the "
            "process ends without it",
            worker.worker_id,
        )
        went_well: list[bool] = []
        helper = threading.Thread(target=_hand_back, args=(worker, went_well), daemon=True)
        helper.start()
        helper.join(HAND_BACK_SECONDS)
        os._exit(ExitCode.DONE if went_well else ExitCode.FAILED)


def _hand_back(worker: AsyncWorker, went_well: list[bool]) -> None:
    limits = {"socket_timeout": REPLY_SECONDS, "socket_connect_timeout": REPLY_SECONDS}
    try:
        worker.vitals.hand_back(worker.config.redis.model_copy(update=limits))
    except FairQueueError as error:
        logger.warning("worker %s could not hand back, its leases will run out: %s", worker.worker_id, error)
    else:
        went_well.append(True)
    with contextlib.suppress(ValueError, OSError):  # closed by the application
        sys.stdout.flush()
