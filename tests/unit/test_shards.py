from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from fairque import Task
from fairque.queue.replies import Claim
from fairque.queue.visits import LEAN, Visits
from fairque.worker.homes import homes_of

WORKERS = [f"worker-{number}" for number in range(10)]


def claimed(count: int, active: float) -> Claim:
    """A claim of a shard with so many active users of weight 1."""
    return Claim(
        (Task.create(),) * count, more=True, unfinished=False, pause=None, advance=count / active, alone=False
    )


def test_every_shard_is_home_to_one_worker_and_no_worker_is_homeless() -> None:
    homes = {worker: homes_of(worker, WORKERS, 64) for worker in WORKERS}
    assert sorted(shard for found in homes.values() for shard in found) == list(range(64))
    few = [homes_of(worker, WORKERS, 4) for worker in WORKERS]
    assert all(few)
    assert set().union(*few) == set(range(4))


def test_a_worker_that_dies_moves_only_the_shards_it_had() -> None:
    before = {worker: homes_of(worker, WORKERS, 64) for worker in WORKERS}
    left = WORKERS[1:]
    after = {worker: homes_of(worker, left, 64) for worker in left}
    assert all(before[worker] <= after[worker] for worker in left)
    assert set().union(*after.values()) == set(range(64))


def test_a_worker_that_is_not_known_yet_counts_itself_in() -> None:
    assert homes_of("new", WORKERS, 64) == homes_of("new", [*WORKERS, "new"], 64)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), st.integers(1, 12))
def test_shards_are_served_in_proportion_to_their_active_users(active: list[int], slots: int) -> None:
    visits, served = Visits(len(active)), Counter[int]()
    turns = 40 * sum(active) // slots
    for _ in range(turns):
        division = visits.division(slots, range(len(active)), {})
        assert sum(division.values()) == slots
        for shard, count in division.items():
            if count:
                visits.took(shard, claimed(count, active[shard]))
                served[shard] += count
    per_user = [served[shard] / users for shard, users in enumerate(active)]
    assert max(per_user) - min(per_user) <= 2 + slots


def test_a_shard_that_had_nothing_earns_no_credit_by_that() -> None:
    visits = Visits(2)
    for _ in range(100):
        visits.took(0, claimed(1, 1))
    visits.took(1, claimed(1, 1))
    division = visits.division(10, [0, 1], {})
    assert abs(division[0] - division[1]) <= 2


def test_a_home_shard_is_ahead_by_a_turn_of_its_users_at_most() -> None:
    visits = Visits(2)
    visits.homes = {1}
    assert visits.division(1, [0, 1], {}) == {0: 0, 1: 1}
    assert abs(visits.division(100, [0, 1], {})[1] - 50) <= LEAN


def test_what_a_claim_under_way_may_take_counts_already() -> None:
    visits = Visits(2)
    assert visits.division(4, [0, 1], {0: 4}) == {0: 0, 1: 4}
    assert visits.division(4, [0, 1], {}) == {0: 2, 1: 2}
