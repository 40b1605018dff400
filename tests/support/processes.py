"""Workers as processes of their own, which tests kill."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from fairque import FairQueueConfig

ROOT = Path(__file__).parent.parent.parent
SCRIPT = """
import sys
from fairque import FairQueueConfig, QueueConfig, RedisConfig, Worker
import tests.support.worker_tasks
socket, prefix, max_crashes, concurrency, lease, grace = sys.argv[1:]
queue = QueueConfig(prefix=prefix, max_crashes=int(max_crashes))
config = FairQueueConfig(redis=RedisConfig(unix_socket_path=socket), queue=queue)
Worker(config, concurrency=int(concurrency), lease=float(lease), graceful_shutdown_timeout=float(grace)).run()
"""

Spawn: TypeAlias = "Callable[..., subprocess.Popen[str]]"


def spawn_worker(
    config: FairQueueConfig, *, concurrency: int, lease: float, grace: float
) -> subprocess.Popen[str]:
    where = (str(config.redis.unix_socket_path), config.queue.prefix, str(config.queue.max_crashes))
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *where, str(concurrency), str(lease), str(grace)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def fork_prepared(main: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """A process of its own that runs `main`. Those of one module begin within a moment.

    It is forked from a server process that has imported the module; a new interpreter would spend most of
    a second on that, and scenarios start dozens.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", main.__module__])
    process = context.Process(target=main, args=arguments, daemon=True)
    process.start()
    return process
