"""Options of the whole suite."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

# What compares times, or kills workers whose leases last a second, proves nothing beside another test.
ALONE = ("chaos", "performance")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long",
        action="store_true",
        help="run the chaos suite with full numbers: 10,000 tasks, 20 outages, many minutes",
    )


def pytest_configure(config: pytest.Config) -> None:
    _let_processes_have_the_usual_signals()
    _let_processes_keep_bytecode(config)


def _let_processes_have_the_usual_signals() -> None:
    """What a shell or `nohup` ignores for the whole suite would be ignored by what tests start, too."""
    usual = {signal.SIGINT: signal.default_int_handler}
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual.get(number, signal.SIG_DFL))


def _let_processes_keep_bytecode(config: pytest.Config) -> None:
    """Where none may be written (as in many images), each new interpreter would compile all that it imports.

    That is most of a second, and tests start hundreds. It goes where pytest keeps its own.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None) and "PYTHONPYCACHEPREFIX" not in os.environ:
        os.environ["PYTHONPYCACHEPREFIX"] = str(config.rootpath / ".pytest_cache/bytecode")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that run alone come last, so that the others wait for none of them."""
    items.sort(key=_runs_alone)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with _turn(item.config.rootpath / ".pytest_cache/running", alone=_runs_alone(item)):
        return (yield)


def _runs_alone(item: pytest.Item) -> bool:
    return item.path.relative_to(Path(__file__).parent).parts[0] in ALONE


@contextmanager
def _turn(lock: Path, *, alone: bool) -> Generator[None]:
    """Keeps the processes of `pytest -n` apart: a test that runs alone waits until no other one runs."""
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing it does not do where a test has forked
