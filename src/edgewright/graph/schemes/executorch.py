"""ExecuTorch's XNNPACK delegate (its partitioner's configurations and quantiser, executorch/backends/xnnpack).

Activations are asymmetric int8, weights symmetric int8 from -127 to 127 with one scale per output channel, biases
int32 in input scale x weight scale. An operator computes in integers only between quantisers on all sides. What moves
integers has one scale in and out, which XNNPACK checks when it opens a file.
"""

from __future__ import annotations

from edgewright.core.target import Scheme

QUANTIZED = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Sub", "Mul", "Relu", "Clip", "GlobalAveragePool")
"""Operators with an integer kernel, MatMul where its weights are stored.

Not among them: Sigmoid, Softmax, HardSwish, LeakyRelu, Div, AveragePool.
"""
SHARED = ("Concat", "MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice")
"""Not among them: Resize, Pad, Gather and Split, which compute in float, or outside of XNNPACK."""
S8S8 = Scheme(
    name="executorch-s8s8",
    activation="int8",
    activation_symmetric=False,
    weight="int8",
    weight_symmetric=True,
    weight_per_channel=True,
    weight_bits=8,
    quantized=QUANTIZED,
    shared=SHARED,
    bias="int32",
    keep_float=("@activations",),
    outputs=("Conv", "ConvTranspose", "MatMul", "Gemm"),
    activates=("Add",),
    biases=True,
)
ALL = (S8S8,)
