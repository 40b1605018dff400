"""The command line in the test's own process: what a run of it left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run: TypeAlias = "Callable[..., Done]"


def good(done: Done) -> str:
    """What a run without any complaint has printed."""
    assert (done.code, done.err) == (0, "")
    return done.out
