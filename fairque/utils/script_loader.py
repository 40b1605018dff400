"""Assembles the Lua scripts from the package's folder `scripts/`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from fairque.core.exceptions import ScriptSourceError

SCRIPTS = Path(__file__).parent.parent / "scripts"
# An include that goes into a function ("@include_inside") is seen by what stands in that function only.
_INCLUDE = re.compile(r'^--- @include(_inside)? "([^"]+)"\s*$')
_INNER = "--- @inner"  # what follows becomes a function inside of what came before; shard.lua says why


@dataclass(frozen=True, slots=True)
class Script:
    """A whole script, ready to be sent."""

    name: str
    source: str
    sha: str


class ScriptLoader:
    """Reads scripts and puts their includes in, each where it is first asked for.

    Args:
        folder: Holds `<name>.lua` for each script; includes are named relative to it, without the suffix.
    """

    def __init__(self, folder: Path = SCRIPTS) -> None:
        self._folder = folder
        self._loaded: dict[str, Script] = {}

    def load(self, name: str) -> Script:
        """The script of this name, read once.

        Raises:
            ScriptSourceError: It or an include is missing, a file includes one twice, or they go in a circle.
        """
        script = self._loaded.get(name)
        if script is None:
            lines = self._expand(name, (), set())
            if _INNER in lines:
                lines[lines.index(_INNER)] = "local function inner()"
                lines += ["end", "return inner()"]
            source = "\n".join(lines) + "\n"
            sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            script = self._loaded[name] = Script(name, source, sha)
        return script

    def names(self) -> list[str]:
        """All scripts in the folder, sorted."""
        return sorted(path.stem for path in self._folder.glob("*.lua"))

    def _expand(self, name: str, chain: tuple[str, ...], seen: set[str]) -> list[str]:
        """The lines of a file with its includes. `seen` is shared by the whole script, `chain` leads here."""
        file = f"{name}.lua"
        if file in chain:
            raise ScriptSourceError(file, "includes itself", chain)
        try:
            lines = (self._folder / file).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ScriptSourceError(file, f"cannot be read ({error.strerror})", chain) from error
        asked: set[str] = set()
        result: list[str] = []
        for line in lines:
            match = _INCLUDE.match(line)
            if match is None:
                result.append(line)
                continue
            is_inside, include = match.groups()
            if include in asked:
                raise ScriptSourceError(file, f'includes "{include}" twice', chain)
            asked.add(include)
            if include not in seen or f"{include}.lua" in (*chain, file):
                known = set(seen) if is_inside else seen
                result += self._expand(include, (*chain, file), known)
                known.add(include)
        return result
