"""Schedulers as processes of their own, which tests kill and stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from fairque import FairQueueConfig
from tests.support.prepared import ROOT
from tests.support.processes import is_alive
from tests.support.waiting import until

# The interpreter is started and the package imported once: a fork of it fires within some 20 milliseconds.
LAUNCHER = """
import os, signal, sys
from fairque import FairQueueConfig, QueueConfig, RedisConfig, TaskScheduler
from fairque.core import redis_clients
socket, prefix = sys.argv[1:]
config = FairQueueConfig(redis=RedisConfig(unix_socket_path=socket), queue=QueueConfig(prefix=prefix))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in sys.stdin:
    process = os.fork()
    if process == 0:
        with TaskScheduler(config) as scheduler:
            scheduler.run()
        os._exit(0)
    print(process, flush=True)
"""


class Crew:
    """Some schedulers of a queue; those that are killed are replaced."""

    def __init__(self, config: FairQueueConfig, number: int) -> None:
        where = (str(config.redis.unix_socket_path), config.queue.prefix)
        self._launcher = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, *where],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._processes = [self._start() for _ in range(number)]

    def _start(self) -> int:
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.write("another\n")
        self._launcher.stdin.flush()
        return int(self._launcher.stdout.readline())

    def replace(self, number: int) -> None:
        """Kill one, and start another in its place."""
        assert is_alive(self._processes[number]), "it has ended by itself"
        self.signal(number, signal.SIGKILL)
        self._processes[number] = self._start()

    def signal(self, number: int, sign: signal.Signals) -> None:
        os.kill(self._processes[number], sign)

    def end(self) -> None:
        """End all by SIGTERM."""
        for number in range(len(self._processes)):
            self.signal(number, signal.SIGTERM)
        until(lambda: not any(map(is_alive, self._processes)), "SIGTERM ends a scheduler")

    def kill(self) -> None:
        """Kill what is left."""
        for process in filter(is_alive, self._processes):
            os.kill(process, signal.SIGKILL)
        self._launcher.communicate(timeout=10)
