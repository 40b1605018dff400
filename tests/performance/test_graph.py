"""How long it takes to build a large graph, by the order in which its edges come.

The time is the processor's, for what else the machine does is not in it. The nodes' names tell nothing of the
order: they are shuffled.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import pytest

from fairque.core.graph import Graph

NODES, EDGES = 100_000, 300_000
SECONDS = 5.0

Edges: TypeAlias = list[tuple[int, int]]  # (first, second) by their places in the hidden order


@cache
def anywhere() -> Edges:
    """Between any two nodes."""
    rng = random.Random(1)
    edges: set[tuple[int, int]] = set()
    while len(edges) < EDGES:
        first, second = sorted(rng.sample(range(NODES), 2))
        edges.add((first, second))
    return sorted(edges)


@cache
def nearby() -> Edges:
    """Between near neighbours of the hidden order: the graph is as deep as it is large."""
    rng = random.Random(1)
    edges: set[tuple[int, int]] = set()
    while len(edges) < EDGES:
        first = rng.randrange(NODES - 10)
        edges.add((first, first + rng.randint(1, 10)))
    return sorted(edges)


def shuffled(edges: Edges) -> Edges:
    return random.Random(2).sample(edges, len(edges))


def by_target(edges: Edges) -> Edges:
    return sorted(edges, key=lambda edge: (edge[1], edge[0]))


def build(edges: Edges, *, known: bool, at_once: bool) -> tuple[Graph[str], float]:
    """The graph and the seconds for it, with all nodes known before or each coming with its first edge."""
    names = [f"task-{number}" for number in range(NODES)]
    random.Random(3).shuffle(names)  # by their places in the hidden order
    pairs = [(names[second], names[first]) for first, second in edges]
    graph: Graph[str] = Graph()
    began = time.process_time()
    for name in sorted(names) if known else ():
        graph.add(name)
    if at_once:
        graph.depend_all(pairs)
    else:
        for node, on in pairs:
            graph.depend(node, on)
    graph_order = graph.order()
    seconds = time.process_time() - began
    place = {name: number for number, name in enumerate(graph_order)}
    assert graph.edge_count == EDGES
    assert all(place[on] < place[node] for node, on in pairs)
    return graph, seconds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "arranged", "at_once", "known"),
    [
        (anywhere, by_target, False, False),
        (anywhere, shuffled, False, False),
        (anywhere, shuffled, False, True),
        # Deep graphs whose edges come in any order are what batches are for: one by one, this takes minutes.
        (nearby, shuffled, True, False),
    ],
)
def test_a_hundred_thousand_nodes_and_three_hundred_thousand_edges_take_less_than_five_seconds(
    shape: Callable[[], Edges],
    arranged: Callable[[Edges], Edges],
    at_once: bool,
    known: bool,
) -> None:
    graph, seconds = build(arranged(shape()), known=known, at_once=at_once)
    what = f"{shape.__name__}, {arranged.__name__}, {'at once' if at_once else 'one by one'}"
    print(
        f"{NODES:,} nodes{' known before' if known else ''}, {EDGES:,} edges {what}: {seconds:.2f} s, "
        f"{graph.effort / EDGES:.2f} looks an edge"
    )
    assert seconds < SECONDS
