from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from fairque import FairQueueConfig, TaskQueue, TaskState, __version__
from tests.support import worker_tasks as tasks
from tests.support.prepared import ROOT, Prepared

TASKS = "tests.support.worker_tasks"

Run: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"


@pytest.fixture
def run(prepared: Prepared) -> Run:
    return functools.partial(prepared.run, "fairque")


@pytest.fixture
def run_anew() -> Run:
    """The same by a new interpreter, as a shell does: once for each command."""

    def run_it(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fairque", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run_it


def test_the_worker_command_runs_what_the_modules_define(
    run_anew: Run, config: FairQueueConfig, config_file: Path
) -> None:
    with TaskQueue(config) as queue:
        handle = queue.push(tasks.add(2, 3), user_id="acme")
        done = run_anew("worker", TASKS, "--config", str(config_file), "--concurrency", "3", "--burst")
        assert (done.returncode, done.stdout) == (0, "")
        assert "3 at once" in done.stderr
        assert handle.result(timeout=1) == 5


def test_a_worker_of_a_paused_queue_says_so(run: Run, config: FairQueueConfig, config_file: Path) -> None:
    with TaskQueue(config) as queue:
        queue.pause()
        handle = queue.push(tasks.add(2, 3), user_id="acme")
        done = run("worker", TASKS, "--config", str(config_file), "--burst")
        assert done.returncode == 0
        assert "the queue is paused and starts nothing: fairque resume lets it go on" in done.stderr
        assert handle.state() is TaskState.QUEUED


def test_the_queue_option_names_the_queue(run: Run, config: FairQueueConfig, config_file: Path) -> None:
    named = config.model_copy(update={"queue": config.queue.model_copy(update={"name": "mail"})})
    with TaskQueue(named) as queue:
        handle = queue.push(tasks.add(2, 3), user_id="acme")
        assert run("worker", TASKS, "--config", str(config_file), "--burst").returncode == 0
        assert handle.state() is TaskState.QUEUED
        run("worker", TASKS, "--config", str(config_file), "--queue", "mail", "--burst")
        assert handle.state() is TaskState.FINISHED


def test_a_worker_file_is_laid_over_the_common_one_beside_it(
    run: Run, config: FairQueueConfig, config_file: Path, tmp_path: Path
) -> None:
    config_file.rename(tmp_path / "common.yaml")
    (tmp_path / "mine.yaml").write_text("worker:\n  assigned_users: [mine]\n  concurrency: 4\n")
    with TaskQueue(config) as queue:
        mine = queue.push(tasks.add(1, 1), user_id="mine")
        other = queue.push(tasks.add(1, 1), user_id="other")
        done = run("worker", TASKS, "--config", str(tmp_path / "mine.yaml"), "--burst")
        assert "worker mine serves" in done.stderr
        assert (mine.state(), other.state()) == (TaskState.FINISHED, TaskState.QUEUED)


def test_stats_tell_what_is_where_for_people_and_for_machines(
    run: Run, config: FairQueueConfig, config_file: Path
) -> None:
    with TaskQueue(config) as queue:
        queue.push_batch([tasks.add(i, 1) for i in range(3)], user_id="acme")
        queue.push(tasks.add(1, 1), user_id="globex", delay=60)
    found = json.loads(run("stats", "--config", str(config_file), "--json").stdout)
    assert (found["queued"], found["scheduled"], found["started"]) == (3, 1, 0)
    assert found["totals"] == {"pushed": 4}
    assert {user["user_id"]: user["queued"] for user in found["top_users"]} == {"acme": 3, "globex": 0}
    shown = run("stats", "--config", str(config_file)).stdout
    assert "3 queued" in shown
    assert "acme" in shown


def test_the_version_is_told(run_anew: Run) -> None:
    assert run_anew("--version").stdout == f"fairque {__version__}\n"


def test_help_teaches_each_command(run: Run) -> None:
    overview = run("--help").stdout
    for command in ("worker", "stats", "demo"):
        assert command in overview
    assert "Example: fairque worker" in run("worker", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stats", "--url", "http://localhost"), "url must begin with redis://"),
        (("stats", "--url", "redis://127.0.0.1:1"), "the server cannot be reached"),
        (("worker", TASKS, "--url", "redis://127.0.0.1:1"), "the server cannot be reached"),
        (("worker", "no_such_module", "--url", "embedded://"), "there is no module 'no_such_module'"),
        (("worker", "tests/support/worker_tasks.py"), "is a file: give the module's name"),
        (("stats", "--config", "nowhere.yaml"), "nowhere.yaml"),
        (("worker", TASKS, "--concurrency", "0", "--url", "embedded://"), "concurrency"),
        (("worker", TASKS, "--log-level", "loud"), "--log-level loud"),
        (
            ("stats", "--queue", "a{b}", "--url", "embedded://"),
            "--queue a{b}: a queue's name is made of letters, digits, _ . and -",
        ),
    ],
)
def test_what_a_person_got_wrong_is_one_clear_line(
    run: Run, arguments: tuple[str, ...], message: str
) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_bad_yaml_is_one_clear_line_with_the_file_and_the_place(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("redis:\n  port: [1\n")
    done = run("stats", "--config", str(file))
    assert done.returncode == 2
    assert "broken.yaml" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\nundefined_name\n", "NameError"),
        ("x = 1\ndef broken(:\n", "SyntaxError"),
        ("import sys\nsys.exit('not today')\n", "SystemExit: not today"),
    ],
)
def test_a_module_that_fails_to_import_is_one_clear_line_with_the_place(
    run: Run, tmp_path: Path, source: str, message: str
) -> None:
    (tmp_path / "broken_tasks.py").write_text(source)
    done = run("worker", "broken_tasks", "--url", "embedded://", cwd=tmp_path)
    assert done.returncode == 2
    assert "broken_tasks.py:2" in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_stats_show_any_user_id_as_it_is(run_anew: Run, config: FairQueueConfig, config_file: Path) -> None:
    with TaskQueue(config) as queue:
        for user in ("[/]x", "[red]y", "z\x1b[2J"):
            queue.push(tasks.add(1, 1), user_id=user)
    done = run_anew("stats", "--config", str(config_file))
    assert done.returncode == 0
    assert "[/]x" in done.stdout
    assert "[red]y" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("group", [(), ("user",), ("schedule",)])
def test_the_list_of_commands_says_of_each_what_it_does_in_a_whole_line(
    run: Run, group: tuple[str, ...]
) -> None:
    listed = run(*group, "--help").stdout.partition("Commands:")[2].strip().splitlines()
    assert len(listed) >= 5
    for line in listed:
        assert line.endswith(".")
        assert not line.endswith("...")


def test_acl_prints_the_rule_for_one_queue_without_asking_the_server(run: Run, run_anew: Run) -> None:
    done = run_anew("acl", "--user", "billing", "--queue", "mail", "--url", "redis://127.0.0.1:1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ACL SETUSER billing reset on >PASSWORD ~fq:{mail:* &fq:{mail:* ")
    assert run("acl", "--user", "two words").returncode == 2
