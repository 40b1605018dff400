"""A user's policy: its share and its limits."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from fairque.core.strict import StrictModel

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 2**53  # up to here the scripts count exactly

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def _slots_or_share(value: object) -> object:
    """A whole number of tasks, or a percentage of the slots in use."""
    if isinstance(value, str):
        found = _PERCENT.fullmatch(value.strip())
        if not found or not 1 <= float(found[1]) <= 100:  # noqa: PLR2004 - percent
            raise ValueError(
                f'must be a whole number from 1 on, or a share from "1%" to "100%", not {value!r}'
            )
        return f"{float(found[1]):g}%"
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f'must be a whole number from 1 on, or a share such as "50%", not {value!r}')
    if isinstance(value, int) and value > LARGEST:
        raise ValueError(f"must be at most {LARGEST}; unset is no limit")
    return value


class UserPolicy(StrictModel):
    """A user's share and limits. What is not set comes from the configuration, or is no limit.

    Attributes:
        weight: The user's share relative to others: with weight 2 it is served twice as much as with 1.
        max_concurrency: Tasks running at the same time; or as `"50%"` a share of the slots in use, which
            binds only while others could use the slot.
        rate: Tasks started per second.
        burst: Tasks that may start at once before `rate` holds; one second's worth if not set.
        max_queued: Waiting tasks (queued, scheduled or deferred) beyond which a push is refused.
        paused: Whether the user's tasks wait; pushes are still accepted.

    Raises:
        ConfigurationError: A value is out of its range; the message names it.
    """

    shows_values: ClassVar[bool] = True

    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="Share relative to other users.")
    max_concurrency: Annotated[int | str | None, BeforeValidator(_slots_or_share)] = Field(
        None, description='Tasks running at the same time; or "50%" of the slots in use, while others wait.'
    )
    rate: float | None = Field(None, gt=0, allow_inf_nan=False, description="Tasks started per second.")
    burst: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Tasks that may start at once before `rate` holds; unset is one second's worth.",
    )
    max_queued: int | None = Field(
        None, ge=1, le=LARGEST, description="Waiting tasks beyond which a push is refused."
    )
    paused: bool = Field(False, description="Keeps accepting tasks, starts none.")

    @model_validator(mode="after")
    def _burst_needs_a_rate(self) -> Self:
        if self.burst is not None and self.rate is None:
            raise ValueError("burst has no effect without rate: set both")
        return self

    @property
    def slots(self) -> int | None:
        """The most tasks that may run at the same time, whoever else waits."""
        return self.max_concurrency if isinstance(self.max_concurrency, int) else None

    @property
    def share(self) -> float | None:
        """The share of the slots in use, from 0.01 to 1, that binds while others could use the slot."""
        return float(self.max_concurrency[:-1]) / 100 if isinstance(self.max_concurrency, str) else None

    @property
    def tokens(self) -> int:
        """How many tasks may start at once where there is a rate."""
        return self.burst or max(1, math.ceil(self.rate or 0))

    def to_wire(self) -> dict[str, Any]:
        """What is set, as the scripts read it."""
        wire = self.model_dump(exclude_unset=True)
        if "max_concurrency" in wire:
            wire |= {"max_concurrency": self.slots, "share": self.share}
        return wire

    @classmethod
    def from_wire(cls, *layers: Mapping[str, Any]) -> Self:
        """The policy of several layers, the later ones over the earlier."""
        fields: dict[str, Any] = {}
        for layer in layers:
            fields |= layer
        share = fields.pop("share", None)
        if share is not None:
            fields["max_concurrency"] = f"{share * 100:g}%"
        if fields.get("rate") is None and fields.get("burst") is not None:
            del fields["burst"]  # of a layer below the one that takes the rate away
        return cls(**fields)
