"""TensorRT with explicit quantisation (NVIDIA TensorRT documentation, "Working with Quantized Types").

Symmetric throughout; all inputs of operators with weights are quantised, their results are not, so that the runtime
fuses what follows; biases stay float. An Add of a residual block is fused into the convolution before it when its other
operand is quantised.
"""

from __future__ import annotations

from edgewright.core.target import Scheme

QUANTIZED = ("Conv", "ConvTranspose", "MatMul", "Gemm", "AveragePool", "GlobalAveragePool")
SHARED = (
    "MaxPool",
    "Concat",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Gather",
    "Slice",
    "Split",
    "Expand",
    "Resize",
)
S8S8 = Scheme(
    name="tensorrt-s8s8",
    activation="int8",
    activation_symmetric=True,
    weight="int8",
    weight_symmetric=True,
    weight_per_channel=True,
    weight_bits=8,
    quantized=QUANTIZED,
    shared=SHARED,
    bias="float32",
    skip_adds=True,
    keep_float=("@activations",),
)
ALL = (S8S8,)
