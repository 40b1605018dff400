"""Task ids."""

from __future__ import annotations

import os
import threading
import time
import uuid
from itertools import pairwise

import pytest

from fairque.core.ids import new_id


def test_ids_are_uuids_of_version_7_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    value = uuid.UUID(new_id())
    after = time.time_ns() // 1_000_000
    assert value.version == 7
    assert value.variant == uuid.RFC_4122
    assert before <= value.int >> 80 <= after + 1


def test_ids_sort_in_the_order_they_were_made() -> None:
    ids = [new_id() for _ in range(20_000)]
    assert all(left < right for left, right in pairwise(ids))


def test_threads_never_make_the_same_id() -> None:
    made: list[list[str]] = [[] for _ in range(8)]

    def fill(mine: list[str]) -> None:
        mine.extend(new_id() for _ in range(2000))

    threads = [threading.Thread(target=fill, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({name for mine in made for name in mine}) == 16_000
    assert all(mine == sorted(mine) for mine in made)


def test_forked_processes_never_make_the_same_id() -> None:
    new_id()
    outputs = []
    for _ in range(4):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writer, "\n".join(new_id() for _ in range(200)).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            outputs += pipe.read().split()
        os.waitpid(child, 0)
    assert len(set(outputs)) == 800


def test_a_clock_that_steps_back_does_not_disturb_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_000_000)
    second, third = new_id(), new_id()
    assert first < second < third
