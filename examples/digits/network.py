"""A small convolutional network for grey images of digits: the factory that `edgewright.toml` names."""

from __future__ import annotations

from torch import Tensor, nn

SIZE = 32


class DigitNetwork(nn.Module):
    """Four 3 x 3 convolutions with batch norm, average pool, linear head."""

    def __init__(self) -> None:
        super().__init__()
        widths = [(1, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 1)]
        layers: list[nn.Module] = []
        for inside, outside, stride in widths:
            layers += [nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images [batch, 1, 32, 32] in 0..1 to logits [batch, 10]."""
        logits: Tensor = self.head(self.features(image).mean((2, 3)))
        return logits


def digit_network() -> nn.Module:
    """Returns the network without weights; the checkpoint brings them."""
    return DigitNetwork()
