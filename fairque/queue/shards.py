"""The operations of a queue as a whole: what concerns one user goes to its shard, the rest to all of them."""

from __future__ import annotations

import math
import time
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeVar

from fairque.core import codec
from fairque.core.calls import Call, Flow, Wait
from fairque.core.exceptions import BatchError, LeaseLostError, TaskValidationError
from fairque.core.keys import DEFAULT, check_id
from fairque.core.models import Task
from fairque.core.units import Seconds, to_seconds
from fairque.queue import looking
from fairque.queue.checks import LONGEST_BATCH, Missing, batch_limit, check_missing, page_offset, user_list
from fairque.queue.commands import ShardCommands
from fairque.queue.pushing import Batch, Receipt
from fairque.queue.visits import Visits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fairque.core.config import FairQueueConfig, QueueConfig
    from fairque.core.pipeline import Pipeline
    from fairque.core.pipeline_build import BuiltPipeline
    from fairque.core.records import QueueHealth, QueueStats, RepairReport, UserStats
    from fairque.core.user_policy import UserPolicy
    from fairque.queue.repair import Progress
    from fairque.queue.replies import Claim

T = TypeVar("T")


def commands_of(config: FairQueueConfig) -> QueueCommands:
    """The operations of the queue that a configuration means."""
    return QueueCommands(
        config.queue,
        config.policies,
        allow_eviction=config.redis.allow_eviction,
        allow_no_persistence=config.redis.allow_no_persistence,
    )


def shard_of(user_id: str, shards: int) -> int:
    """The shard of a user: the same for every client of a queue, in every version."""
    return 0 if shards == 1 else zlib.crc32(user_id.encode(errors="surrogatepass")) % shards


