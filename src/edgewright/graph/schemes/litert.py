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
    "Sigmoid",
    "Softmax",
    "Tanh",
    "LpNormalization",
    "LeakyRelu",
    "PRelu",
    "HardSwish",
    "ReduceMean",
    "ReduceSum",
)
SHARED = (
    "Concat",
    "AveragePool",
    "GlobalAveragePool",
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
    "DepthToSpace",
    "SpaceToDepth",
    "Min",
    "Max",
)
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
        "Tanh": (1 / 128, 0),
        "LpNormalization": (1 / 128, 0),
    },
)
S16S8 = dataclasses.replace(
    S8S8,
    name="litert-s16s8",
    activation="int16",
    activation_symmetric=True,
    bias="float32",
    fixed_outputs={"Sigmoid": (1 / 32768, 0), "Softmax": (1 / 32768, 0), "Tanh": (1 / 32768, 0)},
    opset=21,
    caution="few LiteRT delegates take 16-bit activations; its CPU kernels for them are several times slower",
)
ALL = (S8S8, S16S8)
