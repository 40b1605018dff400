"""`fairque schedule` and `fairque scheduler`, against a real server."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fairque import FairQueueConfig, Task, TaskQueue, TaskScheduler, UserPolicy
from tests.support import worker_tasks
from tests.support.actions import popped
from tests.support.command_line import Done, Run, good
from tests.support.prepared import Prepared
from tests.support.processes import Command
from tests.support.waiting import until

HOSTILE = "a:b\n*[bold]"
REPORT = ("0 9 * * MON-FRI", "myapp:report", "--user", "acme", "--id", "report")


@pytest.fixture
def schedules(config: FairQueueConfig) -> Iterator[TaskScheduler]:
    with TaskScheduler(config) as scheduler:
        yield scheduler


@pytest.fixture
def scheduler(
    config_file: Path, prepared: Prepared, started: list[Command], tmp_path: Path
) -> Callable[..., Command]:
    """Starts `fairque scheduler`."""

    def start(*arguments: str, file: Path = config_file) -> Command:
        log = tmp_path / f"log-{len(started)}"
        where = ("--config", str(file))
        started.append(Command(prepared, log, "scheduler", *arguments, *where, modules=tmp_path))
        return started[-1]

    return start


def data(done: Done) -> Any:
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def cells(line: str) -> list[str]:
    """Columns are apart by two blanks or more."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


# --- adding ---


def test_a_schedule_that_is_added_is_told_listed_and_shown_in_its_own_time(run: Run) -> None:
    added = good(
        run(
            *("schedule", "add", *REPORT, "--timezone", "Asia/Tokyo", "--arg", '"daily"', "--arg", "3"),
            *("--kwarg", 'format="pdf"', "--jitter", "30", "--metadata", '{"owner": "billing"}'),
            *("--catch-up", "all", "--overlap", "skip"),
        )
    )
    assert added.startswith("schedule report of user acme is active: next ")
    assert "09:00:00 JST, in " in added
    header, row = good(run("schedule", "list")).splitlines()
    assert cells(header) == ["user", "id", "when", "next", "last", "fired", "state"]
    user, name, when, following, last, fired, state = cells(row)
    assert (user, name, when) == ("acme", "report", "0 9 * * MON-FRI Asia/Tokyo")
    assert following.endswith("09:00:00 JST")
    assert (last, fired, state) == ("-", "0", "active")
    shown = good(run("schedule", "show", "acme", "report"))
    for part in (
        'myapp:report("daily", 3, format="pdf")',
        "less than 30 s late",
        "all of missed times, at most the last 100",
        "skip while the last task has not ended",
        '{"owner": "billing"}',
        "0 fired, 0 skipped, 0 failed",
        "by a call, or fairque schedule",
    ):
        assert part in shown
    assert shown.count("09:00:00 JST") == 5


def test_machines_get_times_in_utc(run: Run) -> None:
    added = data(run("schedule", "add", *REPORT, "--timezone", "Asia/Tokyo", "--arg", '"daily"', "--json"))
    assert added["next_fire_time"].endswith("T00:00:00Z")
    assert (added["user_id"], added["schedule_id"], added["state"]) == ("acme", "report", "active")
    assert (added["task"], added["payload"]) == ("myapp:report", {"args": ["daily"], "kwargs": {}})
    assert (added["cron"], added["timezone"], added["origin"]) == ("0 9 * * MON-FRI", "Asia/Tokyo", "call")
    assert data(run("schedule", "list", "--json")) == {"schedules": [added], "has_more": False}
    shown = data(run("schedule", "show", "acme", "report", "--json"))
    times = shown.pop("next_fire_times")
    assert shown == added
    following = data(run("schedule", "next", "acme", "report", "-n", "5", "--json"))
    assert following["next_fire_times"] == times
    assert times[0] == added["next_fire_time"]


