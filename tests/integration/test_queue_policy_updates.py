"""Changing some fields of a policy and leaving the others."""

from __future__ import annotations

import pytest

from fairque.core.exceptions import ConfigurationError
from fairque.core.user_policy import UserPolicy
from fairque.queue.queue import TaskQueue
from tests.support.actions import push


def test_lifting_a_rate_lifts_the_burst_that_was_set_with_it(queue: TaskQueue) -> None:
    queue.set_policy("acme", UserPolicy(rate=5, burst=10, weight=2))
    changed = queue.update_policy("acme", rate=None)
    assert (changed.rate, changed.burst, changed.weight) == (None, None, 2)
    assert queue.get_policy("acme") == changed


def test_lifting_a_rate_and_setting_a_burst_at_once_is_refused(queue: TaskQueue) -> None:
    queue.set_policy("acme", UserPolicy(rate=5))
    with pytest.raises(ConfigurationError, match="burst has no effect without rate"):
        queue.update_policy("acme", rate=None, burst=3)
    assert queue.get_policy("acme").rate == 5


def test_a_user_that_only_its_rate_holds_back_is_told_as_throttled(queue: TaskQueue) -> None:
    queue.set_policy("slow", UserPolicy(rate=0.001))
    push(queue, "slow", "1", "2")
    push(queue, "free", "1")
    queue.pop_batch("w", 3)
    push(queue, "free", "2")
    assert {user.user_id: user.throttled for user in queue.users()} == {"slow": True, "free": False}
    queue.pause_user("slow")
    assert {user.user_id: user.throttled for user in queue.users()} == {"slow": False, "free": False}
