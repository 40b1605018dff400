"""Small traces for the simulator, and random ones."""

from __future__ import annotations

from hypothesis import strategies as st

from fairque.core.user_policy import UserPolicy
from fairque.simulator.orders import OrderName, make_order
from fairque.simulator.simulation import Run, simulate
from fairque.simulator.trace import Arrival

TRACES = st.lists(
    st.builds(
        Arrival,
        st.integers(0, 60_000) | st.sampled_from([0, 0, 10_000]),
        st.sampled_from("abcde"),
        st.sampled_from(["", "g"]),
        # Short ones, ones that outlive heartbeats, and ones that end with them.
        st.integers(1, 2000) | st.integers(1, 60_000) | st.sampled_from([10_000, 20_000]),
    ),
    min_size=1,
    max_size=60,
).map(lambda arrivals: sorted(arrivals, key=lambda arrival: arrival.time))
WEIGHTS = st.dictionaries(st.sampled_from("abcde"), st.sampled_from([0.3, 0.5, 1.0, 2.0, 3.0, 10.0]))


def batch(user: str, count: int, seconds: float = 1, at: float = 0, group: str = "") -> list[Arrival]:
    """Tasks of one user that arrive at one time."""
    return [Arrival(round(at * 1000), user, group, round(seconds * 1000))] * count


def simulated(
    arrivals: list[Arrival], name: OrderName, slots: int = 1, weights: dict[str, float] | None = None
) -> list[Run]:
    policies = {user: UserPolicy(weight=weight) for user, weight in (weights or {}).items()}
    return simulate(arrivals, make_order(name, policies), slots)
