"""Two networks for 28 x 28 grey images: the factories that `edgewright.toml` and `mobilenet.toml` name.

ResNet-20: nine residual blocks in three stages of 16, 32 and 64 channels (He et al. 2015, section 4.2). MobileNetV2:
inverted residuals with depthwise convolutions (Sandler et al. 2018), fewer and narrower. In both the first
convolution halves the image, which makes a training step four times cheaper than at full size.
"""

from __future__ import annotations

from torch import Tensor, nn

CLASSES = 10
WIDTH = 16
INVERTED = ((1, 16, 1, 1), (4, 24, 2, 1), (4, 32, 3, 2), (4, 64, 3, 2), (4, 96, 1, 1))
"""Per stage of the MobileNetV2: expansion, channels, blocks, stride of the first block."""


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, inside, h, w] to [batch, outside, h / stride, w / stride]."""
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.shortcut(x)).relu()


class ResNet20(nn.Module):
    """Stem, three stages of three blocks, average pool, linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, WIDTH, 4, 2, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
        stages = [(WIDTH, WIDTH, 1), (WIDTH, 2 * WIDTH, 2), (2 * WIDTH, 4 * WIDTH, 2)]
        blocks = [
            Block(before if i == 0 else after, after, stride if i == 0 else 1)
            for before, after, stride in stages
            for i in range(3)
        ]
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Linear(4 * WIDTH, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Maps normalised images [batch, 1, 28, 28] to logits [batch, 10]."""
        features: Tensor = self.stages(self.stem(image)).mean((2, 3))
        logits: Tensor = self.head(features)
        return logits


def resnet20() -> nn.Module:
    """Returns the network without weights; the checkpoint brings them."""
    return ResNet20()


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; a shortcut where the shapes agree."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [*convolution(inside, wide, 1)]
        layers += [*convolution(wide, wide, 3, stride, groups=wide)]
        layers += [nn.Conv2d(wide, outside, 1, bias=False), nn.BatchNorm2d(outside)]
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, inside, h, w] to [batch, outside, h / stride, w / stride]."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """Stem, five stages of inverted residuals, a last convolution, average pool, linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(1, WIDTH, 4, 2, padding=1)
        blocks: list[nn.Module] = []
        inside = WIDTH
        for expansion, outside, count, stride in INVERTED:
            for index in range(count):
                blocks.append(InvertedResidual(inside, outside, stride if index == 0 else 1, expansion))
                inside = outside
        self.blocks = nn.Sequential(*blocks)
        self.last = convolution(inside, 256, 1)
        self.head = nn.Linear(256, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Maps normalised images [batch, 1, 28, 28] to logits [batch, 10]."""
        features: Tensor = self.last(self.blocks(self.stem(image))).mean((2, 3))
        logits: Tensor = self.head(features)
        return logits


def convolution(
    inside: int, outside: int, kernel: int, stride: int = 1, *, groups: int = 1, padding: int | None = None
) -> nn.Sequential:
    """Returns a convolution with batch norm and ReLU6; the padding keeps the size unless given."""
    margin = kernel // 2 if padding is None else padding
    layer = nn.Conv2d(inside, outside, kernel, stride, margin, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outside), nn.ReLU6())


def mobilenetv2() -> nn.Module:
    """Returns the network without weights; the checkpoint brings them."""
    return MobileNetV2()
