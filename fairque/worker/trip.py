"""What a pump and the server say to each other in one round trip."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fairque.queue.replies import gives_suspect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairque.core.calls import Call
    from fairque.core.models import Task
    from fairque.worker.ends import Report


class Claims:
    """Claims under one name, each of which is repeated under its id until it is answered.

    The name is nobody else's: worker ids may be shared by replicas of one configuration.
    """

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self.answered = 0
        self.is_open = False  # one was sent, and is not answered yet

    def was_answered(self) -> None:
        """The next one is another: repeated under this id it would give the same tasks again."""
        self.answered += 1
        self.is_open = False


@dataclass(slots=True)
class Trip:
    """What is said to the server at once, and what it replies."""

    calls: list[Call[Any]]  # the report's, then the release of the surplus, then the claim
    report: Report
    surplus: Sequence[Task[Any]]  # claimed before, and handed back by it
    asked: int  # slots that its claim is for; 0 without a claim
    choice: int  # whose tasks the claim is for
    given: int = 0  # tasks that the claim gave
    replies: list[Any] = field(default_factory=list)  # as they came, or errors
    sent: float = 0.0  # time.monotonic()

    @property
    def can_wait(self) -> bool:
        """Whether the next trip may begin before this one is read: all went well, and there is more to do."""
        if self.surplus or any(isinstance(reply, Exception) for reply in self.replies):
            return False
        return not self.asked or (self.given == self.asked and not gives_suspect(self.replies[-1]))

    def values(self) -> list[Any]:
        """The replies, read."""
        return [
            reply if isinstance(reply, Exception) else call.read(reply)
            for call, reply in zip(self.calls, self.replies, strict=True)
        ]
