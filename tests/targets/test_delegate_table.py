"""What `edgewright check` says falls out of LiteRT's delegate is what LiteRT then runs outside of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.codec import decode_stored
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Artifact
from edgewright.engine import registry
from edgewright.graph.risks import look, risks
from edgewright.graph.risks.delegates import OUTSIDE
from edgewright.graph.shapes import infer_shapes

RNG = np.random.default_rng(0)
AXES, INDEX = {"axes": np.array([2, 3])}, {"i": np.array([1, 3, 0])}
TENSOR = {"c": RNG.standard_normal((1, 8, 8, 8)).astype(np.float32)}
SLOPE = {"s": RNG.standard_normal((8, 1, 1)).astype(np.float32)}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ArgMax": ("a", {}, {"axis": 1}),
    "ArgMin": ("a", {}, {"axis": 1}),
    "CumSum": ("a axis", {"axis": np.array(1)}, {}),
    "Equal": ("a c", TENSOR, {}),
    "Expand": ("m shape", {"shape": np.array([1, 8, 8, 8])}, {}),
    "Gather": ("a i", INDEX, {"axis": 1}),
    "GatherND": ("a i", {"i": np.array([[0, 1], [0, 2]])}, {}),
    "Greater": ("a c", TENSOR, {}),
    "GreaterOrEqual": ("a c", TENSOR, {}),
    "Less": ("a c", TENSOR, {}),
    "LessOrEqual": ("a c", TENSOR, {}),
    "LogSoftmax": ("a", {}, {}),
    "Mod": ("a c", TENSOR, {"fmod": 1}),
    "ReduceProd": ("a axes", AXES, {}),
    "Resize": ("a  scales", {"scales": np.array([1, 1, 2, 2], np.float32)}, {"mode": "nearest"}),
    "Sign": ("a", {}, {}),
    "Tile": ("a times", {"times": np.array([1, 2, 1, 1])}, {}),
    "TopK": ("a k", {"k": np.array([3])}, {}),
    "Where": ("g a c", TENSOR, {}),
    # Inside, and so no risk:
    "Gelu": ("a", {}, {}),
    "Log": ("a", {}, {}),
    "PRelu": ("a s", SLOPE, {}),
    "ReduceMax": ("a axes", AXES, {}),
    "Softmax": ("a", {}, {}),
}
FREE = {"Gelu", "Log", "PRelu", "ReduceMax", "Softmax"}
_TO_FLOAT = {"ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}


def model(op: str) -> onnx.ModelProto:
    inputs, constants, attributes = CASES[op]
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], "conv")]
    if "m" in inputs.split(" "):
        constants = {**constants, **AXES}
        nodes.append(helper.make_node("ReduceMean", ["a", "axes"], ["m"], "mean"))
    if "g" in inputs.split(" "):
        nodes.append(helper.make_node("Greater", ["a", "c"], ["g"], "greater"))
    outputs = ["n"] if op in _TO_FLOAT else ["y", "second"][: 2 if op == "TopK" else 1]
    nodes.append(helper.make_node(op, inputs.split(" "), outputs, "it", **attributes))
    if op in _TO_FLOAT:
        nodes.append(helper.make_node("Cast", ["n"], ["y"], "cast", to=TensorProto.FLOAT))
    constants = {"w": RNG.standard_normal((8, 8, 1, 1)).astype(np.float32), **constants}
    values = [helper.make_tensor_value_info("x", 1, [1, 8, 8, 8]), helper.make_tensor_value_info("y", 1, None)]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)
    )


def foretold(proto: onnx.ModelProto) -> bool:
    sight = look(infer_shapes(ir.from_proto(proto)), "litert", None, 20, {})
    return any(risk.rule == "delegate" and "it" in risk.nodes for risk in risks(sight))


@pytest.mark.slow
def test_the_table_holds(tmp_path: Path) -> None:
    target, wrong = registry.make("targets", StepSpec("litert", {})), []
    for op in CASES:
        folder, out = tmp_path / op, tmp_path / op / "out"
        out.mkdir(parents=True)
        onnx.save(model(op), folder / "model.onnx")
        context: Any = SimpleNamespace(progress=lambda fraction, note="": None, seed=0, scratch=folder)
        target.run({"model": folder / "model.onnx"}, out, context)
        artifact = decode_stored(Artifact, (out / "artifact.json").read_bytes())
        own = [kernel for kernel in artifact.placement if {"it", "cast"}.intersection(kernel.source)]
        if any(kernel.where != "XNNPACK" for kernel in own) != foretold(model(op)):
            wrong.append((op, [(kernel.op, kernel.where) for kernel in own]))
    assert wrong == []


def test_every_row_of_the_table_is_tried() -> None:
    assert set(CASES) - FREE - {"Resize"} == OUTSIDE["litert"]
    assert {op for op in CASES if foretold(model(op))} == set(CASES) - FREE
