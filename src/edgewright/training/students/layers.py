"""What the students are built of. Activations are those that INT8 keeps well: ReLU, ReLU6, HardSwish, HardSigmoid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgewright.training.students.interface import Interface, Picture, picture

_LEAST_SIDE = 3
"""No map gets smaller than this by a stride; global pooling follows."""
Size = tuple[int, int]


def divisible(channels: float, by: int = 8) -> int:
    """Rounds to a multiple that kernels like, at least one, never down by more than a tenth (Howard et al. 2019)."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def halvings(side: int, places: int) -> tuple[int, ...]:
    """Returns the stride at each of `places` of a network for an input of `side`: the first halves it, then the last.

    Networks are drawn for 224 pixels, where all places halve. A smaller input is halved as often as leaves a map of at
    least three: at the stem, which is dearest, and as late as possible after it.
    """
    count, left = 0, side
    while count < places and -(-left // 2) >= _LEAST_SIDE:
        count, left = count + 1, -(-left // 2)
    late = max(count - 1, 0)
    strides = [2 if count else 1, *[1] * (places - 1 - late), *[2] * late]
    return tuple(strides[:places])


def strides_of(image: Picture, places: int) -> tuple[Size, ...]:
    """Returns the stride of both axes at each place; see `halvings`."""
    return tuple(zip(halvings(image.height, places), halvings(image.width, places), strict=True))


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and activation; the padding keeps the size but for the stride."""

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int | Size = 3,
        stride: int | Size = 1,
        *,
        groups: int = 1,
        dilation: int | Size = 1,
        activation: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        sizes, spread = _pair(kernel), _pair(dilation)
        padding = (sizes[0] // 2 * spread[0], sizes[1] // 2 * spread[1])
        layers: list[nn.Module] = [
            nn.Conv2d(inside, outside, sizes, _pair(stride), padding, spread, groups, bias=False),
            nn.BatchNorm2d(outside),
        ]
        super().__init__(*layers, *([activation()] if activation is not None else []))


class Gate(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018) with ReLU and HardSigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = divisible(channels / 4)
        self.squeeze, self.excite = nn.Conv2d(channels, inside, 1), nn.Conv2d(inside, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scales the channels of [batch, channels, h, w]."""
        gate = self.squeeze(x.mean((2, 3), keepdim=True)).relu()
        y: Tensor = x * nn.functional.hardsigmoid(self.excite(gate))
        return y


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; a shortcut where the shapes agree (Sandler et al. 2018)."""

    def __init__(
        self,
        inside: int,
        wide: int,
        outside: int,
        kernel: int,
        stride: Size,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU6,
        gated: bool = False,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [] if wide == inside else [ConvNorm(inside, wide, 1, activation=activation)]
        layers.append(ConvNorm(wide, wide, kernel, stride, groups=wide, dilation=dilation, activation=activation))
        layers += [Gate(wide)] if gated else []
        layers.append(ConvNorm(wide, outside, 1, activation=None))
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == (1, 1) and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, inside, h, w] to [batch, outside, h / stride, w / stride]."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class Separable(nn.Sequential):
    """Depthwise and pointwise convolution, each with batch norm and activation."""

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int | Size = 3,
        stride: int | Size = 1,
        *,
        dilation: int = 1,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        depth = ConvNorm(inside, inside, kernel, stride, groups=inside, dilation=dilation, activation=activation)
        super().__init__(depth, ConvNorm(inside, outside, 1, activation=activation))


class Classifier(nn.Module):
    """Image in the teacher's layout, features, average pool, head, and the teacher's ending."""

    def __init__(self, interface: Interface, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        image = picture(interface)
        assert image is not None
        self.enter, self.features, self.head = Enter(image, len(interface.inputs[0].shape)), features, head
        self.ending = ending(interface)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to [batch, classes]."""
        y: Tensor = self.ending(self.head(self.features(self.enter(x)).mean((2, 3))))
        return y


class Enter(nn.Module):
    """Turns what the teacher takes into [batch, channels, height, width]."""

    def __init__(self, image: Picture, rank: int = 4) -> None:
        super().__init__()
        self.last, self.flat = image.last, rank == 3

    def forward(self, x: Tensor) -> Tensor:
        """Moves the channels, where they are not in their place."""
        if self.flat:
            return x.unsqueeze(1)
        return x.permute(0, 3, 1, 2) if self.last else x


def ending(interface: Interface, axis: int = -1) -> nn.Module:
    """Returns the activation that the teacher ends with."""
    kinds: dict[str, nn.Module] = {
        "": nn.Identity(),
        "Softmax": nn.Softmax(axis),
        "LogSoftmax": nn.LogSoftmax(axis),
        "Sigmoid": nn.Sigmoid(),
    }
    return kinds[interface.ending]


def initialised(network: nn.Module) -> nn.Module:
    """Draws fresh weights: convolutions after He et al. 2015, tables and linear layers narrow."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            with torch.no_grad():
                module.weight.normal_(std=module.embedding_dim**-0.5)
    return network


def _pair(size: int | Size) -> Size:
    return (size, size) if isinstance(size, int) else size
