"""What the LiteRT schemes quantise, and what the compiler is predicted to make of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

from edgewright.core.target import Plan
from edgewright.formats.tflite.reader import parse
from edgewright.graph import qdq
from edgewright.graph.names import name_nodes
from edgewright.graph.placement import decide
from edgewright.graph.plan import describe
from edgewright.graph.schemes import find
from edgewright.graph.schemes.lint import require
from edgewright.graph.schemes.predict import FLOAT, FUSED, INTEGER, predict
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import Statistics, TensorStatistics
from edgewright.targets._tflite.compile import compile_model
from edgewright.targets._tflite.options import Options
from edgewright.testing._quantised_models import QuantisedGraph

RNG = np.random.default_rng(5)


def network() -> ir.Model:
    """A residual block whose sum is activated, a gate, an upsampling, a product with a bias, and a head."""
    g = QuantisedGraph()

    def constant(*shape: int) -> str:
        return g.constant(RNG.standard_normal(shape).astype(np.float32) / 4)

    first = g.add(
        "Relu", [g.add("Conv", [g.input("x", (1, 3, 8, 8)), constant(6, 3, 3, 3), constant(6)], pads=[1] * 4)]
    )
    second = g.add("Conv", [first, constant(6, 6, 3, 3)], pads=[1] * 4)
    block = g.add("Relu", [g.add("Add", [first, second])])
    gate = g.add("Sigmoid", [g.add("Conv", [block, constant(6, 6, 1, 1)])])
    larger = g.add(
        "Resize", [g.add("Mul", [block, gate]), "", g.constant(np.array([1, 1, 2, 2], np.float32))], mode="linear"
    )
    pooled = g.add("Flatten", [g.add("GlobalAveragePool", [g.add("Conv", [larger, constant(8, 6, 1, 1)])])])
    product = g.add("Relu", [g.add("Add", [g.add("MatMul", [pooled, constant(8, 5)]), constant(5)])])
    g.output(g.add("Softmax", [g.add("MatMul", [product, constant(5, 4)])]))
    model = ir.serde.deserialize_model(g.proto())
    name_nodes(model.graph)
    return infer_shapes(model)


def quantised(name: str) -> ir.Model:
    model, scheme = network(), find(name)
    qdq.prepare(model)
    values = (*model.graph.inputs, *(v for node in model.graph for v in node.outputs))
    statistics = Statistics(1, {v.name or "": TensorStatistics(-2.0, 3.0) for v in values})
    plan = describe(decide(model.graph, scheme), scheme, statistics)
    qdq.apply(model.graph, plan)
    model = infer_shapes(model)
    require(model.graph, scheme, plan.kept_float)
    return model


def observed(model: ir.Model) -> Mapping[str, str]:
    made = compile_model(model, Plan("test"), Options())
    graph = parse(made.content)
    found: dict[str, str] = {}
    for operator, sources in zip(graph.operators, made.trace, strict=True):
        if operator.op not in ("QUANTIZE", "DEQUANTIZE"):
            touched = {graph.tensors[n].dtype for n in (*operator.inputs[:1], *operator.outputs) if n >= 0}
            found.update(dict.fromkeys(sources, FLOAT if "float32" in touched else INTEGER))
    return found


@pytest.mark.parametrize("name", ["litert-s8s8", "litert-s8s8-full", "litert-s16s8"])
def test_the_compiler_does_what_is_predicted(name: str) -> None:
    model = quantised(name)
    seen = observed(model)
    told = predict(model.graph, find(name))
    compared = {node: (kind, seen[node]) for node, kind in told.items() if kind != FUSED and node in seen}
    assert len(compared) >= 10
    assert {node: pair for node, pair in compared.items() if pair[0] != pair[1]} == {}


def test_only_the_last_activation_stays_float_and_none_in_the_full_scheme() -> None:
    partly, full = (
        predict(quantised("litert-s8s8").graph, find("litert-s8s8")),
        predict(quantised("litert-s8s8-full").graph, find("litert-s8s8-full")),
    )
    assert [node.split("_")[0] for node, kind in partly.items() if kind == FLOAT] == ["Softmax"]
    assert FLOAT not in full.values()


def test_nothing_stands_between_a_product_its_bias_and_its_activation() -> None:
    model = quantised("litert-s8s8")
    made = compile_model(model, Plan("test"), Options())
    graph = parse(made.content)
    kinds = [operator.op for operator in graph.operators]
    assert kinds.count("FULLY_CONNECTED") == 2
    assert kinds.count("ADD") == 1
    assert not {"RELU", "MAXIMUM"} & set(kinds)


def test_weights_keep_within_127_and_products_have_one_scale_in_the_full_scheme() -> None:
    for name, scales in (("litert-s8s8", 5), ("litert-s8s8-full", 1)):
        graph = parse(compile_model(quantised(name), Plan("test"), Options()).content)
        weights = [t for t in graph.tensors if t.dtype == "int8" and t.data is not None]
        assert min(int(t.data.min()) for t in weights if t.data is not None) == -127
        product = next(op for op in graph.operators if op.op == "FULLY_CONNECTED")
        assert len(graph.tensors[product.inputs[1]].scale) == scales
