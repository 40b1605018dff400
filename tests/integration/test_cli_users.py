"""The commands for users and policies, against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fairque import FairQueueConfig, Task, TaskQueue, UserPolicy
from fairque.cli.showing import seconds
from tests.support.actions import popped, push
from tests.support.command_line import Done, Run, good

HOSTILE = "a:b\n*[bold]"


@pytest.fixture
def tasks(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


def lines_of(table: str) -> dict[str, list[str]]:
    """The cells of a table by the first of each line."""
    return {cells[0]: cells[1:] for line in table.splitlines() if (cells := line.split())}


def data(done: Done) -> Any:
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


# --- looking ---


def publish(config_file: Path) -> None:
    """What a worker does with a configuration's policies; commands that look or change one leave them be."""
    with TaskQueue(FairQueueConfig.from_yaml(config_file)) as queue:
        queue.stats()


def test_users_shows_each_user_with_its_tasks_and_its_state(run: Run, tasks: TaskQueue) -> None:
    tasks.set_policy("slow", UserPolicy(rate=0.001))
    tasks.set_policy("tight", UserPolicy(max_concurrency=1, weight=2))
    tasks.pause_user("stopped")
    for user in ("slow", "tight", "free", "stopped"):
        push(tasks, user, "1", "2", "3")
    push(tasks, "busy", "1")
    push(tasks, "late", "1", delay=60)
    tasks.push(Task.create(depends_on=["1"]), user_id="late")
    tasks.finish_batch(tasks.pop_batch("w", 1, users=["slow"]))
    tasks.pop_batch("w", 1, users=["tight"])
    tasks.pop_batch("w", 1, users=["busy"])
    shown = lines_of(good(run("users")))
    # queued, running, scheduled, deferred, failed, weight, served
    assert shown["slow"][:7] == ["2", "0", "0", "0", "0", "1", "1"]
    assert shown["tight"][:7] == ["2", "1", "0", "0", "0", "2", "1"]
    assert shown["late"][:7] == ["0", "0", "1", "1", "0", "1", "0"]
    states = {name: " ".join(cells[-3:]) for name, cells in shown.items()}
    assert states["slow"].endswith("throttled")
    assert states["tight"] == "at its limit"
    assert {name: states[name].split()[-1] for name in ("free", "stopped", "busy", "late")} == {
        "free": "eligible",
        "stopped": "paused",
        "busy": "running",
        "late": "idle",
    }


def test_users_tells_how_to_see_the_next_page_until_there_is_none(run: Run, tasks: TaskQueue) -> None:
    for number in range(5):
        push(tasks, f"user-{number}", "t")
    first = good(run("users", "--limit", "2"))
    assert "… and 3 more users: fairque users --limit 2 --offset 2" in first
    second = good(run("users", "--limit", "2", "--offset", "2"))
    assert "… and 1 more user: fairque users --limit 2 --offset 4" in second
    last = good(run("users", "--limit", "2", "--offset", "4"))
    assert "more user" not in last
    pages = [lines_of(page) for page in (first, second, last)]
    assert {name for page in pages for name in page if name.startswith("user-")} == {
        f"user-{number}" for number in range(5)
    }
    assert "knows no users after the first 9" in good(run("users", "--offset", "9"))


def test_users_are_one_json_object_for_machines(run: Run, tasks: TaskQueue, root: str) -> None:
    assert data(run("users", "--json"))["users"] == []
    push(tasks, HOSTILE, "1", "2")
    push(tasks, "other", "1")
    popped(tasks, users=[HOSTILE])
    found = data(run("users", "--limit", "1", "--json"))
    assert (found["queue"], found["paused"]) == (root, False)
    assert (found["known_users"], found["next_offset"]) == (2, 1)
    (user,) = found["users"]
    assert (user["user_id"], user["queued"], user["started"], user["state"]) == (HOSTILE, 1, 1, "eligible")
    assert data(run("users", "--json"))["next_offset"] is None


