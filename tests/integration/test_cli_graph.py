"""`fairque graph`, against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fairque import FairQueueConfig, Task, TaskQueue
from tests.support.actions import popped
from tests.support.command_line import Run, good

HOSTILE = ["a:b\n*[bold]", 'z\x1b[2J"]; click', "-dash", "%%名前%2B", "<b>`x`</b>\u202e"]


@pytest.fixture
def run(run: Run) -> Run:
    """Runs `fairque graph`."""
    return lambda *arguments: run("graph", *arguments)


@pytest.fixture
def tasks(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


def link(queue: TaskQueue, links: dict[str, list[str]], user: str = "u") -> None:
    """Push tasks in one batch: each id with what it depends on."""
    queue.push_batch(
        [Task.create(task_id=name, depends_on=before) for name, before in links.items()], user_id=user
    )


def diamond(queue: TaskQueue) -> None:
    """a, then b and c, then d; a has run and b is running."""
    link(queue, {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]})
    queue.finish(popped(queue))
    popped(queue)


# --- the tree ---


def test_the_tree_shows_each_task_below_its_dependencies_and_repeats_none(run: Run, tasks: TaskQueue) -> None:
    diamond(tasks)
    assert good(run("u", "c")).splitlines() == [
        "a  FINISHED",
        "├─ b  STARTED",
        "│  └─ d  DEFERRED",
        "└─ c  QUEUED  ← this one",
        "   └─ d  DEFERRED (see above)",
    ]


def test_the_tree_begins_with_every_task_that_depends_on_none(run: Run, tasks: TaskQueue) -> None:
    link(tasks, {"a": [], "b": [], "c": ["a", "b"]})
    assert good(run("u", "a")).splitlines() == [
        "a  QUEUED  ← this one",
        "└─ c  DEFERRED",
        "b  QUEUED",
        "└─ c  DEFERRED (see above)",
    ]


def test_a_task_that_hangs_together_with_none_is_a_tree_of_one(run: Run, tasks: TaskQueue) -> None:
    link(tasks, {"a": [], "b": []})
    assert good(run("u", "a")) == "a  QUEUED  ← this one\n"


def test_a_step_is_shown_by_its_name(run: Run, tasks: TaskQueue) -> None:
    first = Task.create(task_id="1", name="extract")
    handle = tasks.push(first >> Task.create(task_id="2", name="load\n!"), user_id="u")
    assert good(run("u", handle.steps[0].task_id)).splitlines() == [
        "extract  1  QUEUED  ← this one",
        "└─ load�!  2  DEFERRED",
    ]


def test_a_task_that_is_to_be_pushed_later_is_unknown(run: Run, tasks: TaskQueue) -> None:
    tasks.push(Task.create(task_id="b", depends_on=["a"]), user_id="u", missing="wait")
    assert good(run("u", "b")).splitlines() == ["a  UNKNOWN", "└─ b  DEFERRED  ← this one"]
    assert "UNKNOWN" in good(run("u", "b", "--mermaid"))


def test_a_limit_leaves_out_the_farthest_and_says_so(run: Run, tasks: TaskQueue) -> None:
    link(tasks, {f"{number}": [f"{number - 1}"] if number else [] for number in range(30)})
    done = run("u", "10", "--limit", "5")
    shown = {line.split()[-2] if "←" not in line else "10" for line in done.out.splitlines()}
    assert (done.code, shown) == (0, {"8", "9", "10", "11", "12"})
    assert done.err == "there are more than these 5 tasks: --limit shows more\n"
    assert len(good(run("u", "10", "--limit", "30")).splitlines()) == 30


def test_a_long_chain_is_no_page_of_blanks(run: Run, tasks: TaskQueue) -> None:
    link(tasks, {f"{number}": [f"{number - 1}"] if number else [] for number in range(200)})
    lines = good(run("u", "0")).splitlines()
    assert len(lines) == 200
    assert max(map(len, lines)) < 130
    assert lines[30] == f"{'   ' * 29}└─ 30  DEFERRED"
    assert lines[31] == f"{'   ' * 30}… 31: 31  DEFERRED"
    assert lines[199] == f"{'   ' * 30}… 199: 199  DEFERRED"


@pytest.mark.parametrize("limit", ["0", "-1", "100001"])
def test_a_limit_out_of_its_range_is_refused(run: Run, tasks: TaskQueue, limit: str) -> None:
    link(tasks, {"a": []})
    done = run("u", "a", "--limit", limit)
    assert (done.code, done.out) == (2, "")
    assert "limit must be a whole number from 1 to 100,000" in done.err


def test_a_task_that_is_not_known_is_an_error_in_one_line(run: Run, tasks: TaskQueue) -> None:
    link(tasks, {"a": []})
    for asked in (("u", "b"), ("other", "a")):
        for option in ([], ["--mermaid"], ["--json"]):
            done = run(*asked, *option)
            assert (done.code, done.out) == (2, "")
            assert done.err.startswith(f"fairque: task {asked[1]!r} of user {asked[0]!r} is not known")
            assert done.err.count("\n") == 1


# --- the diagram ---


def test_the_diagram_has_every_task_and_dotted_arrows_for_what_is_waited_for(
    run: Run, tasks: TaskQueue
) -> None:
    diamond(tasks)
    lines = [line.strip() for line in good(run("u", "a", "--mermaid")).splitlines()]
    assert lines[0] == "flowchart TD"
    ids = {title: f"t{place}" for place, title in enumerate("abcd")}
    assert set(lines[1:5]) == {
        f'{ids["a"]}["a<br/>FINISHED"]:::FINISHED',
        f'{ids["b"]}["b<br/>STARTED"]:::STARTED',
        f'{ids["c"]}["c<br/>QUEUED"]:::QUEUED',
        f'{ids["d"]}["d<br/>DEFERRED"]:::DEFERRED',
    }
    assert set(lines[5:9]) == {"t0 --> t1", "t0 --> t2", "t1 -.-> t3", "t2 -.-> t3"}
    assert sorted(line.split()[1] for line in lines[9:]) == ["DEFERRED", "FINISHED", "QUEUED", "STARTED"]


def test_a_label_of_the_diagram_is_no_list_or_other_markup(run: Run, tasks: TaskQueue) -> None:
    link(tasks, {"- one": [], "1. two": ["- one"], "0198-4a51.x": ["1. two"], "-": ["1. two"]})
    diagram = good(run("--mermaid", "--", "u", "- one"))
    assert '["#45; one<br/>' in diagram
    assert '["1#46; two<br/>' in diagram
    assert '["0198-4a51.x<br/>' in diagram
    assert '["-<br/>' in diagram


# --- any id, and machines ---


def test_any_id_is_shown_without_moving_the_cursor_or_leaving_its_label(run: Run, tasks: TaskQueue) -> None:
    user = HOSTILE[0]
    link(tasks, {name: HOSTILE[:place] for place, name in enumerate(HOSTILE)}, user)
    tree = good(run("--", user, HOSTILE[0]))
    assert all(sign.isprintable() or sign == "\n" for sign in tree)
    for name in HOSTILE:
        shown = "".join(sign if sign.isprintable() else "�" for sign in name)
        assert any(shown in line for line in tree.splitlines())
    diagram = good(run("--mermaid", "--", user, HOSTILE[0])).splitlines()
    labels = [line for line in diagram if "<br/>" in line]
    assert len(labels) == len(HOSTILE)
    for line in labels:
        label = line[line.index('["') + 2 : line.index("<br/>")]
        assert not set(label) & set('"[]<>`;*%\x1b\n') - {";"}
    assert len(diagram) == 1 + len(labels) + 10 + 2  # nothing has broken a line


def test_one_form_is_printed_at_a_time(run: Run) -> None:
    done = run("--json", "--mermaid", "acme", "1")
    assert done.code == 2
    assert "not both" in done.err


def test_all_of_it_is_one_json_object_for_machines(run: Run, tasks: TaskQueue) -> None:
    user = HOSTILE[0]
    link(tasks, {HOSTILE[1]: [], HOSTILE[2]: [HOSTILE[1]], HOSTILE[3]: [HOSTILE[2]]}, user)
    found: dict[str, Any] = json.loads(good(run("--json", "--", user, HOSTILE[2])))
    assert (found["user_id"], found["task_id"], found["is_whole"]) == (user, HOSTILE[2], True)
    assert next(iter(found["nodes"])) == HOSTILE[2]
    assert found["nodes"][HOSTILE[2]] == {
        "task_id": HOSTILE[2],
        "name": None,
        "state": "DEFERRED",
        "depends_on": [HOSTILE[1]],
        "waits_for": [HOSTILE[1]],
        "dependents": [HOSTILE[3]],
    }
    limited = json.loads(good(run("--json", "--limit", "2", "--", user, HOSTILE[2])))
    assert (limited["is_whole"], len(limited["nodes"])) == (False, 2)
