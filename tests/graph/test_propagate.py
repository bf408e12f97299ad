"""Quantisers moved past data movement leave every number of the graph as it was."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.graph import edges
from edgewright.graph.propagate import propagate
from edgewright.graph.quantisers import QUANTIZE, Numbers
from edgewright.graph.shapes import infer_shapes
from edgewright.testing._quantised_models import QuantisedGraph, run_as_written

MOVES = ("Transpose", "Flatten", "Slice", "MaxPool", "Concat", "Split")
PICKS = ("Relu", "Max")


def moves(node: ir.Node) -> tuple[int, ...]:
    many = node.op_type == "Concat"
    return tuple(range(len(node.inputs) if many else 1)) if node.op_type in MOVES else ()


def picks(node: ir.Node) -> tuple[int, ...]:
    return tuple(range(len(node.inputs))) if node.op_type in PICKS else ()


def moved(g: QuantisedGraph, value: str, op: str) -> str:
    if op == "Slice":
        return str(g.add("Slice", [value, *(g.constant(np.array([n], np.int64)) for n in (0, 9, 1))]))
    if op == "MaxPool":
        return str(g.add("MaxPool", [value], kernel_shape=[2, 2], pads=[0, 0, 1, 1]))
    if op == "Concat":
        return str(g.add("Concat", [value, value], axis=1))
    if op == "Max":
        return str(g.add("Max", [value, value]))
    return str(g.add(op, [value], **({"perm": [0, 1, 3, 2]} if op == "Transpose" else {})))


OPERATORS = st.lists(
    st.sampled_from(["Transpose", "Slice", "MaxPool", "Concat", "Relu", "Max"]), min_size=1, max_size=4
)


@settings(max_examples=12, deadline=None)
@given(OPERATORS, OPERATORS, st.floats(0.01, 0.1), st.integers(-128, 127))
def test_numbers_stay(before: list[str], after: list[str], scale: float, zero: int) -> None:
    g = QuantisedGraph()
    value = g.quantised(g.input("x", (1, 2, 4, 4)), 0.05, 3)
    for op in before:
        value = moved(g, value, op)
    value = g.add("Sigmoid", [value])
    for op in after:
        value = moved(g, value, op)
    g.output(g.quantised(value, scale, zero))
    proto, feeds = g.proto(), g.feeds(3)
    model = infer_shapes(ir.serde.deserialize_model(proto))
    propagate(model.graph, moves, picks)
    changed = ir.serde.serialize_model(model)
    (expected,), (found,) = run_as_written(proto, feeds).values(), run_as_written(changed, feeds).values()
    np.testing.assert_array_equal(found, expected)


def test_both_sides_of_an_operator_read_and_give_integers() -> None:
    g = QuantisedGraph()
    value = g.quantised(g.input("x", (1, 2, 4, 4)), 0.05, 3)
    sigmoid = g.add("Sigmoid", [moved(g, value, "Transpose")])
    g.output(g.quantised(moved(g, sigmoid, "Relu"), 1 / 128, 0))
    model = infer_shapes(ir.serde.deserialize_model(g.proto()))
    assert propagate(model.graph, moves, picks) == 2
    node = next(node for node in model.graph if node.op_type == "Sigmoid")
    assert edges.given(node.inputs[0]) == Numbers("int8", float(np.float32(0.05)), 3)
    assert edges.wanted(node.outputs[0]) == Numbers("int8", 1 / 128, 0)
    assert propagate(model.graph, moves, picks) == 0


def test_what_is_read_as_floats_too_is_left_alone() -> None:
    g = QuantisedGraph()
    sigmoid = g.add("Sigmoid", [g.input("x", (1, 2, 4, 4))])
    g.output(sigmoid)
    g.output(g.quantised(moved(g, sigmoid, "Transpose"), 1 / 128, 0))
    model = infer_shapes(ir.serde.deserialize_model(g.proto()))
    propagate(model.graph, moves, picks)
    node = next(node for node in model.graph if node.op_type == "Sigmoid")
    assert edges.quantised_as(node.outputs[0]) == ()
    assert [use.node.op_type for use in node.outputs[0].uses()] == [QUANTIZE]


def test_an_output_of_the_graph_keeps_its_name() -> None:
    g = QuantisedGraph()
    name = moved(g, g.quantised(g.input("x", (1, 2, 4, 4)), 0.05, 3), "Transpose")
    g.output(name)
    model = infer_shapes(ir.serde.deserialize_model(g.proto()))
    propagate(model.graph, moves, picks)
    assert [value.name for value in model.graph.outputs] == [name]
    assert edges.given(model.graph.outputs[0]) is not None
