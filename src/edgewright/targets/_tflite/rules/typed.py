"""Types that kernels compute in: values of other types are cast around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgewright.errors import StepFailed
from edgewright.targets._tflite.emission import Emission

FLOAT, INT, LONG = "float32", "int32", "int64"
NUMBERS = (FLOAT, INT, LONG)
_WIDER = {
    "bool": (INT, LONG, FLOAT),
    "int8": (INT, LONG, FLOAT),
    "uint8": (INT, LONG, FLOAT),
    "int16": (INT, LONG, FLOAT),
    "uint16": (INT, LONG, FLOAT),
    "int32": (LONG, FLOAT),
    "uint32": (LONG,),
    "uint64": (LONG,),
    "int64": (INT,),
}
"""Type -> types that hold its values. int64 becomes int32 where no kernel is left: indices and counts, never large."""


def kind_for(dtype: str, kinds: Sequence[str], node: ir.Node) -> str:
    """Returns the type of `kinds` to compute values of `dtype` in.

    Raises:
        StepFailed: None of them holds the values.
    """
    if dtype in kinds:
        return dtype
    for wider in _WIDER.get(dtype, ()):
        if wider in kinds:
            return wider
    raise StepFailed(
        f"LiteRT: {node.op_type} of node {node.name} has no kernel for {dtype}",
        hint="cast the tensor to float32 or int32 in the model",
    )


def cast(e: Emission, tensor: int, dtype: str) -> int:
    """Returns `tensor` in another type."""
    given = e.tensor(tensor)
    if given.dtype == dtype:
        return tensor
    made = e.temp(tensor, given.shape, f"{given.name}/{dtype}", dtype)
    e.op("CAST", [tensor], [made], "CastOptions")
    return made


def compute(
    e: Emission,
    node: ir.Node,
    op: str,
    tensors: Sequence[int],
    kinds: Sequence[str],
    options: str = "",
    *,
    fixed: Sequence[int] = (),
    result: str = "",
    **fields: Any,
) -> None:
    """Emits an operator of one output in a type that it has a kernel for.

    Args:
        e: The emission.
        node: Whose output is written.
        op: Operator of the schema.
        tensors: Its inputs of one type, that of the node's data.
        kinds: Types with a kernel; quantised integers are left as they are.
        options: Table of options.
        fixed: Further inputs, not cast.
        result: Type the operator writes, if another than it reads.
        fields: Of the options.
    """
    first = e.tensor(tensors[0])
    if first.quantisation is not None:
        e.op(op, [*tensors, *fixed], [e.output(node)], options, **fields)
        return
    kind = kind_for(first.dtype, kinds, node)
    write(e, node, op, [*(cast(e, t, kind) for t in tensors), *fixed], result or kind, options, **fields)


def write(
    e: Emission, node: ir.Node, op: str, tensors: Sequence[int], kind: str, options: str = "", **fields: Any
) -> None:
    """Emits an operator that computes the node's output in type `kind`, and a cast where that is another."""
    out = e.output(node)
    wanted = e.tensor(out)
    if wanted.dtype == kind:
        e.op(op, tensors, [out], options, **fields)
        return
    made = e.temp(out, wanted.shape, f"{wanted.name}/{kind}", kind)
    e.op(op, tensors, [made], options, **fields)
    e.op("CAST", [made], [out], "CastOptions")


def step(
    e: Emission,
    op: str,
    tensors: Sequence[int],
    shape: Sequence[int] | None = None,
    options: str = "",
    *,
    dtype: str = "",
    name: str = "",
    **fields: Any,
) -> int:
    """Emits an operator in the middle of a rule and returns what it writes, by default shaped as its first input."""
    first = e.tensor(tensors[0])
    made = e.temp(tensors[0], first.shape if shape is None else shape, name or f"{first.name}/{op.lower()}", dtype)
    e.op(op, tensors, [made], options, **fields)
    return made


def reshaped(e: Emission, tensor: int, shape: Sequence[int]) -> int:
    """Returns `tensor` in another shape."""
    if tuple(shape) == e.tensor(tensor).shape:
        return tensor
    to = e.const(np.asarray(shape, np.int32).reshape(-1), "shape")
    return step(e, "RESHAPE", [tensor, to], shape, "ReshapeOptions", newShape=list(shape))


def scalar(e: Emission, value: float, dtype: str, name: str = "scalar") -> int:
    """Returns a constant scalar."""
    return e.const(np.asarray(value, dtype), name)


def ints(e: Emission, values: Sequence[int], name: str) -> int:
    """Returns a constant vector of int32."""
    return e.const(np.asarray(values, np.int32).reshape(-1), name)


def argument(e: Emission, node: ir.Node, index: int, name: str) -> list[int] | None:
    """Returns integers that are an attribute in old opsets and a constant input in new ones; None for left out.

    Raises:
        StepFailed: They are computed while the model runs.
    """
    said = node.attributes.get(name)
    if said is not None:
        value = said.value
        return [int(v) for v in value] if isinstance(value, Sequence) else [int(value)]
    if index >= len(node.inputs) or node.inputs[index] is None:
        return None
    return [int(v) for v in fixed_input(e, node, index, name).reshape(-1)]


def fixed_input(e: Emission, node: ir.Node, index: int, name: str) -> Any:
    """Returns a constant input.

    Raises:
        StepFailed: It is computed while the model runs.
    """
    found = e.constant(node, index)
    if found is None:
        raise StepFailed(
            f'LiteRT: {node.op_type} of node {node.name} computes its input "{name}" while the model runs',
            hint="a TensorFlow Lite file has fixed sizes: make it a constant of the model",
        )
    return found


def attribute(node: ir.Node, name: str, default: int) -> int:
    """Returns an integer attribute."""
    found = node.attributes.get_int(name, default)
    return default if found is None else found


def real_attribute(node: ir.Node, name: str, default: float) -> float:
    """Returns a float attribute."""
    found = node.attributes.get_float(name, default)
    return default if found is None else found


def refuse(node: ir.Node, what: str, hint: str = "rewrite this part of the model with other operators") -> StepFailed:
    """Returns the error for a form of an operator that no kernel computes."""
    return StepFailed(f"LiteRT: {node.op_type} of node {node.name}: {what}", hint=hint)
