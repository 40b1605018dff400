"""The results of a run as `--json` wrote them, for what shows them: the medians, and who is best."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

OWN = "fairque"


class Found(NamedTuple):
    """A median, and whose it is."""

    value: float
    name: str


class Results:
    """One run.

    Args:
        data: What `--json` writes.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    @classmethod
    def read(cls, file: Path) -> Results:
        """Those of a file."""
        return cls(json.loads(file.read_text(encoding="utf-8")))

    @property
    def is_quick(self) -> bool:
        """Whether it was a quick look, with figures that are not to be quoted."""
        return bool(self.data["settings"]["scale"] < 1)

    def values(self, case: str, metric: str) -> dict[str, float]:
        """The medians by peer, without those that have none."""
        medians = {name: peer["medians"].get(metric) for name, peer in self._peers(case).items()}
        return {name: value for name, value in medians.items() if value is not None}

    def value(self, case: str, metric: str, name: str = OWN) -> float | None:
        """One median, if there is one."""
        return self.values(case, metric).get(name)

    def ordered(self, case: str, metric: str) -> list[Found]:
        """The medians, the best one first."""
        found = [Found(value, name) for name, value in self.values(case, metric).items()]
        return sorted(found, reverse=self._metric(case, metric).get("better") == "more")

    def missing(self, case: str, *metrics: str) -> list[str]:
        """Who took part in the case, or was to, and lacks one of the values."""
        there = [self.values(case, metric) for metric in metrics]
        return [name for name in self._peers(case) if not all(name in values for values in there)]

    def best(self, case: str, metric: str, is_meant: Callable[[str], bool]) -> Found | None:
        """The best of those peers that are meant; FairQueue never is."""
        others = [found for found in self.ordered(case, metric) if found.name != OWN and is_meant(found.name)]
        return others[0] if others else None

    def group(self, name: str) -> str:
        """A peer's: own, established or newcomer."""
        return str(self.data["peers"][name]["group"])

    def unit(self, case: str, metric: str) -> str:
        """What a median is counted in; empty where the case was not run."""
        return str(self._metric(case, metric).get("unit", ""))

    def _peers(self, case: str) -> dict[str, Any]:
        peers: dict[str, Any] = self.data["cases"].get(case, {}).get("peers", {})
        return peers

    def _metric(self, case: str, metric: str) -> dict[str, str]:
        described: dict[str, str] = self.data["cases"].get(case, {}).get("metrics", {}).get(metric, {})
        return described
