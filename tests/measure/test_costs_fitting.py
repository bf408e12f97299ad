"""Rates are found again from operators that follow them, through noise that belongs to a profile as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.costs import CostTable, Extent, LayerShape, Rates
from edgewright.core.target import NodePlacement, OperatorTime
from edgewright.measure.costs.fitting import Seen, attribute, check, fit, non_negative, shared_out
from edgewright.measure.costs.timing import ratios_of

LAYERS = (
    LayerShape("a", "Conv", "3x3", Extent(10), Extent(0, {"x": 10}), Extent(9)),
    LayerShape("b", "Conv", "3x3", Extent(0, {"x": 10}), Extent(0, {"y": 10}), Extent(0, {"x": 9})),
    LayerShape("r", "Relu", "relu", Extent(0, {"y": 10}), Extent(0, {"y": 10})),
    LayerShape("c", "Gemm", "gemm", Extent(0, {"y": 1}), Extent(10), Extent(0, {"y": 1})),
)
TRUE = {"3x3 + Relu": Rates(3, 0.01, 0.02, 0.001), "3x3": Rates(2, 0.0, 0.02, 0.001), "gemm": Rates(4, 0.0, 0.0, 0.01)}
OVERHEAD = 2.0
"""Microseconds that profiling adds to every kernel."""


def seen(count: int, seed: int = 0, noise: float = 0.0) -> tuple[tuple[Seen, ...], float]:
    """Returns forms whose operators follow TRUE, and the microseconds of the first."""
    rng = np.random.default_rng(seed)
    sizes = [{"x": 64, "y": 64}, *({"x": int(x) * 8, "y": int(y) * 8} for x, y in rng.integers(1, 9, (count, 2)))]
    kinds = {"a": "3x3", "b": "3x3 + Relu", "c": "gemm"}
    forms, whole = [], 0.0
    for each in sizes:
        times = {s.node: TRUE[kinds[s.node]].at(s.features(each)) for s in LAYERS if s.node in kinds}
        total = sum(times.values())
        whole = whole or total
        busy = float(np.exp(rng.normal(0, noise)))
        profile = {node: (time + OVERHEAD) * busy for node, time in times.items()}
        forms.append(Seen(each, total / whole, profile, {"b": ("Relu",)}))
    return tuple(forms), whole


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_forms_are_predicted(noise: float) -> None:
    forms, whole = seen(12, noise=noise)
    fitted = fit(LAYERS, forms, whole)
    for each in forms:
        assert fitted.at(each.sizes) == pytest.approx(each.ratio * whole, rel=0.02)
    others, _ = seen(12, seed=7)
    for each in others:
        assert fitted.at(each.sizes) == pytest.approx(each.ratio * whole, rel=0.05)


def test_forms_with_fewer_kernels_are_predicted() -> None:
    """A profile adds its time per kernel: a form without a branch has less of it."""
    branched = LayerShape("d", "Conv", "3x3", Extent(0, {"x": 10}), Extent(0, {"y": 10}), Extent(9), branches=("n",))
    layers, kinds = (*LAYERS, branched), {"a": "3x3", "b": "3x3 + Relu", "c": "gemm", "d": "3x3"}
    plain, _ = seen(12)
    forms, whole = [], 0.0
    for index, each in enumerate(plain):
        sizes = {**each.sizes, **({"n": 0} if index % 3 == 1 else {})}
        present = [s for s in layers if s.node in kinds and s.there(sizes)]
        times = {s.node: TRUE[kinds[s.node]].at(s.features(sizes)) for s in present}
        whole = whole or sum(times.values())
        profile = {node: time + 2 * OVERHEAD for node, time in times.items()}
        forms.append(Seen(sizes, sum(times.values()) / whole, profile, {"b": ("Relu",)}))
    fitted = fit(layers, forms, whole)
    for form in forms:
        assert fitted.at(form.sizes) == pytest.approx(form.ratio * whole, rel=0.01)


def test_a_runtime_without_a_profile_is_predicted_by_whole_forms() -> None:
    forms, whole = seen(12)
    blind = tuple(shared_out(LAYERS, Seen(each.sizes, each.ratio, {}, {}), whole) for each in forms)
    fitted = fit(LAYERS, blind, whole)
    for each in forms:
        assert fitted.at(each.sizes) == pytest.approx(each.ratio * whole, rel=0.15)


def test_every_form_is_predicted_from_the_others() -> None:
    forms, whole = seen(12)
    probes = check(LAYERS, forms, whole)
    assert len(probes) == 12
    fitted = fit(LAYERS, forms, whole)
    table = CostTable("t", "", 1, "", forms[0].sizes, fitted.layers, fitted.rates, fitted.rest, whole, probes)
    assert 0 < table.error < 0.05 or table.error == pytest.approx(0, abs=1e-6)
    assert table.relative({"x": 64}) == 1
    assert table.relative({"x": 8, "y": 8}) < table.relative({"x": 8})
    assert decode_stored(CostTable, encode_json(table)) == table


def test_a_kernel_belongs_to_the_operator_with_products() -> None:
    shapes = {s.node: s for s in LAYERS}
    placement = [
        NodePlacement("k1", "FusedConv", "CPU", "float32", ("joined", "r")),
        NodePlacement("k2", "Reorder", "CPU", "float32"),
    ]
    times, fused = attribute(
        [OperatorTime("k1", "FusedConv", 5.0), OperatorTime("k2", "Reorder", 2.0), OperatorTime("c", "Gemm", 1.0)],
        placement,
        shapes,
        {"joined": ("b",)},
    )
    assert times == {"b": 5.0, "": 2.0, "c": 1.0}
    assert fused["b"] == ("Relu",)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_no_rate_is_negative(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, wanted = rng.random((12, 4)), rng.normal(size=12)
    found = non_negative(features, wanted)
    assert (found >= 0).all()
    left = np.square(wanted - features @ found).sum()
    for _ in range(20):
        other = np.abs(found + rng.normal(0, 0.1, 4)) * rng.integers(0, 2, 4)
        assert left <= np.square(wanted - features @ other).sum() + 1e-9


def test_a_busy_round_changes_no_ratio() -> None:
    rng = np.random.default_rng(0)
    true = np.array([100.0, 80.0, 50.0, 25.0])
    busy = np.exp(rng.normal(0, 0.5, 24))
    times = true[:, None] * busy[None, :]
    times[0, :5] *= 3  # the first one was disturbed in some rounds
    assert ratios_of(times) == pytest.approx(true / 100, rel=1e-3)
