"""What each order does to the users of a trace."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairque.core.exceptions import ConfigurationError
from fairque.core.user_policy import UserPolicy
from fairque.simulator.compare import compare
from fairque.simulator.generate import Workload, generate
from fairque.simulator.measure import percentile, user_classes
from fairque.simulator.orders import ORDERS, OrderName, make_order
from fairque.simulator.simulation import Run, simulate
from fairque.simulator.trace import Arrival
from tests.support.traces import TRACES, batch, simulated

FAIR = ["fair-tasks", "fair-time"]


def users(runs: list[Run]) -> str:
    """Whose tasks started, in that order."""
    return "".join(run.user for run in runs)


def waits(runs: list[Run], user: str) -> list[float]:
    return [run.wait for run in runs if run.user == user]


# --- the orders ---


def test_under_fifo_a_small_user_waits_for_the_whole_backlog() -> None:
    assert waits(simulated(batch("big", 100) + batch("small", 1), "fifo"), "small") == [100]


@pytest.mark.parametrize("name", ["round-robin", *FAIR])
def test_under_the_others_it_waits_for_what_runs_and_at_most_one_task_more(name: OrderName) -> None:
    backlog = batch("big", 100) + batch("small", 1, at=0.5)
    assert max(waits(simulated(backlog, name), "small")) <= 1.5


@pytest.mark.parametrize("name", ["round-robin", "fair-tasks"])
def test_users_with_a_backlog_take_turns(name: OrderName) -> None:
    runs = simulated(batch("a", 4) + batch("b", 3) + batch("c", 2), name)
    assert users(runs) == "abcabcaba"


def test_fair_tasks_gives_tasks_and_fair_time_gives_seconds_in_equal_parts() -> None:
    work = batch("l", 100, seconds=4) + batch("s", 400, seconds=1)
    by_tasks, by_time = (Counter(users(simulated(work, name))[:100]) for name in ("fair-tasks", "fair-time"))
    assert by_tasks == {"l": 50, "s": 50}
    assert by_time["s"] / by_time["l"] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("name", FAIR)
def test_a_weight_of_three_gives_three_times_the_service(name: OrderName) -> None:
    runs = simulated(batch("a", 100) + batch("b", 100), name, weights={"a": 3})
    assert Counter(users(runs)[:40]) in ({"a": 30, "b": 10}, {"a": 29, "b": 11})


@pytest.mark.parametrize("name", FAIR)
def test_groups_of_a_user_take_turns(name: OrderName) -> None:
    runs = simulated(batch("u", 5, group="x") + batch("u", 2, group="y"), name)
    assert "".join(run.arrival.group for run in runs) == "xyxyxxx"


def test_a_running_task_is_charged_at_its_heartbeats() -> None:
    # Known for nothing yet, the long task was charged a tenth of a second; by now it has had thirty.
    work = batch("long", 1, seconds=60) + batch("short", 5, at=30) + batch("long", 5, seconds=60, at=30)
    runs = simulated(work, "fair-time", slots=2)
    assert [run.user for run in runs] == ["long"] + ["short"] * 5 + ["long"] * 5


@pytest.mark.parametrize("name", FAIR)
def test_a_rate_limited_user_starts_when_its_tokens_come(name: OrderName) -> None:
    order = make_order(name, {"u": UserPolicy(rate=2, burst=1)})
    runs = simulate(batch("u", 3, seconds=0.01), order, slots=9)
    # The bucket is read with a tolerance of 0.05 ms, for the sake of times since 1970 in a double.
    assert [run.started for run in runs] == pytest.approx([0, 500, 1000], abs=0.11)


def test_a_paused_user_is_refused_because_the_simulation_would_not_end() -> None:
    with pytest.raises(ConfigurationError, match="user 'u' is paused"):
        make_order("fair-time", {"u": UserPolicy(paused=True)})


# --- the simulation ---


@given(TRACES, st.integers(1, 5), st.sampled_from(ORDERS))
def test_every_task_runs_once_and_no_slot_idles_while_one_waits(
    arrivals: list[Arrival], slots: int, name: OrderName
) -> None:
    runs = simulated(arrivals, name, slots)
    assert Counter(run.arrival for run in runs) == Counter(arrivals)
    assert [run.started for run in runs] == sorted(run.started for run in runs)
    for number, run in enumerate(runs):
        running = [other for other in runs[:number] if other.ended > run.started]
        assert len(running) < slots
        # Who waited started when a slot became free.
        assert run.wait == 0 or any(other.ended == run.started for other in runs[:number])


@given(TRACES, st.integers(1, 5))
def test_every_order_does_the_same_amount_of_work_without_idling_on_one_slot(
    arrivals: list[Arrival], seed: int
) -> None:
    assert len({max(run.ended for run in simulated(arrivals, name)) for name in ORDERS}) == 1


def test_progress_adds_up_to_every_task() -> None:
    steps: list[int] = []
    simulate(batch("u", 2500), make_order("fifo", {}), 3, steps.append)
    assert steps == [1000, 1000, 500]


# --- the comparison ---


@pytest.mark.parametrize("arrivals", ["poisson", "bursty"])
def test_small_users_wait_far_less_under_the_fair_orders(arrivals: str) -> None:
    work = generate(Workload(tasks=2500, arrivals=arrivals, load=1.2))  # type: ignore[arg-type]
    fifo, *_, by_tasks, by_time = compare(work, ORDERS, 8).measured
    for fair in (by_tasks, by_time):
        assert fair.waits["small"].p95 < fifo.waits["small"].p95 / 3
        assert fair.waits["heavy"].p95 > fifo.waits["heavy"].p95  # somebody has to wait
    assert by_time.waits["small"].p95 < by_tasks.waits["small"].p95


def test_each_fair_order_is_the_fairest_in_its_own_unit() -> None:
    measured = {
        one.policy: one for one in compare(generate(Workload(tasks=4000, seed=2)), ORDERS, 8).measured
    }
    by_tasks, by_time, fifo = (measured[name].fairness for name in ("fair-tasks", "fair-time", "fifo"))
    assert (by_tasks["tasks"].jain or 0) > 0.99
    assert (fifo["tasks"].jain or 1) < 0.5
    assert (by_time["seconds"].jain or 0) > (by_tasks["seconds"].jain or 0) > (fifo["seconds"].jain or 0)
    assert (by_time["seconds"].lag.worst or 0) < (by_tasks["seconds"].lag.worst or 0)
    assert (by_tasks["tasks"].lag.worst or 0) < (by_time["tasks"].lag.worst or 0)


def test_only_the_fair_orders_have_a_bound_each_in_its_own_unit() -> None:
    for one in compare(batch("a", 3) + batch("b", 3), ORDERS, 1).measured:
        bounded = [unit for unit, fairness in one.fairness.items() if fairness.lag.bound is not None]
        assert bounded == {"fair-tasks": ["tasks"], "fair-time": ["seconds"]}.get(one.policy, [])


def test_where_a_user_has_a_limit_no_bound_is_given() -> None:
    policies = {"a": UserPolicy(max_concurrency=1)}
    (one,) = compare(batch("a", 3) + batch("b", 3), ["fair-tasks"], 2, policies).measured
    assert one.fairness["tasks"].lag.bound is None


def test_a_single_user_has_waits_but_no_fairness() -> None:
    comparison = compare(batch("only", 3), ORDERS, 1)
    assert comparison.load is None
    for one in comparison.measured:
        assert one.waits["heavy"].longest == 2
        assert {(f.jain, f.lag.worst, f.lag.bound) for f in one.fairness.values()} == {(None, None, None)}


def test_classes_follow_the_work_that_users_offer() -> None:
    work = batch("many", 4, 1) + batch("long", 1, 5) + batch("mid", 4, 0.5) + batch("x", 1, 0.4)
    assert user_classes(work) == {"long": "heavy", "many": "heavy", "mid": "medium", "x": "small"}


def test_percentiles_are_by_nearest_rank() -> None:
    assert [percentile([1, 2, 3, 4], percent) for percent in (50, 75, 76, 99, 100)] == [2, 3, 4, 4, 4]
    assert percentile([7], 50) == 7
