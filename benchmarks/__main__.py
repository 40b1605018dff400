"""`python -m benchmarks`: measure FairQueue and its peers."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks import targets
from benchmarks.cases import CASES as CASES_OF_ALL
from benchmarks.environments import read_peers
from benchmarks.machine import describe
from benchmarks.own import OWN_CASES
from benchmarks.report import Report
from benchmarks.results import Results
from benchmarks.rounds import Rounds
from benchmarks.server import Server, own_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rounds import Result

QUICK = 0.05  # of the tasks
CASES = (*CASES_OF_ALL, *OWN_CASES)

EXAMPLES = """\
examples:
  python -m benchmarks --quick                        does everything work?
  python -m benchmarks --only drain --peers fairque rq
  python -m benchmarks --rounds 5 --json results.json --markdown results.md

Each peer gets an environment of its own under benchmarks/.environments when it first takes part. One that
cannot be installed, breaks or hangs has the reason in the table. BlitzQ and ArdiQ need Python 3.12: run the
benchmark by it, or have it on the PATH. benchmarks/README.md says what is measured, and what is not fair.
"""


def main() -> None:
    options = _parse()
    console = Console(stderr=True)
    scale = QUICK if options.quick else 1.0
    rounds = options.rounds or (1 if options.quick else 3)
    cases = [case for case in CASES if not options.only or case.name.startswith(tuple(options.only))]
    peers = [peer for name, peer in read_peers().items() if not options.peers or name in options.peers]
    with _server(options) as server, console.status("starting") as status:
        running = Rounds(server, peers, scale, status.update)
        running.prepare()
        for name, reason in running.refused.items():
            console.print(f"{name} takes no part: {reason}", markup=False)
        results: list[Result] = []
        for of_case in running.run(cases, rounds):
            results += of_case
            report = Report(describe(server.version()), running, results)
            # After each case: a run that is broken off leaves what it has.
            _write(report, {"rounds": rounds, "scale": scale}, options)
    _show(report)


def _write(report: Report, settings: dict[str, float], options: argparse.Namespace) -> None:
    data = {"settings": settings, **report.data()}
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(
            f"{report.markdown()}\n{targets.markdown(Results(data))}", encoding="utf-8"
        )


def _show(report: Report) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    for line in report.lines():
        console.print(line, markup=False, highlight=False)
    for table in report.tables():
        console.print(table)


def _parse() -> argparse.Namespace:
    cases, peers = [case.name for case in CASES], list(read_peers())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="FairQueue and its peers at the same work, on this machine, in one run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    starts = {case.split("-")[0] for case in cases}
    parser.add_argument(
        "--only", nargs="+", metavar="CASE", choices=sorted({*cases, *starts}), help=f"of: {', '.join(cases)}"
    )
    parser.add_argument("--peers", nargs="+", metavar="NAME", choices=peers, help=f"of: {', '.join(peers)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="of each case (3, or 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the tasks: no figures to quote")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all rounds, medians, versions, settings"
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables, and the targets, for documents"
    )
    parser.add_argument(
        "--server", metavar="URL", help="use this one instead of a fresh Valkey; needs --flush"
    )
    parser.add_argument("--flush", action="store_true", help="that server may be emptied, again and again")
    options = parser.parse_args()
    if options.server and not options.flush:
        parser.error(
            "--server: every round begins with an empty server; add --flush if this one may be emptied"
        )
    return options


@contextmanager
def _server(options: argparse.Namespace) -> Iterator[Server]:
    if options.server:
        yield Server(options.server)
    else:
        with own_server() as server:
            yield server


if __name__ == "__main__":
    main()
