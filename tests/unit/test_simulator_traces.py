"""Traces from files, and generated ones."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairque.core.exceptions import ConfigurationError
from fairque.simulator.generate import Workload, generate
from fairque.simulator.trace import Arrival, TraceError, read_trace, write_trace
from tests.support.traces import batch

ACME = '{"time":10,"user":"acme","group":"web","cost":1.5}'
EXPECTED = [Arrival(0, "acme", "web", 1500), Arrival(500, "zoo", "", 1)]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


# --- files ---


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "time,user,group,cost\n10,acme,web,1.5\n10.5,zoo,,0\n"),
        ("a.csv", "\ufeffcost,extra,user,time,group\r\n1.5,x,acme,10,web\r\n0.001,x,zoo,10.5,\r\n"),
        ("a.csv", 'time,user,group,cost\n10.5,"zoo",,0\n10,"acme",web,1.5\n'),
        ("a.jsonl", f'{ACME}\n\n{{"time":10.5,"user":"zoo","cost":0}}'),
        ("a.ndjson", f'{{"time":10.5,"user":"zoo","cost":0,"group":null}}\n{ACME}\n'),
    ],
)  # fmt: skip
def test_a_trace_is_read_in_the_order_of_its_times(tmp_path: Path, name: str, content: str) -> None:
    assert read_trace(written(tmp_path, name, content)) == EXPECTED


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_trace_that_was_written_is_read_back(tmp_path: Path, name: str) -> None:
    work = generate(Workload(tasks=500)) + batch('odd, "é"\n🎌', 3, seconds=0.123, at=1e6, group="g,1")
    write_trace(tmp_path / name, work)
    assert read_trace(tmp_path / name) == work


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "a.txt: its name must end in .csv, .jsonl, .ndjson"),
        ("a.csv", "", "a.csv: holds no task: give at least one line"),
        ("a.csv", "time,user\n1,u\n", "a.csv:1: the first line must name .*; it is 'time,user'"),
        ("a.csv", "time;user;cost\n1;u;1\n", "a.csv:1: the first line .* commas; it is 'time;user;cost'"),
        ("a.csv", "1,u,1\n2,u,1\n", "a.csv:1: the first line must name .*; it is '1,u,1'"),
        ("a.csv", "time,user,cost\n1,u,1\n2,u\n", "a.csv:3: cost: is missing"),
        ("a.csv", "time,user,cost\n1,u,1\nsoon,u,1\n", "a.csv:3: time: must be a number of seconds"),
        ("a.csv", "time,user,cost\n1,u,-1\n", "a.csv:2: cost: must be .* from 0 to 1,000,000, not '-1'"),
        ("a.csv", "time,user,cost\n1,u,inf\n", "a.csv:2: cost: .* not 'inf'"),
        ("a.csv", "time,user,cost\n1,u,nan\n", "a.csv:2: cost: .* not 'nan'"),
        ("a.csv", "time,user,cost\n1,,1\n", "a.csv:2: user: is empty: give 1 to 256 characters"),
        ("a.csv", f"time,user,cost\n1,{'x' * 257},1\n", "a.csv:2: user: has 257 characters"),
        ("a.csv", f"time,user,cost,group\n1,u,1,{'x' * 257}\n", "a.csv:2: group: must be text of"),
        ("a.csv", 'time,user,cost\n1,"u,1\n', "a.csv: is not CSV: unexpected end"),
        ("a.csv", b"time,user,cost\n1,\xff,1\n", r"a.csv: is not UTF-8 text \(byte 17\)"),
        ("a.jsonl", '{"time":1,"user":"u","cost":1}\n{"time"\n', "a.jsonl:2: is not JSON: "),
        ("a.jsonl", "[1]\n", r"a.jsonl:1: must be an object with time, user and cost, not \[1\]"),
        ("a.jsonl", '{"time":true,"user":"u","cost":1}', "a.jsonl:1: time: .* not True"),
        ("a.jsonl", '{"time":1,"user":7,"cost":1}', "a.jsonl:1: user: must be a string, not int: 7"),
        ("a.jsonl", '{"time":1,"user":"u","cost":[1]}', r"a.jsonl:1: cost: .* not \[1\]"),
        ("a.jsonl", '{"time":1,"user":"u","cost":1,"group":3}', "a.jsonl:1: group: must be text .* not 3"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_file_line_field_and_value(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(TraceError, match=message) as caught:
        read_trace(written(tmp_path, name, content))
    assert caught.value.file == str(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_are_told_of(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.csv: cannot be read: No such file"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(TraceError, match=r"a\.csv: cannot be written: No such file"):
        write_trace(tmp_path / "none" / "a.csv", EXPECTED)


# --- generated ---


@given(
    st.integers(1, 50), st.integers(1, 300), st.sampled_from(["poisson", "bursty"]), st.integers(0, 2**63 - 1)
)
def test_the_same_seed_gives_the_same_trace(users: int, tasks: int, arrivals: str, seed: int) -> None:
    workload = Workload(users=users, tasks=tasks, arrivals=arrivals, seed=seed)  # type: ignore[arg-type]
    work = generate(workload)
    assert work == generate(workload)
    assert len(work) == tasks
    assert len({arrival.user for arrival in work}) <= users
    assert work[0].time == 0
    assert all(earlier.time <= later.time for earlier, later in pairwise(work))
    assert all(arrival.cost >= 1 for arrival in work)


def test_another_seed_gives_another_trace() -> None:
    assert generate(Workload(seed=1)) != generate(Workload(seed=2))


@pytest.mark.parametrize("load", [0.5, 0.95, 3])
def test_the_work_offered_is_the_load_of_the_slots(load: float) -> None:
    work = generate(Workload(load=load, slots=20, arrivals="poisson"))
    offered = sum(arrival.cost for arrival in work) / (work[-1].time * 20)
    assert offered == pytest.approx(load, rel=0.01)


def test_users_follow_zipf() -> None:
    counts = Counter(arrival.user for arrival in generate(Workload(users=50, tasks=50_000, zipf=1)))
    assert counts["user-01"] / counts["user-10"] == pytest.approx(10, rel=0.1)
    equal = Counter(arrival.user for arrival in generate(Workload(users=50, tasks=50_000, zipf=0)))
    assert max(equal.values()) < 1.3 * min(equal.values())


def test_a_heavier_tail_has_longer_tasks_at_the_same_mean() -> None:
    light, heavy = (
        [arrival.cost for arrival in generate(Workload(tail=tail, tasks=20_000))] for tail in (5, 1.3)
    )
    assert max(heavy) > 5 * max(light)
    assert sum(light) / len(light) == pytest.approx(1000, rel=0.01)


def test_bursts_come_as_batches() -> None:
    def busiest_second(arrivals: str) -> int:
        work = generate(Workload(arrivals=arrivals, zipf=0, users=10))  # type: ignore[arg-type]
        return max(Counter(arrival.time // 1000 for arrival in work).values())

    assert busiest_second("bursty") > 2 * busiest_second("poisson")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("users", 0, "--users 0: must be from 1 to 100,000"),
        ("tasks", -1, "--tasks -1: must be from 1 to 10,000,000"),
        ("slots", 0, "--slots 0: must be from 1 to 100,000"),
        ("zipf", -0.5, "--zipf -0.5: must be from 0 to 5"),
        ("load", 0, "--load 0: must be from 0.01 to 100"),
        ("load", float("nan"), "--load nan: must be from"),
        ("tail", 1, "--tail 1: must be from 1.05 to 100"),
        ("seed", -1, "--seed -1: must be from 0"),
        ("arrivals", "often", "--arrivals often: must be poisson or bursty"),
    ],
)
def test_what_cannot_be_generated_is_named_with_its_limits(field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Workload(**{field: value})  # type: ignore[arg-type]
