"""The rounds of the cases: all peers in turn in each, so that what drifts hits all alike."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from benchmarks.environments import CannotRunError, prepare
from benchmarks.running import Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from benchmarks.cases import Case, Values
    from benchmarks.environments import Environment, Kind, Peer
    from benchmarks.server import Server


@dataclass
class Result:
    """What one peer did in one case.

    Attributes:
        reason: Why it has no values, or why it has no more.
    """

    case: Case
    peer: Peer
    rounds: list[Values] = field(default_factory=list)
    reason: str | None = None

    def median(self, metric: str) -> float | None:
        """Of all rounds."""
        return median(values[metric] for values in self.rounds) if self.rounds else None


class Rounds:
    """Runs cases. `environments` and `refused` say, once `prepare` is done, who takes part.

    Args:
        scale: By what the numbers of tasks are multiplied.
        tell: Called with a line on what comes next.
    """

    def __init__(
        self, server: Server, peers: Sequence[Peer], scale: float, tell: Callable[[str], None]
    ) -> None:
        self.server = server
        self.peers = peers
        self.environments: dict[str, Environment] = {}
        self.refused: dict[str, str] = {}
        self._scale = scale
        self._tell = tell
        self._counts: dict[str, dict[Kind, int]] = {}

    def prepare(self) -> None:
        """Make the environments."""
        for peer in self.peers:
            self._tell(f"environment of {peer.name}")
            try:
                self.environments[peer.name] = prepare(peer)
            except CannotRunError as error:
                self.refused[peer.name] = str(error)

    def run(self, cases: Iterable[Case], rounds: int) -> Iterator[list[Result]]:
        """Each case for some rounds: its results."""
        for case in cases:
            takers = [peer for peer in self.peers if peer.group == "own" or not case.is_own]
            of_case = [Result(case, peer, reason=self.refused.get(peer.name)) for peer in takers]
            for number in range(1, rounds + 1):
                for result in of_case:
                    self._tell(f"{case.name} {number}/{rounds}: {result.peer.name}")
                    if result.reason is None:
                        self._round(result)
            yield of_case

    def _round(self, result: Result) -> None:
        with tempfile.TemporaryDirectory(prefix="fairque-benchmark-") as folder:
            bench = Bench(
                peer=result.peer,
                environment=self.environments[result.peer.name],
                server=self.server,
                folder=Path(folder),
                counts=self._counts.setdefault(result.peer.name, {}),
                scale=self._scale,
            )
            try:
                bench.begin()
                result.rounds.append(result.case.run(bench))
            except (CannotRunError, RedisError) as error:
                result.reason = str(error)
