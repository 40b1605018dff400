"""A user's policy: what it accepts, and how it goes to the server and comes back in layers."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from fairque.core.exceptions import ConfigurationError
from fairque.core.fair_order import Tokens
from fairque.core.user_policy import LARGEST, UserPolicy


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"weight": 0}, "weight: must be greater than 0, not 0"),
        ({"weight": -1.0}, "weight: must be greater than 0, not -1.0"),
        ({"weight": math.inf}, "weight: must be a finite number"),
        ({"weight": math.nan}, "weight: must be "),
        ({"weight": None}, "weight: must be a valid number"),
        ({"weight": "2"}, "weight: must be a valid number, not '2'"),
        ({"weight": 10**400}, "weight: "),
        ({"max_concurrency": 0}, "max_concurrency: must be a whole number from 1 on"),
        ({"max_concurrency": -3}, "max_concurrency: must be a whole number from 1 on"),
        ({"max_concurrency": True}, "max_concurrency: must be a whole number from 1 on"),
        ({"max_concurrency": 2.0}, "max_concurrency: must be a whole number from 1 on"),
        ({"max_concurrency": LARGEST + 1}, "max_concurrency: must be at most"),
        (
            {"max_concurrency": "0.5%"},
            'max_concurrency: must be a whole number from 1 on, or a share from "1%"',
        ),
        ({"max_concurrency": "101%"}, "max_concurrency: must be a whole number from 1 on"),
        ({"max_concurrency": "50"}, "max_concurrency: must be a whole number from 1 on"),
        ({"max_concurrency": "half"}, "max_concurrency: must be a whole number from 1 on"),
        ({"max_concurrency": "-5%"}, "max_concurrency: must be a whole number from 1 on"),
        ({"max_concurrency": "50%\n%"}, "max_concurrency: must be a whole number from 1 on"),
        ({"max_concurrency": "9" * 400 + "%"}, "max_concurrency: must be a whole number from 1 on"),
        ({"rate": 0}, "rate: must be greater than 0"),
        ({"rate": math.inf}, "rate: must be a finite number"),
        ({"rate": 1.0, "burst": 0}, "burst: must be greater than or equal to 1"),
        ({"rate": 1.0, "burst": 1.5}, "burst: must be a valid integer"),
        ({"rate": 1.0, "burst": LARGEST + 1}, "burst: must be less than or equal to"),
        ({"burst": 2}, "burst has no effect without rate"),
        ({"burst": 2, "rate": None}, "burst has no effect without rate"),
        ({"max_queued": 0}, "max_queued: must be greater than or equal to 1"),
        ({"max_queued": 10**400}, "max_queued: "),
        ({"paused": 1}, "paused: must be a valid boolean, not 1"),
        ({"paused": None}, "paused: must be a valid boolean"),
        ({"wieght": 1.0}, "wieght: unknown key (did you mean weight?)"),
    ],
)
def test_a_wrong_field_is_refused_by_name(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        UserPolicy(**settings)
    assert str(caught.value).startswith(f"UserPolicy: {complaint}")


def test_the_defaults_limit_nothing() -> None:
    policy = UserPolicy()
    assert (policy.weight, policy.slots, policy.share, policy.paused) == (1.0, None, None, False)
    assert policy.to_wire() == {}


@pytest.mark.parametrize(
    ("given", "share"),
    [("50%", 0.5), ("1%", 0.01), ("100%", 1.0), (" 12.5 % ", 0.125), ("33.3333333333%", 0.333333)],
)
def test_a_share_is_a_percentage_of_the_slots(given: str, share: float) -> None:
    policy = UserPolicy(max_concurrency=given)
    assert policy.share == pytest.approx(share)
    assert policy.slots is None
    assert UserPolicy.from_wire(policy.to_wire()) == policy


@pytest.mark.parametrize(
    "policy",
    [
        UserPolicy(),
        UserPolicy(weight=5e-324),
        UserPolicy(weight=1.7976931348623157e308),
        UserPolicy(weight=0.1 + 0.2),
        UserPolicy(max_concurrency=LARGEST),
        UserPolicy(max_concurrency=7, rate=0.1, burst=LARGEST, max_queued=LARGEST, paused=True),
        UserPolicy(max_concurrency=None, rate=None, burst=None, max_queued=None, paused=False),
        *(UserPolicy(max_concurrency=f"{percent}%") for percent in range(1, 101)),
        *(UserPolicy(max_concurrency=f"{percent / 7:g}%") for percent in range(7, 700, 13)),
    ],
    ids=str,
)
def test_a_policy_comes_back_from_the_wire_as_it_was(policy: UserPolicy) -> None:
    wire = msgspec.json.decode(msgspec.json.encode(policy.to_wire()))
    assert UserPolicy.from_wire(wire) == policy
    assert UserPolicy.from_wire(wire).to_wire() == policy.to_wire()


def test_only_what_is_set_goes_to_the_server() -> None:
    assert UserPolicy(weight=2.0).to_wire() == {"weight": 2.0}
    assert UserPolicy(weight=1.0).to_wire() == {"weight": 1.0}
    assert UserPolicy(max_queued=None).to_wire() == {"max_queued": None}
    assert UserPolicy(max_concurrency=3).to_wire() == {"max_concurrency": 3, "share": None}
    assert UserPolicy(max_concurrency="25%").to_wire() == {"max_concurrency": None, "share": 0.25}


def layered(*layers: UserPolicy) -> UserPolicy:
    return UserPolicy.from_wire(*(layer.to_wire() for layer in layers))


def test_a_later_layer_goes_before_an_earlier_one_field_by_field() -> None:
    default = UserPolicy(weight=2.0, max_concurrency="50%", rate=1.0, burst=5)
    assert layered(default, UserPolicy(max_concurrency=3)) == UserPolicy(
        weight=2.0, max_concurrency=3, rate=1.0, burst=5
    )
    assert layered(UserPolicy(max_concurrency=3), UserPolicy(max_concurrency="10%")).share == 0.1
    assert layered(default, UserPolicy(max_concurrency=None)).max_concurrency is None
    assert layered(default, UserPolicy(weight=1.0)).weight == 1.0
    assert layered(UserPolicy(paused=True), UserPolicy(paused=False)).paused is False


def test_a_burst_that_is_left_without_a_rate_has_no_effect() -> None:
    policy = layered(UserPolicy(rate=1.0, burst=5), UserPolicy(rate=None))
    assert (policy.rate, policy.burst) == (None, None)


@pytest.mark.parametrize(("rate", "tokens"), [(0.01, 1), (1.0, 1), (1.5, 2), (7.0, 7)])
def test_without_a_burst_one_seconds_worth_may_start_at_once(rate: float, tokens: int) -> None:
    assert UserPolicy(rate=rate).tokens == tokens


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e-9, 0.3, 7.0, 1e9, 1.7e308])
@pytest.mark.parametrize("burst", [1, 3, LARGEST])
def test_a_bucket_of_any_rate_gives_its_burst_and_is_a_number(rate: float, burst: int) -> None:
    policy, tokens, now = UserPolicy(rate=rate, burst=burst), Tokens(), 1.8e12
    for _ in range(min(burst, 5)):
        assert tokens.usable_from(policy, now) <= now
        tokens.use(policy, now)
    due = tokens.usable_from(policy, now)
    assert math.isfinite(due)
    if burst < 5 and rate < 1e3:
        assert due > now
