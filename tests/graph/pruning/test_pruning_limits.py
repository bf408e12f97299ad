"""What cannot be removed says why, wrong requests are refused, and importance is what the papers say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgewright.errors import ConfigError
from edgewright.graph.pruning import (
    batch_norm_scale,
    explain_fixed,
    find_groups,
    magnitude,
    prepare,
    remove,
    zeroed,
)

Written = Callable[..., ir.Model]
Shapes = Mapping[str, tuple[int, ...]]

FIXED: Mapping[str, tuple[str, Shapes, Mapping[str, Any], str, str]] = {
    "an operator that is not followed": (
        "c1 = Conv(x, w1)  u = CumSum(c1, one)  y = Conv(u, w2)",
        {"w1": (6, 3, 1, 1), "w2": (5, 6, 1, 1)},
        {"one": np.int64(2)},
        "c1",
        "CumSum",
    ),
    "a norm over channels": (
        "c1 = Conv(x, w1)  t = Transpose<perm=[0,2,3,1]>(c1)  n = LayerNormalization(t, g)  y = MatMul(n, w2)",
        {"w1": (6, 3, 1, 1), "g": (6,), "w2": (6, 5)},
        {},
        "c1",
        "normalises over it",
    ),
    "a maximum over channels": (
        "c1 = Conv(x, w1)  m = ReduceMax<axes=[1]>(c1)  y = Mul(m, c1)",
        {"w1": (6, 3, 1, 1)},
        {},
        "c1",
        "reduces over it",
    ),
    "a sum over what does not vanish": (
        "c1 = Conv(x, w1)  e = Sigmoid(c1)  m = ReduceSum(e, axis)  y = Conv(m, w2)",
        {"w1": (6, 3, 1, 1), "w2": (5, 1, 1, 1)},
        {"axis": np.array([1])},
        "c1",
        "reduces over it",
    ),
    "the input": (
        "c1 = Conv(x, w1)  s = Add(c1, x)  y = Conv(s, w2)",
        {"w1": (3, 3, 1, 1), "w2": (5, 3, 1, 1)},
        {},
        "c1",
        "stays",
    ),
    "the output": ("y = Conv(x, w1)", {"w1": (6, 3, 1, 1)}, {}, "y", "output `y`"),
    "a branch": (
        "c1 = Conv(x, w1)  k = ReduceMax<keepdims=0>(x)  b = Greater(k, nought)"
        " i = If(b) <then_branch = t () => (float[] o) "
        "{ o = Relu(c1) }, else_branch = e () => (float[] p) { p = Neg(c1) }>  y = Conv(i, w2)",
        {"w1": (6, 3, 1, 1), "w2": (5, 6, 1, 1)},
        {"nought": np.float32(0)},
        "c1",
        "If",
    ),
}


@pytest.mark.parametrize("name", FIXED)
def test_what_cannot_be_removed_says_why(name: str, written: Written) -> None:
    text, weights, constants, node, reason = FIXED[name]
    model = prepare(written(text, weights, constants))
    assert find_groups(model) == ()
    assert reason in explain_fixed(model)[node]


SIZED = "c1 = Conv(x, w1)  s = Shape<start=1, end=2>(c1)  n = Cast<to=1>(s)  d = Div(c1, n)  y = Conv(d, w2)"


def test_a_graph_that_computes_with_the_number_of_channels_keeps_it(written: Written) -> None:
    """`prepare` writes the number down; without it the number would change."""
    model = written(SIZED, {"w1": (6, 3, 1, 1), "w2": (5, 6, 1, 1)})
    assert "computes with its size" in explain_fixed(model)["c1"]
    assert [group.name for group in find_groups(prepare(model))] == ["c1"]


RESIDUAL = "c1 = Conv(x, w1)  c2 = Conv(c1, w2)  a = Add(c1, c2)  y = Conv(a, w3)"
WEIGHTS = {"w1": (8, 3, 1, 1), "w2": (8, 8, 1, 1), "w3": (5, 8, 1, 1)}


def test_removing_nothing_changes_nothing(written: Written) -> None:
    model = prepare(written(RESIDUAL, WEIGHTS))
    before = ir.to_proto(model).SerializeToString()
    remove(model, {})
    assert ir.to_proto(model).SerializeToString() == before


@pytest.mark.parametrize(
    ("name", "channels"), [("nowhere", [0]), ("c1", []), ("c1", [1, 0]), ("c1", [8]), ("c1", [-1])]
)
def test_wrong_requests_are_refused(name: str, channels: list[int], written: Written) -> None:
    with pytest.raises(ConfigError) as caught:
        remove(prepare(written(RESIDUAL, WEIGHTS)), {name: channels})
    assert caught.value.hint


def test_a_quantised_model_is_refused(written: Written) -> None:
    text = "q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  c = Conv(d, w)  y = Relu(c)"
    model = written(text, {"w": (4, 3, 1, 1)}, {"s": np.float32(0.1), "z": np.uint8(0)})
    with pytest.raises(ConfigError, match="quantised"):
        find_groups(model)


def test_importance(written: Written) -> None:
    text = "c1 = Conv(x, w1)  n = BatchNormalization(c1, gamma, beta, mean, var)  y = Conv(n, w2)"
    shapes = {"w1": (4, 3, 1, 1), **dict.fromkeys(("gamma", "beta", "mean", "var"), (4,)), "w2": (5, 4, 1, 1)}
    model = prepare(written(text, shapes))
    (group,) = find_groups(model)
    values = {"w1": np.zeros((4, 3, 1, 1)), "w2": np.ones((5, 4, 1, 1)), "gamma": np.array([1.0, -3.0, 0.0, 0.0])}
    values["w1"][0, 0], values["w1"][1, 1], values["w1"][2, :2] = 3, 1, 2**-0.5
    for name, array in values.items():
        model.graph.initializers[name].const_value = ir.tensor(array.astype(np.float32), name=name)
    made, read = np.array([3, 1, 1, 0]) / 1.25, np.ones(4)
    np.testing.assert_allclose(magnitude(model, group), np.sqrt((made**2 + read**2) / 2), rtol=1e-6)
    np.testing.assert_allclose(batch_norm_scale(model, group), [1, 3, 0, 0])
    assert zeroed(model, group).tolist() == [False, False, False, True]
