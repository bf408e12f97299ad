"""Operators that move data without computing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules


def reshape(e: Emission, node: ir.Node) -> None:
    """RESHAPE to the shape that inference found."""
    shape = list(e.out_shape(node))
    to = e.const(np.asarray(shape, np.int32), "shape")
    e.op("RESHAPE", [e.input(node, 0), to], [e.output(node)], "ReshapeOptions", newShape=shape)


def transpose(e: Emission, node: ir.Node) -> None:
    """TRANSPOSE."""
    rank = len(e.shape(node, 0))
    perm = node.attributes.get_ints("perm") or list(range(rank))[::-1]
    order = e.const(np.asarray(perm, np.int32), "perm")
    e.op("TRANSPOSE", [e.input(node, 0), order], [e.output(node)], "TransposeOptions")


RULES: Rules = {
    ("", "Reshape"): reshape,
    ("", "Flatten"): reshape,
    ("", "Squeeze"): reshape,
    ("", "Unsqueeze"): reshape,
    ("", "Identity"): reshape,
    ("", "Transpose"): transpose,
}
