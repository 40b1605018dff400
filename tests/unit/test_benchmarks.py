"""What the benchmark makes of its results: tables, targets and charts. Nothing is measured here."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from benchmarks import charts, targets
from benchmarks.cases import CASES, COUNT, RATE, TIME
from benchmarks.environments import read_peers
from benchmarks.own import OWN_CASES, Scale, at_size
from benchmarks.report import Report, in_markdown, number
from benchmarks.results import Found, Results
from benchmarks.rounds import Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.cases import Metric

GROUPS = {"fairque": "own", "celery": "established", "saq": "established", "huey": "established"}
GROUPS |= {"blitzq": "newcomer", "ardiq": "newcomer"}


def case(better: str, **metrics: Mapping[str, float | None]) -> dict[str, Any]:
    """A case of the results: for each metric the medians by peer."""
    names = dict.fromkeys(name for medians in metrics.values() for name in medians)
    return {
        "metrics": {metric.replace("_", " "): {"unit": "u", "better": better} for metric in metrics},
        "peers": {
            name: {"medians": {metric.replace("_", " "): metrics[metric].get(name) for metric in metrics}}
            for name in names
        },
    }


def own_case(**metrics: float) -> dict[str, Any]:
    return {"metrics": {}, "peers": {"fairque": {"medians": metrics}}}


def results(of_all_tasks: float = 1.0, /, **cases: dict[str, Any]) -> Results:
    return Results(
        {
            "settings": {"rounds": 3, "scale": of_all_tasks},
            "machine": {"cores": 2, "server": "Valkey 9.1.2", "python": "3.12.1"},
            "peers": {name: {"group": group} for name, group in GROUPS.items()},
            "cases": {name.replace("_", "-"): values for name, values in cases.items()},
        }
    )


def verdicts(found: Results) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in targets.rows(found)}


class FakeCase:
    name, is_own = "fake", False

    def __init__(self) -> None:
        self.metrics: Mapping[str, Metric] = {"rate": RATE, "wait": TIME, "tasks": COUNT}

    def run(self, bench: Any) -> dict[str, float]:
        raise NotImplementedError


def report(*done: tuple[str, list[dict[str, float]], str | None]) -> Report:
    """Of a fake case: for each peer its rounds, and why there are no more."""
    peers, fake = read_peers(), FakeCase()
    taking = [Result(fake, peers[name], rounds, reason) for name, rounds, reason in done]
    rounds = SimpleNamespace(
        peers=[result.peer for result in taking],
        refused={name: reason for name, values, reason in done if reason and not values},
        environments={name: SimpleNamespace(versions={"python": "3.12.1"}) for name, _, _ in done},
    )
    return Report({"cores": 2}, cast("Any", rounds), taking)


# --- results ---


def test_the_best_comes_first_whichever_way_is_better() -> None:
    some: dict[str, float | None] = {"fairque": 5.0, "saq": 9.0, "celery": None, "huey": 7.0}
    found = results(push=case("more", bulk=some), memory=case("less", queued=some))
    assert [name for _, name in found.ordered("push", "bulk")] == ["saq", "huey", "fairque"]
    assert [name for _, name in found.ordered("memory", "queued")] == ["fairque", "huey", "saq"]
    assert found.missing("push", "bulk") == ["celery"]
    assert found.best("push", "bulk", lambda name: name != "saq") == Found(7.0, "huey")
    assert found.best("push", "bulk", lambda name: name == "fairque") is None


def test_what_was_not_run_is_missing_and_no_error() -> None:
    nothing = results()
    assert nothing.values("push", "bulk") == {}
    assert nothing.value("push", "bulk") is None
    assert nothing.ordered("push", "bulk") == []
    assert nothing.unit("push", "bulk") == ""


# --- targets ---


def test_without_values_no_target_is_met() -> None:
    assert {row[-1] for row in targets.rows(results())} == {"not measured"}


def test_a_rate_is_compared_with_the_best_of_its_group() -> None:
    rates: dict[str, float | None] = {
        "fairque": 10_000.0,
        "saq": 1_000,
        "celery": 2_500,
        "blitzq": 8_000,
        "ardiq": 100,
    }
    found = verdicts(results(drain_async=case("more", rate=rates)))
    assert found["drain-async, rate : best established"] == ["≥ 5.00x", "4.00x (10,000 : 2,500 celery)", "no"]
    assert found["drain-async, rate : better of blitzq and ardiq"][1:] == [
        "1.25x (10,000 : 8,000 blitzq)",
        "yes",
    ]
    assert found["floor, worker's drain : drain"][1:] == ["not measured", "not measured"]


def test_cpu_is_to_be_a_third_of_the_best_established_peer_s_or_less() -> None:
    used: dict[str, float | None] = {"fairque": 1.0, "saq": 3.0, "celery": 9.0, "blitzq": 0.9}
    found = verdicts(results(drain_async=case("less", CPU=used)))
    assert found["drain-async, CPU : best established"][-1] == "yes"
    assert found["drain-async, CPU : blitzq"][-1] == "no"


def test_memory_is_compared_with_peers_that_keep_the_task() -> None:
    used: dict[str, float | None] = {"fairque": 120.0, "huey": 10.0, "celery": 20.0, "saq": 100.0}
    row = verdicts(results(memory=case("less", queued=used)))[
        "memory, queued : leanest peer with a record of the task"
    ]
    assert row == ["≤ 1.20x", "1.20x (120 : 100 saq)", "yes"]
    assert read_peers().keys() >= targets.KEEPS_NO_RECORD


def test_what_was_measured_as_a_ratio_is_compared_with_one() -> None:
    starts = case("less", start_p99={"fairque": 3.0, "saq": 4.0, "blitzq": 2.0})
    ratios = {"start p50 : two bare + 0.5 ms": 1.01, "push : bare": 0.9}
    found = verdicts(results(roundtrip=starts, floor=own_case(**ratios)))
    assert found["floor, start p50 : two bare round trips + 0.5 ms"] == ["≤ 1.00x", "1.01x", "no"]
    assert found["floor, push : bare"] == ["≥ 0.85x", "0.90x", "yes"]
    assert found["roundtrip, start p99 : best peer"][1:] == ["1.50x (3 : 2 blitzq)", "no"]


def test_growth_is_compared_with_the_small_sizes() -> None:
    rates = {(10, 1_000): 100.0, (10, 100_000): 100.0, (10, 1_000_000): 79.0, (100_000, 100_000): 70.0}
    found = verdicts(
        results(scale=own_case(**{at_size("drain", *size): rate for size, rate in rates.items()}))
    )
    assert [found[what][-1] for what in found if what.startswith("scale")] == ["yes", "no"]


def test_targets_name_metrics_that_the_cases_have() -> None:
    known = {(one.name, metric) for one in (*CASES, *OWN_CASES) for metric in one.metrics}
    assert {(target.case, target.metric) for target in targets.TARGETS} <= known


def test_the_markdown_says_so_where_it_was_a_quick_look() -> None:
    assert targets.QUICK in targets.markdown(results(0.05))
    whole = targets.markdown(results())
    assert targets.QUICK not in whole
    assert whole.count("\n| ") == 2 + len(targets.TARGETS)


def test_the_command_prints_a_row_for_each_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results().data))
    monkeypatch.setattr("sys.argv", ["targets", str(file)])
    targets.main()
    printed = capsys.readouterr().out
    assert all(target.what in printed for target in targets.TARGETS)


# --- tables ---


def reported() -> Report:
    return report(
        ("fairque", [{"rate": 10, "wait": 4.0, "tasks": 5}, {"rate": 30, "wait": 2.0, "tasks": 5}], None),
        ("saq", [{"rate": 4, "wait": 6.0, "tasks": 5}], "it broke"),
        ("blitzq", [{"rate": 40, "wait": 1.5, "tasks": 5}], None),
        ("rq", [], "it is not there"),
    )


def test_a_table_has_medians_and_fairque_against_the_best_of_each_group() -> None:
    found = reported()
    assert found.rows(found.cases[0]) == [
        ["fairque", "20", "3", "5", ""],
        ["saq", "4", "6", "5", "it broke"],
        ["blitzq", "40", "1.50", "5", ""],
        ["rq", "—", "—", "—", "it is not there"],
        ["fairque : the best established peer", "5.00x saq", "2.00x saq", "", ""],
        ["fairque : the best newcomer", "0.50x blitzq", "0.50x blitzq", "", ""],
    ]
    text = found.markdown()
    assert "## fake\n\n| peer | rate, tasks/s | wait, ms | tasks | note |" in text
    assert "- rq: it is not there" in text


def test_what_is_written_as_json_is_what_charts_and_targets_read() -> None:
    data = json.loads(json.dumps({"settings": {"rounds": 2, "scale": 1.0}, **reported().data()}))
    found = Results(data)
    assert found.ordered("fake", "wait") == [(1.5, "blitzq"), (3.0, "fairque"), (6.0, "saq")]
    assert found.missing("fake", "rate") == ["rq"]
    assert found.unit("fake", "rate") == "tasks/s"
    assert found.group("saq") == "established"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "—"), (12_345.6, "12,346"), (12.34, "12.3"), (3.0, "3"), (0.456, "0.46")]
)
def test_a_number_has_the_digits_that_mean_something(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_markdown_table_has_a_head() -> None:
    assert in_markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


# --- charts ---


def everything() -> Results:
    rates: dict[str, float | None] = {"fairque": 14_241.0, "blitzq": 6_541.0, "celery": None}
    starts = {
        f"{what}_{p}": {"fairque": 1.5, "saq": 503.0} for what in ("start", "result") for p in ("p50", "p99")
    }
    sizes = {at_size("drain", *size): 1000.0 for size in Scale.sizes}
    return results(
        drain_async=case("more", rate=rates, CPU=rates),
        drain_plain=case("more", rate=rates, CPU=rates),
        push=case("more", one_by_one=rates, bulk=rates),
        roundtrip=case("less", **starts),
        mixed=case("more", rate=rates),
        memory=case("less", queued=rates, result=rates),
        scale=own_case(**sizes),
    )


def test_all_charts_are_drawn_and_the_same_again(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "again"]
    drawn = []
    for folder in folders:
        folder.mkdir()
        drawn.append({file.name: file.read_text() for file in charts.draw(everything(), folder)})
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {
        f"{name}.svg" for name in ("drain", "push", "roundtrip", "mixed", "memory", "cpu", "scale")
    }
    assert all(len(text) < 60_000 for text in drawn[0].values())
    for words in (">fairque<", ">14,241<", "Left out of “async functions”: celery.", "Medians of 3 rounds"):
        assert words in drawn[0]["drain.svg"]


def test_a_chart_without_values_is_not_drawn(tmp_path: Path) -> None:
    assert charts.draw(results(), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_growth_goes_by_users_or_by_tasks_as_far_as_it_was_measured() -> None:
    found = results(scale=own_case(**{at_size("drain", 10, 100_000): 5.0}))
    assert charts.growth(found, Scale.USERS, 0) == [(10, 5.0)]
    assert charts.growth(found, Scale.TASKS, 1) == [(100_000, 5.0)]


def test_a_chart_says_what_it_comes_from() -> None:
    assert "2 cores" in charts.origin(results())
    assert charts.origin(results()).startswith("Medians of 3 rounds")
    assert "no figures to quote" in charts.origin(results(0.05))
