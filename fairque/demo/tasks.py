"""The demo's work: parse one source file and measure it."""

from __future__ import annotations

import ast
import time

import msgspec

from fairque.decorator import task
from fairque.demo.files import stdlib

# What adds a path through a function, each by one.
_DECISIONS = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler)


class FunctionMeasure(msgspec.Struct, frozen=True):
    """A function, by its qualified name, and its cyclomatic complexity."""

    name: str
    line: int
    complexity: int


class FileMeasure(msgspec.Struct, frozen=True):
    """What one file holds.

    Attributes:
        error: Why a file that is no valid Python holds nothing.
        cpu_seconds: Processor time the measuring took.
    """

    path: str
    lines: int
    functions: tuple[FunctionMeasure, ...] = ()
    error: str | None = None
    cpu_seconds: float = 0.0


# Before 3.11.8 CPython's ast.parse can trip over another thread's, with a SystemError (gh-106905): try again.
@task(timeout=60, max_retries=3, retry_on=SystemError, retry_delay=0.1)
def measure_file(path: str) -> FileMeasure:
    """Measure a file of the standard library, named by its path below it."""
    before = time.thread_time()
    measured = measure(path, (stdlib() / path).read_bytes())
    return msgspec.structs.replace(measured, cpu_seconds=time.thread_time() - before)


def measure(path: str, source: bytes) -> FileMeasure:
    """Measure a source text.

    The standard library has files that are invalid on purpose, to test its parsers with. That is a finding
    about the file, not a failure of the task.
    """
    lines = source.count(b"\n") + (source[-1:] not in {b"", b"\n"})
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return FileMeasure(path, lines, error=f"{type(error).__name__}: {error}")
    return FileMeasure(path, lines, tuple(_functions(tree)))


def _functions(tree: ast.Module) -> list[FunctionMeasure]:
    """All functions and methods, in the order of the text.

    Cyclomatic complexity (McCabe 1976) is one more than the number of decisions: branches, loops, exception
    handlers, cases, and the operands of `and` and `or` after the first. A function inside another counts for
    itself only, a lambda for the function around it.
    """
    found: list[tuple[str, int]] = []
    complexities: list[int] = []
    todo: list[tuple[ast.AST, str, int]] = [(tree, "", -1)]  # node, names around it, index of its function
    while todo:
        node, scope, owner = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            owner = len(found)
            found.append((scope + node.name, node.lineno))
            complexities.append(1)
            scope += f"{node.name}."
        elif isinstance(node, ast.ClassDef):
            scope += f"{node.name}."
        elif owner >= 0:
            complexities[owner] += _decisions(node)
        todo += [(child, scope, owner) for child in ast.iter_child_nodes(node)]
    measures = [FunctionMeasure(*where, n) for where, n in zip(found, complexities, strict=True)]
    return sorted(measures, key=lambda function: function.line)


def _decisions(node: ast.AST) -> int:
    if isinstance(node, _DECISIONS):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    if isinstance(node, ast.match_case):
        catches_all = isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None
        return 0 if catches_all and node.guard is None else 1
    return 0
