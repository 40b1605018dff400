"""Assembling scripts: includes go in once, and a mistake names its file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from fairque.core.exceptions import ScriptSourceError
from fairque.utils.script_loader import SCRIPTS, ScriptLoader

Write: TypeAlias = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, *lines: str) -> None:
        file = tmp_path / f"{name}.lua"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(lines), encoding="utf-8")

    return write


def include(name: str) -> str:
    return f'--- @include "includes/{name}"'


def test_an_include_goes_in_where_it_is_asked_for(tmp_path: Path, write: Write) -> None:
    write("main", "#!lua", include("a"), "return a")
    write("includes/a", "local a = 1")
    script = ScriptLoader(tmp_path).load("main")
    assert script.source == "#!lua\nlocal a = 1\nreturn a\n"
    assert script.sha == hashlib.sha1(script.source.encode()).hexdigest()
    assert script.name == "main"


def test_an_include_that_two_files_need_goes_in_once_before_both(tmp_path: Path, write: Write) -> None:
    write("main", include("left"), include("right"), "return left + right")
    write("includes/left", include("base"), "local left = base")
    write("includes/right", include("base"), "local right = base")
    write("includes/base", "local base = 1")
    lines = ScriptLoader(tmp_path).load("main").source.splitlines()
    assert lines == ["local base = 1", "local left = base", "local right = base", "return left + right"]


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScriptSourceError, match=r"nothing\.lua: cannot be read \(No such file") as caught:
        ScriptLoader(tmp_path).load("nothing")
    assert caught.value.file == "nothing.lua"


def test_a_missing_include_is_named_with_who_asked(tmp_path: Path, write: Write) -> None:
    write("main", include("a"))
    write("includes/a", include("gone"))
    with pytest.raises(ScriptSourceError) as caught:
        ScriptLoader(tmp_path).load("main")
    assert str(caught.value) == (
        "includes/gone.lua: cannot be read (No such file or directory) "
        "(included by main.lua → includes/a.lua)"
    )


def test_an_include_that_a_file_asks_for_twice_is_an_error(tmp_path: Path, write: Write) -> None:
    write("main", include("a"), include("b"), include("a"))
    write("includes/a")
    write("includes/b")
    with pytest.raises(ScriptSourceError, match=r'main\.lua: includes "includes/a" twice'):
        ScriptLoader(tmp_path).load("main")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_includes_in_a_circle_are_an_error(tmp_path: Path, write: Write, length: int) -> None:
    write("main", include("0"))
    for number in range(length):
        write(f"includes/{number}", include(str((number + 1) % length)))
    with pytest.raises(
        ScriptSourceError, match=r"includes/0\.lua: includes itself \(included by main\.lua → "
    ):
        ScriptLoader(tmp_path).load("main")


def test_a_script_that_includes_itself_is_an_error(tmp_path: Path, write: Write) -> None:
    write("main", '--- @include "main"')
    with pytest.raises(ScriptSourceError, match=r"main\.lua: includes itself"):
        ScriptLoader(tmp_path).load("main")


def test_only_a_line_of_its_own_is_an_include(tmp_path: Path, write: Write) -> None:
    write("main", '  --- @include "includes/a"', '-- @include "includes/a"', "return 1 --- @include 'x'")
    assert len(ScriptLoader(tmp_path).load("main").source.splitlines()) == 3


@pytest.mark.parametrize("name", ScriptLoader().names())
def test_every_packaged_script_is_whole(name: str) -> None:
    source = ScriptLoader().load(name).source
    assert source.startswith("#!lua")
    assert source.count("#!lua") == 1
    assert "@include" not in source
    assert "cmsgpack" not in source
    assert f"-- {name}: " in source.splitlines()[1]
    # Replies are arrays, strings and numbers; state changes are announced to nobody but the waiters.
    for forbidden in ("'KEYS'", "'FLUSHALL'", "os.time", "math.random"):
        assert forbidden not in source
    # Repair finds what no set names any more.
    assert "'SCAN'" not in source or name == "repair_keys"
    # A configuration replaces the one before: as many users as that one named.
    assert "'SMEMBERS'" not in source or name in {"configure", "repair_shard", "mend_shard"}


def test_every_include_is_used() -> None:
    included = "".join(path.read_text(encoding="utf-8") for path in SCRIPTS.rglob("*.lua"))
    for path in (SCRIPTS / "includes").glob("*.lua"):
        assert re.search(rf'@include(_inside)? "includes/{path.stem}"', included)


def test_scripts_that_only_look_are_declared_so() -> None:
    lookers = {
        name
        for name in ScriptLoader().names()
        if "no-writes" in ScriptLoader().load(name).source.splitlines()[0]
    }
    assert lookers == {
        *("explain", "failed", "get", "get_policy", "graph", "health", "result", "results", "states"),
        *("stats", "users", "workers", "xcom_pull", "xcom_pull_all"),
        *("due_schedules", "get_schedules", "list_schedules", "repair_schedules"),
        *("repair_edges", "repair_entries", "repair_keys", "repair_shard", "repair_tasks", "repair_users"),
    }


@pytest.mark.parametrize("name", ScriptLoader().names())
def test_no_function_is_called_above_its_definition(name: str) -> None:
    # Lua would look for a global of that name, and only when it comes to the call.
    lines = [re.sub(r"--.*|'[^']*'", "", line) for line in ScriptLoader().load(name).source.splitlines()]
    defined: set[str] = set()
    early: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        found = re.match(r"\s*local function (\w+)", line)
        if found:
            defined.add(found[1])
        for called in re.findall(r"(?<![\w.:])(\w+)\(", line):
            if called not in defined:
                early.setdefault(called, number)
    assert not {called: line for called, line in early.items() if called in defined}


def test_an_include_inside_of_a_function_is_not_known_outside_of_it(tmp_path: Path, write: Write) -> None:
    inside = '--- @include_inside "includes/a"'
    write("main", include("base"), "local function f()", inside, "end", include("b"), "return a")
    write("includes/b", include("a"))
    write("includes/base", "local base = 1")
    write("includes/a", include("base"), "local a = base")
    lines = ScriptLoader(tmp_path).load("main").source.splitlines()
    body = ["local function f()", "local a = base", "end"]
    assert lines == ["local base = 1", *body, "local a = base", "return a"]


def test_what_follows_the_inner_mark_is_a_function_inside_of_what_came_before(
    tmp_path: Path, write: Write
) -> None:
    write("includes/base", "local root = KEYS[1]", "--- @inner")
    write("one", "#!lua", include("base"), "return root")
    source = ScriptLoader(tmp_path).load("one").source
    assert source.splitlines() == [
        "#!lua",
        "local root = KEYS[1]",
        "local function inner()",
        "return root",
        "end",
        "return inner()",
    ]
