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
    outputs=("Conv", "MatMul", "Gemm"),
)
S8S8 = dataclasses.replace(U8S8, name="onnxruntime-s8s8", activation="int8")
U8S7 = dataclasses.replace(U8S8, name="onnxruntime-u8s7", weight_bits=7)
U8U8 = dataclasses.replace(U8S8, name="onnxruntime-u8u8", weight="uint8")
ALL = (U8S8, S8S8, U8S7, U8U8)
SATURATES = "without VNNI this processor adds products of 8-bit weights in 16 bits, which saturates"
VNNI = frozenset({"avx512_vnni", "avx_vnni"})


def schemes_for(device: Device) -> tuple[Scheme, ...]:
    """Returns what is worth trying on `device`, the most promising first.

    With VNNI, U8S8 is two to three times faster than S8S8. Without, its kernels add products in 16 bits, which can
    saturate: weights of 7 bits cannot, at the same speed; U8U8 avoids it exactly with other kernels that cost a
    quarter more time. S8S8 is left out there: convolutions run at half the speed of float.

    Measured on AVX2, one thread: on a detector and a perceptron U8S8 and U8S7 ran 1.2 and 1.9 times as fast as float,
    U8U8 0.9 and 1.6, S8S8 0.5 and 1.8; a keyword spotter agreed with float on 99% of 200 clips as U8S7 and U8U8, on
    8% as U8S8. `session.x64quantprecision` gives the numbers of U8U8 at its speed, but ONNX Runtime 1.31 cannot load
    every graph with it.
    """
    if device.machine in ("aarch64", "arm64"):
        return (S8S8, U8S8)
    if VNNI.intersection(device.isa):
        return (U8S8, S8S8)
    return (U8S7, dataclasses.replace(U8S8, caution=SATURATES), U8U8)
