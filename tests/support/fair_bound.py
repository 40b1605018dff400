"""The promise P1 as a check: how far two users' service may drift apart while both are eligible."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from hypothesis import strategies as st

USERS = "abcde"
ROUNDING = 1e-9

# A user's limit: of tasks at once, or a share of the slots. Being beyond a share is no claim to service.
CAPS = st.sampled_from([None, None, 1, 3, "20%", "50%"])

# What may happen, for whoever it happens to: weights mostly near each other, and some far apart.
WEIGHTS = st.one_of(st.floats(0.5, 4), st.floats(0.01, 100), st.just(1.0))
USER = st.sampled_from(USERS)
PUSHES = st.tuples(st.just("push"), USER, st.integers(1, 20))
PICKS = st.tuples(st.just("pick"), st.integers(1, 12))
ENDS = st.tuples(st.just("end"), st.integers(1, 12), st.integers(0, 50))
HISTORIES = st.lists(st.one_of(PUSHES, PICKS, PICKS, ENDS), min_size=30, max_size=120)


def without_share(users: set[str], caps: Mapping[str, int | str | None]) -> set[str]:
    """Those who have a claim to service whenever they are eligible."""
    return {user for user in users if not isinstance(caps[user], str)}


class Bound:
    """Watches service, divided by weight, of every two users since both have been eligible.

    Args:
        weights: By user.
        cost: The largest that one charge can be, by user.
    """

    def __init__(self, weights: Mapping[str, float], cost: Mapping[str, float]) -> None:
        self._allowed = {
            (a, b): cost[a] / weights[a] + cost[b] / weights[b] for a, b in itertools.combinations(weights, 2)
        }
        self._spans: dict[tuple[str, str], tuple[float, float]] = {}  # the least and largest difference
        self.worst = 0.0  # of what is allowed

    def watch(self, service: Mapping[str, float], eligible: set[str]) -> None:
        """Call after each step with the service so far divided by weight, and who is eligible."""
        for (a, b), allowed in self._allowed.items():
            if not {a, b} <= eligible:
                self._spans.pop((a, b), None)
                continue
            difference = service[a] - service[b]
            least, largest = self._spans.get((a, b), (difference, difference))
            least, largest = min(least, difference), max(largest, difference)
            self._spans[a, b] = least, largest
            self.worst = max(self.worst, (largest - least) / allowed)
            assert largest - least <= allowed * (1 + ROUNDING) + ROUNDING, (
                f"{a} and {b} drifted apart by {largest - least:.6f}, allowed is {allowed:.6f}"
            )
