"""The choice of what stays in float, against made-up models whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core.budget import Violation
from edgewright.core.data import QualityFigure
from edgewright.core.digest import Digest
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing
from edgewright.core.recipe import Candidate, Recipe, StepSpec
from edgewright.core.sensitivity import GroupSensitivity, Sensitivity
from edgewright.core.target import NodePlacement, OperatorTime, Scheme
from edgewright.search import mixed
from edgewright.search.mixed import EVALUATIONS, mixed_rungs, order_groups
from edgewright.search.operator_costs import node_times, operator_costs
from edgewright.search.repair import Best, Chain, inside
from edgewright.search.rungs import Rung

TARGET = StepSpec("onnxruntime")
DEVICE = Device("local", "x86_64", "test", 2, ("avx2",), 1 << 30, "Linux")
SCHEME = Scheme("rt-u8s8", "uint8", False, "int8", True, True, 8, ("Conv",), (), "int32")


@dataclass(frozen=True)
class World:
    """A chain of convolutions: what each loses in INT8, and its time both ways.

    Attributes:
        losses: Per convolution.
        floats: Microseconds.
        integers: Microseconds.
        allowed: Loss that the budget allows.
        elements: Values between two neighbours.
    """

    losses: Sequence[float]
    floats: Sequence[float]
    integers: Sequence[float]
    allowed: float
    elements: int = 0

    def names(self) -> list[str]:
        return [f"c{i}" for i in range(len(self.losses))]

    def groups(self) -> tuple[GroupSensitivity, ...]:
        names = self.names()
        readers = [*((name,) for name in names[1:]), ()]
        made = zip(names, self.losses, readers, strict=True)
        return tuple(
            GroupSensitivity(
                (name,), (f"t_{name}",), loss, 20.0, loss, nodes=(name,), feeds=feeds, elements=self.elements
            )
            for name, loss, feeds in made
        )

    def candidate(self, recipe: Recipe, kept: set[str]) -> Candidate:
        pairs = zip(self.names(), self.floats, self.integers, strict=True)
        operators = tuple(OperatorTime(f"{n}_run", "Conv", f if n in kept else i) for n, f, i in pairs)
        placement = tuple(
            NodePlacement(f"{n}_run", "Conv", "CPU", "", (n, f"{n}/QuantizeLinear")) for n in self.names()
        )
        lost = sum(loss for name, loss in zip(self.names(), self.losses, strict=True) if name not in kept)
        violations = (Violation("quality_drop", self.allowed, lost),) if lost > self.allowed else ()
        return judged(recipe, sum(o.microseconds for o in operators), lost, violations, operators, placement)

    def run(self, rung: Rung) -> Candidate:
        patterns = [p for spec in rung.recipe.passes for p in spec.config.get("keep_float", ())]
        return self.candidate(rung.recipe, {n for n in self.names() if any(fnmatchcase(n, p) for p in patterns)})

    def plain(self) -> Candidate:
        return self.candidate(Recipe("float", ()), set(self.names()))

    def start(self) -> Best:
        chain = Chain(SCHEME)
        return Best(chain, self.candidate(chain.recipe(), set()))


def judged(recipe, micros, lost, violations, operators, placement) -> Candidate:
    quality = Quality((QualityFigure("m", 1 - lost, 0, 1, 10, "tune"),))
    summary = Summary(1, 1, 1, 1, 1, 1)
    speed = Ratio(*[1e3 / max(micros, 1e-9)] * 3)
    timing = Timing(summary, summary, speed, 1, 1, 1, 1, None, "", Conditions(1, 1, None, None, 0, 1, 1))
    measured = Measurement(Digest("sha256:0"), DEVICE, quality, None, timing)
    made = Candidate(recipe.title, "onnxruntime", recipe, 1, 1, measurement=measured)
    return replace(made, violations=violations, operators=operators, placement=placement)


def untimed(candidate: Candidate) -> Candidate:
    """What a target that does not run here leaves of a candidate."""
    assert candidate.measurement is not None
    return replace(candidate, measurement=replace(candidate.measurement, timing=None, size_bytes=1), operators=())


def search(world: World, *, elsewhere: bool = False) -> tuple[list[Rung], Best]:
    asked: list[Recipe] = []

    def measure(recipe: Recipe) -> Sensitivity:
        asked.append(recipe)
        return Sensitivity("rt-u8s8", 8, world.groups())

    seen = untimed if elsewhere else (lambda candidate: candidate)
    start, original = world.start(), world.plain() if elsewhere else None
    steps = mixed_rungs(TARGET, Best(start.chain, seen(start.candidate)), seen(world.plain()), measure, original)
    rungs: list[Rung] = []
    answer = None
    try:
        while True:
            rungs.append(steps.send(answer))
            answer = None if rungs[-1].refused else seen(world.run(rungs[-1]))
            answer = answer or Candidate("refused", "onnxruntime", rungs[-1].recipe, 1, 1)
    except StopIteration as end:
        assert [recipe.title for recipe in asked] == ["int8 u8s8 minmax"]
        return rungs, end.value


def micros(candidate: Candidate) -> float:
    return sum(operator.microseconds for operator in candidate.operators)


def test_one_guilty_layer_is_found_with_few_evaluations() -> None:
    world = World([1e-4] * 20 + [0.5] + [1e-4] * 20, [100.0] * 41, [50.0] * 41, allowed=0.01)
    rungs, best = search(world)
    assert inside(best.candidate)
    assert micros(best.candidate) == 41 * 50 + 50
    assert len(rungs) <= 2
    assert best.candidate.recipe.title == "int8 u8s8 minmax, 1 operators in float"


def test_a_target_that_does_not_run_here_gets_the_fewest_layers_in_float_all_the_same() -> None:
    world = World([1e-4] * 20 + [0.5] + [1e-4] * 20, [100.0] * 41, [50.0] * 41, allowed=0.01)
    rungs, best = search(world, elsewhere=True)
    assert inside(best.candidate)
    assert best.candidate.recipe.title == "int8 u8s8 minmax, 1 operators in float"
    assert len(rungs) <= EVALUATIONS


def test_a_cheap_layer_is_preferred_to_an_expensive_one_that_loses_a_little_more() -> None:
    world = World([0.10, 0.11], [60.0, 900.0], [50.0, 100.0], allowed=0.12)
    costs = operator_costs(world.plain(), world.start().candidate, world.groups())
    assert order_groups(costs).names == ("c0", "c1")
    assert micros(search(world)[1].candidate) == 160


def test_neighbours_share_borders() -> None:
    world = World([0.3, 0.2, 0.0, 0.2], [60.0] * 4, [50.0] * 4, allowed=0.0, elements=100_000)
    costs = operator_costs(world.plain(), world.start().candidate, world.groups())
    assert costs.added(["c0"]) == pytest.approx(10 + 60)
    assert costs.added(["c0", "c1"]) == pytest.approx(20 + 60)
    assert costs.added(["c0", "c1", "c2", "c3"]) == pytest.approx(40)
    assert order_groups(costs).names[:2] == ("c0", "c1")


def test_integers_that_are_slower_than_float_are_rejected_with_their_borders_and_said_so() -> None:
    world = World([0.0, 0.0, 0.5], [90.0, 99.0, 300.0], [100.0, 100.0, 100.0], allowed=0.1)
    costs = operator_costs(world.plain(), world.start().candidate, world.groups())
    assert costs.slower() == {"c0": "c0: INT8 0.9x as fast as float: kept float"}
    in_a_long_model = replace(world, losses=[0.0] * 99, floats=[90.0] + [100.0] * 98, integers=[100.0] * 99)
    costs = operator_costs(in_a_long_model.plain(), in_a_long_model.start().candidate, in_a_long_model.groups())
    assert costs.slower() == {}
    with_borders = replace(world, elements=1_000_000)
    again = operator_costs(world.plain(), world.start().candidate, with_borders.groups())
    assert again.slower() == {}
    rungs, best = search(replace(world, floats=[90.0, 199.0, 110.0], integers=[100.0, 100.0, 50.0]))
    assert best.candidate.recipe.title == "int8 u8s8 minmax, 2 operators in float, 1 of them slower in INT8"
    assert micros(best.candidate) == 90 + 100 + 110
    assert len(rungs) == 1


def test_where_nothing_would_be_gained_it_says_so() -> None:
    rungs, best = search(World([0.5, 0.5], [50.0, 50.0], [50.0, 50.0], allowed=0.1))
    assert [bool(rung.refused) for rung in rungs] == [True]
    assert "no faster than all of it in float" in rungs[0].refused
    assert best.candidate.violations


def test_the_price_of_a_border_is_learned() -> None:
    world = World([0.5, 0.0], [60.0, 60.0], [50.0, 50.0], allowed=0.1, elements=1000)
    costs = operator_costs(world.plain(), world.start().candidate, world.groups())
    mixed_one = world.candidate(Recipe("", ()), {"c0"})
    paid = replace(mixed_one, operators=(*mixed_one.operators, OperatorTime("r", "ReorderInput", 7.0)))
    assert costs.learned(paid, ["c0"]).price == pytest.approx(7.0 / 1000)
    assert costs.learned(paid, []).price == costs.price


def test_a_fused_kernels_time_goes_to_the_operator_with_weights() -> None:
    operators = (OperatorTime("k", "Conv", 8.0), OperatorTime("g", "QuickGelu", 2.0))
    placement = (
        NodePlacement("k", "Conv", "CPU", "float32", ("conv", "gate", "x/DequantizeLinear")),
        NodePlacement("g", "QuickGelu", "CPU", "float32", ("gate", "mul")),
    )
    candidate = replace(World([], [], [], 0).plain(), operators=operators, placement=placement)
    assert node_times(candidate, {"conv"}) == {"conv": 8.0, "gate": 1.0, "mul": 1.0}


figures = st.floats(1e-6, 1.0)


def test_what_profiling_adds_is_taken_back_by_the_measured_speeds() -> None:
    world = World([0.1, 0.1], [10.0, 10.0], [5.0, 5.0], allowed=0.1)
    plain, integer = world.plain(), world.start().candidate
    slowed = replace(integer, operators=tuple(replace(o, microseconds=9.0) for o in integer.operators))
    costs = operator_costs(plain, slowed, world.groups())
    assert costs.scale == pytest.approx(5 / 9)
    assert (costs.total_float, costs.total_integer) == (20.0, pytest.approx(10.0))
    assert list(costs.integers.values()) == pytest.approx([5.0, 5.0])
    assert operator_costs(replace(plain, measurement=None), slowed, world.groups()).scale == 1.0


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_it_meets_the_budget_whenever_keeping_enough_does(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    draw = lambda values: data.draw(st.lists(values, min_size=count, max_size=count))  # noqa: E731
    losses = draw(figures)
    world = World(
        losses, draw(st.floats(50, 200)), draw(st.floats(40, 100)), allowed=data.draw(st.floats(0, 1)) * sum(losses)
    )
    rungs, best = search(world)
    costs = operator_costs(world.plain(), world.start().candidate, world.groups())
    order = order_groups(costs)
    most = mixed.affordable(costs, order)
    reachable = any(order.remaining[i] <= world.allowed for i in range(1, most + 1))
    tried = [rung for rung in rungs if not rung.refused]
    assert len(tried) <= EVALUATIONS
    assert sorted(order.names) == sorted(world.names())
    if reachable and len(tried) < EVALUATIONS:
        assert inside(best.candidate)
    if inside(best.candidate):
        met = [world.run(rung) for rung in tried if inside(world.run(rung))]
        assert all(micros(best.candidate) <= micros(other) for other in met)
    if best.candidate.recipe != world.start().candidate.recipe and not world.start().candidate.violations:
        assert inside(best.candidate)


def test_measured_times_decide_whether_there_is_something_to_save_between() -> None:
    """Profiles that see no difference between the operators do not end the search when the clock sees one."""

    @dataclass(frozen=True)
    class Clocked(World):
        def run(self, rung: Rung) -> Candidate:
            made = super().run(rung)
            kept = len(rung.recipe.passes[-1].config["keep_float"])
            assert made.measurement is not None
            assert made.measurement.timing is not None
            speed = Ratio(*[2 / (1 + 0.05 * kept)] * 3)
            timing = replace(made.measurement.timing, speedup=speed)
            return replace(made, measurement=replace(made.measurement, timing=timing))

    world = Clocked([0.01] * 20, [10.0] * 20, [9.6] * 20, allowed=0.13)
    rungs, best = search(world)
    assert len(rungs) > 2
    assert not best.candidate.violations
    assert next(len(rung.recipe.passes[-1].config["keep_float"]) for rung in rungs) == 10
    assert len(best.chain.config["keep_float"]) == 7  # as many as are needed


def test_operators_slower_in_integers_are_named_on_the_candidate() -> None:
    world = World([0.3, 0.001], [50.0, 10.0], [10.0, 100.0], allowed=0.01)
    rungs, _ = search(world)
    assert any("INT8" in note and note.startswith("c1") for note in rungs[0].notes)