class QueueCommands:
    """The operations of one queue. Both faces are a thin layer over this.

    Args:
        config: The queue's settings.
        policies: Those of the configuration; None where it has none to publish.
        checks: Which servers are allowed, as for `ShardCommands`.
    """

    def __init__(
        self, config: QueueConfig, policies: Mapping[str, UserPolicy] | None = None, **checks: bool
    ) -> None:
        self.config = config
        room = config.max_queued and math.ceil(config.max_queued / config.shards)
        each = config.model_copy(update={"max_queued": room})
        self.shards = [
            ShardCommands(each, self._policies_of(policies, shard), shard, **checks)
            for shard in range(config.shards)
        ]
        self._visits = Visits(config.shards)

    @property
    def where(self) -> str:
        """The queue's name for people: where its keys are."""
        roots = [shard.keys.root for shard in self.shards]
        return roots[0] if len(roots) == 1 else f"{roots[0]} … {roots[-1]}"

    def of(self, user_id: object) -> ShardCommands:
        """The operations of the shard that a user's tasks are in; they check whether it can be a user."""
        return self.shards[shard_of(user_id, len(self.shards)) if isinstance(user_id, str) else 0]

    def _policies_of(
        self, policies: Mapping[str, UserPolicy] | None, shard: int
    ) -> Mapping[str, UserPolicy] | None:
        if policies is None:
            return None
        users = {user for user in policies if shard_of(user, self.config.shards) == shard}
        return {user: policy for user, policy in policies.items() if user in users | {DEFAULT}}

    def opening(self) -> Flow[None]:
        """What a client says first, so that no task is lost, or dispatched against the configuration.

        Raises:
            ConfigurationError: The queue has another number of shards.
            UnsafeServerError: The server may drop tasks.
        """
        for shard in self.shards:  # the first one knows how many there are
            if shard is self.shards[0] or shard.server.is_wanted:
                yield from shard.server.begin(len(self.shards))
            if shard.policies.are_configured:
                yield from shard.policies.publish()

    # --- pushing ---

    def push(self, task: Task[Any], *, missing: Missing | None = None, **options: Any) -> Flow[Receipt]:
        """Push one task; `options` as for `Task.with_options`."""
        given = {name: value for name, value in options.items() if value is not None}
        user = given.get("user_id") or getattr(task, "user_id", None)
        return self.of(user).push(task, given, missing)

    def push_batch(
        self, tasks: Sequence[Task[Any]], *, user_id: str | None = None, missing: Missing | None = None
    ) -> Batch:
        """The tasks with their user, and the calls that push them. All are checked first."""
        check_missing(missing)
        prepared, records = self.shards[0].ready(tasks, user_id)
        places_of: dict[ShardCommands, list[int]] = defaultdict(list)
        for place, task in enumerate(prepared):
            places_of[self.of(task.user_id)].append(place)
        if len(places_of) < 2:  # noqa: PLR2004 - one, or none for no tasks
            shard = next(iter(places_of), self.shards[0])
            return shard.batch(prepared, records, missing)
        batches = []
        for shard, places in places_of.items():
            chosen = [prepared[place] for place in places], [records[place] for place in places]
            batches.append((places, shard.batch(*chosen, missing, ask=True)))
        return Batch(prepared, _abreast(batches))

    def push_pipeline(
        self, pipeline: Pipeline[Any], *, missing: Missing | None = None, **options: Any
    ) -> tuple[BuiltPipeline, Batch]:
        """The pipeline's tasks, and the calls that push them; `options` as for `Pipeline.with_options`."""
        if options.pop("task_id", None) is not None:
            raise TaskValidationError("a pipeline has no task_id of its own: give its steps one, if you must")
        built = pipeline.build(**options)
        try:
            return built, self.push_batch(built.tasks, missing=missing)
        except BatchError as error:
            name = built.tasks[error.index].name
            raise TaskValidationError(
                f"step {name!r} was refused, nothing was pushed: {error.__cause__}"
            ) from error

    def encode_result(self, result: Any) -> bytes:
        """A result on the wire. Raises as `codec.encode_result` does."""
        return codec.encode_result(result, self.config.codec, self.config.max_payload_bytes)

    # --- claiming ---

    def pop_batch(
        self,
        worker_id: str,
        limit: int,
        *,
        users: Sequence[str] | None = None,
        lease: Seconds | None = None,
        block: Seconds | None = None,
        steal: bool = False,
    ) -> Flow[list[Task[Any]]]:
        """Claim up to `limit` tasks of one shard; with `block` wait up to so many seconds for the first."""
        calls = {
            number: shard.claim(worker_id, limit, users=named, lease=lease, steal=steal)
            for number, (shard, named) in enumerate(zip(self.shards, self.users_by_shard(users), strict=True))
            if named is None or named or len(self.shards) == 1
        }
        deadline = time.monotonic() + (0 if block is None else to_seconds(block, "block"))
        while True:
            claims = []
            for number in self._visits.order(calls):
                claim = yield from self.shards[number].fruitful(calls[number])
                self._visits.took(number, claim)
                if claim.tasks:
                    return list(claim.tasks)
                claims.append((number, claim))
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return []
            yield self._idle(claims, remaining, picky=users is not None)

    def pop(self, worker_id: str, **options: Any) -> Flow[Task[Any] | None]:
        """Claim one task."""
        tasks = yield from self.pop_batch(worker_id, 1, **options)
        return tasks[0] if tasks else None

    def users_by_shard(self, users: Sequence[str] | None) -> list[Sequence[str] | None]:
        """Those of the users that are in each shard; None for each where all are meant."""
        if users is None or len(self.shards) == 1:
            return [users] * len(self.shards)
        of_shards: list[list[str]] = [[] for _ in self.shards]
        for user in user_list(users):
            of_shards[shard_of(user, len(self.shards))].append(user)
        return list(of_shards)

    def _idle(self, claims: Sequence[tuple[int, Claim]], longest: float, *, picky: bool) -> Wait:
        """What to wait for after claims that gave nothing: a wake-up of any shard."""
        waits = [self.shards[number].idle(claim, longest, picky=picky) for number, claim in claims]
        seconds = min((wait.seconds for wait in waits), default=longest)
        if not all(wait.keys for wait in waits):
            return Wait(seconds)
        return Wait(seconds, keys=tuple(key for wait in waits for key in wait.keys))

    # --- what concerns several popped tasks ---

    def finish(self, items: Iterable[tuple[Task[Any], Any] | Task[Any]]) -> Flow[None]:
        """Finish tasks with their results; refuse those whose lease is lost."""
        results = [(item, None) if isinstance(item, Task) else item for item in items]
        pairs = [(task, self.encode_result(result)) for task, result in results]
        by_shard: dict[ShardCommands, list[tuple[Task[Any], bytes]]] = defaultdict(list)
        for pair in pairs:
            by_shard[self.of(pair[0].user_id)].append(pair)
        return _one_after_another(shard.finish(chosen) for shard, chosen in by_shard.items())

    def heartbeat(
        self, tasks: Iterable[Task[Any]] | Task[Any], *, lease: Seconds | None = None
    ) -> Flow[None]:
        """Renew leases; refuse lost ones after the others were renewed."""
        return self._of_each(tasks, lambda shard, chosen: shard.heartbeat(chosen, lease=lease))

    def release(self, tasks: Iterable[Task[Any]] | Task[Any]) -> Flow[None]:
        """Hand tasks back to their lanes; refuse those whose lease is lost."""
        return self._of_each(tasks, lambda shard, chosen: shard.release(chosen))

    def _of_each(
        self,
        tasks: Iterable[Task[Any]] | Task[Any],
        work: Callable[[ShardCommands, list[Task[Any]]], Flow[None]],
    ) -> Flow[None]:
        by_shard: dict[ShardCommands, list[Task[Any]]] = defaultdict(list)
        for task in [tasks] if isinstance(tasks, Task) else tasks:
            by_shard[self.of(task.user_id)].append(task)
        return _one_after_another(work(shard, chosen) for shard, chosen in by_shard.items())

    # --- upkeep ---

    def reclaim(self, limit: int = 100) -> Flow[list[tuple[str, str]]]:
        """Take back the tasks whose lease has expired."""
        batch_limit(limit)
        found: list[tuple[str, str]] = []
        for shard in self.shards:
            if len(found) < limit:
                found += yield shard.reclaim(limit - len(found))
        return found

    def cleanup(self, limit: int = 1000) -> Flow[int]:
        """Remove tasks past their retention."""
        batch_limit(limit)
        removed = 0
        for shard in self.shards:
            if removed < limit:
                removed += yield from shard.cleanup(limit - removed)
        return removed

    def pause(self, *, paused: bool) -> Flow[None]:
        """Pause the whole queue, or let it go on."""
        for shard in self.shards:
            yield shard.policies.pause(paused=paused)

    def repair(self, *, dry_run: bool = False, progress: Progress | None = None) -> Flow[RepairReport]:
        """Make what is derived follow from the tasks again, shard by shard."""
        reports = []
        for shard in self.shards:
            report = yield from shard.repair(dry_run=dry_run, progress=progress)
            reports.append(report)
        return looking.sum_of(reports)

    # --- looking ---

    def stats(self) -> Flow[QueueStats]:
        """Numbers of the queue."""
        replies = yield from _ask(shard.stats() for shard in self.shards)
        return looking.read_stats(replies)

    def health(self) -> Flow[QueueHealth]:
        """Whether the servers of all shards are fit."""
        return looking.worst((yield from _ask(shard.health() for shard in self.shards)))

    def users(self, limit: int = 100, offset: int = 0) -> Flow[list[UserStats]]:
        """A page of users, shard by shard."""
        limit, offset = batch_limit(limit), page_offset(offset)
        found: list[UserStats] = []
        for shard in self.shards:
            page = yield shard.users(limit - len(found), offset)
            found += page
            if len(found) == limit or shard is self.shards[-1]:
                break
            if page:
                offset = 0
            else:  # the page begins in one of the next shards
                offset -= looking.read_stats([(yield shard.stats())]).users
        return found

    def failed_tasks(
        self, user_id: str | None = None, limit: int = 100, offset: int = 0
    ) -> Flow[list[Task[Any]]]:
        """A page of the dead letter queue; with a user, looks through it in bounded steps."""
        limit, offset = batch_limit(limit), page_offset(offset)
        if user_id is not None:
            check_id(user_id, "user_id")
            return (yield from _failed_of(self.of(user_id), user_id, limit, offset))
        if len(self.shards) == 1:
            _, tasks = yield self.shards[0].failed(limit, offset, None)
            return list(tasks)
        found: list[Task[Any]] = []
        for shard in self.shards:
            found += yield from _latest_failed(shard, offset + limit)
        found.sort(key=lambda task: -(task.run.finished_at or 0))
        return found[offset : offset + limit]


