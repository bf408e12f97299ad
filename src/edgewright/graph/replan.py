"""Takes the quantisation out of a model, and puts the ranges of a plan back in by the rules of another scheme."""

from __future__ import annotations

from collections.abc import Mapping
from glob import escape

import numpy as np
import onnx_ir as ir

from edgewright.core.target import Plan, Scheme, TensorPlan
from edgewright.errors import ConfigError
from edgewright.graph import qdq
from edgewright.graph.affine import dequantise
from edgewright.graph.initializers import add_initializer
from edgewright.graph.opset import QDQ_OPSET, raise_opset
from edgewright.graph.placement import Placement, data_inputs, decide, moves_integers
from edgewright.graph.plan import UNIT_RANGE, describe
from edgewright.graph.quantisers import Quantiser, all_quantisers
from edgewright.graph.schemes.lint import require
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import Statistics, TensorStatistics

Ranges = dict[str, tuple[float, float]]
NO_RANGE = "the plan holds no range of what it reads or gives"


def strip(graph: ir.Graph) -> int:
    """Takes every quantiser out, in place; stored integers become float32 constants of the same values.

    Returns:
        How many went.
    """
    count = 0
    for found in list(all_quantisers(graph)):
        if found.scale is not None and (found.pair is not None or found.constant):
            _remove(graph, found)
            count += 1
    return count


def _remove(graph: ir.Graph, found: Quantiser) -> None:
    name, old = found.tensor, found.node.outputs[0]
    integers = found.integers()
    if integers is None:
        new = found.source
    else:
        assert found.scale is not None
        zeros = np.broadcast_to(found.zero_point, found.scale.shape)
        real = dequantise(integers, found.scale, zeros, found.axis)
        new = add_initializer(graph, name, real)
    was_output = old.is_graph_output()
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    inputs = [v for v in (*found.node.inputs, *(found.pair.inputs if found.pair else ())) if v is not None]
    graph.remove(found.node, safe=True)
    if found.pair is not None and not found.pair.outputs[0].uses():
        graph.remove(found.pair, safe=True)
    for value in inputs:
        if value.is_initializer() and not value.uses() and value is not new:
            graph.initializers.pop(value.name or "", None)
    if was_output and found.pair is not None and not new.is_graph_input():
        old.name, new.name = f"{name}/was", name


def replan(model: ir.Model, plan: Plan, scheme: Scheme, keep_float: tuple[str, ...] = ()) -> tuple[ir.Model, Plan]:
    """Quantises `model` by the rules of `scheme` with the ranges that `plan` holds.

    What the scheme wants quantised but the plan holds no range of stays float, and the new plan says so: a range is
    never guessed. Integers that move through an operator keep their range, and so does what a ReLU lets through.

    Args:
        model: Of float32, or with quantisers, which are taken out.
        plan: Of the same model.
        scheme: To obey.
        keep_float: Operators to leave in float, as `static-int8` takes them.

    Raises:
        ConfigError: The plan fits none of the model's tensors.
        StepFailed: The result breaks a rule of the scheme.
    """
    model = raise_opset(model, max(QDQ_OPSET, scheme.opset))
    strip(model.graph)
    qdq.prepare(model)
    model = infer_shapes(model)
    ranges = _known(model.graph, plan, scheme)
    if not ranges:
        raise ConfigError(
            "the plan holds no range of any tensor of this model", hint="take a plan of the same model, or calibrate it"
        )
    placement = _decide(model.graph, scheme, keep_float, ranges)
    statistics = Statistics(1, {name: TensorStatistics(low, high) for name, (low, high) in ranges.items()})
    made = describe(placement, scheme, statistics)
    qdq.apply(model.graph, made)
    model = infer_shapes(model)
    require(model.graph, scheme, made.kept_float)
    return model, made


def range_of(tensor: TensorPlan) -> tuple[float, float]:
    """Returns the smallest and the largest value that the integers of a per-tensor plan say.

    Where the zero point is the middle of a signed type the lowest integer is left out, so that both sides are equal.
    """
    info = np.iinfo(tensor.dtype)
    scale, zero = tensor.scale[0], tensor.zero_point[0]
    low = int(info.min) + (1 if zero == 0 and info.min < 0 else 0)
    return (low - zero) * scale, (int(info.max) - zero) * scale


def _known(graph: ir.Graph, plan: Plan, scheme: Scheme) -> Ranges:
    names = {v.name for v in (*graph.inputs, *(v for node in graph for v in node.outputs))}
    found = {t.tensor: range_of(t) for t in plan.tensors if t.tensor in names and t.axis is None}
    if found:
        for _ in range(2):
            for node in graph:
                _forward(node, found, scheme)
            for node in reversed(list(graph)):
                _backward(node, found, scheme)
    return found


def _forward(node: ir.Node, found: Ranges, scheme: Scheme) -> None:
    inputs = [found.get(v.name or "") for v in data_inputs(node)]
    known = [r for r in inputs if r is not None]
    if not known or len(known) < len(inputs):
        return
    low, high = min(r[0] for r in known), max(r[1] for r in known)
    if node.op_type == "Relu":
        found.setdefault(node.outputs[0].name or "", (0.0, max(high, 0.0)))
    elif moves_integers(node, scheme):
        for value in node.outputs:
            found.setdefault(value.name or "", (low, high))


def _backward(node: ir.Node, found: Ranges, scheme: Scheme) -> None:
    known = found.get(node.outputs[0].name or "")
    inputs = data_inputs(node)
    if known is not None and len(inputs) == 1 and node.op_type != "Split" and moves_integers(node, scheme):
        found.setdefault(inputs[0].name or "", known)


def _decide(graph: ir.Graph, scheme: Scheme, keep_float: tuple[str, ...], ranges: Mapping[str, object]) -> Placement:
    kept: dict[str, str] = {}
    while True:
        placement = decide(graph, scheme, (*keep_float, *(escape(name) for name in kept)))
        unknown = [v for v in placement.values if not _has_range(v, ranges)]
        nodes = {node.name or "": NO_RANGE for value in unknown for node in _around(value, scheme)}
        if not unknown or not set(nodes) - set(kept):
            reasons = {name: kept.get(name, why) for name, why in placement.kept_float.items()}
            return Placement(placement.values, placement.groups, placement.anchors, reasons, placement.fixed)
        kept.update(nodes)


def _has_range(value: ir.Value, ranges: Mapping[str, object]) -> bool:
    made = value.producer()
    bounded = made is not None and made.op_type in UNIT_RANGE
    return value.const_value is not None or bounded or value.name in ranges


def _around(value: ir.Value, scheme: Scheme) -> list[ir.Node]:
    """Returns the operators that want `value` in integers: what reads it, and what makes it."""
    found = [use.node for use in value.uses()]
    made = value.producer()
    if made is not None and made.op_type in scheme.fused and made.inputs[0] is not None:
        found.append(made)
        made = made.inputs[0].producer()
    return [*found, made] if made is not None else found
