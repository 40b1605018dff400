"""The steps of a task on the event loop, none of which may lead the child of a fork back into it."""

from __future__ import annotations

import logging
import os
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

T = TypeVar("T")

logger = logging.getLogger("fairque.worker")

_forks = 0  # that lie between the first process and this one: quicker to ask for than the process id


@coroutine
def in_this_process(work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await `work`. If a step of it has forked and comes back in the child, that is ended.

    Here, and not by a callback of the loop's: the loop may come to other tasks first, write what they have to
    say to the server once more, or (uvloop) read what is meant for the parent.
    """
    forks = _forks
    thrown: BaseException | None = None
    while True:
        try:
            awaited = work.send(None) if thrown is None else work.throw(thrown)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            thrown = None  # which would hold this frame, and be held by it
            if _forks != forks:
                leave_the_parents_loop()
        try:
            yield awaited
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001 - a cancellation, say: it is the work's to deal with
            thrown = error


def leave_the_parents_loop() -> None:
    """A child has come back into the loop, whose sockets and selector it shares with its parent.

    Whatever it did there, to end in the usual way too, would be done to the parent's.
    """
    logger.error(
        "a task has forked on the event loop, and the child has returned to it: the child is ended; leave it "
        "by os._exit, or fork in a plain function"
    )
    os._exit(1)


def _count() -> None:
    global _forks  # noqa: PLW0603 - there is one process
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count)
