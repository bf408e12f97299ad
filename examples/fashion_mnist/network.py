"""A ResNet-20 for 28 x 28 grey images: the factory that `edgewright.toml` names.

Nine residual blocks in three stages of 16, 32 and 64 channels (He et al. 2015, section 4.2). The first convolution
halves the image, which makes a training step four times cheaper than at full size.
"""

from __future__ import annotations

from torch import Tensor, nn

CLASSES = 10
WIDTH = 16


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
