"""Which operators the accelerating part of a runtime leaves to slower kernels: data, one table per target.

`litert`: what LiteRT 2.3 was seen to run beside its XNNPACK delegate; a test compiles each of them. `executorch`: what
the XNNPACK partitioner of ExecuTorch 1.5 takes (`backends/xnnpack/partition/config`), so everything else is outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from edgewright.graph.risks.sight import Hit, Sight

_LITERT = """
    ArgMax ArgMin CumSum Equal Expand Gather GatherND Greater GreaterOrEqual Less LessOrEqual LogSoftmax Mod ReduceProd
    Sign Tile TopK Where
"""
_EXECUTORCH = """
        Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Conv ConvTranspose Cos DequantizeLinear Div Erf
        Exp Flatten Floor Gelu Gemm GlobalAveragePool HardSigmoid HardSwish Identity LeakyRelu Log MatMul Max MaxPool
        Min Mul Neg PRelu Pad Pow QuantizeLinear Reciprocal ReduceMax ReduceMean Relu Reshape Resize Sigmoid Sin Slice
        Softmax Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze
"""
OUTSIDE: Mapping[str, frozenset[str]] = {"litert": frozenset(_LITERT.split())}
INSIDE: Mapping[str, frozenset[str]] = {"executorch": frozenset(_EXECUTORCH.split())}


def outside(sight: Sight) -> Iterator[Hit]:
    """Operators that run, but outside the delegate."""
    slow, fast = OUTSIDE.get(sight.target), INSIDE.get(sight.target)
    for node in sight.graph:
        if (slow is not None and node.op_type in slow) or (fast is not None and node.op_type not in fast):
            yield Hit((node.name or "",), node.op_type)
        elif sight.target == "litert" and _copies_pixels(node):
            yield Hit((node.name or "",), "Resize in mode nearest")


def _copies_pixels(node: ir.Node) -> bool:
    return node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") == "nearest"
