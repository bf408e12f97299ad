"""DS-CNN (Zhang et al. 2017, "Hello Edge"), as MLPerf Tiny runs it: a strided stem and four separable convolutions."""

from __future__ import annotations

from torch import nn

from edgewright.training.students.interface import Interface, Picture, classes, picture
from edgewright.training.students.layers import (
    Classifier,
    ConvNorm,
    Separable,
    Size,
    divisible,
    initialised,
    strides_of,
)

_BLOCKS = 4
_CHANNELS = 64


def build(interface: Interface, width: float, family: str) -> nn.Module:
    """Returns a fresh network; for features over time the stem looks at ten steps of four."""
    image, count = picture(interface), classes(interface)
    assert image is not None
    assert count is not None
    channels, strides = divisible(_CHANNELS * width), strides_of(image, 1 + _BLOCKS)
    speech = _is_speech(image)
    layers: list[nn.Module] = [ConvNorm(image.channels, channels, _stem(image), strides[0])]
    layers += [Separable(channels, channels, 3, (1, 1) if speech else stride) for stride in strides[1:]]
    return initialised(Classifier(interface, nn.Sequential(*layers), nn.Linear(channels, count)))


def _is_speech(image: Picture) -> bool:
    return max(image.height, image.width) >= 2 * min(image.height, image.width)


def _stem(image: Picture) -> Size:
    if not _is_speech(image):
        return (3, 3)
    return (9, 5) if image.height > image.width else (5, 9)
