"""The fair order's arithmetic, by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairque.core.fair_order import Attempt, FairOrder, Tokens, correction, step_of
from fairque.core.user_policy import UserPolicy
from tests.support.fair_bound import CAPS, HISTORIES, USERS, WEIGHTS, Bound, without_share


def backlog(order: FairOrder[int], user: str, count: int, now: float = 0, **options: str) -> None:
    for number in range(count):
        order.push(number, user, now, **options)


def take(order: FairOrder[int], count: int, now: float = 0) -> list[Attempt[int]]:
    """Up to so many picks, each ended at once."""
    taken: list[Attempt[int]] = []
    while len(taken) < count and (attempt := order.pick(now)) is not None:
        order.end(attempt, now)
        taken.append(attempt)
    return taken


# --- the promise ---


class History:
    """Follows a random history, and watches the bound."""

    def __init__(self, order: FairOrder[int], bound: Bound, eligible: Callable[[set[str]], set[str]]) -> None:
        self.order = order
        self.bound = bound
        self.eligible = eligible
        self.service = dict.fromkeys(USERS, 0.0)
        self.running: list[Attempt[int]] = []

    def follow(self, history: list[tuple[object, ...]], seconds: dict[str, float]) -> None:
        for what, *values in history:
            match what, values:
                case "push", [str(user), int(count)]:
                    backlog(self.order, user, count)
                case "pick", [int(count)]:
                    for _ in range(count):
                        self.pick()
                case "end", [int(count), int(place)]:
                    for _ in range(min(count, len(self.running))):
                        attempt = self.running.pop(place % len(self.running))
                        self.order.end(attempt, attempt.started + seconds[attempt.user] * 1000)
            self.watch()

    def pick(self) -> None:
        attempt = self.order.pick(0)
        if attempt is not None:
            self.running.append(attempt)
            self.service[attempt.user] += attempt.charged / attempt.weight
            self.watch()

    def watch(self) -> None:
        self.bound.watch(self.service, self.eligible(set(self.order.ring.names())))


@settings(max_examples=100, deadline=None)
@given(
    weights=st.fixed_dictionaries(dict.fromkeys(USERS, WEIGHTS)),
    caps=st.fixed_dictionaries(dict.fromkeys(USERS, CAPS)),
    history=HISTORIES,
)
def test_two_users_with_ready_work_never_drift_apart_by_more_than_a_task_each(
    weights: dict[str, float], caps: dict[str, int | str | None], history: list[tuple[object, ...]]
) -> None:
    order: FairOrder[int] = FairOrder()
    for user in USERS:
        order.set_policy(user, UserPolicy(weight=weights[user], max_concurrency=caps[user]), 0)
    bound = Bound(weights, dict.fromkeys(USERS, 1.0))
    watched = History(order, bound, lambda users: without_share(users, caps))
    watched.follow(history, seconds=dict.fromkeys(USERS, 0.0))


@settings(max_examples=100, deadline=None)
@given(
    weights=st.fixed_dictionaries(dict.fromkeys(USERS, WEIGHTS)),
    seconds=st.fixed_dictionaries(dict.fromkeys(USERS, st.floats(0.001, 10))),
    history=HISTORIES,
)
def test_the_promise_holds_for_seconds_as_well_where_they_are_known(
    weights: dict[str, float], seconds: dict[str, float], history: list[tuple[object, ...]]
) -> None:
    order: FairOrder[int] = FairOrder("time")
    for user in USERS:
        order.set_policy(user, UserPolicy(weight=weights[user]), 0)
        order.push(0, user, 0)
        attempt = order.pick(0)
        assert attempt is not None
        order.end(attempt, seconds[user] * 1000)  # it learns how long they take
    History(order, Bound(weights, seconds), lambda users: users).follow(history, seconds)


@given(charged=st.floats(0, 1e6), cost=st.floats(0, 1e6), weight=st.floats(1e-6, 1e6), v=st.floats(0, 1e6))
def test_a_refund_never_exceeds_what_was_charged(
    charged: float, cost: float, weight: float, v: float
) -> None:
    refund = -correction(charged, cost, weight)
    assert refund <= step_of(charged, weight, v)


@given(weight=st.floats(5e-324, 1e308, allow_nan=False), v=st.floats(0, 1e15))
def test_a_charge_always_moves_the_virtual_time_and_never_to_infinity(weight: float, v: float) -> None:
    assert v == 0 or v < v + step_of(1.0, weight, v) <= v + 1e9


# --- shares and limits ---


@pytest.mark.parametrize("weights", [(1.0, 2.0, 4.0), (0.1, 0.2, 0.4), (3.0, 3.0, 1.0), (1e-3, 1.0, 10.0)])
def test_shares_follow_the_weights(weights: tuple[float, ...]) -> None:
    order: FairOrder[int] = FairOrder()
    for user, weight in zip("abc", weights, strict=True):
        order.set_policy(user, UserPolicy(weight=weight), 0)
        backlog(order, user, 3000)
    served = Counter(attempt.user for attempt in take(order, 3000))
    for user, weight in zip("abc", weights, strict=True):
        assert served[user] == pytest.approx(3000 * weight / sum(weights), abs=2)


def test_a_share_of_the_slots_binds_while_others_wait_and_not_alone() -> None:
    order: FairOrder[int] = FairOrder()
    order.set_policy("a", UserPolicy(max_concurrency="25%", weight=100.0), 0)
    backlog(order, "a", 40)
    backlog(order, "b", 12)
    started = [order.pick(0) for _ in range(16)]
    served = Counter(attempt.user for attempt in started if attempt is not None)
    assert served == {"a": 4, "b": 12}
    assert order.pick(0) is not None  # nobody else wants the slot


def test_who_is_passed_over_among_some_users_keeps_its_place_among_all() -> None:
    order: FairOrder[int] = FairOrder()
    order.set_policy("a", UserPolicy(max_concurrency="50%"), 0)
    for user in ("a", "ahead", "other"):
        backlog(order, user, 100)
    for _ in range(50):
        order.pick(0, ["ahead"])
    order.in_use = 0
    order.pick(0, ["a"])
    passing = order.pick(0, ["a", "ahead"])
    assert passing is not None
    assert passing.user == "ahead"
    assert order.ring.v == {"a": 1, "ahead": 51, "other": 0}


def test_who_is_beyond_its_share_does_not_hold_the_floor_down_for_newcomers() -> None:
    order: FairOrder[int] = FairOrder()
    order.set_policy("a", UserPolicy(max_concurrency="50%"), 0)
    backlog(order, "a", 100)
    backlog(order, "b", 1000)
    running = [order.pick(0) for _ in range(8)]  # four of a's, which never end
    for attempt in running:
        if attempt is not None and attempt.user == "b":
            order.end(attempt, 0)
    for _ in range(400):
        attempt = order.pick(0)
        assert attempt is not None
        assert attempt.user == "b"
        order.end(attempt, 0)
    backlog(order, "c", 1000)
    served = Counter(attempt.user for attempt in take(order, 100))
    assert abs(served["b"] - served["c"]) <= 1


def test_an_absolute_limit_binds_alone_as_well() -> None:
    order: FairOrder[int] = FairOrder()
    order.set_policy("a", UserPolicy(max_concurrency=2), 0)
    backlog(order, "a", 5)
    first, second = order.pick(0), order.pick(0)
    assert first is not None
    assert second is not None
    assert order.pick(0) is None
    order.end(first, 0)
    assert order.pick(0) is not None


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    policy = UserPolicy(rate=50.0, burst=10)
    tokens = Tokens()
    began = 1.7e12
    starts = []
    for millisecond in range(2000):
        now = began + millisecond
        while tokens.usable_from(policy, now) <= now:
            tokens.use(policy, now)
            starts.append(millisecond)
    assert starts.count(0) == 10
    assert starts[10:] == list(range(20, 2000, 20))


def test_a_raised_rate_counts_at_once() -> None:
    tokens, now = Tokens(), 1.7e12
    slow, fast = UserPolicy(rate=0.001, burst=1), UserPolicy(rate=10.0, burst=1)
    tokens.use(slow, now)
    assert tokens.usable_from(slow, now) == pytest.approx(now + 1_000_000, abs=1)
    assert tokens.usable_from(fast, now) == pytest.approx(now + 100, abs=1)


# --- groups ---


def test_a_hundred_groups_of_one_user_get_together_what_one_user_gets() -> None:
    order: FairOrder[int] = FairOrder()
    for number in range(100):
        backlog(order, "a", 30, group=f"g{number}")
    backlog(order, "b", 3000)
    taken = take(order, 2000)
    assert Counter(attempt.user for attempt in taken) == {"a": 1000, "b": 1000}
    assert set(Counter(a.group for a in taken if a.user == "a").values()) == {10}


def test_a_noisy_group_does_not_starve_its_siblings() -> None:
    order: FairOrder[int] = FairOrder()
    backlog(order, "a", 5000, group="noisy")
    backlog(order, "a", 10, group="quiet")
    assert [attempt.group for attempt in take(order, 20)].count("quiet") == 10


# --- time ---


def test_time_is_shared_although_one_users_tasks_run_a_hundred_times_longer() -> None:
    order: FairOrder[int] = FairOrder("time")
    backlog(order, "long", 100)
    backlog(order, "short", 10_000)
    used = Counter[str]()
    now = 0.0
    while used.total() < 100_000:
        attempt = order.pick(now)
        assert attempt is not None
        ran = 1000 if attempt.user == "long" else 10
        now += ran
        used[attempt.user] += ran
        order.end(attempt, now)
    assert used["long"] == pytest.approx(50_000, rel=0.03)
