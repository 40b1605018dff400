"""`fairque demo`."""

from __future__ import annotations

import typer

from fairque.cli.options import JsonOption


def demo(as_json: JsonOption = False) -> None:
    """Watch real work of many users finish in fair order, on a server that this command starts.

    The work: every source file of Python's standard library is parsed and measured, once through one shared
    FIFO and once fairly by user, and the waits are compared. It takes under a minute.
    """
    from fairque.demo import run_demo  # noqa: PLC0415 - only where it is used

    raise typer.Exit(run_demo(json_output=as_json))
