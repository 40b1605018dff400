"""How the numbers of the queue are read from a reply."""

from __future__ import annotations

from typing import Any

import pytest

from fairque.queue.looking import read_stats, read_users

NOTHING: list[bytes | None] = [None] * 6


def service(
    users: int, total: float, squares: float, in_ring: int = 0, unserved: int | None = None
) -> list[Any]:
    numbers = [users, total, squares, in_ring, 0, unserved]
    return [None if number is None else str(number).encode() for number in numbers]


def jain(in_minute: int, this: list[Any], last: list[Any], *, ready: int = 0) -> float | None:
    reply = [0, 0, 0, 0, 0, 0, ready, 5, 0, 0, 0, b"0", b"0", in_minute, this, last, []]
    return read_stats([reply]).jain_index


def test_nothing_served_has_no_index() -> None:
    assert jain(10_000, NOTHING, NOTHING) is None
    assert jain(50_000, NOTHING, NOTHING, ready=3) is None
    assert jain(50_000, service(0, 0.0, 0.0), NOTHING) is None


def test_equal_service_is_one_and_all_for_one_of_n_is_one_nth() -> None:
    assert jain(50_000, service(4, 40.0, 400.0, in_ring=4), NOTHING, ready=4) == 1.0
    assert jain(50_000, service(1, 40.0, 1600.0, in_ring=1), NOTHING, ready=5) == pytest.approx(0.2)


def test_a_minute_counts_from_its_half_on_and_the_last_one_before() -> None:
    this, last = service(1, 9.0, 81.0, in_ring=1), service(2, 9.0, 41.0, unserved=2)
    assert jain(29_999, this, last, ready=3) == pytest.approx(81 / (4 * 41))
    assert jain(30_000, this, last, ready=3) == pytest.approx(1 / 3)
    assert jain(29_999, this, NOTHING, ready=3) == pytest.approx(1 / 3)
    assert jain(50_000, NOTHING, last) == pytest.approx(81 / (4 * 41))


def test_rounding_takes_no_index_beyond_one() -> None:
    assert jain(50_000, service(3, 3.0, 2.9999999999), NOTHING) == 1.0
    assert jain(50_000, service(3, 3.0, -1e-12), NOTHING) is None


def user(*waits: list[bytes], record: list[bytes] | None = None, due: bytes | None = None) -> Any:
    now = 1_000_000
    padded = [*waits, *([[]] * (2 - len(waits)))]
    return read_users([now, None, b"u%3Ax", record or [b"live", b"1"], None, due, *padded])[0]


def test_waits_of_two_periods_are_one_histogram() -> None:
    found = user([b"0", b"50"], [b"0", b"45", b"41", b"5"])
    assert found.user_id == "u:x"
    assert (found.wait_p50, found.wait_p95) == (0.0005, 0.0005)
    assert found.wait_p99 == pytest.approx(1.1, rel=0.1)  # bucket 41 begins at 2**10 ms
    assert user().wait_p50 is None


def test_a_user_counts_as_throttled_until_its_rate_lets_it_go_on() -> None:
    record = [b"throttled", b"990000", b"throttled_ms", b"500"]
    assert user(record=record, due=b"1200000").throttled_seconds == 10.5
    assert user(record=record, due=b"992000.5").throttled_seconds == pytest.approx(2.501)
    assert user(record=record, due=b"1e303").throttled_seconds == 10.5
    assert user(record=[b"throttled_ms", b"500"]).throttled_seconds == 0.5
