"""Lag, its bounds, and Jain's index."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairque.simulator.jain import index_of, jain_index
from fairque.simulator.lag import (
    AMOUNTS,
    Unit,
    followed_users,
    history,
    seconds_bound,
    tasks_bound,
    worst_lag,
)
from fairque.simulator.orders import ORDERS, OrderName
from fairque.simulator.simulation import Run
from fairque.simulator.trace import Arrival
from tests.support.traces import TRACES, WEIGHTS, batch, simulated

SLOTS = st.integers(1, 6)


def by_the_definition(runs: list[Run], unit: Unit, weights: dict[str, float]) -> float | None:
    """The worst lag over every pair and every interval, one by one."""
    worst = None
    for pair in combinations(sorted({run.user for run in runs}), 2):
        waiting, ahead = dict.fromkeys(pair, 0), [0.0]
        for is_start, run in history(runs):
            if run.user in pair:
                both = all(waiting.values())
                waiting[run.user] += -1 if is_start else 1
                if is_start and both:
                    step = AMOUNTS[unit](run) / weights.get(run.user, 1)
                    ahead.append(ahead[-1] + (step if run.user == pair[0] else -step))
                    worst = max(worst or 0.0, *(abs(ahead[-1] - earlier) for earlier in ahead))
                if not all(waiting.values()):
                    ahead = [0.0]
    return worst


@given(TRACES, SLOTS, WEIGHTS, st.sampled_from(ORDERS), st.sampled_from(get_args(Unit)))
def test_the_worst_lag_is_what_its_definition_says(
    arrivals: list[Arrival], slots: int, weights: dict[str, float], name: OrderName, unit: Unit
) -> None:
    runs = simulated(arrivals, name, slots, weights)
    expected = by_the_definition(runs, unit, weights)
    assert worst_lag(runs, unit, weights) == (None if expected is None else pytest.approx(expected))


@settings(max_examples=200)
@given(TRACES, SLOTS, WEIGHTS)
def test_fair_tasks_keeps_any_two_users_within_one_task_of_each(
    arrivals: list[Arrival], slots: int, weights: dict[str, float]
) -> None:
    runs = simulated(arrivals, "fair-tasks", slots, weights)
    bound = tasks_bound({run.user for run in runs}, weights)
    assert (worst_lag(runs, "tasks", weights) or 0) <= (bound or 0) + 1e-9


@given(TRACES, SLOTS)
def test_without_weights_that_is_exactly_two_tasks(arrivals: list[Arrival], slots: int) -> None:
    assert (worst_lag(simulated(arrivals, "fair-tasks", slots), "tasks", {}) or 0) in {0, 1, 2}


@settings(max_examples=200)
@given(TRACES, SLOTS, WEIGHTS)
def test_fair_time_keeps_any_two_users_within_twice_what_runs_at_once(
    arrivals: list[Arrival], slots: int, weights: dict[str, float]
) -> None:
    runs = simulated(arrivals, "fair-time", slots, weights)
    assert (worst_lag(runs, "seconds", weights) or 0) <= seconds_bound(runs, weights) + 1e-6


@given(TRACES, WEIGHTS)
def test_on_one_slot_that_is_two_of_the_largest_tasks(
    arrivals: list[Arrival], weights: dict[str, float]
) -> None:
    runs = simulated(arrivals, "fair-time", 1, weights)
    largest = max(max(run.seconds, run.charged) / weights.get(run.user, 1) for run in runs)
    assert seconds_bound(runs, weights) == pytest.approx(2 * largest)


def test_an_unknown_user_may_take_every_slot_so_the_bound_grows_with_them() -> None:
    known = batch("known", 1, seconds=100)
    both = batch("new", 8, seconds=100, at=100) + batch("known", 8, seconds=100, at=100)
    runs = simulated(known + both, "fair-time", slots=4)
    assert [run.user for run in runs[1:5]] == ["new"] * 4
    assert worst_lag(runs, "seconds", {}) == 400  # two tasks would be 200
    assert seconds_bound(runs, {}) == 800


def test_under_fifo_the_lag_is_the_backlog() -> None:
    runs = simulated(batch("a", 500) + batch("b", 500), "fifo")
    assert worst_lag(runs, "tasks", {}) == 500
    assert worst_lag(runs, "seconds", {}) == 500


def test_users_that_never_wait_together_have_no_lag() -> None:
    assert worst_lag(simulated(batch("a", 5) + batch("b", 5, at=10), "fifo"), "tasks", {}) is None


def test_the_bound_by_tasks_is_of_the_two_smallest_weights() -> None:
    assert tasks_bound("abc", {"a": 4, "b": 0.5}) == 3
    assert tasks_bound("a", {}) is None


def test_of_many_users_the_biggest_and_some_of_every_size_are_followed() -> None:
    work = [task for number in range(1, 101) for task in batch(f"u{number}", 1, seconds=number)]
    followed = followed_users(simulated(work, "fifo"), 10)
    assert followed == ["u100", "u99", "u98", "u97", "u96", "u77", "u58", "u39", "u20", "u1"]


# --- Jain's index ---


def test_the_index_is_1_for_even_shares_and_1_of_n_for_one_served_alone() -> None:
    assert index_of([3, 3, 3, 3]) == 1
    assert index_of([5, 0, 0, 0]) == 0.25
    assert index_of([0, 0]) == 1


def test_under_fifo_one_of_two_is_served_alone_and_under_fair_both_alike() -> None:
    work = batch("a", 100) + batch("b", 100)
    # The one window that both wait through: the backlog of the first, in rounds of twenty.
    assert jain_index(simulated(work, "fifo"), "tasks", {}) == 0.5
    assert jain_index(simulated(work, "fair-tasks"), "tasks", {}) == 1


def test_service_counts_by_weight() -> None:
    runs = simulated(batch("a", 300) + batch("b", 100), "fair-tasks", weights={"a": 3})
    assert jain_index(runs, "tasks", {"a": 3}) == pytest.approx(1, abs=0.01)
    assert jain_index(runs, "tasks", {}) == pytest.approx(0.8, abs=0.02)


def test_who_does_not_wait_is_not_compared() -> None:
    assert jain_index(simulated(batch("a", 100) + batch("b", 1), "fair-tasks"), "tasks", {}) is None
