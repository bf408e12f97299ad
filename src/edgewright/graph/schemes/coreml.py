"""Core ML from iOS 17 on: 8-bit weights and activations, computed in integers by the Neural Engine of A17 Pro and M4.

Source: Core ML Tools guide, "Quantization overview" and "Activation quantization"; the operators are those that
`coremltools.optimize` 9.0 quantises: products and convolutions, additions of two activations, and pools, each between
quantisers. Weights symmetric, activations symmetric with one scale per tensor.
"""

from __future__ import annotations

from edgewright.core.target import Scheme

QUANTIZED = ("Conv", "MatMul", "Gemm", "Add", "AveragePool", "GlobalAveragePool")
SHARED = ("MaxPool", "Concat", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split")
S8S8 = Scheme(
    name="coreml-s8s8",
    activation="int8",
    activation_symmetric=True,
    weight="int8",
    weight_symmetric=True,
    weight_per_channel=True,
    weight_bits=8,
    quantized=QUANTIZED,
    shared=SHARED,
    bias="float32",
    outputs=("Conv", "MatMul", "Gemm"),
    activates=("Add",),
    requantize_shared=False,
    biases=True,
)
ALL = (S8S8,)
