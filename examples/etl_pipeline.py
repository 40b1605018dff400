"""Files → parse → aggregate → report: which modules the Python files of a folder import.

Run it on any folder: `python examples/etl_pipeline.py FOLDER [REPORT]`. Without one it reads Python's own
`email` package. The files are parsed side by side; `aggregate` reads their results from the server.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fairque import Pipeline, TaskQueue, Worker, task

# Before 3.11.8 CPython's ast.parse can trip over another thread's, with a SystemError (gh-106905).
parsing = threading.Lock()


@dataclass
class Parsed:
    path: str
    lines: int
    imports: list[str]


@dataclass
class Summary:
    files: int
    lines: int
    imports: dict[str, int]


@task(max_retries=1, timeout=30)
def parse(path: str) -> Parsed:
    source = Path(path).read_text(encoding="utf-8")
    names: list[str] = []
    with parsing:
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module.partition(".")[0])
    return Parsed(path, len(source.splitlines()), names)


@task
def aggregate(parsed: list[Parsed]) -> Summary:
    files = Counter(name for file in parsed for name in set(file.imports))
    return Summary(len(parsed), sum(file.lines for file in parsed), dict(files.most_common()))


@task(pull={"summary": "aggregate"})
def report(target: str, summary: Summary) -> str:
    rows = [f"| {name} | {count} |" for name, count in summary.imports.items()]
    title = f"# {summary.files} files, {summary.lines} lines"
    Path(target).write_text(
        "\n".join([title, "", "| imports | files |", "|---|---|", *rows, ""]), encoding="utf-8"
    )
    return target


def etl(folder: Path, target: Path) -> Pipeline[str]:
    """The pipeline for the Python files of a folder."""
    parsed = parse.map(str(path) for path in sorted(folder.rglob("*.py")))
    return parsed >> aggregate(parsed.output) >> report(str(target))


def main(folder: Path, target: Path) -> None:
    """Run it on a server and a worker of its own."""
    with TaskQueue("embedded://") as queue:
        handle = queue.push(etl(folder, target), user_id="acme")
        Worker(queue, burst=True).run()
        print(Path(handle.result(timeout=60)).read_text(encoding="utf-8"))


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    main(
        given[0] if given else Path(ast.__file__).parent / "email",
        given[1] if len(given) > 1 else Path("imports.md"),
    )
