"""OpenVINO's CPU plugin."""

from __future__ import annotations

import dataclasses

from edgewright.core.target import Scheme

QUANTIZED = (
    "Conv",
    "MatMul",
    "Gemm",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "ReduceMean",
    "ReduceSum",
)
"""Operators that the CPU plugin computes in integers everywhere.

Add, Mul and activation functions are not among them: they run in float, fused into their neighbours where possible,
so that quantising what they read only loses accuracy.
"""
SHARED = (
    "MaxPool",
    "ReduceMax",
    "Resize",
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
    "DepthToSpace",
)
"""Operators that OpenVINO moves inside the integer region: one scale in and out. Resize only in mode nearest."""
FLOAT_RESULTS = ("ReduceMax", "ReduceMin", "GlobalMaxPool")
"""Operators that must not be followed by a quantiser unless they read integers.

OpenVINO 2026.4 fuses the quantiser into its float kernel and stores unsigned integers before it has applied the zero
point: every negative maximum becomes zero. It also moves quantisers there from behind a Concat.
"""

U8S8 = Scheme(
    name="openvino-u8s8",
    activation="uint8",
    activation_symmetric=False,
    weight="int8",
    weight_symmetric=True,
    weight_per_channel=True,
    weight_bits=8,
    quantized=(*QUANTIZED, "ConvTranspose"),
    shared=SHARED,
    bias="float32",
    requantize_shared=False,
    float_results=FLOAT_RESULTS,
)
U8S7 = dataclasses.replace(U8S8, name="openvino-u8s7", weight_bits=7, quantized=QUANTIZED)
U8S8_SATURATING = dataclasses.replace(
    U8S8, name="openvino-u8s8-avx2", quantized=QUANTIZED, keep_float=("@depthwise",), input_weight_bits=7
)
ALL = (U8S8, U8S7, U8S8_SATURATING)
