"""A virtual environment for each peer, made when it is first needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HERE = Path(__file__).parent
FOLDER = HERE / ".environments"
INSTALLING = 300.0  # seconds at most

Kind = Literal["async", "plain"]


class CannotRunError(Exception):
    """A peer takes no part in a case, or in none; the message is one line that says why."""


@dataclass(frozen=True)
class Peer:
    """One library, as `peers.toml` describes it.

    Attributes:
        missing: Why it cannot run a kind of functions.
        python: Which versions it needs, if not the running one.
    """

    name: str
    group: str
    requirements: tuple[str, ...]
    bulk: str
    settings: str
    missing: Mapping[str, str]
    python: str | None
    runtime: str

    def need(self, kind: Kind) -> None:
        """Raise `CannotRunError` if it cannot run this kind of functions."""
        if kind in self.missing:
            raise CannotRunError(self.missing[kind])

    @property
    def kind(self) -> Kind:
        """What it runs where a case leaves the choice: async functions if it can."""
        return "plain" if "async" in self.missing else "async"


@dataclass(frozen=True)
class Environment:
    """How to start a peer's processes, and which versions are in there."""

    command: tuple[str, ...]
    variables: Mapping[str, str]
    versions: Mapping[str, str]


def read_peers() -> dict[str, Peer]:
    """All peers by name, FairQueue first."""
    described = tomllib.loads((HERE / "peers.toml").read_text())
    return {
        name: Peer(
            name=name,
            group=fields["group"],
            requirements=tuple(fields["requirements"]),
            bulk=fields["bulk"],
            settings=fields["settings"],
            missing={kind: fields[kind] for kind in ("async", "plain") if kind in fields},
            python=fields.get("python"),
            runtime=fields.get("runtime", "python"),
        )
        for name, fields in described.items()
    }


def prepare(peer: Peer) -> Environment:
    """The peer's environment, made anew if its requirements have changed.

    Raises:
        CannotRunError: It cannot be installed.
    """
    if peer.group == "own":
        found = {distribution.name: distribution.version for distribution in distributions()}
        wanted = ("fairque", "hiredis", "msgspec", "redis", "uvloop")
        versions = {"python": sys.version.split()[0], **{name: found[name] for name in wanted}}
        return Environment(_harness(sys.executable), {}, versions)
    folder = FOLDER / peer.name
    return _prepare_node(peer, folder) if peer.runtime == "node" else _prepare_python(peer, folder)


def _prepare_python(peer: Peer, folder: Path) -> Environment:
    python = str(folder / "bin" / "python")

    def install() -> None:
        _run("uv", "venv", "--clear", "--no-python-downloads", "--python", _interpreter(peer), str(folder))
        _run("uv", "pip", "install", "--python", python, *peer.requirements)

    _once(peer, folder, install)
    version = _run(python, "-c", "import sys; print(sys.version.split()[0])").strip()
    listed = json.loads(_run("uv", "pip", "list", "--python", python, "--format", "json"))
    versions = {package["name"]: package["version"] for package in listed}
    return Environment(_harness(python), {}, {"python": version, **versions})


def _prepare_node(peer: Peer, folder: Path) -> Environment:
    _once(peer, folder, lambda: _run("npm", "install", "--prefix", str(folder), *peer.requirements))
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    versions = {
        path.removeprefix("node_modules/"): fields["version"] for path, fields in packages.items() if path
    }
    command = ("node", str(HERE / "harness.mjs"))
    variables = {"BENCHMARK_MODULES": str(folder / "package.json")}
    return Environment(command, variables, {"node": _run("node", "--version").strip("v\n"), **versions})


def _once(peer: Peer, folder: Path, install: Callable[[], object]) -> None:
    """Install unless this has been done with the same requirements."""
    stamp = folder / "installed.json"
    wanted = json.dumps([peer.requirements, sys.version, peer.python])
    if not stamp.exists() or stamp.read_text() != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        install()
        stamp.write_text(wanted)


def _interpreter(peer: Peer) -> str:
    """The running interpreter if it will do, so that all have the same."""
    running = sys.version_info >= (3, 12) or peer.python is None
    return sys.executable if running else str(peer.python)


def _harness(python: str) -> tuple[str, ...]:
    return (python, "-m", "benchmarks.harness")


def _run(*command: str) -> str:
    """Its stdout.

    Raises:
        CannotRunError: It failed, is not there, or took too long.
    """
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        done = subprocess.run(  # noqa: S603 — commands of this module
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALLING,
            env=environment,
            cwd=tempfile.gettempdir(),  # uv would hold peers to the project's constraints
        )
    except subprocess.CalledProcessError as error:
        lines = [line.strip() for line in (error.stderr or error.stdout).splitlines() if line.strip()]
        said = [line for line in lines if "error" in line] or lines or ["no message"]
        raise CannotRunError(f"`{Path(command[0]).name} {command[1]}` failed: {said[0]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotRunError(f"`{command[0]}` could not be run: {error}") from error
    return done.stdout
