from __future__ import annotations

import os
import socket

import pytest

from fairque.worker.exit_code import told
from fairque.worker.link import Link
from fairque.worker.recycling import Limits, resident_mb
from fairque.worker.supervised import LONG_LIFE, LONGEST_PAUSE, Place


def test_what_is_said_on_a_link_arrives_whole_and_in_order_however_it_is_cut() -> None:
    left, right = socket.socketpair()
    with left:
        link = Link(right)
        left.sendall(b'{"a": 1}\n{"b"')
        assert link.receive() == [{"a": 1}]
        left.sendall(b": 2}\nhalf of a message\n[]\n")
        assert link.receive() == [{"b": 2}]
    assert link.receive() is None
    link.send({"nobody": "listens"})
    link.close()


def test_a_stopped_listener_does_not_stop_the_speaker() -> None:
    left, right = socket.socketpair()
    with right:
        link = Link(left)
        for _ in range(2):
            link.send({"long": "x" * 2_000_000})
        link.close()


def test_pauses_grow_up_to_a_limit_and_begin_anew_after_a_long_life() -> None:
    place = Place()
    pauses = [place.pause(lived=1.0) for _ in range(12)]
    assert 0.125 <= pauses[0] <= 0.375
    assert pauses[6] > pauses[2]
    assert LONGEST_PAUSE / 2 <= pauses[-1] <= LONGEST_PAUSE * 1.5
    assert place.pause(lived=LONG_LIFE) <= 0.375


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (-9, "signal SIGKILL"), (-40, "signal 40"), (3, "exit code 3")]
)
def test_an_exit_code_is_told_in_words(code: int, words: str) -> None:
    assert told(code) == words


def test_limits_are_passed_by_the_task_that_reaches_them() -> None:
    tasks = Limits(3, None)
    assert [tasks.passed() is None for _ in range(4)] == [True, True, False, False]
    assert Limits(None, 1).passed() is not None
    assert Limits(None, 10**6).passed() is None
    assert Limits(None, None).passed() is None


def test_the_resident_memory_is_what_the_process_occupies_now() -> None:
    before = resident_mb()
    block = bytearray(os.urandom(1024)) * (100 * 1024)
    assert 80 < resident_mb() - before < 130
    del block
    assert resident_mb() - before < 50