def test_a_narrow_terminal_loses_columns_and_says_so_but_no_digits(
    run: Run, tasks: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(tasks, "x" * 90, "1")
    push(tasks, "acme", "1", "2")
    monkeypatch.setenv("TERM", "dumb")  # 80 columns, no colours
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = good(run("users"))
    assert max(map(len, shown.splitlines()[:-1])) <= 80
    assert "…" not in shown
    assert shown.count("x" * 36) == 2  # the id is folded
    assert lines_of(shown)["acme"] == ["2", "0", "0", "eligible"]
    assert "No room for deferred, failed, weight, served, worker seconds, wait p50, " in " ".join(
        shown.split()
    )


def test_stats_tell_whether_the_service_is_fair(run: Run, tasks: TaskQueue) -> None:
    tasks.set_policy("slow", UserPolicy(rate=0.001))
    for user in ("slow", "a", "b"):
        push(tasks, user, "1", "2", "3")
    tasks.pop_batch("w", 3)
    tasks.steal("w", users=["a"])
    shown = good(run("stats"))
    for part in ("2 ready", "1 throttled", "4 slots in use", "1 stolen", "Jain index: 0.", "spread: 1.0"):
        assert part in shown
    assert "paused" not in shown
    # queued, running, scheduled, deferred, failed, weight, served, stolen, virtual time, state
    assert lines_of(shown)["a"] == ["1", "2", "0", "0", "0", "1", "2", "1", "2.0", "eligible"]
    tasks.pause()
    assert "The queue is paused" in good(run("stats"))
    assert "The queue is paused" in good(run("users"))
    assert data(run("stats", "--json"))["paused"] is True


# --- one user's policy ---


def test_user_show_tells_where_each_part_of_the_policy_comes_from(
    run: Run, tasks: TaskQueue, config_file: Path
) -> None:
    with config_file.open("a") as file:
        file.write("users:\n  default: {weight: 3, max_queued: 9}\n")
        file.write("  acme: {max_concurrency: 50%, weight: 2}\n")
    publish(config_file)
    good(run("user", "set", "acme", "--weight", "4"))
    push(tasks, "acme", "1", "2")
    popped(tasks)
    shown = good(run("user", "show", "acme"))
    table = lines_of(shown)
    assert table["weight"] == ["4", "live"]
    assert table["max_concurrency"] == ["50%", "of", "the", "slots", "in", "use", "configuration"]
    assert table["max_queued"] == ["9", "default"]
    assert table["rate"] == ["none", "built-in"]
    assert table["paused"] == ["no", "built-in"]
    assert "eligible: 1 queued · 1 running · 0 scheduled · 0 deferred · 0 failed" in shown
    assert "1 served" in shown
    found = data(run("user", "show", "acme", "--json"))
    assert UserPolicy(**found["policy"]) == tasks.get_policy("acme")
    assert found["sources"] == {
        "weight": "live",
        "max_concurrency": "configuration",
        "rate": "built-in",
        "burst": "built-in",
        "max_queued": "default",
        "paused": "built-in",
    }
    assert (found["user_id"], found["stats"]["queued"]) == ("acme", 1)


def test_looking_with_an_old_file_does_not_publish_its_policies(
    run: Run, tasks: TaskQueue, config_file: Path
) -> None:
    with config_file.open("a") as file:
        file.write("users:\n  default: {rate: 3}\n")
    good(run("stats"))
    good(run("user", "set", "acme", "--weight", "2"))
    assert tasks.get_policy("acme") == UserPolicy(weight=2.0)


def test_user_show_of_an_unknown_user_shows_the_default_and_says_so(
    run: Run, tasks: TaskQueue, config_file: Path
) -> None:
    with config_file.open("a") as file:
        file.write("users:\n  default: {rate: 3}\n")
    publish(config_file)
    shown = good(run("user", "show", "nobody"))
    assert "This user has no tasks." in shown
    assert lines_of(shown)["rate"] == ["3", "tasks", "a", "second", "default"]
    assert data(run("user", "show", "nobody", "--json"))["stats"] is None
    assert tasks.users() == []


def test_user_set_changes_what_is_given_and_leaves_the_rest(run: Run, tasks: TaskQueue) -> None:
    shown = good(
        run(
            "user", "set", "acme", "--weight", "2.5", "--max-concurrency", "7", "--rate", "5", "--burst", "10"
        )
    )
    assert lines_of(shown)["burst"] == ["10", "live"]
    expected = UserPolicy(weight=2.5, max_concurrency=7, rate=5.0, burst=10)
    assert tasks.get_policy("acme") == expected
    good(run("user", "set", "acme", "--max-queued", "100", "--max-concurrency", "33%"))
    changed = tasks.get_policy("acme")
    assert (changed.max_queued, changed.max_concurrency, changed.weight, changed.rate) == (100, "33%", 2.5, 5)


def test_none_lifts_a_limit_and_the_burst_goes_with_its_rate(run: Run, tasks: TaskQueue) -> None:
    tasks.set_policy("acme", UserPolicy(rate=5, burst=10, max_queued=3, max_concurrency=2))
    shown = good(run("user", "set", "acme", "--rate", "none"))
    assert lines_of(shown)["rate"] == lines_of(shown)["burst"] == ["none", "live"]
    good(run("user", "set", "acme", "--max-queued", "none", "--max-concurrency", "none"))
    assert tasks.get_policy("acme") == UserPolicy()
    good(run("user", "set", "acme", "--rate", "5", "--burst", "10"))
    good(run("user", "set", "acme", "--burst", "none"))
    assert tasks.get_policy("acme") == UserPolicy(rate=5)


def test_user_clear_goes_back_to_the_configuration(run: Run, tasks: TaskQueue) -> None:
    tasks.set_policy("acme", UserPolicy(weight=5))
    tasks.pause_user("acme")
    shown = good(run("user", "clear", "acme"))
    assert "user acme (who has no tasks) has nothing set any more" in shown
    assert tasks.get_policy("acme") == UserPolicy()


def test_a_user_is_paused_and_resumed(run: Run, tasks: TaskQueue) -> None:
    push(tasks, "acme", "1")
    assert "user acme is paused" in good(run("user", "pause", "acme"))
    assert tasks.pop("w") is None
    assert lines_of(good(run("user", "show", "acme")))["paused"] == ["yes", "live"]
    assert "user acme is not paused" in good(run("user", "resume", "acme"))
    assert popped(tasks).task_id == "1"


def test_pausing_a_user_without_tasks_says_that_it_has_none(run: Run, tasks: TaskQueue) -> None:
    assert "user typo (who has no tasks) is paused" in good(run("user", "pause", "typo"))
    assert tasks.get_policy("typo").paused


@pytest.mark.parametrize("command", [["set", "--weight", "2"], ["show"], ["clear"], ["pause"], ["resume"]])
def test_a_user_called_default_is_told_apart_from_the_default_policy(run: Run, command: list[str]) -> None:
    told = "This is the user called 'default', nobody else"
    assert told in good(run("user", *command, "default"))
    assert told not in good(run("user", *command, "acme"))


def test_the_whole_queue_is_paused_and_resumed(run: Run, tasks: TaskQueue, root: str) -> None:
    push(tasks, "acme", "1", "2")
    popped(tasks)
    assert good(run("pause")) == (
        f"{root} is paused: nothing starts, pushes are accepted; 1 running task will go on to the end\n"
    )
    assert tasks.pop("w") is None
    assert "The whole queue is paused, though" in good(run("user", "resume", "acme"))
    assert good(run("resume")) == f"{root} is not paused: 1 task queued, 1 user ready\n"
    assert popped(tasks).task_id == "2"


# --- why a task waits ---


def test_explain_tells_who_is_ahead_and_when_it_may_start(run: Run, tasks: TaskQueue) -> None:
    push(tasks, "acme", *"123456789", group="reports")
    push(tasks, "acme", "y", "z", group="mails")
    push(tasks, "globex", "1", "2")
    tasks.finish_batch(tasks.pop_batch("w", 2))
    shown = good(run("explain", "acme", "9"))
    assert shown.startswith("task 9 of user acme: QUEUED\n")
    told = lines_of(shown)
    assert told["ahead"] == ["8", "tasks:", "1,", "2,", "3,", "4,", "5,", "…"]
    assert told["group"] == ["reports"]
    assert told["users"] == ["ahead", "0", "of", "2", "ready"]
    assert told["may"][0] == "start"
    for absent in ("limit", "until", "waits"):
        assert absent not in told
    assert lines_of(good(run("explain", "acme", "z")))["group"] == [
        "mails,",
        "with",
        "1",
        "group",
        "before",
        "it",
    ]
    found = data(run("explain", "acme", "9", "--json"))
    assert (found["state"], found["ahead"], found["group"]) == ("QUEUED", 8, "reports")
    assert datetime.fromisoformat(found["estimated_start"]).tzinfo is not None


def test_explain_tells_what_holds_a_task_back_and_until_when(run: Run, tasks: TaskQueue) -> None:
    tasks.set_policy("acme", UserPolicy(rate=0.001))
    push(tasks, "acme", "1", "2")
    tasks.finish(popped(tasks))
    told = lines_of(good(run("explain", "acme", "2")))
    assert told["limit"][0] == "rate"
    assert told["until"][-5:-3] == ["in", "16"]  # minutes
    tasks.pause_user("acme")
    told = lines_of(good(run("explain", "acme", "2")))
    assert "fairque user resume" in " ".join(told["limit"])
    assert "may" not in told
    tasks.pause()
    assert "fairque resume" in " ".join(lines_of(good(run("explain", "acme", "2")))["limit"])


def test_explain_tells_when_a_delayed_task_is_due(run: Run, tasks: TaskQueue) -> None:
    push(tasks, "acme", "late", delay=3600)
    shown = good(run("explain", "acme", "late"))
    assert "SCHEDULED" in shown
    assert "in 59 min" in shown or "in 1 h" in shown


# --- any id, any value ---


def test_any_id_is_shown_as_it_is_and_moves_no_cursor(run: Run, tasks: TaskQueue) -> None:
    hostile = [HOSTILE, "[/]x", "z\x1b[2J", "-dash", "名前"]
    for user in hostile:
        push(tasks, user, f"{user}1", user)
    plain = {user: user.replace("\n", "�").replace("\x1b", "�") for user in hostile}
    screens = [good(run("users")), good(run("stats"))]
    assert all(shown in screen for shown in plain.values() for screen in screens)
    for user in hostile:
        good(run("user", "set", "--weight", "3", "--", user))
        good(run("user", "pause", "--", user))
        assert tasks.get_policy(user) == UserPolicy(weight=3, paused=True)
        one = [good(run("user", "show", "--", user)), good(run("explain", "--", user, user))]
        one += [good(run("user", action, "--", user)) for action in ("resume", "clear")]
        assert all(plain[user] in screen for screen in one)
        screens += one
        assert data(run("explain", "--json", "--", user, user))["ahead_ids"] == [f"{user}1"]
    assert not any("\x1b" in screen for screen in screens)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("user", "set", "acme"), "nothing to change, give at least one of --weight, --max-concurrency"),
        (("user", "set", "acme", "--weight", "0"), "--weight 0: must be a number above 0"),
        (("user", "set", "acme", "--weight", "nan"), "--weight nan: must be a number above 0"),
        (("user", "set", "acme", "--weight", "none"), "--weight none: must be a number above 0"),
        (("user", "set", "acme", "--weight", "heavy\n\x1b[2J"), "--weight heavy��[2J: must be"),
        (
            ("user", "set", "acme", "--max-concurrency", "150%"),
            "--max-concurrency 150%: must be a whole number",
        ),
        (("user", "set", "acme", "--max-concurrency", "1.5"), "a share from 1% to 100%, or none"),
        (("user", "set", "acme", "--rate", "-1"), "--rate -1: must be a number of tasks a second above 0"),
        (
            ("user", "set", "acme", "--rate", "3", "--burst", "0"),
            "--burst 0: must be a whole number from 1 on",
        ),
        (("user", "set", "acme", "--burst", "3"), "--burst 3: has no effect without a rate"),
        (
            ("user", "set", "acme", "--rate", "none", "--burst", "3"),
            "--burst 3: has no effect without a rate",
        ),
        (("user", "set", "acme", "--max-queued", "some"), "--max-queued some: must be a whole number"),
        (("user", "show", ""), "user_id is empty"),
        (("user", "pause", "x" * 257), "the limit is 256"),
        (("users", "--limit", "0"), "limit must be a whole number from 1 to 1,000, not 0"),
        (("users", "--offset", "-1"), "offset must be a whole number from 0"),
        (("users", "--offset", "9" * 30), "offset must be a whole number from 0"),
        (("explain", "acme", "gone"), "task 'gone' of user 'acme' is not known"),
    ],
)
def test_a_bad_value_is_one_clear_line_and_changes_nothing(
    run: Run, tasks: TaskQueue, arguments: tuple[str, ...], message: str
) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert "\x1b" not in done.err
    assert tasks.users() == []


