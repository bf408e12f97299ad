"""Sizes are chosen so that the goal is met for the least importance, aligned, the same way every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core.costs import Extent, LayerShape
from edgewright.errors import ConfigError
from edgewright.graph.pruning.choose import Choosable, State, choose, descend, kept_channels, ladder

ALIGN = 4


def chain(sizes: list[int]) -> tuple[LayerShape, ...]:
    """Returns layers, each from one group to the next: what they cost is the product of both sizes."""
    names = [f"g{i}" for i in range(len(sizes))]
    layers = []
    for index, name in enumerate(names):
        before = Extent(0.0, {names[index - 1]: 9.0}) if index else Extent(9.0)
        layers.append(LayerShape(f"l{index}", "Conv", "k", before, Extent(0.0, {name: 4.0}), before))
    return tuple(layers)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Choosable], tuple[LayerShape, ...]]:
    sizes = draw(st.lists(st.integers(1, 24), min_size=1, max_size=4))
    seed = draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    groups = [
        Choosable(f"g{i}", rng.random(size) ** 3, draw(st.sampled_from((1, 2))), draw(st.integers(1, 4)))
        for i, size in enumerate(sizes)
    ]
    return groups, chain(sizes)


@settings(deadline=None, max_examples=60)
@given(problems(), st.floats(0.2, 1.0))
def test_the_goal_is_met_or_nothing_more_can_go(
    problem: tuple[list[Choosable], tuple[LayerShape, ...]], goal: float
) -> None:
    groups, layers = problem
    found = choose(groups, layers, LayerShape.macs, 1.0, goal, ALIGN)
    whole = 1.0 + sum(layer.macs({g.name: g.size for g in groups}) for layer in layers)
    left = 1.0 + sum(layer.macs(found.sizes) for layer in layers)
    assert found.relative == pytest.approx(left / whole)
    if found.met:
        assert found.relative <= goal + 1e-9
    else:
        assert found.sizes == {g.name: (ladder(g, ALIGN) or (g.size,))[-1] for g in groups}
        assert found.relative > goal


@settings(deadline=None, max_examples=60)
@given(problems(), st.floats(0.2, 1.0))
def test_sizes_are_aligned_and_large_enough(
    problem: tuple[list[Choosable], tuple[LayerShape, ...]], goal: float
) -> None:
    groups, layers = problem
    found = choose(groups, layers, LayerShape.macs, 0.0, goal, ALIGN)
    for group in groups:
        size = found.sizes[group.name]
        assert size == group.size or (size % ALIGN == 0 and size % group.multiple == 0)
        assert size >= min(group.least, group.size)
    assert choose(groups, layers, LayerShape.macs, 0.0, goal, ALIGN) == found


@settings(deadline=None, max_examples=60)
@given(problems(), st.floats(0.2, 1.0), st.floats(0.2, 1.0))
def test_the_path_loses_no_less_for_a_lower_goal(
    problem: tuple[list[Choosable], tuple[LayerShape, ...]], one: float, other: float
) -> None:
    groups, layers = problem
    paths = {group.name: ladder(group, ALIGN) for group in groups}
    low, high = (
        descend(State(groups, layers, LayerShape.macs, 0.0), groups, paths, goal) for goal in sorted((one, other))
    )
    assert low.lost >= high.lost - 1e-9
    assert choose(groups, layers, LayerShape.macs, 0.0, max(one, other), ALIGN).lost <= high.lost + 1e-9


def test_what_costs_much_and_brings_little_goes_first() -> None:
    groups = [Choosable("cheap", np.full(8, 0.1)), Choosable("dear", np.full(8, 0.1))]
    layers = (
        LayerShape("a", "Conv", "k", Extent(1), Extent(0, {"cheap": 1}), Extent(1)),
        LayerShape("b", "Conv", "k", Extent(1), Extent(0, {"dear": 100}), Extent(1)),
    )
    found = choose(groups, layers, LayerShape.macs, 0.0, 0.6, 4)
    assert found.sizes == {"cheap": 8, "dear": 4}


def test_room_that_is_left_is_used() -> None:
    """The path takes the small step first; the large one that follows makes it needless."""
    groups = [Choosable("small", np.array([0.1, 5.0])), Choosable("large", np.array([0.0, 1.0, 1.0, 1.0]))]
    layers = (
        LayerShape("a", "Conv", "k", Extent(1), Extent(0, {"small": 10}), Extent(1)),
        LayerShape("b", "Conv", "k", Extent(1), Extent(0, {"large": 25}), Extent(1)),
    )
    found = choose(groups, layers, LayerShape.macs, 0.0, 0.8, 1)
    assert found.met
    assert found.sizes == {"small": 2, "large": 3}


def test_a_branch_goes_whole() -> None:
    groups = [Choosable("c", np.full(8, 1.0)), Choosable("branch", np.array([0.5]), least=0, whole=True)]
    layers = (
        LayerShape("a", "Conv", "k", Extent(1), Extent(0, {"c": 1}), Extent(1)),
        LayerShape("b", "Conv", "k", Extent(1), Extent(10), Extent(1), branches=("branch",)),
    )
    found = choose(groups, layers, LayerShape.macs, 0.0, 0.5, 4)
    assert found.sizes == {"c": 8, "branch": 0}
    assert found.relative == pytest.approx(8 / 18)


def test_what_goes_together_is_missed_together() -> None:
    """Four channels that are worth 1 each are worth 10 together: a branch worth 6 goes instead of them."""
    layers = (
        LayerShape("a", "Conv", "k", Extent(1), Extent(0, {"c": 1}), Extent(1)),
        LayerShape("b", "Conv", "k", Extent(1), Extent(4), Extent(1), branches=("branch",)),
    )
    branch = Choosable("branch", np.array([6.0]), least=0, whole=True)
    for together, wanted in (({}, {"c": 4, "branch": 1}), ({4: 10.0}, {"c": 8, "branch": 0})):
        groups = [Choosable("c", np.full(8, 1.0), together=together), branch]
        assert choose(groups, layers, LayerShape.macs, 0.0, 0.7, 4).sizes == wanted


def test_losses_follow_what_was_measured() -> None:
    group = Choosable("c", np.array([4.0, 1.0, 3.0, 2.0]), together={2: 6.0, 1: 9.0})
    losses = group.losses()
    assert losses[[0, 2, 3]] == pytest.approx([0.0, 6.0, 9.0])
    assert (np.diff(losses) >= 0).all()
    assert Choosable("c", group.importance).losses() == pytest.approx([0.0, 1.0, 3.0, 6.0, 10.0])


def test_most_important_channels_stay_in_order() -> None:
    assert kept_channels(np.array([0.1, 3.0, 3.0, 0.2, 3.0]), 2) == (1, 2)


@pytest.mark.parametrize("goal", [0.0, 1.5, -1.0])
def test_a_goal_is_a_share(goal: float) -> None:
    with pytest.raises(ConfigError, match="share"):
        choose([], (), LayerShape.macs, 0.0, goal, 8)
