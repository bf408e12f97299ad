"""Finds the states of least cost: fusion moves by minimum cuts.

Where a value is given in one layout and wanted in another, each of them spreads over all neighbours that can follow: a
proposal. A minimum cut then decides for every node of the proposal whether it joins or stays; where the proposal and
the present states agree within themselves every term is submodular and that choice is the best of all 2^n (Kolmogorov
and Zabih, 2004); a choice is taken only if it lowers the true cost. Proposals are tried in turn until none does: alpha
expansion (Boykov, Veksler and Zabih, 2001) with labels that change their form from node to node, which Lempitsky,
Rother, Roth and Blake (2010) call fusion moves.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator

from edgewright.graph.channels_last.flow import INFINITE, Network
from edgewright.graph.channels_last.layouts import Layout
from edgewright.graph.channels_last.problem import Problem, Wire
from edgewright.graph.channels_last.sites import State

_ROUNDS = 6
_NEAR = 40
"""Nodes of a proposal that is tried although its parts were tried before."""
Proposal = dict[int, State]


def solve(problem: Problem) -> None:
    """Chooses the states, in place."""
    for _ in range(_ROUNDS):
        if not _round(problem) and not _patient_round(problem):
            return


def _round(problem: Problem) -> bool:
    """Tries every proposal once, taking a state that was part of one for the same proposal again."""
    seen: set[tuple[int, State]] = set()
    changed = False
    for node, state in _seeds(problem):
        if (node, state) not in seen and state != problem.states[node]:
            proposal = _spread(problem, node, state)
            seen.update(proposal.items())
            changed |= _fuse(problem, proposal)
    return changed


def _patient_round(problem: Problem) -> bool:
    """Tries every small proposal of every seed: matrix products answer differently to different neighbours."""
    changed = False
    for node, state in dict.fromkeys(_seeds(problem)):
        if state != problem.states[node]:
            proposal = _spread(problem, node, state, _NEAR)
            changed |= len(proposal) <= _NEAR and _fuse(problem, proposal)
    return changed


def _seeds(problem: Problem) -> Iterator[tuple[int, State]]:
    """Yields states of nodes at wires that cost something: one that one of the others there has already."""
    for number, wire in enumerate(problem.wires):
        if problem.cost(number, problem.states.__getitem__):
            for layout in _present(problem, wire):
                yield from _followers(problem, wire, layout)


def _present(problem: Problem, wire: Wire) -> list[Layout]:
    """Returns the layouts in which a wire is given and wanted."""
    state = problem.states.__getitem__
    found = [problem.given(wire, state), *(layout for _, layout in problem.wanted(wire, state))]
    return list(dict.fromkeys(layout for layout in found if layout is not None))


def _followers(problem: Problem, wire: Wire, layout: Layout) -> Iterator[tuple[int, State]]:
    """Yields the nodes at `wire` that could have it in `layout`, and their states."""
    if wire.giver is not None and (rule := problem.rules[wire.giver[0]]) is not None:
        node, index = wire.giver
        if (state := rule.leave(problem.sites[node], index, layout, problem.states[node])) is not None:
            yield node, state
    for node, index in wire.takers:
        rule = problem.rules[node]
        if rule is not None:
            state = rule.enter(problem.sites[node], index, layout, problem.states[node])
            if state is not None:
                yield node, state


def _spread(problem: Problem, node: int, state: State, limit: int = sys.maxsize) -> Proposal:
    """Follows a state to all neighbours that have to change for it; who stays as it is asks nothing of others."""
    proposal = {node: state}
    queue = deque([node])
    while queue and len(proposal) <= limit:
        at = queue.popleft()
        for wire, layout in _ports(problem, at, proposal[at]):
            for follower, following in _followers(problem, problem.wires[wire], layout):
                if follower not in proposal and following != problem.states[follower]:
                    proposal[follower] = following
                    queue.append(follower)
    return proposal


def _ports(problem: Problem, node: int, state: State) -> Iterator[tuple[int, Layout]]:
    for wires, layouts in ((problem.takes[node], state.takes), (problem.gives[node], state.gives)):
        for wire, layout in zip(wires, layouts, strict=True):
            if wire is not None and layout is not None:
                yield wire, layout


def _fuse(problem: Problem, proposal: Proposal) -> bool:
    """Lets every node choose between its present and its proposed state; says whether that lowered the cost."""
    region = list(proposal)
    touched = problem.touched(region)
    before = _total(problem, touched, region, {})
    options = [proposal]
    if len(region) > 1:
        options.append(_Cut(problem, proposal).joining(touched))
    best = min(options, key=lambda chosen: _total(problem, touched, region, chosen))
    if _total(problem, touched, region, best) >= before:
        return False
    for node, state in best.items():
        problem.states[node] = state
    return True


def _total(problem: Problem, wires: set[int], region: list[int], chosen: Proposal) -> float:
    def state(node: int) -> State:
        return chosen[node] if node in chosen else problem.states[node]

    return sum(problem.cost(wire, state) for wire in wires) + sum(state(node).cost for node in region)


class _Cut:
    """The choice as a network: a node on the sink's side takes its proposed state."""

    def __init__(self, problem: Problem, proposed: Proposal) -> None:
        self._problem, self._proposed = problem, proposed
        self._vertex = {node: i + 2 for i, node in enumerate(proposed)}
        self._network = Network(len(proposed))

    def joining(self, wires: set[int]) -> Proposal:
        """Returns the nodes that take their proposed states in a minimum cut."""
        for node, state in self._proposed.items():
            self._alone(node, 0, round(self._problem.states[node].cost))
            self._alone(node, 1, round(state.cost))
        for number in wires:
            self._add_wire(self._problem.wires[number])
        stay = self._network.source_side()
        return {node: state for node, state in self._proposed.items() if self._vertex[node] not in stay}

    def _pick(self, choice: int, node: int) -> State:
        return self._proposed[node] if choice and node in self._proposed else self._problem.states[node]

    def _alone(self, node: int, choice: int, cost: int) -> None:
        """Charges a node for one choice."""
        if cost:
            vertex = self._vertex[node]
            self._network.edge(*((0, vertex) if choice else (vertex, 1)), cost)

    def _add_wire(self, wire: Wire) -> None:
        """Charges the price once for every layout that somebody wants and that the giver does not give."""
        held = [self._held(wire, choice) for choice in (0, 1)]
        wanted: dict[object, dict[int | None, set[int]]] = {}
        for choice in (0, 1):
            for node, layout in self._problem.wanted(wire, lambda n, c=choice: self._pick(c, n)):  # type: ignore[misc]
                if layout is not None:
                    free = node if node in self._proposed else None
                    wanted.setdefault(self._problem.sort(wire, layout), {}).setdefault(free, set()).add(choice)
        for wish, takers in wanted.items():
            price = max(self._problem.price(wire, node) for node in takers)
            differs = {choice for choice in (0, 1) if held[choice] is not None and held[choice] != wish}
            self._charge(wire, differs, takers, price)

    def _held(self, wire: Wire, choice: int) -> object:
        layout = self._problem.given(wire, lambda node: self._pick(choice, node))
        return None if layout is None else self._problem.sort(wire, layout)

    def _charge(self, wire: Wire, differs: set[int], takers: dict[int | None, set[int]], price: int) -> None:
        giver = wire.giver[0] if wire.giver is not None and wire.giver[0] in self._proposed else None
        always = None in takers or any(len(choices) == 2 for choices in takers.values())
        if always:
            if giver is not None:
                for choice in differs:
                    self._alone(giver, choice, price)
            return
        for choice in (0, 1):
            group = [node for node, choices in takers.items() if node is not None and choice in choices]
            if group and differs:
                self._any(group, choice, giver if differs == {1 - choice} else None, price)

    def _any(self, group: list[int], choice: int, giver: int | None, price: int) -> None:
        """Charges once if any of `group` makes `choice` (and `giver`, where named, the other one)."""
        network, joint = self._network, self._network.vertex()
        for node in group:
            vertex = self._vertex[node]
            network.edge(*((joint, vertex) if choice else (vertex, joint)), INFINITE)
        other = None if giver is None else self._vertex[giver]
        if choice:
            network.edge(0 if other is None else other, joint, price)
        else:
            network.edge(joint, 1 if other is None else other, price)
