"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules
from edgewright.targets._tflite.rules.typed import FLOAT, refuse, reshaped
from edgewright.targets._tflite.tail import DOMAIN

_MOST_AXES = 4


def gemm(e: Emission, node: ir.Node) -> None:
    """FULLY_CONNECTED; alpha, beta and a transposed A are lowered before."""
    transposed = bool(node.attributes.get_int("transB", 0))
    _fully_connected(e, node, () if transposed else (1, 0))


def matmul(e: Emission, node: ir.Node) -> None:
    """FULLY_CONNECTED with a constant matrix, else BATCH_MATMUL."""
    if len(e.shape(node, 1)) == 2 and e.constant(node, 1) is not None and e.shape(node, 0):
        _fully_connected(e, node, (1, 0))
    else:
        batch_matmul(e, node)


def _fully_connected(e: Emission, node: ir.Node, perm: tuple[int, ...]) -> None:
    weights = e.weights(node, 1, perm, hybrid=True)
    data = e.input(node, 0)
    out = e.output(node)
    channels = e.tensor(weights).shape[0]
    bias = e.bias(node, 2, data, weights, channels)
    fields = {
        "fusedActivationFunction": e.activation(node),
        "keepNumDims": len(e.tensor(out).shape) > 2,
        "asymmetricQuantizeInputs": e.tensor(weights).dtype == "int8" and e.tensor(data).dtype == FLOAT,
    }
    given, wanted = e.tensor(data).shape, e.tensor(out).shape
    if len(given) > 1:
        e.op("FULLY_CONNECTED", [data, weights, bias], [out], "FullyConnectedOptions", **fields)
        return
    made = e.temp(out, [1, channels], f"{node.name}/row")
    e.op("FULLY_CONNECTED", [reshaped(e, data, [1, *given]), weights, bias], [made], "FullyConnectedOptions", **fields)
    to = e.const(np.asarray(wanted, np.int32), "shape")
    e.op("RESHAPE", [made, to], [out], "ReshapeOptions", newShape=list(wanted))


def batch_matmul(e: Emission, node: ir.Node) -> None:
    """BATCH_MATMUL; vectors become matrices, and many batch axes one."""
    left, right = e.input(node, 0), _right(e, node)
    adjoint = bool(node.attributes.get_int("adjoint", 0))
    shapes = [list(e.tensor(left).shape), list(e.tensor(right).shape)]
    out = list(e.out_shape(node))
    if len(shapes[0]) == 1:
        shapes[0], out = [1, *shapes[0]], [*out[: len(out) - 1], 1, *out[len(out) - 1 :]] if out else [1]
    if len(shapes[1]) == 1:
        shapes[1], out = [*shapes[1], 1], [*out, 1]
    shapes, out = _fewer(node, shapes, out)
    left, right = (reshaped(e, tensor, shape) for tensor, shape in zip((left, right), shapes, strict=True))
    if e.tensor(left).dtype not in (FLOAT, "int8", "int16") or e.tensor(left).dtype != e.tensor(right).dtype:
        raise refuse(node, f"matrices of {e.tensor(left).dtype}")
    fields = {"adjX": False, "adjY": adjoint}
    if tuple(out) == e.out_shape(node):
        e.op("BATCH_MATMUL", [left, right], [e.output(node)], "BatchMatMulOptions", **fields)
        return
    made = e.temp(e.output(node), out, f"{node.name}/matrices")
    e.op("BATCH_MATMUL", [left, right], [made], "BatchMatMulOptions", **fields)
    to = e.const(np.asarray(e.out_shape(node), np.int32).reshape(-1), "shape")
    e.op("RESHAPE", [made, to], [e.output(node)], "ReshapeOptions", newShape=list(e.out_shape(node)))


def _right(e: Emission, node: ir.Node) -> int:
    return e.weights(node, 1) if e.constant(node, 1) is not None else e.input(node, 1)


def _fewer(node: ir.Node, shapes: list[list[int]], out: list[int]) -> tuple[list[list[int]], list[int]]:
    if max(map(len, shapes)) <= _MOST_AXES:
        return shapes, out
    if shapes[0][:-2] != shapes[1][:-2]:
        raise refuse(node, f"broadcast over {len(out)} axes, kernels know {_MOST_AXES}")
    return [_one_batch(shape) for shape in shapes], _one_batch(out)


def _one_batch(shape: Sequence[int]) -> list[int]:
    return [int(np.prod(shape[:-2])), *shape[-2:]]


RULES: Rules = {
    ("", "Gemm"): gemm,
    ("", "MatMul"): matmul,
    (DOMAIN, "FullyConnected"): matmul,
    (DOMAIN, "BatchMatMul"): batch_matmul,
}
