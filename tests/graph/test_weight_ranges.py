"""Weight ranges by least squared error: never worse than the extremes, integers within their bits."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgewright.core.codec import decode
from edgewright.core.target import Scheme
from edgewright.errors import ConfigError
from edgewright.graph import qdq
from edgewright.graph.affine import dequantise, quantise, weight_grid
from edgewright.graph.load import load, save
from edgewright.graph.opset import raise_opset
from edgewright.graph.placement import decide
from edgewright.graph.plan import describe
from edgewright.graph.simplify import simplify
from edgewright.graph.statistics import Statistics, TensorStatistics, activations
from edgewright.graph.weight_ranges import weight_parameters
from edgewright.testing._pass_models import CASES
from edgewright.testing.passes import SCHEME

INTEGER = decode(Scheme, SCHEME, "test")


def squared_error(weights: NDArray[Any], axis: int | None, bits: int, dtype: str, symmetric: bool, rule: str) -> float:
    grid = weight_grid(dtype, bits, symmetric)
    scale, zero = weight_parameters(weights, axis, grid, symmetric, rule)
    integers = quantise(weights, scale, zero, grid, axis)
    assert grid.low <= int(integers.min())
    assert int(integers.max()) <= grid.high
    difference = dequantise(integers, scale, zero, axis).astype(np.float64) - weights
    return float((difference**2).sum())


@settings(max_examples=60, deadline=None)
@given(
    weights=arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=st.floats(-50, 50, width=32)),
    axis=st.sampled_from([None, 0, 1]),
    bits=st.sampled_from([4, 7, 8]),
    form=st.sampled_from([("int8", True), ("uint8", True), ("int8", False), ("uint8", False)]),
)
def test_never_more_error_than_the_extremes(
    weights: NDArray[Any], axis: int | None, bits: int, form: tuple[str, bool]
) -> None:
    extremes = squared_error(weights, axis, bits, *form, "minmax")
    assert squared_error(weights, axis, bits, *form, "mse") <= extremes * (1 + 1e-5) + 1e-12


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "share"), [(4, 0.7), (7, 0.99)])
def test_heavy_tails_are_clipped_for_less_error(symmetric: bool, bits: int, share: float) -> None:
    weights = np.random.default_rng(0).standard_t(3, (8, 4000)).astype(np.float32)
    extremes = squared_error(weights, 0, bits, "int8", symmetric, "minmax")
    assert squared_error(weights, 0, bits, "int8", symmetric, "mse") < share * extremes


def test_one_sided_weights_use_an_asymmetric_grid_on_both_sides() -> None:
    """One large outlier above: only the upper end is narrowed."""
    weights = np.concatenate([np.linspace(-1, 1, 5000), [40.0]]).astype(np.float32)
    grid = weight_grid("uint8", 4, False)
    scale, zero = weight_parameters(weights, None, grid, False, "mse")
    low, high = (grid.low - float(zero)) * float(scale), (grid.high - float(zero)) * float(scale)
    assert low <= -0.9
    assert high < 30


def test_the_least_scale_is_kept() -> None:
    weights = np.random.default_rng(1).standard_normal((3, 50)).astype(np.float32)
    least = np.asarray([0.0, 0.5, 1e-9])
    for rule in ("minmax", "mse"):
        for symmetric in (True, False):
            grid = weight_grid("int8", 8, symmetric)
            scale, zero = weight_parameters(weights, 0, grid, symmetric, rule, least)
            assert np.all(scale >= least.astype(np.float32))
            assert scale[1] == np.float32(0.5)
            assert float(scale[0]) < 0.1
            error = np.abs(dequantise(quantise(weights, scale, zero, grid, 0), scale, zero, 0) - weights)
            assert error[1].max() <= 0.2501


def planned(rule: str) -> tuple[ir.Model, dict[str, Any]]:
    model = simplify(raise_opset(ir.from_proto(CASES[0].build()), 17))
    seen = Statistics(3, {v.name or "": TensorStatistics(-1.0, 2.0) for v in activations(model.graph)})
    scheme = dataclasses.replace(INTEGER, weight_per_channel=False, weight_bits=4)
    plan = describe(decide(model.graph, scheme), scheme, seen, weights=rule)
    qdq.apply(model.graph, plan)
    return model, {t.tensor: t for t in plan.tensors}


def test_narrowed_weights_saturate_at_their_own_bits_in_the_model(tmp_path: Any) -> None:
    """Values beyond a narrowed range must not use the higher bits, which the processor has no room for."""
    model, plan = planned("mse")
    save(model, tmp_path)
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    stored = [v for v in load(tmp_path).graph.initializers.values() if (v.name or "").endswith("/quantised")]
    integers = [v.const_value.numpy() for v in stored if v.const_value is not None and v.dtype == ir.DataType.INT8]
    assert len(integers) == 4
    assert max(int(np.abs(each.astype(int)).max()) for each in integers) == 7
    assert "least squared error per tensor, 4 bits" in {t.reason for t in plan.values()}
    assert all(each.scale[0] <= planned("minmax")[1][name].scale[0] for name, each in plan.items() if each.limits)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="minmax, mse"):
        planned("best")
