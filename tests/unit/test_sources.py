"""Which files `fairque dev` watches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairque import ConfigurationError
from fairque.cli.sources import Sources, imported
from fairque.cli.starting import import_tasks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a package and two modules."""
    (tmp_path / "watched/deep").mkdir(parents=True)
    for name in ("watched/__init__.py", "watched/deep/inner.py", "watched_alone.py", "watched_other.py"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    known = set(sys.modules)
    yield tmp_path
    for name in sys.modules.keys() - known:
        del sys.modules[name]


def touch(file: Path) -> None:
    """Another time, however coarse the file system's are."""
    file.touch()
    later = file.stat().st_mtime_ns + 10_000_000_000
    os.utime(file, ns=(later, later))


def test_a_change_anywhere_in_a_package_is_seen_once(folder: Path) -> None:
    sources = Sources(["watched.deep.inner"])
    assert sources.changed() == []
    touch(folder / "watched/__init__.py")
    touch(folder / "watched/deep/inner.py")
    assert {path.name for path in sources.changed()} == {"__init__.py", "inner.py"}
    assert sources.changed() == []


def test_files_that_come_and_go_are_changes_and_other_files_are_not(folder: Path) -> None:
    sources = Sources(["watched", "watched_alone"])
    (folder / "watched/new.py").write_text("")
    assert [path.name for path in sources.changed()] == ["new.py"]
    (folder / "watched/new.py").unlink()
    assert [path.name for path in sources.changed()] == ["new.py"]
    touch(folder / "watched_other.py")
    (folder / "watched/notes.txt").write_text("")
    assert sources.changed() == []
    touch(folder / "watched_alone.py")
    assert [path.name for path in sources.changed()] == ["watched_alone.py"]


def test_files_that_are_added_later_are_watched_from_then_on(folder: Path) -> None:
    sources = Sources(["watched_alone"])
    sources.add([str(folder / "watched_other.py")])
    assert sources.changed() == []
    touch(folder / "watched_other.py")
    assert [path.name for path in sources.changed()] == ["watched_other.py"]


def test_modules_are_found_and_not_imported(folder: Path) -> None:
    (folder / "watched_alone.py").write_text("raise SystemExit")
    Sources(["watched_alone", "watched.deep"])
    with pytest.raises(ConfigurationError, match=r"there is no module 'watched_nowhere\.tasks'"):
        Sources(["watched_nowhere.tasks"])
    for name in (".watched", "", "__main__.x"):
        with pytest.raises(ConfigurationError, match="there is no module"):
            Sources([name])
    with pytest.raises(ConfigurationError, match="is a file: give the module's name, watched_alone"):
        Sources(["watched_alone.py"])


def test_what_was_imported_from_the_current_folder_is_known(folder: Path) -> None:
    (folder / "watched_alone.py").write_text("import json, watched_other, watched.deep.inner")
    import_tasks(["watched_alone"])
    found = {str(Path(file).relative_to(folder)) for file in imported()}
    assert found == {"watched_alone.py", "watched_other.py", "watched/__init__.py", "watched/deep/inner.py"}


@pytest.mark.parametrize("wrong", ["def (", "1 / 0", "import no_such_thing"])
def test_where_an_import_went_wrong_is_known(folder: Path, wrong: str) -> None:
    (folder / "watched_alone.py").write_text("import watched_other")
    (folder / "watched_other.py").write_text(wrong)
    with pytest.raises(ConfigurationError) as raised:
        import_tasks(["watched_alone"])
    found = {Path(file).name for file in imported(raised.value.__cause__)}
    assert {"watched_alone.py", "watched_other.py"} <= found
