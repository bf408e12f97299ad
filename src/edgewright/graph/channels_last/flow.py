"""Minimum cuts (Dinic, 1970)."""

from __future__ import annotations

from collections import deque

INFINITE = 1 << 60


class Network:
    """A directed network with capacities; vertex 0 is the source, vertex 1 the sink."""

    def __init__(self, vertices: int) -> None:
        self._edges: list[list[int]] = [[] for _ in range(vertices + 2)]
        self._to: list[int] = []
        self._left: list[int] = []

    def vertex(self) -> int:
        """Adds a vertex and returns its number."""
        self._edges.append([])
        return len(self._edges) - 1

    def edge(self, start: int, end: int, capacity: int) -> None:
        """Adds an edge; cutting it costs `capacity`."""
        for a, b, room in ((start, end, capacity), (end, start, 0)):
            self._edges[a].append(len(self._to))
            self._to.append(b)
            self._left.append(room)

    def source_side(self) -> frozenset[int]:
        """Returns the vertices on the source's side of a minimum cut."""
        while True:
            level = self._levels()
            if level[1] < 0:
                return frozenset(v for v, found in enumerate(level) if found >= 0)
            self._saturate(level)

    def _levels(self) -> list[int]:
        level = [-1] * len(self._edges)
        level[0] = 0
        queue = deque([0])
        while queue:
            at = queue.popleft()
            for edge in self._edges[at]:
                to = self._to[edge]
                if self._left[edge] > 0 and level[to] < 0:
                    level[to] = level[at] + 1
                    queue.append(to)
        return level

    def _saturate(self, level: list[int]) -> None:
        following = [0] * len(self._edges)
        path: list[int] = []
        at = 0
        while True:
            if at == 1:
                at = self._push(path)
            edge = self._onward(at, level, following)
            if edge is not None:
                path.append(edge)
                at = self._to[edge]
            elif not path:
                return
            else:
                level[at] = -1
                at = self._to[path.pop() ^ 1]

    def _onward(self, at: int, level: list[int], following: list[int]) -> int | None:
        edges = self._edges[at]
        while following[at] < len(edges):
            edge = edges[following[at]]
            if self._left[edge] > 0 and level[self._to[edge]] == level[at] + 1:
                return edge
            following[at] += 1
        return None

    def _push(self, path: list[int]) -> int:
        room = min(self._left[edge] for edge in path)
        for edge in path:
            self._left[edge] -= room
            self._left[edge ^ 1] += room
        full = next(i for i, edge in enumerate(path) if not self._left[edge])
        at = self._to[path[full] ^ 1]
        del path[full:]
        return at
