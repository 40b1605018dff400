"""The demo's input: the source files of the running Python's standard library, and whose they are."""

from __future__ import annotations

import sysconfig
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Single modules are no package: these groups of them are users too, by the first letter of the name.
MODULE_GROUPS = ("abc", "defgh", "ijklmn", "opqr", "stuvwxyz")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file, by its path below the standard library, and the user it belongs to."""

    path: str
    user: str


def stdlib() -> Path:
    """The folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def find_files(limit: int | None = None) -> list[SourceFile]:
    """The files, those of the biggest user first.

    Each top-level package is a user, its tests included; `test` is by far the biggest, if it is installed.

    Args:
        limit: Take about so many, evenly from all of them.
    """
    files = [SourceFile(path.as_posix(), _user(path)) for path in _sources(stdlib())]
    sizes = Counter(file.user for file in files)
    files.sort(key=lambda file: (-sizes[file.user], file.user, file.path))
    if limit is not None and limit < len(files):
        files = [files[i * len(files) // limit] for i in range(limit)]
    return files


def _sources(root: Path) -> Iterator[Path]:
    for entry in root.iterdir():
        if entry.is_dir():
            # A package's name can be imported: site-packages, lib-dynload and the like are none.
            if entry.name.isidentifier():
                yield from (path.relative_to(root) for path in entry.rglob("*.py") if path.is_file())
        elif entry.suffix == ".py":
            yield entry.relative_to(root)


def _user(path: Path) -> str:
    if len(path.parts) > 1:
        return path.parts[0]
    initial = path.name.lstrip("_")[:1].lower()
    group = next((group for group in MODULE_GROUPS if initial in group), MODULE_GROUPS[-1])
    return f"modules {group[0]}-{group[-1]}"