def test_every_and_at_stand_in_the_place_of_the_expression(run: Run) -> None:
    options = ("--user", "acme", "--json")
    repeated = data(run("schedule", "add", "myapp:sync", "--every", "0.5", *options))
    assert (repeated["every"], repeated["cron"], repeated["task"]) == (0.5, None, "myapp:sync")
    once = data(run("schedule", "add", "myapp:sync", "--at", "2040-01-01T09:00:00+09:00", *options))
    assert (once["at"], once["next_fire_time"]) == ("2040-01-01T00:00:00Z", "2040-01-01T00:00:00Z")
    shown = good(run("schedule", "list"))
    assert "every 0.5 s" in shown
    assert "once" in shown


def test_times_without_an_offset_are_meant_in_the_time_zone(run: Run) -> None:
    zone = ("--timezone", "Asia/Tokyo", "--user", "acme", "--json")
    once = data(run("schedule", "add", "myapp:sync", "--at", "2040-01-01T09:00", *zone))
    assert once["at"] == "2040-01-01T00:00:00Z"
    window = ("--start", "2040-01-01T09:00", "--end", "2041-01-01T00:00Z")
    daily = data(run("schedule", "add", "@daily", "myapp:sync", *window, *zone))
    assert (daily["start"], daily["end"]) == ("2040-01-01T00:00:00Z", "2041-01-01T00:00:00Z")
    assert daily["next_fire_time"] == "2040-01-01T15:00:00Z"


def test_a_handler_s_task_has_a_payload_and_no_function(run: Run, schedules: TaskScheduler) -> None:
    good(run("schedule", "add", "@daily", "--payload", '{"n": 1}', "--user", "acme", "--id", "handled"))
    task = schedules.get_schedule("acme", "handled").task
    assert (task.function, task.payload) == (None, {"n": 1})
    assert 'for a handler, payload {"n": 1}' in good(run("schedule", "show", "acme", "handled"))


def test_what_its_tasks_are_like_can_be_said(run: Run, schedules: TaskScheduler) -> None:
    options = ("--priority", "5", "--max-retries", "7", "--timeout", "60", "--group", "reports")
    good(run("schedule", "add", *REPORT, *options))
    task = schedules.get_schedule("acme", "report").task
    assert (task.priority, task.max_retries, task.timeout, task.group) == (5, 7, 60.0, "reports")


