"""`fairque graph`: the tasks that hang together with one, as a tree or a diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fairque.cli.options import ConfigOption, JsonOption, QueueOption, UrlOption, configuration
from fairque.cli.showing import emit, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairque.core.task_graph import GraphNode, TaskGraph

LIMIT = 1_000
DEEPEST = 30  # levels that are drawn
# Colours of a diagram, by state.
COLOURS = {
    "FINISHED": "#d3f0d8",
    "STARTED": "#fff3c4",
    "QUEUED": "#dbeafe",
    "SCHEDULED": "#e5e7eb",
    "DEFERRED": "#f3f4f6",
    "FAILED": "#fbd5d5",
    "CANCELED": "#e9d8fd",
}
UNKNOWN = "UNKNOWN"  # of a task that is not pushed yet, or cleaned up


def graph(  # noqa: PLR0917 - typer passes them by name
    user_id: Annotated[
        str,
        typer.Argument(metavar="USER", help="Whose task it is; one that begins with a dash goes after --."),
    ],
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The id of any task of the graph; the same.")],
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Print a Mermaid diagram, for a page or an issue.")
    ] = False,
    limit: Annotated[int, typer.Option(help="How many tasks at most, the nearest first.")] = LIMIT,
    config: ConfigOption = None,
    url: UrlOption = None,
    queue: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a task depends on and what depends on it, with the state of each.

    A task with several dependencies is shown below the first of them; below the others stands only its name.

    Example: fairque graph acme 0198c7d2-4a51-7c3e-9f20-1b2c3d4e5f60 --mermaid > flow.mmd
    """
    if mermaid and as_json:
        raise typer.BadParameter("give --mermaid or --json, not both")
    from fairque.queue.queue import TaskQueue  # noqa: PLC0415 - --help and --version stay fast

    with TaskQueue(configuration(config, url, queue)) as tasks:
        found = tasks.graph(user_id, task_id, limit)
    if as_json:
        import msgspec  # noqa: PLC0415

        emit(**msgspec.to_builtins(found))
        return
    for line in diagram(found) if mermaid else tree(found):
        typer.echo(line)
    if not found.is_whole:
        typer.echo(f"there are more than these {len(found.nodes):,} tasks: --limit shows more", err=True)


def tree(found: TaskGraph) -> Iterator[str]:
    """The graph as an indented tree, from its first tasks down; far down the level is written as a number."""
    shown: set[str] = set()
    # What is still to print: the task and its level, what stands before it, and before those below it.
    waiting = [(node, 0, "", "") for node in reversed(found.first())]
    while waiting:
        node, level, before, below = waiting.pop()
        is_repeat = node.task_id in shown
        shown.add(node.task_id)
        yield before + _label(node, found.task_id) + (" (see above)" if is_repeat else "")
        if is_repeat:
            continue
        for place, child in enumerate(reversed(found.downstream(node.task_id))):
            is_last = place == 0
            if level < DEEPEST:
                own, next_below = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
                waiting.append((child, level + 1, below + own, below + next_below))
            else:  # the indentation of a long chain would be most of what is printed
                waiting.append((child, level + 1, f"{below}… {level + 1}: ", below))


def _label(node: GraphNode, asked: str) -> str:
    name = "" if node.name is None else f"{plain(node.name)}  "
    here = "  ← this one" if node.task_id == asked else ""
    return f"{name}{plain(node.task_id)}  {node.state or UNKNOWN}{here}"


def diagram(found: TaskGraph) -> Iterator[str]:
    """The graph in Mermaid's language."""
    names = {task_id: f"t{place}" for place, task_id in enumerate(found.nodes)}
    yield "flowchart TD"
    for task_id, node in found.nodes.items():
        title = node.name or task_id
        state = node.state or UNKNOWN
        yield f'  {names[task_id]}["{_quoted(title)}<br/>{state}"]:::{state}'
    for task_id, node in found.nodes.items():
        for dependency in node.depends_on:
            if dependency in names:
                arrow = "-.->" if dependency in node.waits_for else "-->"
                yield f"  {names[dependency]} {arrow} {names[task_id]}"
    for state in dict.fromkeys(node.state or UNKNOWN for node in found.nodes.values()):
        yield f"  classDef {state} fill:{COLOURS.get(state, '#ffffff')},stroke:#6b7280,color:#111827"


def _quoted(text: str) -> str:
    """Text in a label: what would end it or be read as markup is written as Mermaid's entities."""
    return "".join(
        # A dash or a dot before a space begins a list.
        sign if sign.isalnum() or sign in " _()" or (sign in "-." and after != " ") else f"#{ord(sign)};"
        for sign, after in zip(text, f"{text[1:]}.", strict=False)
    )
