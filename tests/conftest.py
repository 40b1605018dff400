"""Options of the whole suite."""

from __future__ import annotations

import os
import signal

import pytest


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
