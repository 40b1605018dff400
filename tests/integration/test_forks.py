"""A queue in the child of a fork: of its own, and harmless to its parent's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from fairque import FairQueueConfig, TaskQueue
from tests.support.forking import CHILDREN
from tests.support.prepared import ROOT

Fork: TypeAlias = "Callable[[str], dict[str, Any]]"


@pytest.fixture
def fork(config: FairQueueConfig) -> Fork:
    """Runs one of the programs of `tests.support.forking`, and gives what it found."""

    def run(what: str) -> dict[str, Any]:
        where = (str(config.redis.unix_socket_path), config.queue.prefix)
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.forking", what, *where],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr  # where a child hangs, or what it raised
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


@pytest.mark.slow
def test_a_hundred_children_use_the_queue_while_threads_of_the_parent_do(
    fork: Fork, queue: TaskQueue
) -> None:
    found = fork("busy")
    assert (found["wrong"], found["hung"], found["well"]) == ([], 0, CHILDREN)
    assert found["slowest"] < 2.0  # nobody's results were heard by a child, or not at all
    # Every push is there once, the parent's and the children's.
    assert {user.user_id: user.queued for user in queue.users() if user.queued} == {
        "parent": found["pushed"],
        "child": CHILDREN,
    }
    assert queue.stats().totals["pushed"] >= found["pushed"] + 2 * CHILDREN


def test_a_child_does_not_wait_for_locks_that_its_parent_held(fork: Fork, queue: TaskQueue) -> None:
    assert fork("opening") == {"well": 5}
    assert queue.stats().queued == 1


def test_children_use_an_asyncio_queue_on_loops_of_their_own_and_the_parents_works_on(fork: Fork) -> None:
    found = fork("new_loop")
    assert found["well"] == 5
    assert found["slowest"] < 2.0


def test_a_child_that_goes_on_with_its_parents_loop_is_told(fork: Fork) -> None:
    assert fork("old_loop") == {"well": 1}


def test_a_worker_that_is_made_before_a_fork_works_after_it_under_an_id_of_its_own(fork: Fork) -> None:
    assert fork("preloaded") == {"well": 1, "own_id": True}


def test_a_child_that_exits_leaves_its_parents_embedded_server_alone(fork: Fork) -> None:
    assert fork("embedded") == {"well": 1, "queued": 2}


def test_processes_of_multiprocessing_push_by_the_queue_they_were_given(fork: Fork) -> None:
    assert fork("multiprocess") == {"well": 5, "queued": 5}
