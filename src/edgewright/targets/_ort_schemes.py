"""Which schemes and float precisions are worth trying with a provider of ONNX Runtime on a kind of processor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from edgewright.core.measurement import Device
from edgewright.core.target import Scheme
from edgewright.core.variant import adds_in_32_bits
from edgewright.graph.schemes import openvino, qnn, tensorrt
from edgewright.graph.schemes.onnxruntime import S8S8, U8S8, U8S8_PAIRS, XNNPACK

_HALF = frozenset({"cuda", "tensorrt", "coreml", "qnn"})
"""Providers whose processors compute in float16 natively."""
_SLOW_CUDA = dataclasses.replace(
    S8S8, caution="ONNX Runtime's CUDA provider quantises but convolves in float: integers are TensorRT's"
)


def schemes_on(provider: str, device: Device, options: Mapping[str, str]) -> tuple[Scheme, ...]:
    """Returns what is worth trying with a provider, the most promising first; empty where it takes no integers."""
    graphics = provider == "openvino" and options.get("device_type", "CPU") != "CPU"
    known: Mapping[str, tuple[Scheme, ...]] = {
        "cuda": (_SLOW_CUDA,),
        "tensorrt": tensorrt.ALL[:1],
        "xnnpack": (XNNPACK,),
        "openvino": (openvino.U8S8,) if graphics else _openvino_on(device),
        "qnn": qnn.ALL,
        "coreml": (),
    }
    return known[provider] if provider in known else schemes_for(device)


def _openvino_on(device: Device) -> tuple[Scheme, ...]:
    """The schemes of the target openvino: the provider compiles the same graph with the same plugin."""
    from edgewright.targets._ov_schemes import schemes_for as native

    return native(device)


def precisions_on(provider: str, device: Device, options: Mapping[str, str]) -> Mapping[str, str]:
    """Returns float precision -> "" where the provider runs it natively, else why it is not worth trying."""
    casts = "ONNX Runtime's CPU provider casts {} to float32 around every node, which is slower than float32"
    native = device.machine in ("aarch64", "arm64") and "fphp" in device.isa
    half = "" if native else casts.format("float16")
    if provider in _HALF or (provider == "openvino" and options.get("device_type", "CPU") != "CPU"):
        half = ""
    elif provider != "cpu":
        half = f"provider {provider} computes in float32 on processors"
    brain = "ONNX Runtime's CPU provider has no bfloat16 kernels for convolutions and products"
    return {"float32": "", "float16": half, "bfloat16": brain.replace("CPU provider", f"provider {provider}")}


def schemes_for(device: Device) -> tuple[Scheme, ...]:
    """Returns what is worth trying on the CPU of `device`, the most promising first.

    With VNNI, U8S8 is two to three times faster than S8S8; the variant with safe pairs is there for bundles, which
    also run where VNNI is missing. Without it kernels add two products in 16 bits, which can saturate. Safe pairs
    cannot, at the same speed and never coarser than 7-bit weights, whose place they take. Files with 8-bit weights
    that could saturate run there with the exact kernels for two unsigned types (the target sets
    `session.x64quantprecision`), which cost a quarter more time; U8U8 would be the same there and no faster anywhere
    else. S8S8 is left out: ONNX Runtime makes its quantisers unsigned on x86.

    Measured on AVX2, one thread: on a detector and a perceptron saturating U8S8 and U8S7 ran 1.2 and 1.9 times as fast
    as float, the exact kernels 0.9 and 1.6; a keyword spotter agreed with float on 99% of 200 clips as U8S7 and with
    the exact kernels, on 8% with saturating ones.
    """
    if device.machine in ("aarch64", "arm64"):
        return (S8S8, U8S8)
    if adds_in_32_bits(device):
        return (U8S8, U8S8_PAIRS, S8S8)
    return (U8S8_PAIRS, U8S8)
