"""How attempts ended, until the server knows."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairque.core.exceptions import ScriptError, ServerError
from fairque.core.models import TaskState
from fairque.queue.failure import UNKNOWN, error_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fairque.core.calls import Call
    from fairque.core.models import Task
    from fairque.queue.commands import ShardCommands
    from fairque.worker.execution import Outcome
    from fairque.worker.heart import Heart

logger = logging.getLogger("fairque.worker")

ACKNOWLEDGED_AT_ONCE = 200  # finishes in one script, and fails in one trip


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt; its call is made once, with its decision about a retry."""

    ended: Outcome
    call: Call[TaskState | None]


@dataclass(frozen=True, slots=True)
class Report:
    """What one trip says of ended attempts: one call for all that finished, one for each failure."""

    finished: Sequence[Outcome]
    failed: Sequence[Failure]
    calls: Sequence[Call[Any]]


class Ends:
    """Outcomes of a shard's attempts that are not acknowledged yet.

    Args:
        commands: Builds the calls.
        heart: Keeps the lease of each until the server has said its last word on it.
        on_settled: Told when it has, of each.
    """

    def __init__(self, commands: ShardCommands, heart: Heart, on_settled: Callable[[], None]) -> None:
        self._commands = commands
        self._heart = heart
        self._on_settled = on_settled
        self._finished: list[Outcome] = []
        self._failed: list[Failure] = []
        self._reported = 0  # in reports that are under way

    def __len__(self) -> int:
        return self.unsaid + self._reported

    @property
    def unsaid(self) -> int:
        """How many no report has told of yet."""
        return len(self._finished) + len(self._failed)

    def add(self, outcome: Outcome) -> None:
        """An attempt has ended."""
        if outcome.error is None:
            self._finished.append(outcome)
        else:
            self._failed.append(Failure(outcome, self._fail_call(outcome, outcome.error)))

    def _fail_call(self, outcome: Outcome, error: BaseException) -> Call[TaskState | None]:
        try:
            return self._commands.fail_call(outcome.task, error, failure_type=outcome.failure_type)
        except Exception:  # the error is of a user's class, which may do anything
            logger.exception("the error of task %r cannot be looked into; it fails", outcome.task.task_id)
            return self._commands.fail_call(outcome.task, type(error).__name__, failure_type="invalid")

    def report(self) -> Report:
        """Take what the next trip says. It is to be settled, or put back."""
        finished, self._finished = _cut(self._finished)
        failed, self._failed = _cut(self._failed)
        self._reported += len(finished) + len(failed)
        calls = [failure.call for failure in failed]
        if finished:
            calls.insert(0, self._commands.finish_call([(ended.task, ended.result) for ended in finished]))
        return Report(finished, failed, calls)

    def put_back(self, report: Report) -> None:
        """It could not be sent: the next one says it again."""
        self._reported -= len(report.finished) + len(report.failed)
        self._finished[:0] = report.finished
        self._failed[:0] = report.failed

    def settle(self, report: Report, replies: Iterator[Any]) -> None:
        """Take note of the replies to a report's calls, which come first of those of its trip."""
        if report.finished:
            self._finished[:0] = self._settle_finished(report.finished, next(replies))
        for failure in report.failed:
            reply = next(replies)
            if not self._is_settled(
                failure.ended, reply if isinstance(reply, Exception) else reply is not None
            ):
                self._failed.append(failure)
            elif isinstance(reply, TaskState):
                _log_failure(failure.ended, reply)
        self._reported -= len(report.finished) + len(report.failed)

    def _settle_finished(self, finished: Sequence[Outcome], reply: list[bool] | Exception) -> list[Outcome]:
        """Those that are to be said again."""
        outcomes: Sequence[bool | Exception]
        outcomes = [reply] * len(finished) if isinstance(reply, Exception) else reply
        return [
            ended for ended, held in zip(finished, outcomes, strict=True) if not self._is_settled(ended, held)
        ]

    def _is_settled(self, ended: Outcome, held: bool | Exception) -> bool:
        """Whether the server has said its last word on an attempt; if not, the next trip asks again."""
        if isinstance(held, ServerError) and not isinstance(held, ScriptError):
            return False
        self._heart.remove(ended.key)
        self._on_settled()
        task = ended.task
        if isinstance(held, Exception):
            logger.error(
                "the outcome of task %r of user %r was refused: %s", task.task_id, task.user_id, held
            )
        elif not held:
            logger.warning(
                "task %r of user %r: attempt %d had lost its lease, its outcome was dropped",
                task.task_id,
                task.user_id,
                task.attempt,
            )
        return True

    def drop_torn(self) -> list[Task[Any]]:
        """Forget attempts that were canceled from outside, with their loop: that is no failure of theirs."""
        torn = [
            failure for failure in self._failed if isinstance(failure.ended.error, asyncio.CancelledError)
        ]
        self._failed = [failure for failure in self._failed if failure not in torn]
        return [failure.ended.task for failure in torn]


def _cut(items: list[Any]) -> tuple[list[Any], list[Any]]:
    return items[:ACKNOWLEDGED_AT_ONCE], items[ACKNOWLEDGED_AT_ONCE:]


def _log_failure(ended: Outcome, state: TaskState) -> None:
    if ended.failure_type == UNKNOWN and state is TaskState.SCHEDULED:
        return  # the first one of its function was told of
    logger.warning(
        "task %r of user %r, attempt %d: %s (%s); %s",
        ended.task.task_id,
        ended.task.user_id,
        ended.task.attempt,
        ended.failure_type,
        error_text(ended.error or ""),
        "it will be retried" if state is TaskState.SCHEDULED else "it is in the dead letter queue",
    )
