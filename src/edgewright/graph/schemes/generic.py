"""No runtime in particular: what the ONNX specification of QuantizeLinear and DequantizeLinear alone asks for."""

from __future__ import annotations

import dataclasses

from edgewright.core.target import Scheme
from edgewright.graph.schemes.onnxruntime import QUANTIZED, SHARED

U8S8 = Scheme(
    name="generic-u8s8",
    activation="uint8",
    activation_symmetric=False,
    weight="int8",
    weight_symmetric=True,
    weight_per_channel=True,
    weight_bits=8,
    quantized=(*QUANTIZED, "ConvTranspose"),
    shared=SHARED,
    bias="int32",
    outputs=("Conv", "ConvTranspose", "MatMul", "Gemm"),
    opset=13,
)
S8S8 = dataclasses.replace(U8S8, name="generic-s8s8", activation="int8")
S16S8 = dataclasses.replace(
    U8S8,
    name="generic-s16s8",
    activation="int16",
    activation_symmetric=True,
    bias="float32",
    opset=21,
    caution="few runtimes have kernels with 16-bit activations; the others compute in float between the quantisers",
)
ALL = (U8S8, S8S8, S16S8)