def _failed_of(shard: ShardCommands, user_id: str, limit: int, offset: int) -> Flow[list[Task[Any]]]:
    found: list[Task[Any]] = []
    position = 0
    while True:
        seen, tasks = yield shard.failed(limit, position, user_id)
        found += tasks
        position += seen
        if seen < limit or len(found) >= offset + limit:
            return found[offset : offset + limit]


def _latest_failed(shard: ShardCommands, number: int) -> Flow[list[Task[Any]]]:
    found: list[Task[Any]] = []
    for start in range(0, number, LONGEST_BATCH):
        page = min(LONGEST_BATCH, number - start)
        seen, tasks = yield shard.failed(page, start, None)
        found += tasks
        if seen < page:
            break
    return found


def _abreast(
    batches: Sequence[tuple[Sequence[int], Batch]],
) -> list[list[tuple[list[int], Call[Any]]]]:
    """The rounds of several shards' batches beside each other, with the tasks' places in the whole batch."""
    rounds: list[list[tuple[list[int], Call[Any]]]] = []
    for places, batch in batches:
        for number, pushes in enumerate(batch.pushes):
            if number == len(rounds):
                rounds.append([])
            rounds[number] += [([places[place] for place in pushed], call) for pushed, call in pushes]
    return rounds


def _ask(calls: Iterable[Call[T]]) -> Flow[list[T]]:
    replies: list[T] = []
    for call in calls:
        reply: T = yield call
        replies += [reply]
    return replies


def _one_after_another(flows: Iterable[Flow[None]]) -> Flow[None]:
    """Run what concerns each shard; refuse what was lost after all have run."""
    first: LeaseLostError | None = None
    for flow in flows:
        try:
            yield from flow
        except LeaseLostError as error:
            if first is not None:
                error.lost = (*first.lost, *error.lost)
            first = first or error
            first.lost = error.lost
    if first is not None:
        raise first
