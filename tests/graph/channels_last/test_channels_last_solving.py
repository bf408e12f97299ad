"""The states chosen: right for every graph, and the least cost there is for small ones."""

from __future__ import annotations

from collections import deque
from itertools import product
from math import prod
from typing import Any

import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.graph.channels_last.constants import is_constant
from edgewright.graph.channels_last.problem import Problem
from edgewright.graph.channels_last.sites import State
from edgewright.graph.channels_last.solving import solve
from edgewright.graph.channels_last.tidying import constants_as_initialisers

RECIPES = st.lists(st.tuples(st.integers(0, 999), st.integers(0, 2**30)), min_size=2, max_size=12)


def examples(count: int) -> settings:
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=count, deadline=None, suppress_health_check=quiet, derandomize=True)


@examples(15)
@given(recipe=RECIPES, moved=st.booleans())
def test_a_solved_graph_computes_the_same(tools: Any, recipe: list[tuple[int, int]], moved: bool) -> None:
    model = tools.grow(recipe)
    after = tools.solved(model, **borders(model, moved))
    assert tools.assert_same(model, after) >= len(model.graph.outputs)


def borders(model: ir.Model, moved: bool) -> dict[str, frozenset[str | None]]:
    """All borders channels-last, or none."""
    given, made = (frozenset(v.name for v in values) for values in (model.graph.inputs, model.graph.outputs))
    return {"moved_inputs": given, "moved_outputs": made} if moved else {}


@examples(8)
@given(recipe=RECIPES)
def test_a_solved_graph_with_quantisers_computes_the_same(tools: Any, recipe: list[tuple[int, int]]) -> None:
    model = tools.grow(recipe, quantise=True)
    after = tools.solved(model)
    tools.assert_same(model, after, steps=2)
    assert_pairs(after)


@pytest.mark.slow
@examples(150)
@given(recipe=RECIPES, quantise=st.booleans(), moved=st.booleans())
def test_many_solved_graphs_compute_the_same(
    tools: Any, recipe: list[tuple[int, int]], quantise: bool, moved: bool
) -> None:
    model = tools.grow(recipe, quantise=quantise)
    after = tools.solved(model, **borders(model, moved))
    tools.assert_same(model, after, steps=2 if quantise else 0)
    assert_pairs(after)


def assert_pairs(model: ir.Model) -> None:
    """Between a QuantizeLinear and its DequantizeLinear nothing stands; what is moved behind one is quantised again."""
    for node in model.graph:
        if node.op_type == "QuantizeLinear" and not is_constant(node.outputs[0]):
            assert all(use.node.op_type == "DequantizeLinear" for use in node.outputs[0].uses())


@examples(12)
@given(recipe=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 2**30)), min_size=2, max_size=6))
def test_no_combination_of_states_moves_less(tools: Any, recipe: list[tuple[int, int]]) -> None:
    model = tools.grow(recipe)
    constants_as_initialisers(model)
    problem = Problem(model.graph, 18, frozenset(), frozenset())
    choices = reachable(problem)
    if prod(len(states) for states in choices) > 2000:
        return
    least = min(cost(problem, list(states)) for states in product(*choices))
    solve(problem)
    assert cost(problem, problem.states) <= least + 64  # a reshape more is no move


def cost(problem: Problem, states: list[State]) -> float:
    wires = sum(problem.cost(number, states.__getitem__) for number in range(len(problem.wires)))
    return wires + sum(state.cost for state in states)


def reachable(problem: Problem) -> list[list[State]]:
    """All states that any chain of neighbours can ask of each node."""
    found = [dict.fromkeys([state]) for state in problem.states]
    queue = deque((node, state) for node, state in enumerate(problem.states))
    while queue:
        node, state = queue.popleft()
        for wires, layouts in ((problem.takes[node], state.takes), (problem.gives[node], state.gives)):
            for number, layout in zip(wires, layouts, strict=True):
                if number is not None and layout is not None:
                    for follower, following in followers(problem, number, layout):
                        if following not in found[follower] and len(found[follower]) < 12:
                            found[follower][following] = None
                            queue.append((follower, following))
    return [list(states) for states in found]


def followers(problem: Problem, number: int, layout: Any) -> list[tuple[int, State]]:
    wire = problem.wires[number]
    asked = [(node, index, "enter") for node, index in wire.takers]
    asked += [(*wire.giver, "leave")] if wire.giver is not None else []
    out = []
    for node, index, side in asked:
        rule = problem.rules[node]
        state = getattr(rule, side)(problem.sites[node], index, layout, problem.states[node]) if rule else None
        if state is not None:
            out.append((node, state))
    return out
