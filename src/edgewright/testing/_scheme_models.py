"""A float network that every scheme quantises differently, and the way from a float model to one with quantisers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.target import Plan, Scheme
from edgewright.graph import qdq
from edgewright.graph.opset import raise_opset
from edgewright.graph.placement import decide
from edgewright.graph.plan import describe
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.simplify import simplify
from edgewright.graph.statistics import Statistics, TensorStatistics, activations


def network() -> ir.Model:
    """Conv > relu > max pool > conv > + skip > depthwise conv > mean > gemm > softmax, opset 17."""
    rng = np.random.default_rng(5)
    shapes = {"w0": (4, 3, 3, 3), "b0": (4,), "w1": (4, 4, 1, 1), "b1": (4,), "w2": (4, 1, 3, 3), "v": (4, 5)}
    same = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "conv0", pads=same),
        helper.make_node("Relu", ["c0"], ["r0"], "relu"),
        helper.make_node("MaxPool", ["r0"], ["p0"], "pool", kernel_shape=[3, 3], pads=same),
        helper.make_node("Conv", ["p0", "w1", "b1"], ["c1"], "conv1"),
        helper.make_node("Add", ["c1", "p0"], ["a"], "add"),
        helper.make_node("Conv", ["a", "w2"], ["c2"], "depthwise", group=4, pads=same),
        helper.make_node("GlobalAveragePool", ["c2"], ["g"], "mean"),
        helper.make_node("Flatten", ["g"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "v"], ["m"], "gemm"),
        helper.make_node("Softmax", ["m"], ["s"], "softmax"),
        helper.make_node("Gemm", ["s", "u"], ["y"], "last"),
    ]
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in shapes.items()]
    weights.append(numpy_helper.from_array(rng.standard_normal((5, 2)).astype(np.float32), "u"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def seen(graph: ir.Graph) -> Statistics:
    """Made-up ranges, another one for every tensor."""
    values = [v.name or "" for v in activations(graph)]
    counts = np.array((1, 8, 1), np.int64)
    return Statistics(3, {n: TensorStatistics(-1.0 - i / 8, 2.0 + i / 4, counts) for i, n in enumerate(values)})


def quantised(scheme: Scheme, model: ir.Model | None = None) -> tuple[ir.Model, Plan]:
    """Quantises `model`, by default `network()`, by the rules of `scheme`."""
    model = infer_shapes(raise_opset(model or network(), max(17, scheme.opset)))
    model = infer_shapes(simplify(model))
    qdq.prepare(model)
    plan = describe(decide(model.graph, scheme), scheme, seen(model.graph))
    qdq.apply(model.graph, plan)
    return infer_shapes(model), plan
