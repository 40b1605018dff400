"""The graph of dependencies, by itself and against one that searches everything anew."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairque import DependencyCycleError, TaskValidationError
from fairque.core.graph import Graph

LONG = 100_000


def chain(length: int) -> Graph[int]:
    """0 → 1 → 2 → …"""
    graph: Graph[int] = Graph()
    for node in range(1, length):
        graph.depend(node, on=node - 1)
    return graph


def is_in_order(graph: Graph[int]) -> bool:
    place = {node: number for number, node in enumerate(graph.order())}
    return len(place) == len(graph) and all(
        place[on] < place[node] for node in place for on in graph.dependencies(node)
    )


def cycle_of(graph: Graph[str], node: str, on: str) -> tuple[str, ...]:
    with pytest.raises(DependencyCycleError) as caught:
        graph.depend(node, on)
    return caught.value.cycle


# --- against a naive model ---


class Model:
    """Nodes and edges in the order in which they came, and nothing kept beside them."""

    def __init__(self) -> None:
        self.nodes: list[int] = []
        self.edges: list[tuple[int, int]] = []  # (on, node): as work flows

    def add(self, *nodes: int) -> None:
        self.nodes += [node for node in dict.fromkeys(nodes) if node not in self.nodes]

    def distance(self, start: int, end: int) -> int | None:
        """Edges on the shortest way; None if there is none."""
        reached, steps = {start}, 0
        while end not in reached:
            further = reached | {node for on, node in self.edges if on in reached}
            if further == reached:
                return None
            reached, steps = further, steps + 1
        return steps

    def has_cycle(self, more: Iterable[tuple[int, int]]) -> bool:
        edges = {*self.edges, *more}
        nodes = {node for edge in edges for node in edge}
        while free := nodes - {node for on, node in edges if on in nodes}:
            nodes -= free
        return bool(nodes)

    def depend_all(self, pairs: list[tuple[int, int]]) -> None:
        for node, on in pairs:
            self.add(on, node)
            if (on, node) not in self.edges:
                self.edges.append((on, node))

    def agrees_with(self, graph: Graph[int]) -> bool:
        return (
            (len(graph), graph.edge_count) == (len(self.nodes), len(self.edges))
            and all(node in graph for node in self.nodes)
            and all(
                graph.dependencies(node) == [a for a, b in self.edges if b == node]
                and graph.dependents(node) == [b for a, b in self.edges if a == node]
                for node in self.nodes
            )
            and is_in_order(graph)
        )


NODES = st.integers(0, 11)
PAIRS = st.tuples(NODES, NODES)


@settings(max_examples=300, deadline=None)
@given(known=st.lists(NODES), pairs=st.lists(PAIRS, max_size=60))
def test_an_edge_is_refused_exactly_if_there_is_a_way_back_and_nothing_changes_then(
    known: list[int], pairs: list[tuple[int, int]]
) -> None:
    graph: Graph[int] = Graph()
    model = Model()
    for node in known:
        graph.add(node)
    model.add(*known)
    for node, on in pairs:
        way_back = model.distance(node, on)
        if way_back is None:
            graph.depend(node, on)
            model.depend_all([(node, on)])
        else:
            before = graph.order()
            with pytest.raises(DependencyCycleError) as caught:
                graph.depend(node, on)
            cycle = [int(name) for name in caught.value.cycle]
            assert cycle[:2] == [on, node]
            assert cycle[-1] == on
            assert set(pairwise(cycle)) <= {*model.edges, (on, node)}
            assert len(cycle) == way_back + 2  # it is the shortest
            assert graph.order() == before
        assert model.agrees_with(graph)


@settings(max_examples=300, deadline=None)
@given(batches=st.lists(st.lists(PAIRS, max_size=14), max_size=12))
def test_of_a_batch_all_goes_in_or_nothing(batches: list[list[tuple[int, int]]]) -> None:
    graph: Graph[int] = Graph()
    model = Model()
    for pairs in batches:
        edges = [(on, node) for node, on in pairs]
        if model.has_cycle(edges):
            with pytest.raises(DependencyCycleError) as caught:
                graph.depend_all(pairs)
            cycle = [int(name) for name in caught.value.cycle]
            assert cycle[0] == cycle[-1]
            assert set(pairwise(cycle)) <= {*model.edges, *edges}
        else:
            graph.depend_all(pairs)
            model.depend_all(pairs)
        assert model.agrees_with(graph)


@settings(max_examples=100, deadline=None)
@given(pairs=st.lists(PAIRS, max_size=40))
def test_upstream_and_downstream_are_all_that_has_a_way_and_in_order(pairs: list[tuple[int, int]]) -> None:
    graph: Graph[int] = Graph()
    model = Model()
    for low, high in (sorted(pair) for pair in pairs if pair[0] != pair[1]):
        graph.depend(low, on=high)
        model.depend_all([(low, high)])
    for node in model.nodes:
        others = [other for other in graph.order() if other != node]
        assert graph.upstream(node) == [a for a in others if model.distance(a, node) is not None]
        assert graph.downstream(node) == [b for b in others if model.distance(node, b) is not None]


# --- by example ---


def test_a_node_comes_after_all_that_it_depends_on() -> None:
    graph: Graph[str] = Graph()
    graph.depend("report", on="clean")
    graph.depend("clean", on="fetch")
    graph.depend("report", on="prices")
    order = graph.order()
    assert order.index("fetch") < order.index("clean") < order.index("report")
    assert order.index("prices") < order.index("report")
    assert graph.dependencies("report") == ["clean", "prices"]
    assert graph.dependents("fetch") == ["clean"]
    assert set(graph.upstream("report")) == {"fetch", "clean", "prices"}


def test_adding_twice_is_harmless() -> None:
    graph: Graph[str] = Graph()
    graph.depend("b", on="a")
    graph.depend("b", on="a")
    graph.add("a")
    assert (len(graph), graph.edge_count) == (2, 1)
    assert "a" in graph
    assert "c" not in graph
    assert graph.dependencies("b") == ["a"]


def test_nodes_that_depend_on_nothing_keep_the_order_in_which_they_came() -> None:
    graph: Graph[str] = Graph()
    for node in "cab":
        graph.add(node)
    assert graph.order() == ["c", "a", "b"]


@pytest.mark.parametrize("ask", ["dependencies", "dependents", "upstream", "downstream"])
def test_to_ask_about_an_unknown_node_is_an_error(ask: str) -> None:
    with pytest.raises(KeyError, match="nobody"):
        getattr(Graph[str](), ask)("nobody")


def test_what_cannot_be_a_node_leaves_nothing_behind() -> None:
    graph: Graph[object] = Graph()
    with pytest.raises(TypeError):
        graph.depend_all([("b", "a"), ([], "c")])
    assert (len(graph), graph.edge_count) == (0, 0)


# --- cycles ---


def test_a_cycle_is_named_in_the_direction_of_work() -> None:
    graph: Graph[str] = Graph()
    graph.depend("b", on="a")
    graph.depend("c", on="b")
    with pytest.raises(TaskValidationError, match="c → a → b → c; leave out one"):
        graph.depend("a", on="c")


def test_a_node_cannot_depend_on_itself_and_is_not_added_by_trying() -> None:
    graph: Graph[str] = Graph()
    assert cycle_of(graph, "a", "a") == ("a", "a")
    assert "a" not in graph


def test_of_two_ways_back_the_shorter_one_is_named() -> None:
    graph: Graph[str] = Graph()
    for node, on in ("ba", "cb", "dc", "da"):
        graph.depend(node, on)
    assert cycle_of(graph, "a", "d") == ("d", "a", "d")


def test_the_message_of_a_long_cycle_leaves_out_its_middle_and_the_attribute_does_not() -> None:
    graph = chain(LONG)
    with pytest.raises(DependencyCycleError) as caught:
        graph.depend(0, on=LONG - 1)
    assert "99999 → 0 → 1 → 2 → 3 → … 99,991 more … → 99995 → 99996 → 99997 → 99998 → 99999;" in str(
        caught.value
    )
    assert caught.value.cycle == (str(LONG - 1), *map(str, range(LONG)))


def test_a_cycle_is_found_without_a_look_at_the_rest() -> None:
    graph = chain(LONG)
    for node in range(LONG, 2 * LONG):
        graph.depend(node, on=node - LONG)  # everything has something else behind it as well
    before = graph.effort
    with pytest.raises(DependencyCycleError) as caught:
        graph.depend(LONG // 2, on=LONG // 2 + 3)
    assert caught.value.cycle == ("50003", "50000", "50001", "50002", "50003")
    assert graph.effort - before <= 3 * 3  # three nodes, each with its two edges


# --- what an edge costs ---


def test_an_edge_that_agrees_with_the_order_costs_nothing() -> None:
    graph = chain(1000)
    for node in range(2, 1000):
        graph.depend(node, on=node // 2)
    assert graph.effort == 0


@pytest.mark.parametrize("backwards", [False, True])
def test_a_chain_costs_nothing_although_its_nodes_came_in_any_order_before(backwards: bool) -> None:
    graph: Graph[int] = Graph()
    nodes = list(range(LONG))
    random.Random(1).shuffle(nodes)
    for node in nodes:
        graph.add(node)
    for node in reversed(range(1, LONG)) if backwards else range(1, LONG):
        graph.depend(node, on=node - 1)
    assert graph.effort == 0
    assert graph.order() == list(range(LONG))


def test_an_edge_against_the_order_costs_what_lies_between_its_ends() -> None:
    graph: Graph[int] = Graph()
    for start in (0, 10):
        graph.depend_all([(node + 1, node) for node in range(start, start + 9)])
    for node in range(100, 10_000):
        graph.depend(node, on=9)
    graph.depend(19, on=20)
    graph.depend(1, on=18)  # of the chains' ends, only 1 … 9 and 10 … 18 are between
    assert is_in_order(graph)
    assert graph.effort <= 2 * 9 * 3 + 9_900  # once past the edges of 9, which lead far away


def deep_and_in_any_order(nodes: int) -> list[tuple[int, int]]:
    """Edges between neighbours of a long order: each that comes late concerns much of what is there."""
    rng = random.Random(1)
    pairs = [(node, node - 1) for node in range(1, nodes)]
    pairs += [(node, node - rng.randint(2, 10)) for node in range(10, nodes) for _ in range(2)]
    return rng.sample(pairs, len(pairs))


def test_a_batch_costs_no_more_than_a_few_looks_at_the_whole_graph() -> None:
    pairs = deep_and_in_any_order(2_000)
    one_by_one, at_once = Graph[int](), Graph[int]()
    for node, on in pairs:
        one_by_one.depend(node, on)
    at_once.depend_all(pairs)
    size = len(at_once) + at_once.edge_count
    assert is_in_order(one_by_one)
    assert is_in_order(at_once)
    assert at_once.effort <= 4 * size
    assert one_by_one.effort > 50 * size


def test_a_large_batch_with_a_cycle_leaves_the_graph_as_it_was_and_usable() -> None:
    pairs = deep_and_in_any_order(2_000)
    known, coming = pairs[:500], pairs[500:]
    graph = Graph[int]()
    graph.depend_all(known)
    links = {node: (graph.dependencies(node), graph.dependents(node)) for node in graph.order()}
    with pytest.raises(DependencyCycleError) as caught:
        graph.depend_all([*coming, (0, 1999), (5_000, 5_001)])
    edges = {(str(on), str(node)) for node, on in [*pairs, (0, 1999)]}
    assert set(pairwise(caught.value.cycle)) <= edges
    assert ("1999", "0") in pairwise(caught.value.cycle)
    assert {node: (graph.dependencies(node), graph.dependents(node)) for node in graph.order()} == links
    assert (graph.edge_count, 5_000 in graph) == (len(set(known)), False)
    assert is_in_order(graph)
    graph.depend_all(coming)
    assert is_in_order(graph)
