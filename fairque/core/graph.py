"""What depends on what: a graph without cycles that keeps an order of its nodes while it grows. No I/O.

The order is the one of D. J. Pearce and P. H. J. Kelly: "A Dynamic Topological Sort Algorithm for Directed
Acyclic Graphs" (ACM Journal of Experimental Algorithmics 11, 2006). Every node has an index, and comes after
all that it depends on. An edge that agrees with the indexes costs nothing; any other one costs a look at the
nodes between its two ends that it concerns, never at the rest.

Two things are added to it. A node that nothing depends on yet may go to the end, and one that depends on
nothing to the start, so both do without a search. By the paper alone, a chain whose nodes were known before
its edges costs the square of its length. And in a batch, searches together cost no more than sorting anew
would: then the graph is sorted once (A. B. Kahn: "Topological Sorting of Large Networks", CACM 5, 1962).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from fairque.core.exceptions import DependencyCycleError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    Links = list[dict[int, None]]  # of each node the others, as a set that keeps their order

N = TypeVar("N", bound="Hashable")


class Graph(Generic[N]):
    """Nodes and what they depend on, never with a cycle. Cycles name their nodes by `str`.

    Attributes:
        edge_count: How many dependencies there are.
        effort: Nodes and dependencies that all searches have looked at: what the order has cost so far.
    """

    def __init__(self) -> None:
        self.edge_count = 0
        self.effort = 0
        self._nodes: list[N] = []  # inside, a node is its place in here
        self._places: dict[N, int] = {}
        self._dependencies: Links = []
        self._dependents: Links = []
        self._index: list[int] = []  # each its own, not without gaps
        self._start = 0  # the smallest index
        self._end = 0  # one above the largest

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node: object) -> bool:
        return node in self._places

    def add(self, node: N) -> None:
        """Have a node in the graph; one that is there already stays as it is."""
        self._place(node)

    def depend(self, node: N, on: N) -> None:
        """Have one node come after another. New nodes are added; a dependency that exists is harmless.

        Raises:
            DependencyCycleError: `on` already depends on `node`, or is the same; the graph is unchanged. Its
                `cycle` is the shortest there is, and begins with the refused dependency.
        """
        self.depend_all(((node, on),))

    def depend_all(self, pairs: Iterable[tuple[N, N]]) -> None:
        """Have the first of each pair come after the second: all of them, or none.

        The cost is at most in proportion to the graph with the pairs in it, whatever order they come in. A
        small batch usually costs far less.

        Raises:
            DependencyCycleError: Together they would close a cycle; nodes and dependencies are as before.
        """
        pairs = tuple(pairs)
        nodes, linked, sorted_so_far = len(self), list[tuple[int, int]](), True
        enough = self.effort + nodes + self.edge_count + len(pairs)
        try:
            for node, on in pairs:
                before, after = self._place(on), self._place(node)
                if after in self._dependents[before]:
                    continue
                sorted_so_far = sorted_so_far and self.effort <= enough
                if sorted_so_far:
                    self._bring_in_order(before, after)
                self._dependents[before][after] = self._dependencies[after][before] = None
                linked.append((before, after))
            if not sorted_so_far:
                self._sort()
        except BaseException:
            self._undo(nodes, linked)
            raise
        self.edge_count += len(linked)

    def dependencies(self, node: N) -> list[N]:
        """What the node itself depends on, in the order in which that was said. KeyError if it is unknown."""
        return [self._nodes[place] for place in self._dependencies[self._places[node]]]

    def dependents(self, node: N) -> list[N]:
        """What itself depends on the node, in the order in which that was said. KeyError if it is unknown."""
        return [self._nodes[place] for place in self._dependents[self._places[node]]]

    def upstream(self, node: N) -> list[N]:
        """All that has to come before the node, in order. KeyError if it is unknown."""
        return self._reached(node, self._dependencies)

    def downstream(self, node: N) -> list[N]:
        """All that has to come after the node, in order. KeyError if it is unknown."""
        return self._reached(node, self._dependents)

    def order(self) -> list[N]:
        """All nodes, each after everything that it depends on."""
        return self._in_order(range(len(self)))

    def _in_order(self, places: Iterable[int]) -> list[N]:
        return [self._nodes[place] for place in sorted(places, key=self._index.__getitem__)]

    def _reached(self, node: N, links: Links) -> list[N]:
        reached = [self._places[node]]
        seen = set(reached)
        for place in reached:  # grows as it is walked
            new = [other for other in links[place] if other not in seen]
            seen.update(new)
            reached += new
        return self._in_order(reached[1:])

    def _place(self, node: N) -> int:
        place = self._places.get(node)
        if place is None:
            place = self._places[node] = len(self._nodes)
            self._nodes.append(node)
            self._dependencies.append({})
            self._dependents.append({})
            self._index.append(self._end)
            self._end += 1
        return place

    def _bring_in_order(self, before: int, after: int) -> None:
        """Change indexes so that the edge which is about to come agrees with them."""
        index = self._index
        if index[before] < index[after]:
            return
        if before == after:
            raise self._cycle([before, after])
        if not self._dependents[after]:
            index[after] = self._end
            self._end += 1
        elif not self._dependencies[before]:
            self._start -= 1
            index[before] = self._start
        else:
            self._reorder(before, after)

    def _reorder(self, before: int, after: int) -> None:
        """What leads to `before`, and then what follows `after`, share out the indexes that they have.

        Each of the two keeps its own order. What lies outside of the two indexes cannot be concerned.
        """
        index = self._index
        follows = self._search_forward(before, after)
        leads = self._search_backward(before, after)
        moving = sorted(leads, key=index.__getitem__) + sorted(follows, key=index.__getitem__)
        for place, free in zip(moving, sorted(index[place] for place in moving), strict=True):
            index[place] = free

    def _search_forward(self, before: int, after: int) -> list[int]:
        """All that follows `after`, up to the index of `before`; to meet that one is a cycle.

        Breadth first, so the cycle is the shortest: indexes rise along every path, so none leaves the range.
        """
        index, dependents, highest = self._index, self._dependents, self._index[before]
        came_from = {after: before}
        reached = [after]
        for place in reached:  # grows as it is walked
            self.effort += 1 + len(dependents[place])
            for other in dependents[place]:
                if index[other] <= highest and other not in came_from:
                    came_from[other] = place
                    reached.append(other)
                    if other == before:
                        raise self._cycle(_path_back(came_from, before))
        return reached

    def _search_backward(self, before: int, after: int) -> list[int]:
        """All that leads to `before`, down to the index of `after`."""
        index, dependencies, lowest = self._index, self._dependencies, self._index[after]
        reached = [before]
        seen = {before}
        for place in reached:  # grows as it is walked
            self.effort += 1 + len(dependencies[place])
            for other in dependencies[place]:
                if index[other] > lowest and other not in seen:
                    seen.add(other)
                    reached.append(other)
        return reached

    def _sort(self) -> None:
        """New indexes for all, without a look at the old ones; these stay if there is a cycle."""
        self.effort += len(self) + sum(map(len, self._dependencies))
        waits_for = [len(links) for links in self._dependencies]
        ready = [place for place, count in enumerate(waits_for) if count == 0]
        for place in ready:  # grows as it is walked
            for other in self._dependents[place]:
                waits_for[other] -= 1
                if waits_for[other] == 0:
                    ready.append(other)
        if len(ready) < len(self):
            raise self._cycle(self._cycle_among(waits_for))
        for index, place in enumerate(ready):  # these lie within start and end: every node has moved the end
            self._index[place] = index

    def _cycle_among(self, waits_for: list[int]) -> list[int]:
        """Back from a node that still waits, to one that it waits for, until one comes again."""
        place = next(place for place, count in enumerate(waits_for) if count)
        came_from: dict[int, int] = {}
        while place not in came_from:
            came_from[place] = next(other for other in self._dependencies[place] if waits_for[other])
            place = came_from[place]
        return _path_back(came_from, place)

    def _cycle(self, places: Sequence[int]) -> DependencyCycleError:
        return DependencyCycleError(tuple(str(self._nodes[place]) for place in places))

    def _undo(self, nodes: int, linked: list[tuple[int, int]]) -> None:
        """Take out what a refused batch has put in. The order holds for what is left: it asks for less."""
        for before, after in linked:
            del self._dependents[before][after], self._dependencies[after][before]
        for node in self._nodes[nodes:]:
            del self._places[node]
        for each in (self._nodes, self._dependencies, self._dependents, self._index):
            del each[nodes:]


def _path_back(came_from: dict[int, int], end: int) -> list[int]:
    """The circle that leads to `end`, beginning with it."""
    path = [end, came_from[end]]
    while path[-1] != end:
        path.append(came_from[path[-1]])
    return path[::-1]
