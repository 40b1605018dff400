"""An interruption strikes the function it is meant for, and nothing else in its thread."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from fairque import TaskInterrupted
from fairque.worker.interruption import Interruption, held_off


def busy() -> None:
    while True:
        sum(range(100))


def test_a_busy_function_is_struck() -> None:
    interruption = Interruption()
    threading.Timer(0.05, interruption.strike).start()
    with pytest.raises(TaskInterrupted):
        interruption.guard(busy)


def test_one_that_was_not_to_begin_does_not() -> None:
    interruption = Interruption()
    interruption.strike()
    with pytest.raises(TaskInterrupted, match="before it began"):
        interruption.guard(busy)


def test_one_that_is_not_allowed_never_strikes() -> None:
    interruption = Interruption(is_allowed=False)
    interruption.strike()
    assert interruption.guard(lambda: 1) == 1


def test_it_strikes_once() -> None:
    interruption = Interruption()
    stop = threading.Event()

    def again_and_again() -> None:
        while not stop.is_set():
            interruption.strike()

    def swallow() -> str:
        with pytest.raises(TaskInterrupted):
            busy()
        for _ in range(2_000):
            sum(range(100))
        return "went on"

    striker = threading.Thread(target=again_and_again)
    striker.start()
    with pytest.raises(TaskInterrupted):  # before it began, or in it: not in what follows
        Interruption.guard(interruption, busy)
    stop.set()
    striker.join()
    second = Interruption()
    threading.Timer(0.05, second.strike).start()
    assert second.guard(swallow) == "went on"


def test_it_waits_while_it_is_held_off() -> None:
    interruption = Interruption()
    steps: list[str] = []

    def function() -> None:
        steps.append("begun")
        with held_off():
            interruption.strike()
            for _ in range(1_000):
                sum(range(100))
            steps.append("held off")
        steps.append("not reached")

    with pytest.raises(TaskInterrupted):
        interruption.guard(function)
    assert steps == ["begun", "held off"]
    with held_off():  # where nothing is to be struck
        pass


def test_wherever_it_falls_it_hits_only_what_it_is_meant_for() -> None:
    """Thousands of short functions, each struck at some moment before, in or after it."""
    current: list[Interruption] = [Interruption()]
    stop = threading.Event()
    struck = outside = 0

    def strike_on() -> None:
        while not stop.is_set():
            current[0].strike()

    striker = threading.Thread(target=strike_on)
    striker.start()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        current[0] = interruption = Interruption()
        try:
            try:
                interruption.guard(lambda: sum(range(50)))
            except TaskInterrupted:
                struck += 1
            for _ in range(20):
                len("bookkeeping")
        except TaskInterrupted:
            outside += 1
    stop.set()
    striker.join()
    assert outside == 0
    assert struck > 0


def test_a_process_in_which_one_struck_can_be_traced() -> None:
    """As by a debugger: the interpreter must not be left looking for something that never comes."""
    code = """
import sys, threading
from fairque.worker.interruption import Interruption
interruption = Interruption()
threading.Timer(0.05, interruption.strike).start()
def busy():
    while True:
        sum(range(100))
try:
    interruption.guard(busy)
except BaseException as error:
    print(type(error).__name__, flush=True)
sys.settrace(lambda *_: None)
print((lambda: "traced")(), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["TaskInterrupted", "traced"]
