"""ONNX Runtime's CPU provider."""

from __future__ import annotations

import dataclasses

from edgewright.core.target import Scheme

QUANTIZED = (
    "Conv",
    "MatMul",
    "Gemm",
    "Add",
    "Mul",
    "Concat",
    "AveragePool",
    "GlobalAveragePool",
    "LeakyRelu",
    "Sigmoid",
    "Softmax",
    "Where",
)
"""Operators with an integer kernel between quantisers. Not among them: Sub, Div, Pad, ConvTranspose, HardSwish."""
SHARED = (
    "MaxPool",
    "ReduceMax",
    "Resize",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Gather",
    "Slice",
    "Split",
    "Expand",
    "Tile",
    "DepthToSpace",
)
"""Operators that ONNX Runtime moves inside the integer region: one scale in and out. Resize only in mode nearest."""
SESSION = {"edgewright.disabled_optimizers": "WeightBiasQuantization"}
"""Otherwise ONNX Runtime quantises the weights, per tensor, of a convolution that stays float between quantisers."""
SATURATES = "without VNNI this processor adds products of 8-bit weights in 16 bits, which saturates"

U8S8 = Scheme(
    name="onnxruntime-u8s8",
    activation="uint8",
    activation_symmetric=False,
    weight="int8",
    weight_symmetric=True,
    weight_per_channel=True,
    weight_bits=8,
    quantized=QUANTIZED,
    shared=SHARED,
    bias="int32",
    session=SESSION,
    outputs=("Conv", "MatMul", "Gemm"),
)
S8S8 = dataclasses.replace(U8S8, name="onnxruntime-s8s8", activation="int8")
"""For ARM. On x86 only tensors that one operator alone reads become uint8; around the others it computes in float."""
U8S7 = dataclasses.replace(U8S8, name="onnxruntime-u8s7", weight_bits=7)
U8S8_PAIRS = dataclasses.replace(U8S8, name="onnxruntime-u8s8-pairs", safe_pairs=True)
"""As safe as 7 bits and never coarser: scales follow the largest sum of two neighbours, not the largest weight."""
U8U8 = dataclasses.replace(U8S8, name="onnxruntime-u8u8", weight="uint8")
U16S8 = dataclasses.replace(
    U8S8,
    name="onnxruntime-u16s8",
    activation="uint16",
    quantized=("Conv", "MatMul", "Gemm"),
    bias="float32",
    outputs=(),
    opset=21,
    caution="ONNX Runtime 1.31 only moves 16-bit integers; between the quantisers it computes in float, no faster",
)
XNNPACK = dataclasses.replace(
    U8S8,
    name="onnxruntime-xnnpack",
    activation="int8",
    quantized=("Conv", "AveragePool", "Softmax"),
    shared=("MaxPool", "Resize"),
    outputs=("Conv",),
)
"""What ONNX Runtime's XNNPACK provider takes between quantisers; its CPU provider would compute the rest in float."""
ALL = (U8S8, S8S8, U8S8_PAIRS, U8S7, U8U8, U16S8, XNNPACK)
