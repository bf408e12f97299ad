"""Matrix products and what stands around them."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules


def gemm(e: Emission, node: ir.Node) -> None:
    """FULLY_CONNECTED; alpha, beta and a transposed A are lowered before."""
    transposed = bool(node.attributes.get_int("transB", 0))
    weights = e.weights(node, 1, () if transposed else (1, 0), hybrid=True)
    data = e.input(node, 0)
    bias = e.bias(node, 2, data, weights, e.out_shape(node)[-1])
    e.op(
        "FULLY_CONNECTED",
        [data, weights, bias],
        [e.output(node)],
        "FullyConnectedOptions",
        fusedActivationFunction=e.activation(node),
        keepNumDims=len(e.out_shape(node)) > 2,
    )


def softmax(e: Emission, node: ir.Node) -> None:
    """SOFTMAX along the last axis; other axes are lowered before."""
    e.op("SOFTMAX", [e.input(node, 0)], [e.output(node)], "SoftmaxOptions", beta=1.0)


RULES: Rules = {("", "Gemm"): gemm, ("", "Softmax"): softmax}
