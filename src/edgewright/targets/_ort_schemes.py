"""Which of ONNX Runtime's schemes are worth trying on a kind of processor."""

from __future__ import annotations

from edgewright.core.measurement import Device
from edgewright.core.target import Scheme
from edgewright.core.variant import adds_in_32_bits
from edgewright.graph.schemes.onnxruntime import S8S8, U8S8, U8S8_PAIRS


def schemes_for(device: Device) -> tuple[Scheme, ...]:
    """Returns what is worth trying on `device`, the most promising first.

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
