"""A float32 graph in half precision: float16 or bfloat16."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.graph.qdq import is_quantised

LARGEST = 65504.0
"""Largest finite float16."""
FLOAT_OPS = frozenset(
    {"Resize", "Upsample", "Range", "NonMaxSuppression", "RoiAlign", "CumSum", "GridSample", "STFT"}
    | {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
)
"""Operators whose float inputs ONNX fixes to float32, or whose coordinates half precision would ruin."""
TYPED = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype"}


def halve(graph: ir.Graph, keep: frozenset[str] | set[str], dtype: ir.DataType = ir.DataType.FLOAT16) -> None:
    """Turns float32 values into `dtype`, in place; `graph` is in topological order.

    Args:
        graph: Its types are known.
        keep: Names or types of operators that stay in float32.
        dtype: float16 or bfloat16.

    Raises:
        StepFailed: A weight does not fit into float16.
    """
    twins: dict[int, ir.Value] = {}
    for node in list(graph):
        if _converts_half(node, dtype):
            continue
        kept = node.op_type in keep or node.name in keep
        have: ir.DataType = dtype if kept else ir.DataType.FLOAT
        want: ir.DataType = ir.DataType.FLOAT if kept else dtype
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == have and not (kept and value.const_value is not None):
                node.replace_input_with(index, _twin(graph, value, want, twins))
        if not kept:
            _retype(node, dtype)
            for output in node.outputs:
                if output.dtype == ir.DataType.FLOAT:
                    output.dtype = dtype
    _restore_outputs(graph, dtype)
    _drop_unused(graph)


def _converts_half(node: ir.Node, dtype: ir.DataType) -> bool:
    """Says whether `node` is a Cast between the two precisions, as this pass writes them."""
    if node.op_type != "Cast" or node.inputs[0] is None:
        return False
    return dtype in (node.attributes.get_int("to", 0), node.inputs[0].dtype)


def _twin(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, twins: dict[int, ir.Value]) -> ir.Value:
    """Returns `value` in the other precision: a constant converted, anything else through a Cast."""
    if id(value) not in twins:
        name = f"{value.name}/{dtype.name.lower()}"
        if value.const_value is not None:
            numbers = _narrowed(value.const_value.numpy(), value.name or "", dtype, name)
            twins[id(value)] = ir.Value(name=name, const_value=numbers, shape=value.shape, type=ir.TensorType(dtype))
            graph.register_initializer(twins[id(value)])
        else:
            twins[id(value)] = _cast(graph, value, dtype, name)
    return twins[id(value)]


def _cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
    cast = ir.node("Cast", [value], {"to": int(dtype)}, name=f"{name}/Cast")
    cast.outputs[0].name, cast.outputs[0].dtype, cast.outputs[0].shape = name, dtype, value.shape
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], cast)
    else:
        graph.insert_after(producer, cast)
    return cast.outputs[0]


def _restore_outputs(graph: ir.Graph, dtype: ir.DataType) -> None:
    for index, value in enumerate(graph.outputs):
        producer = value.producer()
        if value.dtype == dtype and producer is not None and producer.op_type != "Cast":
            name = value.name or f"output_{index}"
            value.name = f"{name}/{dtype.name.lower()}"
            graph.outputs[index] = _cast(graph, value, ir.DataType.FLOAT, name)


def _retype(node: ir.Node, dtype: ir.DataType) -> None:
    key = TYPED.get(node.op_type)
    if key and node.attributes.get_int(key, 0) == int(ir.DataType.FLOAT):
        node.attributes[key] = ir.AttrInt64(key, int(dtype))


def _narrowed(numbers: NDArray[Any], value: str, dtype: ir.DataType, name: str) -> ir.TensorProtocol:
    """Returns a constant in `dtype`; bfloat16 has the range of float32, float16 has not."""
    if dtype == ir.DataType.FLOAT16:
        return ir.tensor(_to_half(numbers, value), name=name)
    return ir.tensor(numbers.astype(dtype.numpy()), dtype=dtype, name=name)


def _to_half(numbers: NDArray[Any], name: str) -> NDArray[Any]:
    largest = float(np.abs(numbers).max(initial=0.0))
    if np.isfinite(largest) and largest > LARGEST:
        raise StepFailed(
            f'weight "{name}" holds {largest:.6g}, float16 ends at {LARGEST:g}',
            hint="leave its operator out with the field `keep_float`",
        )
    return np.asarray(numbers.astype(np.float16))


def _drop_unused(graph: ir.Graph) -> None:
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def check_halvable(model: ir.Model) -> None:
    """Checks that `halve` can take `model`.

    Raises:
        StepFailed: It carries quantisers or control flow.
    """
    if is_quantised(model.graph):
        raise StepFailed(
            "the model carries quantisers, whose scales are float32", hint="convert the float model instead"
        )
    if any(True for node in model.graph for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH):
        raise StepFailed("the model has control flow, which fp16 does not enter", hint="export it without If and Loop")
