"""MobileNetV3 (Howard et al. 2019), small and large: inverted residuals, gates, HardSwish in the later half."""

from __future__ import annotations

from torch import nn

from edgewright.training.students.interface import Interface, classes, picture
from edgewright.training.students.layers import (
    Classifier,
    ConvNorm,
    InvertedResidual,
    divisible,
    initialised,
    strides_of,
)

Row = tuple[int, int, int, bool, bool, int]
"""Kernel, expanded channels, channels, gate, HardSwish, and the place among those that halve; 0 for none."""
SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, False, 1), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 0),
    (5, 96, 40, True, True, 3), (5, 240, 40, True, True, 0), (5, 240, 40, True, True, 0),
    (5, 120, 48, True, True, 0), (5, 144, 48, True, True, 0),
    (5, 288, 96, True, True, 4), (5, 576, 96, True, True, 0), (5, 576, 96, True, True, 0),
)  # fmt: skip
LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, False, 0), (3, 64, 24, False, False, 1), (3, 72, 24, False, False, 0),
    (5, 72, 40, True, False, 2), (5, 120, 40, True, False, 0), (5, 120, 40, True, False, 0),
    (3, 240, 80, False, True, 3), (3, 200, 80, False, True, 0), (3, 184, 80, False, True, 0),
    (3, 184, 80, False, True, 0), (3, 480, 112, True, True, 0), (3, 672, 112, True, True, 0),
    (5, 672, 160, True, True, 4), (5, 960, 160, True, True, 0), (5, 960, 160, True, True, 0),
)  # fmt: skip
_TABLES = {"mobilenetv3": (SMALL, 1024), "mobilenetv3-large": (LARGE, 1280)}


def build(interface: Interface, width: float, family: str) -> nn.Module:
    """Returns a fresh network."""
    image, count = picture(interface), classes(interface)
    assert image is not None
    assert count is not None
    rows, hidden = _TABLES[family]
    strides, inside = strides_of(image, 5), divisible(16 * width)
    layers: list[nn.Module] = [ConvNorm(image.channels, inside, 3, strides[0], activation=nn.Hardswish)]
    for kernel, wide, outside, gated, swish, place in rows:
        layers.append(
            InvertedResidual(
                inside,
                divisible(wide * width),
                divisible(outside * width),
                kernel,
                strides[place] if place else (1, 1),
                activation=nn.Hardswish if swish else nn.ReLU,
                gated=gated,
            )
        )
        inside = divisible(outside * width)
    last = divisible(rows[-1][1] * width)
    layers.append(ConvNorm(inside, last, 1, activation=nn.Hardswish))
    hidden = divisible(hidden * width)
    head = nn.Sequential(nn.Linear(last, hidden), nn.Hardswish(), nn.Linear(hidden, count))
    return initialised(Classifier(interface, nn.Sequential(*layers), head))
