"""Weights that two operators share, as ONNX Runtime takes them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.target import Plan
from edgewright.graph import qdq
from edgewright.graph.placement import decide
from edgewright.graph.plan import describe
from edgewright.graph.schemes import find
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import Statistics, TensorStatistics
from edgewright.graph.unshare import unshare
from edgewright.runtimes._machine import local_device

SATURATES = local_device().machine == "x86_64" and not {"avx512_vnni", "avx_vnni"} & set(local_device().isa)


def _shared(op: str, shape: tuple[int, ...], x: tuple[int, ...]) -> tuple[ir.Model, Plan]:
    weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    nodes = [
        helper.make_node(op, ["x", "w"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node(op, ["b", "w"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x)],
        [numpy_helper.from_array(weights, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model, scheme = infer_shapes(ir.from_proto(proto)), find("onnxruntime-u8s8")
    seen = Statistics(1, {name: TensorStatistics(0.0 if name == "b" else -3.0, 3.0) for name in "xaby"})
    return model, describe(decide(model.graph, scheme), scheme, seen)


def _run(model: ir.Model, feed: Any, precise: str, folder: Path) -> tuple[Any, list[str]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.add_session_config_entry("session.x64quantprecision", precise)
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    kernels = [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]
    return session.run(None, {"x": feed})[0], kernels


@pytest.mark.parametrize(
    ("op", "weights", "shape"), [("Conv", (8, 8, 1, 1), (2, 8, 4, 4)), ("MatMul", (8, 8), (2, 3, 8))]
)
def test_each_reader_gets_its_own_and_both_run_in_integers(
    op: str, weights: tuple[int, ...], shape: tuple[int, ...], tmp_path: Path
) -> None:
    model, plan = _shared(op, weights, shape)
    qdq.apply(model.graph, plan)
    with pytest.raises(Exception, match="AddInitializer") if SATURATES else nullcontext():
        _run(model, np.zeros(shape, np.float32), "1", tmp_path)
    feed = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert unshare(model.graph) == 2, "weights and zero points"
    assert unshare(model.graph) == 0
    for precise in "01":
        _, kernels = _run(model, feed, precise, tmp_path)
        assert sum(kernel == f"QLinear{op}" for kernel in kernels) == 2
        assert op not in kernels


def test_what_is_read_once_stays_as_it_is() -> None:
    model, plan = _shared("MatMul", (8, 8), (2, 3, 8))
    model.graph[-1].replace_input_with(1, model.graph[0].outputs[0])
    qdq.apply(model.graph, plan)
    before = sorted(model.graph.initializers)
    assert unshare(model.graph) == 0
    assert sorted(model.graph.initializers) == before
