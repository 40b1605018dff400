"""Which Python files a program is made of, and whether one has changed."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from fairque.cli.starting import check_name, no_module


class Sources:
    """The files of some modules' packages, and others that are added.

    Args:
        modules: Their names. They are found, and not imported.

    Raises:
        ConfigurationError: There is no such module.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        self._folders: set[Path] = set()
        self._files: set[Path] = set()
        for name in modules:
            self._find(name)
        self._seen = self._look()

    def _find(self, name: str) -> None:
        check_name(name)
        try:
            spec = importlib.util.find_spec(name.partition(".")[0])
        except ValueError:  # no name, or one without a file
            spec = None
        if spec is None:
            raise no_module(name)
        if spec.submodule_search_locations is not None:
            self._folders |= {Path(folder) for folder in spec.submodule_search_locations}
        elif spec.origin is not None:
            self._files.add(Path(spec.origin))

    def add(self, files: Iterable[str]) -> None:
        """Watch other files as well."""
        new = set(map(Path, files)) - self._files
        self._files |= new
        self._seen |= _times(new)

    def changed(self) -> list[Path]:
        """The files that were written, made or removed since the last call."""
        seen, self._seen = self._seen, self._look()
        return sorted({path for path, _ in seen.items() ^ self._seen.items()})

    def _look(self) -> dict[Path, int]:
        inside = (
            Path(place, name)
            for folder in self._folders
            for place, _, names in os.walk(folder)  # passes over what is removed meanwhile
            for name in names
            if name.endswith(".py")
        )
        return _times(self._files.union(inside))


def _times(files: Iterable[Path]) -> dict[Path, int]:
    found = {}
    for file in files:
        try:
            found[file] = file.stat().st_mtime_ns
        except OSError:
            continue
    return found


def imported(error: BaseException | None = None) -> list[str]:
    """The files below the current folder that this process has imported, or where an import went wrong."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    if error is not None:
        files |= {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
        files.add(getattr(error, "filename", None))
    return sorted(_ours(files))


def _ours(files: Iterable[str | None]) -> Iterator[str]:
    here = Path.cwd()
    for file in files:
        path = Path(file or "").resolve()
        if path.suffix == ".py" and path.is_relative_to(here) and "site-packages" not in path.parts:
            yield str(path)
