"""What the compiler makes of layers that stand together: nothing needless, everything in the delegate."""

from __future__ import annotations

import io
import warnings
from typing import Any

import onnx
import pytest
import torch
from torch import nn


def exported(module: nn.Module, *shape: int) -> tuple[onnx.ModelProto, Any]:
    torch.manual_seed(0)
    content, x = io.BytesIO(), torch.randn(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (x,), content, dynamo=False, input_names=["x"], opset_version=17, do_constant_folding=False
        )
    return onnx.load_from_string(content.getvalue()), x.numpy()


def conv(before: int, after: int, **options: Any) -> nn.Module:
    return nn.Conv2d(before, after, 3, **options)


EXPECTED = {
    "head": (
        nn.Sequential(conv(3, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
        ("CONV_2D", "MEAN", "FULLY_CONNECTED"),
    ),
    "activations": (
        nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8, groups=8), nn.ReLU6(), conv(8, 8), nn.Hardswish(), conv(8, 8)),
        ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "HARD_SWISH", "CONV_2D"),
    ),
    "pad before": (nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), conv(3, 8, stride=2)), ("CONV_2D",)),
    "pads twice": (
        nn.Sequential(nn.ZeroPad2d(1), conv(3, 8, stride=2, padding=1)),
        ("PAD", "CONV_2D"),
    ),
    "batch norm": (nn.Sequential(conv(3, 8, bias=False), nn.BatchNorm2d(8), nn.ReLU()), ("CONV_2D",)),
    "pixel shuffle": (
        nn.Sequential(conv(3, 12), nn.ReLU(), nn.PixelShuffle(2), conv(3, 4)),
        ("CONV_2D", "DEPTH_TO_SPACE", "CONV_2D"),
    ),
    "pool behind a rectifier": (
        nn.Sequential(conv(3, 8, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), conv(8, 4)),
        ("CONV_2D", "PAD", "MAX_POOL_2D", "CONV_2D"),
    ),
    "spatial pyramid": (nn.Sequential(conv(3, 8), nn.SiLU(), nn.MaxPool2d(5, 1, 2), conv(8, 4)),
                        ("CONV_2D", "LOGISTIC", "MUL", "MAX_POOL_2D", "CONV_2D")),
}  # fmt: skip


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", EXPECTED)
def test_layers_become_these_operators(judge: Any, name: str) -> None:
    module, ops = EXPECTED[name]
    proto, x = exported(module, 1, 3, 16, 16)
    found = judge.model(proto, x=x)
    assert found.ops == ops
    assert found.decibels > 100
    assert not found.left


def test_groups_are_normalised_without_moving_an_axis(judge: Any) -> None:
    proto, x = exported(nn.Sequential(conv(3, 8), nn.GroupNorm(2, 8), nn.SiLU(), conv(8, 4)), 1, 3, 9, 9)
    found = judge.model(proto, x=x)
    assert found.decibels > 100
    assert not {"TRANSPOSE", "RESHAPE"} & set(found.ops)
    assert not found.left


class Residual(nn.Module):
    """A block of a temporal convolutional network: causal, dilated, with a shortcut."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
        self.wide, self.match = nn.Conv1d(4, 4, 3, dilation=dilation), nn.Conv1d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.relu(self.wide(self.pad(x))) + self.match(x))


def test_sequences_stay_images_between_convolutions(judge: Any) -> None:
    proto, x = exported(nn.Sequential(Residual(1), Residual(2), Residual(4)), 1, 4, 20)
    found = judge.model(proto, x=x)
    assert found.decibels > 100
    assert found.ops.count("RESHAPE") <= 3, found.ops
    assert found.ops.count("TRANSPOSE") == 2
    assert not found.left


class Sliced(nn.Module):
    """The stem of YOLOX: every second pixel, joined as channels in an order of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        return self.conv(torch.cat(parts, 1))


def test_sliced_stems_are_one_operator(judge: Any) -> None:
    proto, x = exported(Sliced(), 1, 3, 12, 16)
    found = judge.model(proto, x=x)
    assert found.ops == ("SPACE_TO_DEPTH", "CONV_2D")
    assert found.decibels > 100


class Halves(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near, far = x.split([2, 6], 1)
        return torch.cat([far, near * far.mean(1, keepdim=True).expand(-1, 2, -1, -1)], 1)


def test_unequal_splits_and_expansions_stay_in_the_delegate(judge: Any) -> None:
    proto, x = exported(nn.Sequential(conv(3, 8), Halves(), conv(8, 4)), 1, 3, 10, 10)
    found = judge.model(proto, x=x)
    assert found.decibels > 100
    assert found.ops.count("SLICE") == 2
    assert not found.left
