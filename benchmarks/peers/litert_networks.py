"""Networks of MobileNetV2's and ResNet-50's shape in plain PyTorch, with seeded weights: what both sides start from.

Weights are random, scaled to keep activations near one (He et al., 2015): speed, memory and parity do not need more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repetitions and stride of MobileNetV2's inverted residuals (Sandler et al., 2018)."""
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, repetitions and stride of ResNet-50's bottlenecks (He et al., 2016)."""
SIDE = 224


def convolution(taken: int, given: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    layer = nn.Conv2d(taken, given, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(given))


class Inverted(nn.Module):
    """Inverted residual: wider, depthwise, narrower."""

    def __init__(self, taken: int, given: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = taken * expansion
        first = [convolution(taken, wide, 1), nn.ReLU6()] if expansion > 1 else []
        self.body = nn.Sequential(
            *first, convolution(wide, wide, 3, stride, wide), nn.ReLU6(), convolution(wide, given, 1)
        )
        self.skips = stride == 1 and taken == given

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.body(x)
        return x + found if self.skips else found


class Bottleneck(nn.Module):
    """ResNet's bottleneck, the stride in its 3x3 convolution."""

    def __init__(self, taken: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(taken, width, 1),
            nn.ReLU(),
            convolution(width, width, 3, stride),
            nn.ReLU(),
            convolution(width, 4 * width, 1),
        )
        same = stride == 1 and taken == 4 * width
        self.beside = nn.Identity() if same else convolution(taken, 4 * width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.beside(x))


def mobilenet() -> nn.Module:
    """3.5 million parameters, 300 million multiply-adds."""
    layers: list[nn.Module] = [convolution(3, 32, 3, 2), nn.ReLU6()]
    channels = 32
    for expansion, width, count, stride in BLOCKS:
        for index in range(count):
            layers.append(Inverted(channels, width, stride if index == 0 else 1, expansion))
            channels = width
    head = [convolution(channels, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers, *head)


def resnet() -> nn.Module:
    """25.6 million parameters, 4.1 billion multiply-adds."""
    layers: list[nn.Module] = [convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, count, stride in STAGES:
        for index in range(count):
            layers.append(Bottleneck(channels, width, stride if index == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


NETWORKS = {"mobilenet": mobilenet, "resnet": resnet}


def build(name: str) -> nn.Module:
    """Returns a network in evaluation mode, the same weights everywhere."""
    torch.manual_seed(0)
    made = NETWORKS[name]()
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.1)
    return made.eval()


def example() -> Tensor:
    """One image."""
    return torch.zeros(1, 3, SIDE, SIDE)