def test_the_same_may_be_added_again_and_another_one_only_in_its_place(run: Run) -> None:
    assert good(run("schedule", "add", *REPORT)) == good(run("schedule", "add", *REPORT))
    other = ("schedule", "add", "@hourly", *REPORT[1:])
    refused = run(*other)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "fairque: user 'acme' has another schedule 'report': --replace puts this one in its place\n"
    )
    good(run(*other, "--replace"))
    assert "@hourly" in good(run("schedule", "list"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say when: a cron expression"),
        (("0 9 * * *",), "TASK is missing"),
        (("0 9 * * *", "m:f", "daily"), "takes EXPR and TASK, not '0 9 * * *' 'm:f' 'daily'"),
        (("0 9 * * *", "m:f", "--every", "5"), "takes TASK alone"),
        (("m:f", "--every", "5", "--at", "2040-01-01T00:00Z"), "give one of a cron expression, every and at"),
        (("m:f", "--every", "0"), "every must be from 100"),
        (("m:f", "--at", "tomorrow"), "--at tomorrow: must be a time such as 2030-01-31T09:00"),
        (("m:f", "--at", "2001-01-01T00:00Z"), "would never fire"),
        (("m:f", "--every", "5", "--timezone", "Asia/Tokyo"), "timezone 'Asia/Tokyo' has no meaning"),
        (("0 9 31 2 *", "m:f"), "never fires"),
        (("61 * * * *", "m:f"), "minute"),
        (("@daily", "m:f", "--timezone", "Mars/Base"), "timezone 'Mars/Base' is unknown"),
        (("@daily", "m:f", "--arg", "daily"), "--arg: daily is not JSON"),
        (("@daily", "m:f", "--kwarg", "3"), "--kwarg 3: must be name=JSON"),
        (("@daily", "m:f", "--kwarg", "n=x"), "--kwarg n: x is not JSON"),
        (("@daily", "m:f", "--payload", "3"), "--payload is for a handler"),
        (("@daily", "--payload", "3", "--arg", "3"), "--arg and --kwarg are for a function"),
        (("@daily", "m:f", "--metadata", "[1]"), "metadata must be a mapping"),
        (("@daily", "m:f", "--catch-up", "some"), "catch_up must be one of latest, all, none, not 'some'"),
        (("@daily", "m:f", "--overlap", "no"), "overlap must be one of allow, skip"),
        (("@daily", "m:f", "--priority", "9"), "priority"),
        (("@daily", "m:f", "--id", "x" * 231), "schedule_id has 231 characters"),
    ],
)
def test_what_a_person_got_wrong_is_one_clear_line_and_adds_nothing(
    run: Run, schedules: TaskScheduler, arguments: tuple[str, ...], message: str
) -> None:
    done = run("schedule", "add", "--user", "acme", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.startswith("fairque: ")
    assert done.err.count("\n") == 1
    assert schedules.list_schedules() == []


# --- looking ---


def test_a_list_may_be_of_one_user_of_paused_ones_or_of_the_first_ones(run: Run) -> None:
    assert good(run("schedule", "list")) == "There are no such schedules: fairque schedule add makes one.\n"
    for user, name, more in (("a", "1", ()), ("a", "2", ("--paused",)), ("b", "1", ())):
        good(run("schedule", "add", "@daily", "m:f", "--user", user, "--id", name, *more))

    def listed(*options: str) -> list[tuple[str, str]]:
        found = data(run("schedule", "list", *options, "--json"))["schedules"]
        return [(one["user_id"], one["schedule_id"]) for one in found]

    assert listed() == [("a", "1"), ("a", "2"), ("b", "1")]
    assert listed("--user", "a") == [("a", "1"), ("a", "2")]
    assert listed("--paused") == [("a", "2")]
    assert listed("--active") == [("a", "1"), ("b", "1")]
    assert listed("--limit", "2") == [("a", "1"), ("a", "2")]
    assert data(run("schedule", "list", "--limit", "2", "--json"))["has_more"] is True
    assert "… and more than 2 schedules: fairque schedule list --limit 20" in good(
        run("schedule", "list", "--limit", "2")
    )
    assert "more" not in good(run("schedule", "list", "--limit", "3"))


def test_ids_are_any_text_and_do_no_harm(run: Run) -> None:
    good(run("schedule", "add", "@daily", "m:f", "--user", HOSTILE, "--id", HOSTILE))
    shown = good(run("schedule", "list"))
    assert len(shown.splitlines()) == 2
    assert shown.count("a:b�*[bold]") == 2
    assert data(run("schedule", "show", HOSTILE, HOSTILE, "--json"))["schedule_id"] == HOSTILE
    good(run("schedule", "remove", HOSTILE, HOSTILE))


def test_a_narrow_terminal_loses_columns_and_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    good(run("schedule", "add", "0 9 * * MON-FRI", "m:f", "--user", "acme", "--timezone", "Asia/Tokyo"))
    monkeypatch.setenv("TERM", "dumb")  # 80 columns, no colours
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = good(run("schedule", "list"))
    assert max(map(len, shown.splitlines()[:-1])) <= 80
    assert "…" not in shown
    assert "09:00:00 JST" in shown
    assert "No room for when, fired, last: widen the terminal, or see --json." in " ".join(shown.split())


def test_states_tell_what_has_ended_and_what_cannot_push(
    run: Run, config: FairQueueConfig, schedules: TaskScheduler
) -> None:
    with TaskQueue(config) as queue:
        queue.set_policy("full", UserPolicy(max_queued=1))
        queue.push(Task.create(), user_id="full")
    schedules.add_schedule("* * * * * *", Task.create(), user_id="full", schedule_id="failing")
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    schedules.add_schedule(task=worker_tasks.add(1, 2), at=soon, user_id="acme", schedule_id="ended")
    schedules.start()
    until(lambda: schedules.get_schedule("full", "failing").failures, "a failure", every=0.05)
    until(lambda: schedules.get_schedule("acme", "ended").fired, "the only time", every=0.05)
    schedules.stop()
    rows = {line.split()[1]: cells(line) for line in good(run("schedule", "list")).splitlines()[1:]}
    assert rows["failing"][-1] == "failing"
    assert rows["ended"][3:] == ["-", rows["ended"][4], "1", "ended"]
    shown = good(run("schedule", "show", "full", "failing"))
    assert "schedule failing of user full: failing" in shown
    assert "max_queued" in shown
    assert "last task" in good(run("schedule", "show", "acme", "ended"))
    assert "it does not fire: it is ended" in good(run("schedule", "next", "acme", "ended"))


def test_one_that_cannot_be_read_is_shown_as_such(
    run: Run, raw: Any, root: str, schedules: TaskScheduler
) -> None:
    schedules.add_schedule("@daily", Task.create(), user_id="acme", schedule_id="x")
    raw.hset(f"{root}:schedule:acme:x", "definition", "{")
    assert "unreadable" in good(run("schedule", "list"))
    assert "cannot be read" in good(run("schedule", "show", "acme", "x"))
    assert data(run("schedule", "show", "acme", "x", "--json"))["state"] == "unreadable"


# --- changing ---


def test_a_schedule_is_paused_triggered_resumed_and_removed(run: Run, config: FairQueueConfig) -> None:
    good(run("schedule", "add", *REPORT))
    name = ("acme", "report")
    assert good(run("schedule", "pause", *name)) == (
        "schedule report of user acme is paused: fairque schedule resume lets it fire\n"
    )
    assert "paused" in good(run("schedule", "list"))
    pushed = data(run("schedule", "trigger", *name, "--json"))
    assert pushed["task_id"].startswith("report@")
    assert "has pushed task report@" in good(run("schedule", "trigger", *name))
    assert "is active: next " in good(run("schedule", "resume", *name))
    assert "is removed; the tasks that it has pushed stay" in good(run("schedule", "remove", *name))
    with TaskQueue(config) as queue:
        assert queue.stats().queued == 2
        assert popped(queue).schedule_id == "report"
    for verb in ("show", "next", "pause", "resume", "trigger", "remove"):
        done = run("schedule", verb, *name)
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            "fairque: user 'acme' has no schedule 'report': "
            "fairque schedule list shows those that there are\n"
        )


