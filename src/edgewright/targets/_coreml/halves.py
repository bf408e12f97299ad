"""Models in half precision: the converter makes halves of everything, so tensors are declared in float32 for it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.graph.half import TYPED

_HALF, _FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def in_halves(model: ir.Model) -> bool:
    """Returns whether some node of `model` computes in float16."""
    return any(value.dtype == _HALF for node in model.graph for value in node.outputs)


def kept_in_float(model: ir.Model) -> frozenset[str]:
    """Returns the names of nodes that compute in float32 in a model of which others compute in float16."""
    if not in_halves(model):
        return frozenset()
    kept = (n for n in model.graph if n.op_type != "Cast" and any(value.dtype == _FLOAT for value in n.outputs))
    return frozenset(node.name or "" for node in kept)


def widen(model: ir.Model) -> None:
    """Declares every tensor of float16 as float32, in place; the numbers stay those of float16."""
    graph = model.graph
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype == _HALF:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
            value.dtype = _FLOAT
    for node in graph:
        attribute = node.attributes.get(TYPED.get(node.op_type, ""))
        if attribute is not None and attribute.as_int() == _HALF:
            node.attributes[attribute.name] = ir.AttrInt64(attribute.name, int(_FLOAT))
        constant = node.attributes.get("value")
        if node.op_type in ("Constant", "ConstantOfShape") and constant is not None:
            tensor = constant.as_tensor()
            if tensor.dtype == _HALF:
                node.attributes["value"] = ir.AttrTensor("value", ir.tensor(tensor.numpy().astype(np.float32)))
        for value in node.outputs:
            if value.dtype == _HALF:
                value.dtype = _FLOAT
    for value in graph.inputs:
        if value.dtype == _HALF:
            value.dtype = _FLOAT
