"""Operators by what they do, for colours and counts."""

from __future__ import annotations

from collections.abc import Mapping

_LISTED = {
    "product": """
        Conv ConvTranspose ConvInteger QLinearConv Gemm MatMul MatMulInteger QLinearMatMul Einsum Attention LSTM GRU
        RNN DeformConv
    """,
    "normalisation": """
        BatchNormalization LayerNormalization InstanceNormalization GroupNormalization RMSNormalization LRN
        LpNormalization MeanVarianceNormalization
    """,
    "activation": """
        Relu LeakyRelu PRelu Clip Sigmoid Tanh HardSwish HardSigmoid Elu Selu Gelu Softplus Softsign Mish Erf
        Softmax LogSoftmax ThresholdedRelu Celu Swish
    """,
    "arithmetic": """
        Add Sub Mul Div Pow Sqrt Exp Log Neg Abs Reciprocal Min Max Sum Mean Floor Ceil Round Mod Where Equal Less
        Greater Not And Or Cast
    """,
    "pooling and reduction": """
        MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool ReduceMean ReduceSum ReduceMax ReduceMin
        ReduceProd ReduceL2 ArgMax ArgMin TopK CumSum
    """,
    "data movement": """
        Reshape Transpose Concat Split Slice Gather GatherElements GatherND Squeeze Unsqueeze Flatten Expand Tile
        Pad Identity Shape DepthToSpace SpaceToDepth Resize Upsample ScatterND ScatterElements Constant
        ConstantOfShape Range Dropout
    """,
    "quantisation": """
        QuantizeLinear DequantizeLinear DynamicQuantizeLinear
    """,
}
KINDS: Mapping[str, tuple[str, ...]] = {kind: tuple(ops.split()) for kind, ops in _LISTED.items()}
_BY_OPERATOR = {op: kind for kind, ops in KINDS.items() for op in ops}


def kind_of(op: str) -> str:
    """Returns the kind of an operator, `other` for one that is not listed."""
    return _BY_OPERATOR.get(op, "other")
