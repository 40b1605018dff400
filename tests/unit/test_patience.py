from __future__ import annotations

from typing import Any

import pytest
from redis import exceptions as redis_errors

from fairque.core.calls import Call
from fairque.core.exceptions import (
    ServerError,
    ServerOutOfMemoryError,
    ServerReadOnlyError,
    ServerUnavailableError,
    SlotMovedError,
)
from fairque.utils.patience import LONGEST_PAUSE, Patience

IDEMPOTENT = Call("push", "fq:{default:0}", (), list)
ONCE = Call("requeue", "fq:{default:0}", (), list, idempotent=False)
LOST = redis_errors.ConnectionError("gone")
REFUSED = redis_errors.TryAgainError("TRYAGAIN")
UNAVAILABLE = ServerUnavailableError("gone")


def is_repeated(
    call: Call[Any], error: Exception, meaning: ServerError, *, others: bool = False, window: float = 5.0
) -> bool:
    pause = Patience(call, window, others=others).pause_after(error, meaning)
    assert pause is None or 0 < pause <= LONGEST_PAUSE
    return pause is not None


def test_a_lost_reply_is_asked_for_again_only_if_a_repeat_does_no_harm() -> None:
    assert is_repeated(IDEMPOTENT, LOST, UNAVAILABLE)
    assert not is_repeated(ONCE, LOST, UNAVAILABLE)


def test_what_the_server_refused_did_not_run_and_may_always_be_repeated() -> None:
    assert is_repeated(ONCE, REFUSED, UNAVAILABLE)
    assert is_repeated(ONCE, redis_errors.ClusterError("TTL exhausted."), UNAVAILABLE)


@pytest.mark.parametrize("meaning", [ServerReadOnlyError("READONLY"), SlotMovedError("MOVED 1 a:1")])
def test_a_node_that_is_not_the_one_is_asked_again_only_where_another_takes_over(
    meaning: ServerError,
) -> None:
    assert is_repeated(ONCE, REFUSED, meaning, others=True)
    assert not is_repeated(ONCE, REFUSED, meaning)


def test_what_does_not_pass_by_itself_is_not_repeated() -> None:
    assert not is_repeated(IDEMPOTENT, REFUSED, ServerOutOfMemoryError("OOM"), others=True)


def test_a_window_of_nothing_repeats_nothing() -> None:
    assert not is_repeated(IDEMPOTENT, LOST, UNAVAILABLE, window=0)
