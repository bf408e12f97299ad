"""LiteRT (TensorFlow Lite 8-bit quantisation specification, ai.google.dev/edge/litert)."""

from __future__ import annotations

import dataclasses

from edgewright.core.target import Scheme

QUANTIZED = (
    "Conv",
    "ConvTranspose",
    "MatMul",
    "Gemm",
    "Add",
    "Sub",
    "Mul",
    "Relu",
    "Clip",
    "Sigmoid",
    "HardSigmoid",
    "Softmax",
    "LogSoftmax",
    "Tanh",
    "LpNormalization",
    "LeakyRelu",
    "PRelu",
    "HardSwish",
    "Elu",
    "Gelu",
    "GlobalAveragePool",
    "ReduceMean",
    "ReduceSum",
)
SHARED = (
    "Concat",
    "AveragePool",
    "MaxPool",
    "GlobalMaxPool",
    "ReduceMax",
    "ReduceMin",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Pad",
    "Resize",
    "Gather",
    "Slice",
    "Split",
    "Expand",
    "Tile",
    "Where",
    "DepthToSpace",
    "SpaceToDepth",
    "Min",
    "Max",
)
_NOT_16 = ("LogSoftmax", "LpNormalization", "PRelu", "HardSwish", "HardSigmoid", "Elu", "DepthToSpace", "SpaceToDepth")
"""Operators that LiteRT 2.3 has no kernel with 16-bit activations for."""
S8S8 = Scheme(
    name="litert-s8s8",
    activation="int8",
    activation_symmetric=False,
    weight="int8",
    weight_symmetric=True,
    weight_per_channel=True,
    weight_bits=8,
    quantized=QUANTIZED,
    shared=SHARED,
    bias="int32",
    outputs=("Conv", "ConvTranspose", "MatMul", "Gemm"),
    fixed_outputs={
        "Sigmoid": (1 / 256, -128),
        "Softmax": (1 / 256, -128),
        "LogSoftmax": (16 / 256, 127),
        "Tanh": (1 / 128, 0),
        "LpNormalization": (1 / 128, 0),
    },
    activates=("Add", "Sub", "Mul"),
    interpolates=True,
    biases=True,
)
S8S8_FULL = dataclasses.replace(
    S8S8,
    name="litert-s8s8-full",
    whole=True,
    per_tensor_ops=("Gemm", "MatMul"),
    quantized=(*QUANTIZED, "Pow", "Neg"),
)
"""For `integer_only`, microcontrollers and NPUs: no operator in float, one scale for the weights of a product."""
S16S8 = dataclasses.replace(
    S8S8,
    name="litert-s16s8",
    activation="int16",
    activation_symmetric=True,
    quantized=tuple(op for op in QUANTIZED if op not in _NOT_16),
    shared=tuple(op for op in SHARED if op not in _NOT_16),
    bias="float32",
    fixed_outputs={"Sigmoid": (1 / 32768, 0), "Softmax": (1 / 32768, 0), "Tanh": (1 / 32768, 0)},
    opset=21,
    caution="few LiteRT delegates take 16-bit activations; its CPU kernels for them are several times slower",
)
ALL = (S8S8, S8S8_FULL, S16S8)
