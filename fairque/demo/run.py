"""The demo: starts a server and workers, runs the files through them twice, and compares."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fairque.demo.files import SourceFile, find_files, stdlib
from fairque.demo.progress import progress
from fairque.demo.report import Comparison, RunReport, report
from fairque.demo.show import JsonShow, Show, show_on_terminal
from fairque.demo.tasks import FileMeasure, measure_file
from fairque.demo.watch import Run
from fairque.demo.workers import WorkerDiedError, WorkerProcesses, demo_config, process_count
from fairque.queue.queue import TaskQueue
from fairque.utils.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import Redis, RedisCluster

SLOTS = 1  # of a worker process: parsing is pure computing, a second thread would only wait for the first
LOOK_SECONDS = 0.2  # between looks at a run
WARM_UP_FILES = 8
INTERRUPTED = 130  # as a shell says it


def run_demo(*, json_output: bool = False, limit: int | None = None) -> int:
    """Run the demo.

    Args:
        json_output: Print one JSON object on standard output, and nothing else.
        limit: Take about so many files only.

    Returns:
        The exit code: 0 if every task finished.

    Raises:
        EmbeddedServerError: There is no server to run, or it did not start.
    """
    files = find_files(limit)
    show: Show = JsonShow() if json_output else show_on_terminal()
    try:
        with show:
            comparison = _compare(files, show)
    except WorkerDiedError as error:
        sys.stderr.write(f"fairque demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("fairque demo: interrupted; the workers and the server have ended\n")
        return INTERRUPTED
    show.compare(comparison)
    return 1 if comparison.errors else 0


def _compare(files: Sequence[SourceFile], show: Show) -> Comparison:
    """Both runs: the same worker processes, the same files, pushed in the same order."""
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer.open("embedded://"))
        workers = stack.enter_context(WorkerProcesses(server.socket_path, process_count(), SLOTS))
        queue = stack.enter_context(TaskQueue(demo_config(server.socket_path)))
        client = queue.config.redis.create_redis_client()
        stack.callback(client.close)
        sizes = Counter(file.user for file in files)
        show.begin(sizes, workers.count)
        _warm_up(queue, files, workers)

        def cpu_seconds() -> float:
            return workers.cpu_seconds() + _server_cpu_seconds(client)

        def measure(kind: str, queue_user: Callable[[str], str]) -> tuple[RunReport, list[FileMeasure]]:
            before = cpu_seconds()
            run = Run(queue, files, queue_user)
            while not run.is_done:
                time.sleep(LOOK_SECONDS)
                workers.check()
                run.look()
                show.update(kind, progress(run.times, sizes))
            used = cpu_seconds() - before
            results = run.results()
            in_tasks = sum(result.cpu_seconds for result in results)
            done = report(run.times, sizes, cpu_seconds=used, task_seconds=in_tasks)
            show.end(kind, done)
            return done, results

        fifo, _ = measure("fifo", lambda _: "everyone")
        fair, results = measure("fair", lambda owner: owner)
        return Comparison(sizes, workers.count, fifo, fair, results)


def _warm_up(queue: TaskQueue, files: Sequence[SourceFile], workers: WorkerProcesses) -> None:
    """Do first what only a first run would pay for: starts, imports, cold files, the growth of the heaps."""
    by_size = {file.path: len((stdlib() / file.path).read_bytes()) for file in files}
    biggest = sorted(by_size, key=by_size.__getitem__)[-WARM_UP_FILES:]
    working: set[str | None] = set()
    while len(working) < workers.count:
        handles = queue.push_batch([measure_file(path) for path in biggest], user_id="warm-up")
        for handle in handles:
            while not handle.state().is_terminal:
                time.sleep(LOOK_SECONDS / 10)
                workers.check()
            working.add(handle.info().worker_id)


def _server_cpu_seconds(client: Redis | RedisCluster) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])
