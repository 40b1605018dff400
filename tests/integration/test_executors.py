"""Threads and processes for plain functions: what runs where, what ends what, and what is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from fairque import (
    AsyncTaskQueue,
    AsyncWorker,
    FairQueueConfig,
    Task,
    TaskCanceledError,
    TaskFailedError,
    TaskHandle,
    TaskHandler,
    TaskQueue,
    TaskState,
    Worker,
)
from tests.support import executor_tasks as tasks
from tests.support import worker_tasks
from tests.support.prepared import ROOT
from tests.support.waiting import until

StartWorker: TypeAlias = Callable[..., Worker]

EXECUTORS = ("thread", "process")
SLOW = 30.0  # seconds: a process that imports on a busy machine


@pytest.fixture
def queue(config: FairQueueConfig) -> Iterator[TaskQueue]:
    with TaskQueue(config) as queue:
        yield queue


@pytest.fixture
def start(config: FairQueueConfig) -> Iterator[StartWorker]:
    """Starts workers in the background, and stops them after the test; then no process of theirs is left."""
    started: list[Worker] = []
    before = children()

    def start_one(**options: Any) -> Worker:
        worker = Worker(
            config, **{"concurrency": 4, "graceful_shutdown_timeout": 5.0, "modules": [], **options}
        )
        worker.start()
        started.append(worker)
        return worker

    yield start_one
    for worker in started:
        worker.stop()
    assert children() == before


def children() -> set[int]:
    """The processes of this one, zombies too."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has ended meanwhile
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def is_alive(pid: int) -> bool:
    """Whether it runs: a zombie does not, nor one whose number is another's by now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until_gone(pid: int) -> None:
    until(lambda: not is_alive(pid), f"process {pid} is gone")


def number_in(journal: Path, word: str) -> int:
    """The number behind a word that a task wrote."""

    def found() -> list[int]:
        return [int(line.split()[1]) for line in worker_tasks.lines(journal) if line.startswith(f"{word} ")]

    until(found, f"it wrote {word}", within=SLOW)
    return found()[-1]


def failure(handle: TaskHandle[Any]) -> tuple[str, str]:
    with pytest.raises(TaskFailedError) as caught:
        handle.result(timeout=SLOW)
    return caught.value.failure_type, caught.value.error


def warm(queue: TaskQueue, count: int = 1) -> set[int]:
    """Have processes ready: what a test measures is not their start."""
    handles = queue.push_batch([tasks.in_process() for _ in range(count)], user_id="warm")
    return {handle.result(timeout=SLOW) for handle in handles}


def run_script(script: Path, config: FairQueueConfig) -> subprocess.CompletedProcess[str]:
    where = [str(config.redis.unix_socket_path), config.queue.prefix]
    return subprocess.run(
        [sys.executable, str(script), *where],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- where it runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_worker_says_where_plain_functions_run_and_a_function_that_says_it_too_wins(
    queue: TaskQueue, start: StartWorker, executor: str
) -> None:
    start(executor=executor)
    here = os.getpid()
    plain, in_process, in_thread, on_loop = (
        queue.push(task, user_id="acme")
        for task in (tasks.where(), tasks.in_process(), tasks.in_thread(), tasks.async_where())
    )
    assert (plain.result(timeout=SLOW)["pid"] == here) is (executor == "thread")
    assert in_process.result(timeout=SLOW) != here
    assert (in_thread.result(timeout=SLOW), on_loop.result(timeout=SLOW)) == (here, here)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_task_knows_its_circumstances_in_each_executor(
    queue: TaskQueue, start: StartWorker, executor: str
) -> None:
    start(executor=executor, worker_id="w 1")
    handle = queue.push(tasks.where(), user_id="a:b", task_id="c:d", timeout=20)
    found = handle.result(timeout=SLOW)
    remaining = found.pop("remaining")
    assert 15 < remaining <= 20  # what it takes to start a process is not the task's time
    del found["pid"]
    assert found == {
        "same": True,
        "user": "a:b",
        "task": "c:d",
        "attempt": 1,
        "worker": "w 1",
        "canceled": False,
    }


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_a_task_sets_in_context_variables_the_next_one_does_not_see(
    queue: TaskQueue, start: StartWorker, executor: str
) -> None:
    start(executor=executor, concurrency=1)
    handles = queue.push_batch([tasks.turn(value) for value in "abc"], user_id="acme")
    assert [handle.result(timeout=SLOW) for handle in handles] == ["none"] * 3


@pytest.mark.parametrize("executor", EXECUTORS)
def test_inputs_xcom_and_published_results_are_the_same_in_each_executor(
    queue: TaskQueue, start: StartWorker, executor: str
) -> None:
    start(executor=executor)
    first = tasks.greet("world")
    second = tasks.greet(first.output, greeting="again")
    handle = queue.push(first >> second, user_id="acme")
    assert handle.result(timeout=SLOW) == "again hello world"
    look_alike: Any = {"\0output": "x"}  # what marks an output must come through as it is
    nested = worker_tasks.same([look_alike])
    outer = worker_tasks.same([nested.output, look_alike])
    assert queue.push(nested >> outer, user_id="acme").result(timeout=SLOW) == [[look_alike], look_alike]
    assert [queue.push(tasks.read_and_write("k"), user_id="acme").result(timeout=SLOW) for _ in range(3)] == [
        1,
        2,
        3,
    ]
    queue.push(tasks.published(42), user_id="acme").result(timeout=SLOW)
    xcom = queue.xcom("acme")
    assert (xcom.pull("k"), xcom.pull("published")) == (3, 42)
    around = queue.push(tasks.plain_around_async(3), user_id="acme")
    assert around.result(timeout=SLOW) == ["acme", 3]


@pytest.mark.parametrize("codec", ["msgpack", "pickle"])
def test_a_process_reads_and_writes_the_queue_s_codec(
    make_config: Callable[..., FairQueueConfig], codec: str
) -> None:
    with TaskQueue(make_config(codec=codec)) as queue, Worker(queue, executor="process", modules=[]):
        first = worker_tasks.same(b"\x00\xff")
        handle = queue.push(first >> worker_tasks.same(first.output), user_id="acme")
        assert handle.result(timeout=SLOW) == b"\x00\xff"


def test_processes_are_used_again_and_started_only_as_needed(queue: TaskQueue, start: StartWorker) -> None:
    before = children()
    start(concurrency=8)
    assert children() == before
    pids = {warm(queue).pop() for _ in range(5)}
    assert len(pids) == 1
    assert children() - before == pids


async def test_the_asyncio_worker_runs_processes_from_any_loop(config: FairQueueConfig) -> None:
    before = children()
    async with AsyncTaskQueue(config) as queue:
        worker = AsyncWorker(queue, executor="process", modules=[])
        running = asyncio.create_task(worker.run())
        handle = await queue.push(tasks.where(), user_id="acme")
        assert (await handle.result(timeout=SLOW))["pid"] != os.getpid()
        worker.stop()
        await running
    assert children() == before


def test_twenty_processes_at_once_are_twenty_tasks_at_once(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    start(concurrency=20)
    handles = queue.push_batch([tasks.hang(str(journal), 60.0) for _ in range(20)], user_id="acme")
    until(lambda: len(worker_tasks.lines(journal)) == 20, "twenty are running", within=60)
    pids = {int(line.split()[1]) for line in worker_tasks.lines(journal)}
    assert len(pids) == 20
    for handle in handles:
        handle.cancel()


def test_functions_of_a_script_run_in_processes_that_import_it(
    config: FairQueueConfig, tmp_path: Path
) -> None:
    script = tmp_path / "my program.py"
    script.write_text(
        "import os, sys\n"
        "from fairque import FairQueueConfig, QueueConfig, RedisConfig, TaskQueue, Worker, task\n"
        "class Odd(Exception): pass\n"
        "@task(executor='process', max_retries=0)\n"
        "def double(n: int) -> list[int]:\n    return [2 * n, os.getpid()]\n"
        "@task(executor='process', max_retries=0)\n"
        "def odd() -> None:\n    raise Odd('odd')\n"
        "if __name__ == '__main__':\n"
        "    config = FairQueueConfig(redis=RedisConfig(unix_socket_path=sys.argv[1]),\n"
        "                             queue=QueueConfig(prefix=sys.argv[2]))\n"
        "    with TaskQueue(config) as queue:\n"
        "        handles = [queue.push(double(4), user_id='a'), queue.push(odd(), user_id='a')]\n"
        "        Worker(queue, burst=True).run()\n"
        "        twice, pid = handles[0].result(timeout=1)\n"
        "        print(twice, pid != os.getpid(), handles[1].info().error)\n"
    )
    done = run_script(script, config)
    assert done.stdout == "8 True Odd: odd\n", done.stderr


def test_a_program_that_starts_its_worker_while_it_is_imported_is_told_so(
    config: FairQueueConfig, tmp_path: Path
) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import sys\n"
        "from fairque import FairQueueConfig, QueueConfig, RedisConfig, TaskQueue, Worker, task\n"
        "@task(executor='process', max_retries=0)\n"
        "def nothing() -> None: ...\n"
        "config = FairQueueConfig(redis=RedisConfig(unix_socket_path=sys.argv[1]),\n"
        "                         queue=QueueConfig(prefix=sys.argv[2]))\n"
        "with TaskQueue(config) as queue:\n"
        "    handle = queue.push(nothing(), user_id='a', task_id='t')\n"
        "    Worker(queue, burst=True).run()\n"
        "    print(handle.info().error)\n"
    )
    done = run_script(script, config)
    assert "put what is to run below if __name__ == '__main__':" in done.stdout


# --- what goes wrong in it ----------------------------------------------------------------------------


@pytest.mark.parametrize("executor", EXECUTORS)
def test_whatever_a_task_raises_reads_the_same_in_each_executor_and_is_retried_by_the_same_rules(
    queue: TaskQueue, start: StartWorker, executor: str
) -> None:
    start(executor=executor)
    expected = {  # how it reads, and after how many attempts it was given up
        "ValueError": ("failed", "ValueError: plain", 2),
        "Custom": ("failed", "Custom: 7: seven", 1),
        "Unpicklable": ("failed", "Unpicklable: it holds a lock", 2),
        "Unspeakable": ("failed", "Unspeakable", 2),
        "UnspeakableExit": ("failed", "RuntimeError: the task raised UnspeakableExit", 2),
        "Local": ("failed", "LocalError: of a class that nobody else knows", 2),
        "chained": ("failed", "ValueError: the effect", 2),
        "recursion": ("failed", "RecursionError: maximum recursion depth exceeded", 2),
        "sys.exit": ("failed", "RuntimeError: the task raised SystemExit: 5", 2),
        "KeyboardInterrupt": ("failed", "RuntimeError: the task raised KeyboardInterrupt: ", 2),
        "StopIteration": ("failed", "RuntimeError: the task raised StopIteration: 1", 2),
        "Retry": ("failed", "Retry: again", 2),
        "OwnRetry": ("failed", "OwnRetry: ", 2),
        "BadRetry": ("invalid", "OwnRetry", 1),
        "unencodable": ("invalid", "EncodeError: result cannot be carried as json", 1),
        "lazy": ("invalid", "KeyError: 'lazy column'", 1),
        "huge": ("invalid", "PayloadTooLargeError: the encoded result has 2,000,002 bytes", 1),
    }
    handles = {way: queue.push(tasks.fail(way), user_id="acme") for way in expected}
    for way, (failure_type, error, attempts) in expected.items():
        found = failure(handles[way])
        assert found[0] == failure_type, way
        assert found[1].startswith(error), way
        assert handles[way].info().attempt == attempts, way
    traceback = handles["chained"].info().history[-1].traceback
    assert "KeyError: 'the cause'" in traceback
    assert "in _chained" in traceback
    large = queue.push(tasks.fail("large"), user_id="acme").result(timeout=SLOW)
    assert len(large) == 1_000_000


@pytest.mark.parametrize("executor", EXECUTORS)
def test_only_what_retry_on_names_is_retried_though_it_cannot_be_unpickled(
    queue: TaskQueue, start: StartWorker, executor: str
) -> None:
    start(executor=executor)
    named = queue.push(tasks.fail_unless_retried("Custom"), user_id="acme")
    other = queue.push(tasks.fail_unless_retried("ValueError"), user_id="acme")
    assert named.result(timeout=SLOW) == "retried"
    assert failure(other) == ("failed", "ValueError: plain")
    assert other.info().attempt == 1


def test_a_segfault_is_that_task_s_failure_and_its_neighbours_finish(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    start()
    neighbour = queue.push(tasks.hang(str(tmp_path / "journal"), 1.0), user_id="acme")
    broken = queue.push(tasks.segfault(), user_id="acme")
    assert failure(broken) == ("failed", "TaskProcessError: the task's process was killed by SIGSEGV")
    assert neighbour.result(timeout=SLOW) == "slept"
    assert (neighbour.info().attempt, broken.info().crashes) == (1, 0)


@pytest.mark.parametrize("code", [0, 3])
def test_a_task_that_ends_its_process_is_retried_in_another_one(
    queue: TaskQueue, start: StartWorker, code: int
) -> None:
    start(concurrency=1)
    handle = queue.push(tasks.exit_at_first(code), user_id="acme")
    assert is_alive(handle.result(timeout=SLOW))
    info = handle.info()
    assert (info.attempt, info.crashes, info.history[0].type) == (2, 0, "failed")
    assert info.history[0].error.endswith(f"ended with exit code {code} before the task did")


def test_a_task_that_cuts_its_connection_is_killed_and_fails(queue: TaskQueue, start: StartWorker) -> None:
    start(concurrency=1)
    assert failure(queue.push(tasks.close_everything(), user_id="acme"))[0] == "failed"
    warm(queue)


def test_a_process_that_dies_while_what_it_forked_goes_on_is_noticed(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    start(concurrency=1)
    handle = queue.push(tasks.fork_and_die(str(tmp_path / "journal")), user_id="acme")
    try:
        assert "killed by SIGKILL" in failure(handle)[1]
    finally:
        os.kill(number_in(tmp_path / "journal", "fork"), signal.SIGKILL)


def test_a_process_that_dies_while_it_is_idle_harms_no_task(queue: TaskQueue, start: StartWorker) -> None:
    start(concurrency=1)
    pid = warm(queue).pop()
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in children(), "it has been collected")
    assert warm(queue) != {pid}


def test_what_a_task_prints_is_shown_and_disturbs_nothing(config: FairQueueConfig, tmp_path: Path) -> None:
    with (
        worker_command(config, tmp_path, "tests.support.executor_tasks") as worker,
        TaskQueue(config) as queue,
    ):
        queue.push(tasks.shout("loud and clear\n"), user_id="acme").result(timeout=SLOW)
        worker.send_signal(signal.SIGTERM)
        out, err = worker.communicate(timeout=20)
    assert out.count("loud and clear") == 2
    assert "loud and clear" in err


def test_a_function_that_no_import_brings_is_told_so(queue: TaskQueue, start: StartWorker) -> None:
    from fairque import task  # noqa: PLC0415 - to define it here

    @task(name="executors.within", executor="process", max_retries=0)
    def within() -> None: ...

    start()
    failure_type, error = failure(queue.push(within(), user_id="acme"))
    assert failure_type == "failed"
    assert "define it at the top of a module" in error


def test_signals_and_pools_of_a_task_s_own_work_in_a_process(queue: TaskQueue, start: StartWorker) -> None:
    start(concurrency=2)
    signals = queue.push(tasks.signal_itself(), user_id="acme")
    pool = queue.push(tasks.use_a_pool(), user_id="acme")
    assert signals.result(timeout=SLOW) == ["alarm", str(-signal.SIGINT)]
    assert pool.result(timeout=SLOW) == [1, 2]


def test_threads_that_a_task_leaves_do_not_keep_the_worker(queue: TaskQueue, start: StartWorker) -> None:
    worker = start(concurrency=1)
    pid = queue.push(tasks.leave_a_thread(), user_id="acme").result(timeout=SLOW)
    assert warm(queue) == {pid}
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 6.0
    assert not is_alive(pid)


# --- what is ended from outside -----------------------------------------------------------------------


def test_a_process_past_its_timeout_is_killed_and_its_neighbours_are_unharmed(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    start(concurrency=3)
    warm(queue, 3)
    near, late, stuck = (tmp_path / name for name in ("near", "late", "stuck"))
    neighbour = queue.push(tasks.hang(str(near), 2.0), user_id="acme")
    hung = queue.push(tasks.hang(str(late)), user_id="acme", timeout=0.3)
    deaf = queue.push(tasks.hold_the_gil(str(stuck)), user_id="acme", timeout=0.3)
    assert failure(hung) == ("timeout", "TimeoutError: it ran longer than its timeout of 0.3 s")
    assert failure(deaf)[0] == "timeout"
    for journal in (late, stuck):
        until_gone(number_in(journal, "started"))
    assert warm(queue)  # in the place of the one that was killed
    assert neighbour.result(timeout=SLOW) == "slept"
    assert neighbour.info().attempt == 1


def test_a_program_that_a_task_runs_is_killed_with_it(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    start(concurrency=1)
    handle = queue.push(tasks.run_a_program(str(tmp_path / "journal")), user_id="acme", timeout=0.5)
    pid = number_in(tmp_path / "journal", "program")
    assert failure(handle)[0] == "timeout"
    until_gone(pid)


def a_thread_is_idle() -> bool:
    frames = sys._current_frames()
    threads = [thread for thread in threading.enumerate() if thread.name == "fairque-task"]
    return any(frames[thread.ident or 0].f_code.co_name == "_next" for thread in threads)


def test_a_busy_thread_past_its_timeout_is_really_ended(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    start(concurrency=1)
    journal = tmp_path / "journal"
    handle = queue.push(tasks.count_up_stubbornly(str(journal)), user_id="acme", timeout=0.2)
    assert failure(handle)[0] == "timeout"
    until(lambda: worker_tasks.lines(journal)[1:] == ["ended"], "the loop has ended")
    assert handle.state() is TaskState.FAILED
    until(a_thread_is_idle, "its thread waits for work")
    before = threading.active_count()
    for number in range(5):  # and is used again
        assert queue.push(worker_tasks.add(number, 1), user_id="acme").result(timeout=5) == number + 1
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("function", "executor"),
    [
        (tasks.count_up, "thread"),
        (tasks.count_up, "process"),
        (tasks.busy_with_xcom, "thread"),
        (tasks.busy_with_xcom, "process"),
        (worker_tasks.async_wait_until_canceled, "thread"),
    ],
)
def test_cancel_ends_a_running_task_within_a_heartbeat(
    queue: TaskQueue, start: StartWorker, tmp_path: Path, function: Any, executor: str
) -> None:
    start(concurrency=1, executor=executor, lease=3.0)
    journal = tmp_path / "journal"
    handle = queue.push(function(str(journal)), user_id="acme")
    until(lambda: worker_tasks.lines(journal), "it is running", within=SLOW)
    began = time.monotonic()
    assert handle.cancel()
    # Its slot, the only one, is free when it has ended.
    assert queue.push(worker_tasks.async_add(1, 1), user_id="acme").result(timeout=SLOW) == 2
    # A heartbeat is 1 s, and a thread is told half a second before it is interrupted.
    assert time.monotonic() - began < 1.0 + (0.5 if executor == "thread" else 0.0) + 1.0
    with pytest.raises(TaskCanceledError):
        handle.result(timeout=5)
    if executor == "process" and function is tasks.count_up:
        until_gone(number_in(journal, "started"))


def test_a_thread_that_looks_whether_it_is_wanted_ends_in_its_own_way(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    start(concurrency=1, lease=0.6)
    journal = tmp_path / "journal"
    handle = queue.push(tasks.clean_up(str(journal)), user_id="acme")
    until(lambda: worker_tasks.lines(journal), "it is running")
    handle.cancel()
    until(lambda: worker_tasks.lines(journal) == ["started", "cleaned up"], "it cleaned up")


def test_a_function_that_must_not_be_interrupted_is_not(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    start(concurrency=1, lease=0.6)
    journal = tmp_path / "journal"
    handle = queue.push(tasks.count_on(str(journal)), user_id="acme", timeout=0.2)
    assert failure(handle)[0] == "timeout"
    until(lambda: worker_tasks.lines(journal) == ["started", "ended by itself"], "it ended by itself")


def test_a_handler_in_a_thread_is_interrupted_too(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    ended = threading.Event()

    class Busy(TaskHandler):
        def process_task(self, task: Task[Any]) -> None:
            try:
                while True:
                    sum(range(1_000))
            finally:
                ended.set()

    start(handler=Busy(), executor="process")
    handle = queue.push(Task.create(payload=1, timeout=0.2, max_retries=0), user_id="acme")
    assert failure(handle)[0] == "timeout"
    assert ended.wait(10)


def test_tasks_that_are_interrupted_at_every_moment_harm_no_other(
    queue: TaskQueue, start: StartWorker
) -> None:
    """Timeouts that fall before, into and after the call: each strikes its own task or nobody."""
    start(concurrency=8)
    short = [worker_tasks.sleep(n / 10_000).with_options(timeout=0.005, user_id="short") for n in range(100)]
    whole = [worker_tasks.add(n, 1).with_options(user_id="whole") for n in range(300)]
    others = queue.push_batch(short)
    ended = queue.push_batch(whole)
    assert [handle.result(timeout=SLOW) for handle in ended] == [n + 1 for n in range(300)]
    until(lambda: queue.stats().started == 0 and queue.stats().queued == 0, "all have ended", within=SLOW)
    for handle in others:
        info = handle.info()
        assert info.state is TaskState.FINISHED or info.failure_type == "timeout"


# --- the end of the worker ----------------------------------------------------------------------------


def test_what_is_not_done_when_the_grace_ends_is_killed_and_handed_back(
    queue: TaskQueue, start: StartWorker, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    queue.stats()  # it is connected
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    worker = start(graceful_shutdown_timeout=0.5)
    handle = queue.push(tasks.hang(str(journal)), user_id="acme")
    pid = number_in(journal, "started")
    worker.stop()
    assert not is_alive(pid)
    info = handle.info()
    assert (info.state, info.crashes, info.failures) == (TaskState.QUEUED, 0, 0)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


@pytest.mark.parametrize("pause", [0.0, 0.05, 0.1, 0.3, 0.6])
def test_a_worker_that_stops_while_its_processes_start_leaves_none(
    queue: TaskQueue, start: StartWorker, tmp_path: Path, pause: float
) -> None:
    queue.stats()  # it is connected
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    worker = start(concurrency=3, graceful_shutdown_timeout=0.0)
    handles = queue.push_batch([tasks.hang(str(tmp_path / "journal")) for _ in range(3)], user_id="acme")
    time.sleep(pause)
    handles[0].cancel()
    worker.stop()
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    states = [handle.state() for handle in handles]
    assert states == [TaskState.CANCELED, TaskState.QUEUED, TaskState.QUEUED]
    assert [handle.info().failures for handle in handles] == [0] * 3


def test_a_loop_that_is_torn_down_takes_its_processes_along(
    queue: TaskQueue, config: FairQueueConfig, tmp_path: Path
) -> None:
    before, journal = children(), tmp_path / "journal"
    handle = queue.push(tasks.hang(str(journal)), user_id="acme")
    pids: list[int] = []

    async def main() -> None:
        worker = asyncio.create_task(AsyncWorker(config, modules=[]).run())
        pids.append(await asyncio.to_thread(number_in, journal, "started"))
        assert not worker.done()

    asyncio.run(main())
    assert not is_alive(pids[0])
    assert children() == before
    info = handle.info()
    assert (info.state, info.crashes, info.failures) == (TaskState.QUEUED, 0, 0)


def worker_command(config: FairQueueConfig, folder: Path, module: str, *, grace: float = 5.0) -> Any:
    file = folder / "fairque.yaml"
    file.write_text(
        f"redis: {{unix_socket_path: {config.redis.unix_socket_path}}}\n"
        f"queue: {{prefix: {config.queue.prefix}}}\n"
        f"workers: {{w: {{graceful_shutdown_timeout: {grace}}}}}\n"
    )
    command = [sys.executable, "-m", "fairque", "worker", module, "--config", str(file)]
    return subprocess.Popen(
        [*command, "--executor", "process"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_lets_processes_end_their_tasks(
    config: FairQueueConfig, queue: TaskQueue, tmp_path: Path, number: signal.Signals
) -> None:
    journal = tmp_path / "journal"
    handle = queue.push(tasks.hang(str(journal), 1.0), user_id="acme")
    with worker_command(config, tmp_path, "tests.support.executor_tasks") as worker:
        pid = number_in(journal, "started")
        os.killpg(worker.pid, number)  # Ctrl-C in a terminal
        os.kill(pid, number)  # and who signals every process of a service
        worker.communicate(timeout=20)
    assert worker.returncode == 0
    assert handle.result(timeout=1) == "slept"
    assert not is_alive(pid)


@pytest.mark.parametrize("function", [tasks.hang, tasks.hold_the_gil, None])
def test_no_process_outlives_a_worker_that_is_killed(
    config: FairQueueConfig, queue: TaskQueue, tmp_path: Path, function: Any
) -> None:
    journal = tmp_path / "journal"
    with worker_command(config, tmp_path, "tests.support.executor_tasks") as worker:
        if function is None:  # an idle one
            pid = warm(queue).pop()
        else:
            queue.push(function(str(journal)), user_id="acme")
            pid = number_in(journal, "started")
        assert is_alive(pid)
        worker.kill()
        until_gone(pid)
        worker.communicate(timeout=20)


def test_an_idle_process_takes_little_memory(queue: TaskQueue, start: StartWorker) -> None:
    start()
    taken = queue.push(tasks.memory(), user_id="acme").result(timeout=SLOW)
    assert taken < 60, f"{taken:.0f} MB"
