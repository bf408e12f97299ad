"""Costs against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.graph.cost import model_cost, node_macs
from edgewright.graph.load import load
from edgewright.graph.shapes import bind_axes, infer_shapes


def test_cost_of_a_small_net(conv_file: Path) -> None:
    cost = model_cost(bind_axes(load(conv_file), {}))
    assert cost.parameters == 4 * 27 + 4 + 20 + 5
    assert cost.macs == 4 * 16 * 27 + 20
    assert cost.weight_bytes == 4 * cost.parameters
    # the convolution reads 3x8x8 floats and writes 4x4x4
    assert cost.peak_activation_bytes == 4 * (192 + 64)
    assert cost.peak_node == "conv"
    assert cost.unknown_shapes == ()


def node_of(op: str, shapes: dict[str, list[int]], out: list[int], **attributes: object) -> ir.Node:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, out)
    graph = helper.make_graph([helper.make_node(op, list(shapes), ["y"], **attributes)], "g", inputs, [output])
    model = infer_shapes(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))
    return next(iter(model.graph))


@pytest.mark.parametrize(
    ("op", "shapes", "out", "attributes", "macs"),
    [
        ("Conv", {"x": [1, 8, 5, 5], "w": [8, 1, 3, 3]}, [1, 8, 3, 3], {"group": 8}, 8 * 9 * 9),
        ("ConvTranspose", {"x": [1, 8, 5, 5], "w": [8, 4, 2, 2]}, [1, 4, 6, 6], {}, 8 * 25 * 4 * 4),
        ("MatMul", {"x": [2, 3, 7, 5], "w": [5, 4]}, [2, 3, 7, 4], {}, 6 * 7 * 4 * 5),
        ("Gemm", {"x": [5, 7], "w": [5, 4]}, [7, 4], {"transA": 1}, 7 * 4 * 5),
        ("LSTM", {"x": [6, 2, 3], "w": [1, 16, 3], "r": [1, 16, 4]}, [6, 1, 2, 4], {"hidden_size": 4}, 12 * 16 * 7),
        ("Relu", {"x": [4]}, [4], {}, 0),
    ],
)
def test_macs(op: str, shapes: dict[str, list[int]], out: list[int], attributes: dict[str, object], macs: int) -> None:
    assert node_macs(node_of(op, shapes, out, **attributes)) == macs


def test_a_skip_connection_stays_alive_until_it_is_added() -> None:
    def spec(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [100])

    chain = [helper.make_node("Relu", [a], [b], b) for a, b in (("x", "a"), ("a", "b"), ("b", "c"))]
    for last, tensors in (("c", 2), ("a", 3)):
        nodes = [*chain, helper.make_node("Add", ["c", last], ["y"], "add")]
        graph = helper.make_graph(nodes, "g", [spec("x")], [spec("y")])
        cost = model_cost(infer_shapes(ir.from_proto(helper.make_model(graph))))
        assert cost.peak_activation_bytes == tensors * 400


def test_quantised_weights_are_parameters_and_their_scales_are_not() -> None:
    weights = [
        numpy_helper.from_array(np.ones((4, 4), np.int8), "q"),
        numpy_helper.from_array(np.ones(4, np.float32), "scale"),
        numpy_helper.from_array(np.zeros(4, np.int8), "zero"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    cost = model_cost(
        infer_shapes(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))
    )
    assert cost.parameters == 16
    assert cost.macs == 16
