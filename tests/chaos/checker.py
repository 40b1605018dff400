"""Reads the journal and the server, and says what was lost, doubled or stuck."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

from tests.chaos.journal import Entry
from tests.support.invariants import Shard

TERMINAL = frozenset({"finished", "failed", "canceled"})
# Workers look for expired leases and due tasks every second or two; what is later than this waits in vain.
PATIENCE_MS = 3_000


@dataclass(frozen=True)
class Seen:
    """A task as the server has it: where it is, its last attempt, and whether it moves on by itself."""

    place: str
    attempt: int = 0
    moves: bool = True


@dataclass(frozen=True)
class Server:
    """What the server says at the end: of each task, and how many finishes it accepted in all."""

    tasks: Mapping[str, Seen]
    finishes: int


@dataclass(frozen=True)
class Report:
    """What the checker found.

    Attributes:
        lost: Acknowledged pushes without a terminal state.
        double: Tasks of which two attempts' effects were accepted.
        stuck: Live tasks that neither progress nor are due.
        uncounted: Finishes that the server counted beyond the finished tasks, whoever sent them.
        repeated: How many executions began beyond the first of each task, retries apart.
        in_flight: How many attempts were in flight at the kills: `repeated` may be that many.
    """

    lost: tuple[str, ...] = ()
    double: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    uncounted: int = 0
    repeated: int = 0
    in_flight: int = 0

    def __str__(self) -> str:
        return (
            f"lost {len(self.lost)}, double {len(self.double) + self.uncounted}, stuck {len(self.stuck)}, "
            f"repeated {self.repeated} of {self.in_flight} in flight at the kills"
        )

    def hold(self) -> None:
        """Fail unless nothing was lost, doubled or stuck, and only what was killed was repeated."""
        assert not self.lost, f"lost: {self.lost[:10]} ({self})"
        assert not self.double, f"double: {self.double[:10]} ({self})"
        assert not self.uncounted, f"{self.uncounted} finishes too many were accepted ({self})"
        assert not self.stuck, f"stuck: {self.stuck[:10]} ({self})"
        assert self.repeated <= self.in_flight, f"executions were repeated without need ({self})"


def judge(entries: Iterable[Entry], server: Server) -> Report:
    """Compare what was written down with what the server says."""
    pushed: set[str] = set()
    accepted: defaultdict[str, set[int]] = defaultdict(set)
    executions: Counter[str] = Counter()
    in_flight = 0
    for entry in entries:
        if entry.kind == "pushed":
            pushed.add(entry.task)
        elif entry.kind == "accepted":
            accepted[entry.task].add(entry.attempt)
        elif entry.kind == "start":
            executions[entry.task] += 1
        elif entry.kind == "raised":
            executions[entry.task] -= 1  # another one is meant to follow
        elif entry.kind == "kill":
            in_flight += entry.attempt
    finished = [task for task, seen in server.tasks.items() if seen.place == "finished"]
    # A finish whose worker was killed before it had the answer stands only on the server.
    for task in finished:
        accepted[task].add(server.tasks[task].attempt)
    gone = Seen("nowhere")
    return Report(
        lost=tuple(sorted(task for task in pushed if server.tasks.get(task, gone).place not in TERMINAL)),
        double=tuple(sorted(task for task, attempts in accepted.items() if len(attempts) > 1)),
        stuck=tuple(sorted(task for task, seen in server.tasks.items() if not seen.moves)),
        uncounted=server.finishes - len(finished),
        repeated=sum(max(0, count - 1) for count in executions.values()),
        in_flight=in_flight,
    )


def look(client: Redis, root: str) -> Server:
    """All tasks of a shard as the server has them."""
    shard = Shard(client, root)
    due_by = shard.now - PATIENCE_MS
    tasks = {}
    for place, members in shard.places.items():
        for member in members:
            tasks[member] = Seen(place, int(shard.runs.get(member, {}).get("attempt", 0)))
    for place, latest in (("leases", due_by), ("scheduled", due_by * 1000)):
        overdue: Any = client.zrangebyscore(f"{root}:{place}", "-inf", latest)
        tasks |= {member.decode(): Seen(place, moves=False) for member in overdue}
    for waiting in shard.places["deferred"]:
        is_open = bool(client.zcount(f"{root}:blockers:{waiting}", 0, 0))
        tasks[waiting] = Seen("deferred", moves=is_open)
    for lane, ids in shard.lanes.items():
        user = lane.partition(":")[0]
        in_flight = int(shard.users.get(user, {}).get("in_flight", 0))
        is_next = user in shard.ring or user in shard.throttled or in_flight > 0
        tasks |= {f"{user}:{name}": Seen("lane", moves=is_next) for name in ids}
    # Where a scenario has several users, their tasks' ids differ too.
    by_id = {member.partition(":")[2]: seen for member, seen in tasks.items()}
    return Server(by_id, shard.totals.get("finished", 0))
