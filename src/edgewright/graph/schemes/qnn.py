"""Qualcomm's QNN on the Hexagon tensor processor, as ONNX Runtime's provider takes it.

Everything is quantised, or the graph falls apart between processors; activations are unsigned and asymmetric, weights
symmetric, per channel in convolutions only (ONNX Runtime documentation, "QNN Execution Provider", and its
`get_qnn_qdq_config`). With 16-bit activations the weights stay at 8 bits.
"""

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
    "Div",
    "Relu",
    "Clip",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "LeakyRelu",
    "PRelu",
    "HardSwish",
    "Elu",
    "Gelu",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "ReduceSum",
)
SHARED = (
    "Concat",
    "MaxPool",
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
    "ReduceMax",
)
U8S8 = Scheme(
    name="qnn-u8s8",
    activation="uint8",
    activation_symmetric=False,
    weight="int8",
    weight_symmetric=True,
    weight_per_channel=True,
    weight_bits=8,
    quantized=QUANTIZED,
    shared=SHARED,
    bias="int32",
    outputs=("Conv", "ConvTranspose", "MatMul", "Gemm"),
    fixed_outputs={"Sigmoid": (1 / 256, 0), "Softmax": (1 / 256, 0), "Tanh": (1 / 128, 128)},
    per_tensor_ops=("MatMul", "Gemm"),
    whole=True,
)
U16S8 = dataclasses.replace(
    U8S8,
    name="qnn-u16s8",
    activation="uint16",
    fixed_outputs={"Sigmoid": (1 / 65536, 0), "Softmax": (1 / 65536, 0), "Tanh": (1 / 32768, 32768)},
    opset=21,
    caution="16-bit activations move twice the bytes of 8-bit ones",
)
ALL = (U8S8, U16S8)
