"""What a child of `os.fork()` must not take over: locks that other threads of its parent held, sockets."""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet


class Renewed(Protocol):
    """Something that is made anew in the child of a fork."""

    def renew_after_fork(self) -> None:
        """Forget what belongs to the parent. Runs in the child before anything else does; no I/O here."""


_living: WeakSet[Renewed] = WeakSet()
# What owners had of the parent's. It may not be collected in a child: a transport that closes its socket
# takes it out of the event loop's selector, which the kernel shares, and the parent's loop would be deaf to
# it; and a client that closes its pool waits for a lock that a thread of the parent held, for ever.
_left_behind: list[object] = []


def renew_in_children(owner: Renewed) -> None:
    """Call `owner.renew_after_fork` in each child, for as long as the owner lives."""
    _living.add(owner)


class Lock:
    """A lock that is free in a child, whichever of the parent's threads held it."""

    def __init__(self) -> None:
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        self._now = threading.Lock()

    def __enter__(self) -> None:
        self._now.acquire()

    def __exit__(self, *_: object) -> None:
        self._now.release()


def _renew() -> None:
    for owner in list(_living):
        _left_behind.append(vars(owner).copy())
        owner.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