def test_help_teaches_each_command_with_an_example(run: Run) -> None:
    overview = run("--help").out
    for command in ("users", "user", "explain", "pause", "resume"):
        assert f"\n  {command} " in overview
        if command != "user":
            assert f"Example: fairque {command}" in run(command, "--help").out
    group = run("user", "--help").out
    for command in ("show", "set", "clear", "pause", "resume"):
        assert f"\n  {command} " in group
        assert f"Example: fairque user {command}" in run("user", command, "--help").out


def test_the_commands_work_as_processes_of_their_own(config_file: Path, tasks: TaskQueue) -> None:
    def process(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fairque", *arguments, "--config", str(config_file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = process("user", "set", HOSTILE, "--weight", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert tasks.get_policy(HOSTILE).weight == 2
    assert [user["weight"] for user in json.loads(process("users", "--json").stdout)["users"]] == [2.0]
    refused = process("user", "set", HOSTILE, "--weight", "-2")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "fairque: --weight -2: must be a number above 0\n"


@pytest.mark.parametrize(
    ("duration", "shown"),
    [
        (None, "-"),
        (0.0005, "0.5 ms"),
        (0.25, "250 ms"),
        (1, "1 s"),
        (59.4, "59.4 s"),
        (63, "1 min 3 s"),
        (3600 * 5 + 61, "5 h 1 min"),
        (86400 * 3 + 3600, "3 d 1 h"),
    ],
)
def test_durations_are_shown_in_the_unit_that_suits_them(duration: float | None, shown: str) -> None:
    assert seconds(duration) == shown