# --- expressions ---


def test_an_expression_is_tried_out_without_a_server(run: Run, config_file: Path) -> None:
    config_file.unlink()  # it is not even read
    trial = ("schedule", "next", "--expr", "0 9 1 1 *", "--timezone", "Asia/Tokyo")
    lines = good(run(*trial, "-n", "3")).splitlines()
    assert [line[4:23] for line in lines] == ["-01-01 09:00:00 JST"] * 3
    found = data(run(*trial, "-n", "1", "--json"))
    assert found["next_fire_times"][0].endswith("-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give USER and ID, or --expr alone"),
        (("acme",), "give USER and ID, or --expr alone"),
        (("acme", "x", "--expr", "@daily"), "give USER and ID, or --expr alone"),
        (("--expr", "nonsense"), "cron 'nonsense' has 1 fields"),
        (("--expr", "@daily", "-n", "0"), "n must be a whole number from 1"),
        (("--expr", "@daily", "--timezone", "Berlin"), "did you mean Europe/Berlin?"),
    ],
)
def test_a_wrong_trial_is_one_clear_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    done = run("schedule", "next", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("verb", ["add", "list", "show", "pause", "resume", "remove", "trigger", "next"])
def test_help_teaches_each_command_by_an_example(run: Run, verb: str) -> None:
    assert f"Example: fairque schedule {verb}" in " ".join(good(run("schedule", verb, "--help")).split())


@pytest.mark.parametrize("verb", ["scheduler", "dev"])
def test_help_teaches_the_commands_that_run_for_long(run: Run, verb: str) -> None:
    assert f"Example: fairque {verb} myapp.tasks" in " ".join(good(run(verb, "--help")).split())


# --- fairque scheduler ---

DECLARED = """
from fairque import task

@task(cron="* * * * * *", user_id="acme", name="declared:tick")
def tick(): ...
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_scheduler_fires_what_modules_declare_until_a_signal_ends_it_well(
    scheduler: Callable[..., Command], config: FairQueueConfig, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "declared.py").write_text(DECLARED)
    one = scheduler("declared")
    with TaskQueue(config) as queue:
        until(lambda: queue.stats().queued, "a task", every=0.05)
        assert popped(queue).schedule_id == "declared:tick"
    one.signal(number)
    assert one.ends(within=10) == 0
    assert re.search(r"scheduler \S+ has ended", one.log)
    assert "Traceback" not in one.log


def test_the_scheduler_ends_at_a_signal_also_before_it_has_begun(
    scheduler: Callable[..., Command], tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    (tmp_path / "slow.py").write_text(
        f"import pathlib, time\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(60)"
    )
    one = scheduler("slow")
    until(ready.exists, "the import", every=0.05)
    one.signal(signal.SIGTERM)
    assert one.ends(within=10) == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "@task(cron='@daily', user_id='acme')\ndef report(kind): ...",
            "bad:report cannot be scheduled by @task(cron=…)",
        ),
        ("@task(cron='61 * * * *', user_id='acme')\ndef report(): ...", "minute"),
        ("@task(cron='@daily')\ndef report(): ...", "the task has no user"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_declared_schedule_that_is_wrong_ends_the_scheduler_with_one_clear_line(
    scheduler: Callable[..., Command], tmp_path: Path, source: str, message: str
) -> None:
    (tmp_path / "bad.py").write_text(f"from fairque import task\n{source}\n")
    one = scheduler("bad")
    assert one.ends(within=20) == 2
    assert message in one.log
    assert "Traceback" not in one.log


def test_a_server_that_is_not_there_at_the_start_ends_the_scheduler(
    scheduler: Callable[..., Command], tmp_path: Path
) -> None:
    file = tmp_path / "nowhere.yaml"
    file.write_text("redis: {port: 1, retry_window: 0.1}\n")
    one = scheduler(file=file)
    assert one.ends(within=20) == 2
    assert "the server cannot be reached" in one.log


def test_a_scheduler_s_file_is_laid_over_the_common_one_and_its_schedules_are_there(
    run: Run, scheduler: Callable[..., Command], config_file: Path, tmp_path: Path, schedules: TaskScheduler
) -> None:
    config_file.rename(tmp_path / "common.yaml")
    file = tmp_path / "nightly.yaml"
    file.write_text(
        "scheduler:\n  schedules:\n    sync: {user_id: acme, task: 'm:f', every: 300, overlap: skip}\n"
    )
    one = scheduler(file=file)
    until(schedules.list_schedules, "the schedule", every=0.05)
    one.signal(signal.SIGTERM)
    assert one.ends(within=10) == 0
    file.rename(config_file)  # which `run` gives to the command
    (found,) = data(run("schedule", "list", "--json"))["schedules"]
    assert (found["schedule_id"], found["every"], found["origin"]) == ("sync", 300.0, "config")
    wrong = run("worker", "m")
    assert (wrong.code, "worker: this section is missing" in wrong.err) == (2, True)
