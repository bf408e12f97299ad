"""How ONNX Runtime's CPU provider is best quantised, per kind of processor."""

from __future__ import annotations

import dataclasses

from edgewright.core.measurement import Device
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
)
"""Operators with an integer kernel behind QuantizeLinear/DequantizeLinear."""
SHARED = (
    "MaxPool",
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
    "Where",
)
"""Operators that ONNX Runtime moves inside the integer region: one scale in and out."""

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
)
S8S8 = dataclasses.replace(U8S8, name="onnxruntime-s8s8", activation="int8")
U8S7 = dataclasses.replace(U8S8, name="onnxruntime-u8s7", weight_bits=7)
U8U8 = dataclasses.replace(
    U8S8, name="onnxruntime-u8u8", weight="uint8", weight_symmetric=False, weight_per_channel=False
)
U8S8_EXACT = dataclasses.replace(U8S8, name="onnxruntime-u8s8-exact", session={"session.x64quantprecision": "1"})
ALL = (U8S8, S8S8, U8S7, U8U8, U8S8_EXACT)
VNNI = frozenset({"avx512_vnni", "avx_vnni"})


def schemes_for(device: Device) -> tuple[Scheme, ...]:
    """Returns what is worth trying on `device`, the most promising first."""
    if device.machine in ("aarch64", "arm64"):
        return (S8S8, U8S8)
    if VNNI.intersection(device.isa):
        return (U8S8, S8S8)
    return (U8S7, U8S8_EXACT, U8U8, S8S8)
