"""Which of ONNX Runtime's schemes are worth trying on a kind of processor."""

from __future__ import annotations

import dataclasses

from edgewright.core.measurement import Device
from edgewright.core.target import Scheme
from edgewright.graph.schemes.onnxruntime import S8S8, SATURATES, U8S7, U8S8, U8U8

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
