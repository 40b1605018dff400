"""`fairque dev`: a program that is changed while it runs."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairque import TaskQueue, task
from fairque.utils.embedded import EmbeddedServer
from tests.support.prepared import Prepared
from tests.support.processes import is_alive
from tests.support.waiting import until

TASKS = """
from fairque import task
import dev_helper

@task
def answer() -> str:
    return dev_helper.WORD

@task(cron="* * * * * *", user_id="clock")
def tick() -> str:
    return dev_helper.WORD
"""


@task(name="dev_tasks:answer")
def answer() -> str:
    """Here only its name counts."""
    raise NotImplementedError


class Dev:
    """`fairque dev dev_tasks` in a folder of its own."""

    def __init__(self, prepared: Prepared, folder: Path, *arguments: str) -> None:
        self._log = folder / "log"
        with self._log.open("w") as log:
            self.process = prepared.start("fairque", "dev", *arguments, stdout=log, stderr=log, cwd=folder)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def says(self, text: str, times: int = 1) -> None:
        until(lambda: self.log.count(text) >= times, f"{text} in {self._log}", within=30, every=0.05)

    @property
    def url(self) -> str:
        """As it tells people."""
        self.says("export FAIRQUE_REDIS__URL=")
        found = re.search(r"FAIRQUE_REDIS__URL=(\S+)", self.log)
        assert found is not None
        return found[1]

    @property
    def workers(self) -> list[int]:
        """The processes that have worked, one after the other."""
        return [int(pid) for pid in re.findall(r"worker \S+-(\d+)-\w+ serves", self.log)]

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dev_tasks.py").write_text(TASKS)
    (tmp_path / "dev_helper.py").write_text("WORD = 'one'\n")
    return tmp_path


@pytest.fixture
def dev(prepared: Prepared, folder: Path) -> Iterator[Callable[..., Dev]]:
    started: list[Dev] = []

    def start(*arguments: str) -> Dev:
        started.append(Dev(prepared, folder, "dev_tasks", *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end()
        until(lambda one=one: not any(map(is_alive, one.workers)), "the end of the workers")  # type: ignore[misc]


def result_from(url: str) -> str:
    """What the function gives that is pushed from outside."""
    with TaskQueue(url) as queue:
        return queue.push(answer(), user_id="acme").result(timeout=20)


def test_a_change_of_the_code_holds_from_the_next_task_on(dev: Callable[..., Dev], folder: Path) -> None:
    one = dev()
    assert result_from(one.url) == "one"
    (folder / "dev_helper.py").write_text("WORD = 'two'\n")
    one.says("dev_helper.py changed: starting anew")
    one.says("serves queue", 4)  # a scheduler and a worker, twice
    assert result_from(one.url) == "two"
    assert len(set(one.workers)) == 2
    with TaskQueue(one.url) as queue:
        assert queue.stats().failed == 0
    assert one.end(signal.SIGINT) == 0
    assert "Traceback" not in one.log


def test_what_is_scheduled_runs(dev: Callable[..., Dev]) -> None:
    with TaskQueue(dev().url) as queue:
        until(
            lambda: any(user.user_id == "clock" and user.served for user in queue.users()),
            "a tick that has run",
            within=20,
            every=0.1,
        )


def test_a_syntax_error_is_shown_and_the_next_change_mends_it(dev: Callable[..., Dev], folder: Path) -> None:
    (folder / "dev_helper.py").write_text("WORD = (\n")
    one = dev()
    one.says("SyntaxError")
    one.says("it has ended, exit code 2: waiting for a change of the code")
    (folder / "dev_helper.py").write_text("WORD = 'mended'\n")
    assert result_from(one.url) == "mended"


def test_a_schedule_that_is_wrong_is_shown_and_waited_for(dev: Callable[..., Dev], folder: Path) -> None:
    (folder / "dev_tasks.py").write_text(TASKS.replace("def tick()", "def tick(needed)"))
    one = dev()
    one.says("dev_tasks:tick cannot be scheduled by @task(cron=…)")
    one.says("waiting for a change of the code")
    assert "Traceback" not in one.log
    (folder / "dev_tasks.py").write_text(TASKS)
    assert result_from(one.url) == "one"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_it_however_it_ends(dev: Callable[..., Dev], number: signal.Signals) -> None:
    one = dev()
    one.says("serves queue", 2)
    path = Path(one.url.removeprefix("unix://"))
    assert path.exists()
    code = one.end(number)
    assert code == (0 if number == signal.SIGTERM else -number)
    until(lambda: not any(map(is_alive, one.workers)), "the end of the worker")
    until(lambda: not path.exists(), "the end of the server")


def test_a_folder_keeps_the_data(dev: Callable[..., Dev], folder: Path) -> None:
    one = dev("--folder", str(folder / "kept data"))
    assert result_from(one.url) == "one"
    assert one.end(signal.SIGINT) == 0
    url = f"embedded://{str(folder).replace(' ', '%20')}/kept%20data"
    with EmbeddedServer.open(url) as server, TaskQueue(f"unix://{server.socket_path}") as queue:
        assert queue.stats().finished >= 1


def test_a_configuration_counts_but_for_its_server(dev: Callable[..., Dev], folder: Path) -> None:
    (folder / "fairque.yaml").write_text("redis: {host: nowhere.invalid}\nqueue: {name: mail}\n")
    one = dev("--concurrency", "3")
    one.says("serves queue fq:{mail:0}, 3 at once")


def test_a_module_that_is_not_there_ends_it_with_one_clear_line(prepared: Prepared, folder: Path) -> None:
    one = Dev(prepared, folder, "no_such_module")
    assert one.process.wait(timeout=20) == 2
    assert one.log == (
        "fairque: there is no module 'no_such_module': start in the folder that holds it, or set PYTHONPATH\n"
    )
