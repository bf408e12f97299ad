"""The hub model as TensorRT reads it: symmetric integers, float biases, and a type for every tensor.

Strongly typed networks (TensorRT 10 and later) compute in the types of the graph and ignore precision flags, so that
half precision is written into the graph. Older TensorRT takes flags instead: its graph stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgewright.errors import StepFailed
from edgewright.graph import half
from edgewright.graph.opset import raise_opset
from edgewright.graph.qdq import fold_stored_weights
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, Quantiser, all_quantisers, numbers
from edgewright.graph.shapes import infer_shapes
from edgewright.targets._tensorrt.float8 import in_float8

QUANTISERS = frozenset({QUANTIZE, DEQUANTIZE})
HALF_SCALES = 19
"""From this opset on scales of quantisers may be float16, and what they give float8."""
_LEAST_HALF = float(np.finfo(np.float16).tiny)
"""Below this float16 loses bits: such scales stay float32, between casts."""
_DTYPES = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}


def asymmetric(graph: ir.Graph) -> Iterator[str]:
    """Yields one sentence per quantiser that TensorRT does not take: with a zero point, or another type than int8."""
    for found in all_quantisers(graph):
        if _is_bias(found):
            continue
        if np.any(found.zero_point != 0):
            zero = int(found.zero_point.reshape(-1)[np.argmax(found.zero_point.reshape(-1) != 0)])
            yield f'tensor "{found.tensor}": TensorRT quantises symmetrically, its zero point is {zero}'
        elif found.dtype not in ("int8", "int4", "float8_e4m3fn"):
            yield f'tensor "{found.tensor}": TensorRT takes symmetric int8, it is quantised to {found.dtype}'


def typed(model: ir.Model, precision: str, *, float8: bool = False) -> ir.Model:
    """Returns `model` in the types that TensorRT shall compute in; inputs and outputs keep theirs.

    Scales become float16 with the rest, except where float16 would lose bits of them. In bfloat16, whose eight bits
    would shift every integer, quantisers stay in float32 between casts. A model that is in half precision already, in
    part or whole, keeps its types.

    Args:
        model: From the hub; changed in place.
        precision: `float32`, `float16` or `bfloat16`: of what is not computed in integers.
        float8: Quantised products compute in float8 instead of int8.

    Raises:
        StepFailed: A quantiser is not symmetric; a weight does not fit into float16; the model has control flow.
    """
    broken = list(asymmetric(model.graph))
    if broken:
        raise StepFailed(
            "; ".join(broken[:3]) + (f"; and {len(broken) - 3} more" if len(broken) > 3 else ""),
            hint='quantise the float model with the scheme "tensorrt-s8s8"',
        )
    fold_stored_weights(model.graph, only=(ir.DataType.INT32,))
    if float8:
        model = infer_shapes(raise_opset(model, HALF_SCALES))
        in_float8(model.graph)
    if precision == "float32" or halved(model.graph):
        return model
    _refuse_control_flow(model)
    raised = infer_shapes(raise_opset(model, HALF_SCALES))
    half.halve(
        raised.graph, half.FLOAT_OPS - QUANTISERS | _float_quantisers(raised.graph, precision), _DTYPES[precision]
    )
    return infer_shapes(raised)


def halved(graph: ir.Graph) -> bool:
    """Says whether the graph computes in half precision somewhere."""
    narrow = set(_DTYPES.values())
    made = (value for node in graph for value in node.outputs)
    return any(value.dtype in narrow for value in (*made, *graph.initializers.values()))


def without_quantisers(model: ir.Model) -> tuple[ir.Model, dict[str, float]]:
    """Returns `model` in float32 and, for every tensor that was quantised, the largest value of its range.

    For DLA up to TensorRT 10, which takes ranges beside the graph and no quantisers in it: the ranges are the plan's.
    """
    ranges: dict[str, float] = {}
    fold_stored_weights(model.graph)
    for found in list(all_quantisers(model.graph)):
        if found.pair is None or found.scale is None or found.node.outputs[0].is_graph_output():
            continue
        ranges[found.source.name or ""] = 127.0 * float(found.scale.reshape(-1)[0])
        ir.convenience.replace_all_uses_with(found.node.outputs[0], found.source)
        model.graph.remove(found.node, safe=True)
        if not found.pair.outputs[0].uses():
            model.graph.remove(found.pair, safe=True)
    return model, ranges


def _is_bias(found: Quantiser) -> bool:
    return found.dtype == "int32" and found.constant and not np.any(found.zero_point)


def _float_quantisers(graph: ir.Graph, precision: str) -> frozenset[str]:
    """Returns names of the quantisers whose scales do not bear the narrower type."""
    if precision == "bfloat16":
        return QUANTISERS
    return frozenset(node.name or "" for node in graph if node.op_type in QUANTISERS and _fine(node))


def _fine(node: ir.Node) -> bool:
    scale = numbers(node.inputs[1])
    return scale is None or bool(np.any(np.abs(scale) < _LEAST_HALF))


def _refuse_control_flow(model: ir.Model) -> None:
    for node in model.graph:
        if any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()):
            raise StepFailed(
                f'node "{node.name}": {node.op_type} has a graph of its own, whose types are not changed',
                hint='export the model without If and Loop, or set precision = "float32"',
            )
