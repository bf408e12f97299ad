"""Zeros in weights: where they are found, and where magnitude puts them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import TensorProto, helper, numpy_helper

from edgewright.graph.sparsity import keeps, lamp, largest, measure, n_of_m, store, total, weights_of

FLOATS = st.floats(-4, 4, width=16)
RNG = np.random.default_rng(0)


@given(st.data())
def test_n_of_m_keeps_the_largest_of_every_block(data: st.DataObject) -> None:
    shape = data.draw(array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=9))
    weights = data.draw(arrays(np.float32, shape, elements=FLOATS))
    axis = data.draw(st.integers(0, len(shape) - 1))
    mask = n_of_m(weights, axis, 2, 4)
    blocks = shape[axis] // 4
    lines = np.moveaxis(mask, axis, -1).reshape(-1, shape[axis])
    values = np.abs(np.moveaxis(weights, axis, -1).reshape(-1, shape[axis]))
    for line, value in zip(lines, values, strict=True):
        for i in range(blocks):
            part = slice(4 * i, 4 * i + 4)
            assert line[part].sum() == 2
            assert value[part][line[part]].min() >= value[part][~line[part]].max()
        assert line[4 * blocks :].all()
    sparse = np.where(mask, weights, 0)
    assert keeps(sparse == 0, axis, 2, 4) == (blocks > 0)
    np.testing.assert_array_equal(np.where(n_of_m(sparse, axis, 2, 4), sparse, 0), sparse)


@given(st.lists(arrays(np.float32, array_shapes(max_dims=3, max_side=6), elements=FLOATS), min_size=1, max_size=4),
       st.floats(0.01, 0.99))  # fmt: skip
def test_the_lowest_scores_are_left_out_exactly(scores: list[Any], share: float) -> None:
    named = {str(i): np.abs(array) for i, array in enumerate(scores)}
    masks = largest(named, share)
    count = sum(array.size for array in scores)
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(share * count)
    out = np.concatenate([named[n][~m] for n, m in masks.items()])
    kept = np.concatenate([named[n][m] for n, m in masks.items()])
    assert not out.size or not kept.size or out.max() <= kept.min()


def test_lamp_compares_layers_by_what_is_larger_in_each() -> None:
    weights = np.array([[3.0, -1.0, 2.0]])
    np.testing.assert_allclose(lamp(weights), [[1.0, 1 / 14, 4 / 13]])
    tiny = weights * 1e-3
    masks = largest({"a": lamp(weights), "b": lamp(tiny)}, 0.6)
    assert all(mask.any() for mask in masks.values())
    plain = largest({"a": np.abs(weights), "b": np.abs(tiny)}, 0.5)
    assert not plain["b"].any()


def layered(quantised: bool) -> ir.Model:
    """A convolution with half of its weights zero in 2:4, one channel idle, a dense Gemm and a transposed MatMul."""
    conv = RNG.standard_normal((6, 8, 3, 3)).astype(np.float32)
    conv = np.where(n_of_m(conv, 1, 2, 4), conv, 0)
    conv[5] = 0
    gemm = RNG.standard_normal((16, 6)).astype(np.float32)
    product = RNG.standard_normal((4, 16)).astype(np.float32)
    product = np.where(n_of_m(product, 1, 2, 4), product, 0).astype(np.float32)
    weights = [numpy_helper.from_array(a, n) for a, n in ((gemm, "g"), (product, "p"))]
    nodes = []
    if quantised:
        zero = RNG.integers(1, 9, 6).astype(np.uint8)
        scale = np.abs(conv).max((1, 2, 3)) / 100 + 1e-3
        integers = np.round(conv / scale.reshape(-1, 1, 1, 1)) + zero.reshape(-1, 1, 1, 1)
        stored = [(integers.clip(0, 255).astype(np.uint8), "q"), (scale.astype(np.float32), "s"), (zero, "z")]
        weights += [numpy_helper.from_array(a, n) for a, n in stored]
        nodes.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["c"], axis=0))
    else:
        weights.append(numpy_helper.from_array(conv, "c"))
    nodes += [
        helper.make_node("Conv", ["x", "c"], ["y"], "conv"),
        helper.make_node("GlobalAveragePool", ["y"], ["a"], "pool"),
        helper.make_node("Flatten", ["a"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "g"], ["h"], "gemm", transB=1),
        helper.make_node("Transpose", ["p"], ["t"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["h", "t"], ["out"], "product"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, [1, 8, 5, 5])],
                              [value("out", TensorProto.FLOAT, [1, 4])], weights)  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model, full_check=True)
    return ir.from_proto(model)


@pytest.mark.parametrize("quantised", [False, True])
def test_every_form_of_weights_is_measured(quantised: bool) -> None:
    found = {layer.layer: layer for layer in measure(layered(quantised))}
    assert [found[n].pattern for n in ("conv", "gemm", "product")] == ["2:4", "", "2:4"]
    assert found["conv"].idle >= 1
    assert found["conv"].outputs == 6
    assert found["product"].share == pytest.approx(0.5)
    assert total(tuple(found.values())) == pytest.approx((found["conv"].share * 432 + 32) / (432 + 96 + 64))


def test_what_is_stored_is_read_again() -> None:
    model = layered(quantised=False)
    weight = next(w for w in weights_of(model.graph) if w.node.name == "gemm")
    assert weight.axis == 1
    store(weight, np.zeros_like(weight.array))
    (gemm,) = (layer for layer in measure(model) if layer.layer == "gemm")
    assert [gemm.share, gemm.idle, gemm.outputs] == [1.0, 16, 16]
