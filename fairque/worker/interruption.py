"""Interrupts a plain function that runs in a thread, and nothing else that runs there."""

from __future__ import annotations

import ctypes
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from fairque.core.context import TaskInterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set_exception.restype = ctypes.c_int

_here = threading.local()  # .interruption: of the attempt that runs in this thread


class Interruption:
    """The way to interrupt one attempt: it strikes once at the most, and only while the function runs.

    What the thread itself does about it takes no lock: it could be struck with the lock in its hand.

    Args:
        is_allowed: Whether it ever strikes.
    """

    def __init__(self, *, is_allowed: bool = True) -> None:
        self._is_allowed = is_allowed
        self._lock = threading.Lock()  # held by whoever strikes
        self._thread: int | None = None  # which may be struck now
        self._is_wanted = False
        self._has_struck = False

    def strike(self) -> None:
        """Raise `TaskInterrupted` in the function: now, or when it begins. From any thread."""
        with self._lock:
            self._is_wanted = self._is_allowed
            if self._is_wanted and self._thread is not None and not self._has_struck:
                self._has_struck = True
                _set_exception(self._thread, ctypes.py_object(TaskInterrupted))

    def guard(self, function: Callable[[], T]) -> T:
        """Call `function` in this thread, where it may be struck until it returns.

        Raises:
            TaskInterrupted: It was.
        """
        _here.interruption = self
        try:
            self._arm()
            try:
                return function()
            finally:
                self._disarm()
        except TaskInterrupted:
            self._disarm()  # it may have struck before the other one was through
            raise
        finally:
            _here.interruption = None

    def _arm(self) -> None:
        self._thread = threading.get_ident()
        if self._is_wanted and not self._has_struck:
            raise TaskInterrupted("it was interrupted before it began")

    def _disarm(self) -> None:
        self._thread = None
        while self._lock.locked():  # whoever holds it may still have seen the thread
            time.sleep(0)
        if self._has_struck:
            # What has not come yet comes here, where the interpreter looks for it. To take it back instead
            # would leave CPython looking for it for ever: slowly, and where it traces, without an end.
            time.sleep(0)

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """Nothing strikes within; what wanted to, strikes at the end."""
        self._disarm()
        try:
            yield
        finally:
            self._arm()


@contextmanager
def held_off() -> Iterator[None]:
    """Keep the attempt that runs in this thread, if one does, from being struck within.

    For our own code that tasks call: a lock of the event loop's, left behind taken, would stop the worker.
    """
    interruption: Interruption | None = getattr(_here, "interruption", None)
    if interruption is None:
        yield
        return
    with interruption.held_off():
        yield
