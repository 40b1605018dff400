"""What the cases of FairQueue alone run."""

from __future__ import annotations

from benchmarks.tasks import mark
from fairque import task

ROUNDS = 100_000  # of arithmetic: five to ten milliseconds


@task(name="benchmarks.nothing")
def nothing(argument: str) -> None:
    """Never runs: its tasks are claimed and finished by the scripts alone."""


@task(name="benchmarks.burn")
def burn() -> int:
    """Keep a core busy."""
    total = 0
    for number in range(ROUNDS):
        total += number * number
    mark()
    return total
