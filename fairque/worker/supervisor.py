"""Several worker processes under one: started, replaced, and ended together."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fairque.worker.exit_code import ExitCode, told
from fairque.worker.supervised import Child, Place, has_terminal
from fairque.worker.vitals import STUCK_SECONDS, Health

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("fairque.supervisor")

TICK_SECONDS = 0.5
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)
GOOD_ENDS = (ExitCode.DONE, ExitCode.RECYCLED)


class Supervisor:
    """Keeps worker processes running.

    The first SIGTERM or SIGINT lets them end with their running tasks; a second one, or SIGQUIT, lets them
    hand those back at once. SIGHUP replaces one after the other by a fresh one (new code, new settings); with
    a terminal it says that this is gone, and is as SIGTERM. Children whose supervisor is killed end by
    themselves.

    Args:
        command: Runs one worker.
        processes: How many.
        grace: Seconds that running tasks get at the end.
        burst: Whether children end when nothing is left.
    """

    def __init__(self, command: list[str], *, processes: int, grace: float, burst: bool) -> None:
        self._command = command
        self._grace = grace
        self._burst = burst
        self._places = [Place(restart_at=0.0) for _ in range(processes)]
        self._leaving: list[Child] = []  # they have been replaced, or will not be
        self._to_roll: list[Place] = []
        self._rolled: tuple[Place, Child] | None = None  # for which a fresh one gets ready
        self._was_ready = False  # whether any child ever was
        self._stopping = False
        self._refused = False  # whether the children say that the settings are wrong
        self._left_badly = False
        self._turned = time.monotonic()

    def run(self) -> ExitCode:
        """Until all children have ended, because of a signal or at the end of a burst."""
        with _heard() as ear:
            logger.info("%d worker processes are supervised by pid %d", len(self._places), os.getpid())
            while not self._is_over():
                self._turned = time.monotonic()
                self._start_what_is_due()
                self._listen(ear)
                self._see_who_ended()
                self._replace_what_recycles()
                self._roll()
                self._end_what_hangs()
        if self._refused:
            return ExitCode.USAGE
        badly = self._left_badly or any(place.last_code not in GOOD_ENDS for place in self._places)
        return ExitCode.FAILED if badly else ExitCode.DONE

    def health(self) -> Health:
        """Live while it supervises; ready while one of the children is. From any thread."""
        children = self._children()
        is_ready = not self._stopping and any(child.is_ready for child in children)
        bodies = [child.told() for child in children]
        body = {
            "state": "draining" if self._stopping else "working" if is_ready else "starting",
            "running": sum(body["running"] for body in bodies),
            "processes": bodies,
        }
        return Health(live=time.monotonic() - self._turned < STUCK_SECONDS, ready=is_ready, body=body)

    def _children(self) -> list[Child]:
        fresh = [] if self._rolled is None else [self._rolled[1]]
        return [place.child for place in self._places if place.child is not None] + fresh + self._leaving

    def _is_over(self) -> bool:
        return not self._children() and (self._stopping or all(place.is_done for place in self._places))

    # --- starting ---

    def _start(self) -> Child | None:
        """A new child under a number that is free; None if the machine has no room for one."""
        taken = {child.number for child in self._children()}
        try:
            child = Child(self._command, min(set(range(1, len(taken) + 2)) - taken))
        except OSError as error:
            logger.error("no worker process can be started: %s", error)  # noqa: TRY400 - the system's words
            return None
        logger.info("%s starts", child)
        return child

    def _start_what_is_due(self) -> None:
        for place in self._places:
            if place.is_due() and not self._stopping:
                place.restart_at, place.child = None, self._start()
                if place.child is None:
                    place.pause(0.0)

    def _replace_what_recycles(self) -> None:
        """At once, while the old one still ends its running tasks."""
        for place in self._places:
            child = place.child
            if child is not None and child.recycling is not None and not self._stopping:
                logger.info("%s is replaced: %s", child, child.recycling)
                self._leaving.append(child)
                place.child, place.restart_at = None, 0.0

    def _roll(self) -> None:
        """Go on with a rolling restart: the old one ends when the fresh one is ready."""
        if self._rolled is None and self._to_roll and not self._stopping:
            place, fresh = self._to_roll.pop(0), self._start()
            self._rolled = None if fresh is None else (place, fresh)
        if self._rolled is not None and self._rolled[1].is_ready:
            (place, fresh), self._rolled = self._rolled, None
            if place.child is not None:
                place.child.drain(self._grace)
                self._leaving.append(place.child)
            place.child, place.restart_at, place.failures = fresh, None, 0

    # --- hearing ---

    def _listen(self, ear: socket.socket) -> None:
        talking = [child for child in self._children() if child.link is not None]
        lines = {child.link.fileno(): child for child in talking if child.link is not None}
        poll = select.poll()
        for descriptor in (ear.fileno(), *lines):
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(TICK_SECONDS * 1000):
            if descriptor in lines:
                lines[descriptor].listen()
                self._was_ready = self._was_ready or lines[descriptor].is_ready
            else:
                for number in ear.recv(4096):
                    self._hear_signal(number)

    def _hear_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            return
        logger.info("%s", signal.Signals(number).name)
        if number == signal.SIGHUP and not has_terminal():
            self._to_roll = list(self._places)
        elif number == signal.SIGQUIT or self._stopping:
            self._stop(hurry=True)
        else:
            self._stop()

    def _stop(self, *, hurry: bool = False) -> None:
        self._stopping = True
        self._to_roll.clear()
        for child in self._children():
            if hurry:
                child.hurry()
            else:
                child.drain(self._grace)

    def _end_what_hangs(self) -> None:
        for child in self._children():
            if not child.is_live and not child.is_ending:
                logger.error("%s is stuck in a task that is past its time", child)
                child.hurry()
            if child.kill_if_late():
                logger.error("%s did not end in time and is killed", child)

    # --- ends ---

    def _see_who_ended(self) -> None:
        for child in self._children():
            code = child.process.poll()
            if code is not None:
                child.hang_up()
                self._note_end(child, code)

    def _note_end(self, child: Child, code: int) -> None:
        if child in self._leaving:
            self._leaving.remove(child)
            logger.log(_level(code), "%s ended: %s", child, told(code))
            self._left_badly = self._left_badly or (self._stopping and code not in GOOD_ENDS)
        elif self._rolled is not None and self._rolled[1] is child:
            self._rolled = None
            self._to_roll.clear()
            logger.error("the rolling restart is over: %s ended at its start: %s", child, told(code))
        else:
            self._refill(next(place for place in self._places if place.child is child), child, code)

    def _refill(self, place: Place, child: Child, code: int) -> None:
        place.child, place.last_code = None, code
        if self._stopping:
            logger.log(_level(code), "%s ended: %s", child, told(code))
        elif code == ExitCode.DONE and self._burst and not child.is_ending:
            place.is_done = True
        elif code == ExitCode.RECYCLED:
            logger.info("%s ended: %s; it is replaced", child, told(code))
            place.restart_at = 0.0
        else:
            pause = place.pause(time.monotonic() - child.started)
            logger.warning("%s ended: %s; it is replaced in %.1f s", child, told(code), pause)
            self._give_up_if_all_refuse()

    def _give_up_if_all_refuse(self) -> None:
        """Settings that none of the first children could use will not get better by trying again."""
        if not self._was_ready and all(place.last_code == ExitCode.USAGE for place in self._places):
            logger.error("no worker process could start (%s): see above", told(ExitCode.USAGE))
            self._refused = True
            self._stop()


def _level(code: int) -> int:
    return logging.INFO if code in GOOD_ENDS else logging.WARNING


@contextmanager
def _heard() -> Iterator[socket.socket]:
    """A socket with the numbers of the signals that come."""
    bell, ear = socket.socketpair()
    bell.setblocking(False)
    taken: dict[signal.Signals, Any] = {}
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGCHLD:
            taken[number] = signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
    with contextlib.ExitStack() as stack:
        stack.callback(bell.close)
        stack.callback(ear.close)
        for number, handler in taken.items():
            stack.callback(signal.signal, number, handler)
        stack.callback(signal.set_wakeup_fd, -1)
        yield ear
