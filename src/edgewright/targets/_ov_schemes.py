"""Which of OpenVINO's schemes are worth trying on a kind of processor."""

from __future__ import annotations

from edgewright.core.measurement import Device
from edgewright.core.target import Scheme
from edgewright.core.variant import adds_in_32_bits
from edgewright.graph.schemes.openvino import U8S7, U8S8, U8S8_SATURATING


def schemes_for(device: Device) -> tuple[Scheme, ...]:
    """Returns what is worth trying on `device`, the most promising first.

    x86 without VNNI adds products in 16 bits, which can saturate with weights of 8 bits; there OpenVINO also runs
    transposed convolutions in float. (Measured on AVX2, one thread: 7 and 8 bits equally fast, uint8 weights 1.25
    times slower than either. Only weights that multiply the model's input saturate in practice: those take 7 bits and
    the rest 8, which keeps a detector's mAP50 where 7 bits everywhere lost 5 points. Depthwise convolutions stay float:
    in integers they are no faster and cost that detector 20 points.)
    """
    if not adds_in_32_bits(device):
        return (U8S8_SATURATING, U8S7)
    return (U8S8,)
