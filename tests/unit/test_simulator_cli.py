"""`fairque simulate` from its options to what it prints and draws."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fairque.cli import main
from fairque.simulator.trace import read_trace

SMALL = ["--tasks", "2000", "--users", "30"]
TRACE = "time,user,cost\n0,big,1\n0,big,1\n0,big,1\n0.1,small,1\n"

Ran = tuple[int, str, str]
Simulate = Callable[..., Ran]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Simulate:
    """The command in this process: its exit code, stdout and stderr."""

    def run(*arguments: str) -> Ran:
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr(sys, "argv", ["fairque", "simulate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), out, err

    return run


def test_it_tells_its_story_without_any_option() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "fairque", "simulate"], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stderr == ""
    assert "20,000 tasks of 100 users" in ran.stdout
    assert "those that make up the" in ran.stdout
    rows = {line.split()[0]: line for line in ran.stdout.splitlines() if " / " in line}
    small = {name: float(row.split()[-3]) for name, row in rows.items() if name != "Waits"}
    assert small["fifo"] > 5 * small["fair-tasks"] > 5 * small["fair-time"]
    assert "2.00 (2.00)" in ran.stdout


def test_json_holds_every_policy_with_waits_and_fairness(simulate: Simulate) -> None:
    code, out, err = simulate(*SMALL, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["tasks"] == 2000
    assert sum(report["users"].values()) == report["policies"]["fifo"]["users_followed_for_lag"] <= 30
    assert list(report["policies"]) == ["fifo", "round-robin", "fair-tasks", "fair-time"]
    for name, one in report["policies"].items():
        assert sum(waits["tasks"] for waits in one["wait_seconds"].values()) == 2000
        for waits in one["wait_seconds"].values():
            assert 0 <= waits["p50"] <= waits["p95"] <= waits["p99"] <= waits["longest"] <= one["seconds"]
        bounds = one["by_tasks"]["lag_bound"], one["by_seconds"]["lag_bound"]
        assert [bound is not None for bound in bounds] == [name == "fair-tasks", name == "fair-time"]
    assert report["policies"]["fair-tasks"]["by_tasks"]["worst_lag"] <= 2


def test_only_the_named_policies_run(simulate: Simulate) -> None:
    _, out, _ = simulate(*SMALL, "--policy", "fair-time", "--policy", "fifo", "--json")
    assert list(json.loads(out)["policies"]) == ["fifo", "fair-time"]


def test_a_trace_of_ones_own_runs_on_the_slots_given(simulate: Simulate, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(TRACE, encoding="utf-8")
    code, out, _ = simulate("--trace", str(file), "--slots", "1")
    assert code == 0
    assert "4 tasks of 2 users, 4.00 s of work arriving over 0.10 s, on 1 slot (load 4000%)" in out
    _, out, _ = simulate("--trace", str(file), "--slots", "1", "--json")
    waits = {name: one["wait_seconds"]["medium"]["p50"] for name, one in json.loads(out)["policies"].items()}
    assert waits == {"fifo": 2.9, "round-robin": 1.9, "fair-tasks": 1.9, "fair-time": 0.9}


def test_a_weight_shortens_its_users_waits(simulate: Simulate, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    lines = ["time,user,cost", *(f"0,a=b,{1.01}" for _ in range(50)), *(f"0,c,{1.0}" for _ in range(50))]
    file.write_text("\n".join(lines), encoding="utf-8")

    def wait(*options: str) -> float:
        _, out, _ = simulate(
            "--trace", str(file), "--policy", "fair-tasks", "--json", "--slots", "1", *options
        )
        longest: float = json.loads(out)["policies"]["fair-tasks"]["wait_seconds"]["heavy"]["longest"]
        return longest

    assert wait("--weight", "a=b=4") < wait() * 0.7 < wait("--weight", "c=4") * 0.8


def test_a_trace_can_be_kept_and_run_again(simulate: Simulate, tmp_path: Path) -> None:
    file = str(tmp_path / "kept.jsonl")
    first = simulate(*SMALL, "--save-trace", file, "--json")
    assert len(read_trace(Path(file))) == 2000
    assert simulate("--trace", file, "--json") == first


@pytest.mark.parametrize(("name", "start"), [("out.png", b"\x89PNG\r\n\x1a\n"), ("out.svg", b"<?xml")])
def test_a_picture_is_drawn_without_a_screen(
    simulate: Simulate, tmp_path: Path, name: str, start: bytes
) -> None:
    file = tmp_path / name
    code, out, _ = simulate(*SMALL, "--plot", str(file))
    assert code == 0
    assert "fair-time" in out
    drawn = file.read_bytes()
    assert drawn.startswith(start)
    assert len(drawn) > 5000


@pytest.mark.parametrize(
    ("policies", "trace"),
    [(["fifo"], "time,user,cost\n0,only,1\n"), (["fair-time", "fifo"], TRACE)],
)
def test_a_picture_of_little_is_drawn_too(
    simulate: Simulate, tmp_path: Path, policies: list[str], trace: str
) -> None:
    (tmp_path / "trace.csv").write_text(trace, encoding="utf-8")
    options = [option for name in policies for option in ("--policy", name)]
    plot = tmp_path / "out.png"
    code, _, err = simulate("--trace", str(tmp_path / "trace.csv"), "--plot", str(plot), *options)
    assert (code, err) == (0, "")
    assert plot.stat().st_size > 5000


def test_without_matplotlib_the_extra_is_named_before_anything_runs(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    code, out, err = simulate("--plot", str(tmp_path / "a.png"))
    assert (code, out) == (2, "")
    assert err == "fairque: --plot needs matplotlib, which is not installed: pip install 'fairque[plot]'\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--slots", "0"], "--slots 0: must be from 1 to 100,000"),
        (["--users", "0"], "--users 0: must be from 1 to 100,000"),
        (["--load", "1000"], "--load 1000: must be from 0.01 to 100"),
        (["--tasks", "20000000"], "--tasks 20000000: must be from 1 to 10,000,000"),
        (["--tail", "1"], "--tail 1: must be from 1.05 to 100"),
        (["--arrivals", "x"], "--arrivals x: must be poisson or bursty"),
        (["--policy", "lifo"], "--policy lifo: must be one of fifo, round-robin, fair-tasks, fair-time"),
        (["--weight", "acme"], "--weight acme: must be USER=WEIGHT with a weight from 0.001 to 1,000"),
        (["--weight", "acme=0"], "--weight acme=0: must be USER=WEIGHT"),
        (["--weight", "acme=nan"], "--weight acme=nan: must be USER=WEIGHT"),
        (["--weight", "acme=2"], "--weight acme=2: the trace has no user 'acme'"),
        (["--trace", "none.csv"], "none.csv: cannot be read: No such file or directory"),
        (["--trace", "t.csv", "--users", "3"], "--users shapes a generated trace: leave it out, or --trace"),
        (["--plot", "out.gif"], "--plot out.gif: its name must end in .pdf, .png, .svg"),
        (["--plot", "none/out.png"], "--plot none/out.png: there is no folder none"),
        (["--save-trace", "out.txt"], "out.txt: its name must end in .csv, .jsonl, .ndjson"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    simulate: Simulate, options: list[str], message: str
) -> None:
    code, out, err = simulate(*options)
    assert (code, out) == (2, "")
    assert err.startswith(f"fairque: {message}")
    assert err.count("\n") == 1


def test_help_teaches_the_measures_and_gives_an_example(simulate: Simulate) -> None:
    code, out, _ = simulate("--help")
    words = " ".join(out.split())
    assert code == 0
    assert "Example: fairque simulate --trace tasks.csv --slots 20 --weight acme=2 --plot out.png" in words
    for taught in ("first half of it are heavy", "1 is even", "Worst lag is", "fair-time"):
        assert taught in words
