"""The worker processes of a scenario. Only these are ever stopped or killed."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from redis import Redis

from tests.chaos.journal import Journal
from tests.chaos.worker import Orders, main
from tests.support.processes import fork_prepared
from tests.support.waiting import until

# Who starts a process asks after all others, too: `multiprocessing` does so. Of two who ask at once one reads
# how it ended, and the other finds nothing, and calls that 255.
_asking = threading.Lock()


@dataclass
class Hand:
    """One worker process."""

    worker_id: str
    process: BaseProcess
    log: Path

    @property
    def is_alive(self) -> bool:
        with _asking:
            return self.process.is_alive()

    def signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self, within: float = 60) -> int:
        """Until it has ended: its exit code, or the negative number of a signal."""
        connection.wait([self.process.sentinel], within)
        with _asking:
            code = self.process.exitcode
        assert code is not None, f"{self.worker_id} goes on after {within:g} s"
        return code

    def complaints(self) -> list[str]:
        """What it logged: warnings and errors."""
        return self.log.read_text().splitlines()


@dataclass
class Crew:
    """Starts, kills and replaces workers.

    Args:
        redis: The server, as the configuration's `redis`.
        queue: The configuration's `queue`.
        journal: What all of them write to.
        folder: For their logs.
    """

    redis: dict[str, Any]
    queue: dict[str, Any]
    journal: Journal
    folder: Path
    hands: list[Hand] = field(default_factory=list)

    def hire(
        self, *, fault: tuple[str, signal.Signals] | None = None, clock: float = 0.0, **options: Any
    ) -> Hand:
        """Start a worker.

        Args:
            fault: A point, and the signal that it sends itself there.
            clock: By how many seconds its clock is wrong.
            options: Of the worker; but `redis` is another way to it, `queue` are changed settings.
        """
        config = {
            "redis": options.pop("redis", self.redis),
            "queue": {**self.queue, **options.pop("queue", {})},
        }
        name = options.setdefault("worker_id", f"w{len(self.hands)}")
        log = self.folder / f"{len(self.hands)}-{name}.log"
        log.touch()
        orders = Orders(config, options, self.journal.path, log, fault, clock)
        with _asking:
            process = fork_prepared(main, orders)
        self.hands.append(Hand(name, process, log))
        return self.hands[-1]

    def hire_ready(self, count: int, **changes: Any) -> list[Hand]:
        """Start so many, and wait until they are about to work."""
        hands = [self.hire(**changes) for _ in range(count)]
        names = {hand.worker_id for hand in hands}
        until(
            lambda: names <= {entry.worker for entry in self.journal.entries("ready")},
            f"{count} workers are ready",
            within=60,
            every=0.05,
        )
        return hands

    def kill(self, hand: Hand, raw: Redis, root: str) -> None:
        """`kill -9`, and write down how many attempts were in flight."""
        hand.signal(signal.SIGKILL)
        hand.wait()
        self.count_in_flight(hand, raw, root)

    def count_in_flight(self, hand: Hand, raw: Redis, root: str) -> None:
        """Write down how many attempts of a worker that was killed, or stopped, were in flight."""
        self.journal.write("kill", [(hand.worker_id, in_flight(raw, root, hand.worker_id))])

    def dismiss(self) -> None:
        """End all that are left, stopped ones too."""
        for hand in self.hands:
            hand.process.kill()
            hand.wait()
            with _asking:
                hand.process.close()


def in_flight(raw: Redis, root: str, worker: str) -> int:
    """How many leases the worker holds."""
    leased: Any = raw.zrange(f"{root}:leases", 0, -1)
    pipe = raw.pipeline(transaction=False)
    for member in leased:
        pipe.hget(f"{root}:run:{member.decode()}", "worker")
    return sum(name is not None and name.decode() == worker for name in pipe.execute())
