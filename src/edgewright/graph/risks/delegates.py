"""Which operators the accelerating part of a runtime leaves to slower kernels: data, one table per target.

`litert`: operators without a kernel in the XNNPACK delegate of LiteRT 2.3. `executorch`: what the XNNPACK partitioner
of ExecuTorch 1.5 takes (`backends/xnnpack/partition/config`), so everything else is outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgewright.graph.risks.sight import Hit, Sight

_LITERT = """
        And ArgMax ArgMin CumSum Equal Erf GRU Gather GatherElements GatherND Greater GreaterOrEqual LSTM Less
        LessOrEqual Log Mod Not OneHot Or RNN ReduceProd ScatterElements ScatterND Sign Tile TopK Where Xor
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
