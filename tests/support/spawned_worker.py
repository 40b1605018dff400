"""A worker that is told all by its arguments, as a process of its own."""

from __future__ import annotations

import sys

from fairque import FairQueueConfig, QueueConfig, RedisConfig, Worker
from tests.support import worker_tasks  # noqa: F401 - what it runs


def main() -> None:
    socket, prefix, max_crashes, concurrency, lease, grace = sys.argv[1:]
    queue = QueueConfig(prefix=prefix, max_crashes=int(max_crashes))
    config = FairQueueConfig(redis=RedisConfig(unix_socket_path=socket), queue=queue)
    Worker(
        config, concurrency=int(concurrency), lease=float(lease), graceful_shutdown_timeout=float(grace)
    ).run()


if __name__ == "__main__":
    main()
