"""Which tensors 8 bits cannot hold."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.codec import decode
from edgewright.core.target import Scheme
from edgewright.graph.masks import masked
from edgewright.graph.names import name_nodes
from edgewright.graph.placement import decide
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import Statistics, TensorStatistics, gather
from edgewright.passes._infer import open_infer
from edgewright.testing._attention_models import MASKS, feeds, masked_attention
from edgewright.testing.passes import SCHEME

HIDDEN = {"hidden_scores", "hidden_tokens"}


def graph_of(*nodes: tuple[str, list[str], str], **constants: float) -> ir.Graph:
    made = [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in ("a", "b", nodes[-1][2])]
    weights = [numpy_helper.from_array(np.float32(v), n) for n, v in constants.items()]
    proto = helper.make_model(
        helper.make_graph(made, "g", values[:2], values[2:], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return infer_shapes(ir.from_proto(proto)).graph


def seen(**ranges: tuple[float, float]) -> Statistics:
    return Statistics(1, {name: TensorStatistics(*limits) for name, limits in ranges.items()})


@pytest.mark.parametrize("mask", MASKS)
def test_masks_are_found_and_nothing_else(mask: str) -> None:
    model = infer_shapes(ir.from_proto(masked_attention(mask)))
    statistics = gather(open_infer, model, [([i], feed) for i, feed in enumerate(feeds(8))], bins=0)
    found = masked(model.graph, statistics)
    assert set(found) == HIDDEN
    assert all("8 bits" in reason for reason in found.values())


def test_minus_infinity_has_statistics() -> None:
    model = infer_shapes(ir.from_proto(masked_attention("infinite")))
    batches = [([i], feed) for i, feed in enumerate(feeds(4))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gather(open_infer, model, batches, bins=16).tensors["hidden_scores"]
    padded = sum(int(12 * (12 - feed["real"].sum())) for _, feed in batches)
    assert found.low == np.finfo(np.float32).min
    assert (found.counts[0], found.counts[-2:].sum()) == (padded, 4 * 144 - padded)


@pytest.mark.parametrize(("span", "kept"), [(1e4, True), (100.0, True), (60.0, False), (2.0, False)])
def test_an_operand_must_span_eight_steps(span: float, kept: bool) -> None:
    graph = graph_of(("Add", ["a", "b"], "y"))
    assert bool(masked(graph, seen(a=(-1.0, 1.0), b=(-span, 0.0), y=(-span, 1.0)))) is kept


def test_what_is_hard_to_hold_stays_so_until_the_extremes_are_gone() -> None:
    graph = graph_of(
        ("Add", ["a", "b"], "sum"), ("Mul", ["sum", "half"], "scaled"), ("Relu", ["scaled"], "positive"), half=0.5
    )
    limits = {"a": (-1.0, 1.0), "b": (-1e4, 0.0), "sum": (-1e4, 1.0), "scaled": (-5e3, 0.5), "positive": (0.0, 0.5)}
    assert set(masked(graph, seen(**limits))) == {"sum", "scaled"}


def test_constants_have_nothing_to_lose() -> None:
    graph = graph_of(("Add", ["a", "little"], "y"), little=0.001)
    assert masked(graph, seen(a=(-5.0, 5.0), y=(-5.0, 5.0))) == {}


def test_results_that_the_runtime_quantises_wrongly_stay_float_behind_a_join() -> None:
    graph = infer_shapes(ir.from_proto(masked_attention("added"))).graph
    name_nodes(graph)
    shared = ("ReduceMax", "Concat")
    scheme = dataclasses.replace(
        decode(Scheme, SCHEME, "test"), quantized=("MatMul",), shared=shared, float_results=("ReduceMax",)
    )
    names = {v.name for v in decide(graph, scheme).values}
    assert {"hidden_tokens", "both"} <= names, "integers pass through the maximum"
    placement = decide(graph, scheme, masked={"hidden_tokens": "masked"})
    assert {"hidden_tokens", "peak", "both"}.isdisjoint(v.name for v in placement.values)
    last = next(n for n in graph if n.outputs[0].name == "y")
    assert "ReduceMax" in placement.kept_float[last.name or ""]
    sound = dataclasses.replace(scheme, float_results=())
    assert "peak" in {v.name for v in decide(graph, sound, masked={"hidden_tokens": "masked"}).values}
