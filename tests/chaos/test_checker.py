"""The checker sees what it is for: otherwise the suite would pass by blindness."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from fairque import Task, TaskQueue
from tests.chaos.checker import Report, Seen, Server, judge, look
from tests.chaos.journal import Entry, Journal
from tests.chaos.scene import ROOT
from tests.support.servers import OwnServer


def entry(kind: str, task: str, attempt: int = 0) -> Entry:
    return Entry(0.0, kind, task, attempt)


def executed(task: str, attempt: int = 1) -> list[Entry]:
    return [entry(kind, task, attempt) for kind in ("start", "effect", "accepted")]


GOOD = [entry("trying", "a"), entry("pushed", "a"), *executed("a")]
FINISHED = Seen("finished", 1)


def test_a_run_without_faults_is_good() -> None:
    report = judge(GOOD, Server({"a": FINISHED}, 1))
    assert report == Report()
    report.hold()


@pytest.mark.parametrize(
    "tasks",
    [{}, {"a": Seen("lane")}, {"a": Seen("leases", 1)}, {"a": Seen("scheduled", 1)}, {"b": FINISHED}],
)
def test_an_acknowledged_push_without_an_end_is_lost(tasks: dict[str, Seen]) -> None:
    report = judge(GOOD[:2], Server(tasks, len([1 for seen in tasks.values() if seen == FINISHED])))
    assert report.lost == ("a",)
    with pytest.raises(AssertionError, match="lost: \\('a',\\)"):
        report.hold()


def test_a_push_that_never_returned_may_be_gone() -> None:
    judge([entry("trying", "a")], Server({}, 0)).hold()


def test_two_accepted_attempts_are_a_double() -> None:
    report = judge([*GOOD, *executed("a", 2), entry("kill", "w", 1)], Server({"a": Seen("finished", 2)}, 1))
    assert (report.double, report.repeated) == (("a",), 1)
    with pytest.raises(AssertionError, match="double"):
        report.hold()


def test_an_attempt_accepted_before_the_one_that_the_server_kept_is_a_double() -> None:
    # The second one's worker was killed before it had the answer.
    journal = [*GOOD, entry("start", "a", 2), entry("kill", "w", 1)]
    assert judge(journal, Server({"a": Seen("finished", 2)}, 2)).double == ("a",)


def test_an_answer_that_is_read_twice_is_no_double() -> None:
    judge([*GOOD, entry("accepted", "a", 1)], Server({"a": FINISHED}, 1)).hold()


def test_finishes_that_nobody_saw_are_counted_by_the_server() -> None:
    report = judge(GOOD, Server({"a": FINISHED}, 2))
    assert report.uncounted == 1
    with pytest.raises(AssertionError, match="1 finishes too many"):
        report.hold()


def test_a_task_that_does_not_move_is_stuck() -> None:
    report = judge([entry("trying", "a")], Server({"a": Seen("leases", 1, moves=False)}, 0))
    assert report.stuck == ("a",)
    with pytest.raises(AssertionError, match="stuck"):
        report.hold()


def test_executions_may_be_repeated_as_often_as_attempts_were_killed() -> None:
    journal = [*GOOD, entry("start", "a", 2)]
    report = judge(journal, Server({"a": FINISHED}, 1))
    with pytest.raises(AssertionError, match="repeated without need"):
        report.hold()
    judge([*journal, entry("kill", "w", 1)], Server({"a": FINISHED}, 1)).hold()


def test_a_retry_is_no_repeated_execution() -> None:
    journal = [entry("start", "a", 1), entry("raised", "a", 1), *executed("a", 2)]
    assert judge(journal, Server({"a": Seen("finished", 2)}, 1)) == Report()


def test_a_journal_reads_as_it_was_written(journal: Journal) -> None:
    journal.write("start", [("a", 1), ("b", 2)], "w")
    journal.write("kill", [("w", 3)])
    told = [(line.kind, line.task, line.attempt, line.worker) for line in journal.entries()]
    assert told == [("start", "a", 1, "w"), ("start", "b", 2, "w"), ("kill", "w", 3, "-")]
    assert [line.task for line in journal.entries("kill")] == ["w"]


# --- what it sees on a server ---


@pytest.fixture
def queue(server: OwnServer) -> Iterator[TaskQueue]:
    with TaskQueue(server.config()) as queue:
        queue.push_batch([Task.create(user_id="u", task_id=name) for name in ("a", "b", "c")])
        queue.push(Task.create(user_id="v", task_id="later"), delay=60)
        queue.push(Task.create(user_id="v", task_id="after", depends_on=["later"]))
        yield queue


@pytest.fixture
def raw(server: OwnServer) -> Iterator[Redis]:
    with server.client() as raw:
        yield raw


def stuck(raw: Redis) -> set[str]:
    return {task for task, seen in look(raw, ROOT).tasks.items() if not seen.moves}


def test_tasks_at_work_on_a_server_are_not_stuck(queue: TaskQueue, raw: Redis) -> None:
    task = queue.pop("w")
    assert task is not None
    queue.finish(task)
    queue.pop("w")
    server = look(raw, ROOT)
    places = {name: seen.place for name, seen in server.tasks.items()}
    assert places == {
        "a": "finished",
        "b": "leases",
        "c": "lane",
        "later": "scheduled",
        "after": "deferred",
    }
    assert (server.tasks["a"], server.finishes) == (FINISHED, 1)
    assert stuck(raw) == set()


def test_a_lane_that_nobody_serves_is_stuck(queue: TaskQueue, raw: Redis) -> None:
    raw.zrem(f"{ROOT}:ring", "u")
    assert stuck(raw) == {"a", "b", "c"}


def test_what_should_have_happened_long_ago_is_stuck(queue: TaskQueue, raw: Redis) -> None:
    queue.pop("w")
    raw.zadd(f"{ROOT}:leases", {"u:a": 1})
    raw.zadd(f"{ROOT}:scheduled", {"v:later": 1})
    raw.zadd(f"{ROOT}:blockers:v:after", {"later": 1})
    assert stuck(raw) == {"a", "later", "after"}
