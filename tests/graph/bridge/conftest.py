"""Small networks of the families that are met most, faithful in their operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def unit(before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: Any = nn.ReLU) -> nn.Module:
    """Convolution, batch norm, activation."""
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), act() if act else nn.Identity())


class Residual(nn.Module):
    def __init__(self, *inner: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)
        self.shortcut = shortcut or nn.Identity()
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.inner(x) + self.shortcut(x))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, act: Any, gate: Any) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
        self.act, self.gate = act(), gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))


def classifier(*body: nn.Module, channels: int) -> nn.Module:
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels, 10))


def separable(before: int, after: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(unit(before, before, 3, stride, before), unit(before, after, 1))


def inverted(before: int, after: int, act: Any, *extra: nn.Module, stride: int = 1) -> nn.Module:
    wide = 3 * before
    layers = [unit(before, wide, 1, act=act), unit(wide, wide, 3, stride, wide, act), *extra]
    layers.append(unit(wide, after, 1, act=None))
    return Residual(*layers) if before == after and stride == 1 else nn.Sequential(*layers)


def mobilenet_v1() -> nn.Module:
    return classifier(unit(3, 8, 3, 2), separable(8, 16), separable(16, 16, 2), channels=16)


def mobilenet_v2() -> nn.Module:
    return classifier(
        unit(3, 8, 3, 2, act=nn.ReLU6), inverted(8, 8, nn.ReLU6), inverted(8, 12, nn.ReLU6, stride=2), channels=12
    )


def mobilenet_v3() -> nn.Module:
    excite = SqueezeExcite(24, nn.ReLU, nn.Hardsigmoid)
    return classifier(
        unit(3, 8, 3, 2, act=nn.Hardswish), inverted(8, 8, nn.Hardswish, excite), nn.Hardswish(), channels=8
    )


def efficientnet() -> nn.Module:
    excite = SqueezeExcite(24, nn.SiLU, nn.Sigmoid)
    return classifier(unit(3, 8, 3, 2, act=nn.SiLU), inverted(8, 8, nn.SiLU, excite), channels=8)


def resnet() -> nn.Module:
    basic = Residual(unit(8, 8), unit(8, 8, act=None), after=nn.ReLU())
    shortcut = unit(8, 16, 1, 2, act=None)
    layers = unit(8, 4, 1), unit(4, 4, 3, 2), unit(4, 16, 1, act=None)
    bottleneck = Residual(*layers, shortcut=shortcut, after=nn.ReLU())
    return classifier(unit(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1), basic, bottleneck, channels=16)


class C2f(nn.Module):
    def __init__(self, channels: int, attention: bool = False) -> None:
        super().__init__()
        half = channels // 2
        self.first = unit(channels, channels, 1, act=nn.SiLU)
        inner = [unit(half, half, act=nn.SiLU), unit(half, half, act=nn.SiLU)]
        self.inner = Residual(PixelAttention(half)) if attention else Residual(*inner)
        self.last = unit(3 * half, channels, 1, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        parts.append(self.inner(parts[-1]))
        return self.last(torch.cat(parts, 1))


class PixelAttention(nn.Module):
    """The attention of YOLO11: queries and keys half as wide as values, plus a depthwise position term."""

    def __init__(self, channels: int, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.size = heads, channels // heads
        self.key = self.size // 2
        self.qkv = unit(channels, channels + 2 * self.key * heads, 1, act=None)
        self.position = unit(channels, channels, 3, groups=channels, act=None)
        self.project = unit(channels, channels, 1, act=None)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(x).view(b, self.heads, 2 * self.key + self.size, h * w)
        q, k, v = qkv.split([self.key, self.key, self.size], 2)
        shares = ((q.transpose(-2, -1) @ k) * self.key**-0.5).softmax(-1)
        mixed = (v @ shares.transpose(-2, -1)).view(b, c, h, w) + self.position(v.reshape(b, c, h, w))
        return self.project(mixed)


class PyramidPool(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = unit(channels, 8, 1, act=nn.SiLU), unit(32, channels, 1, act=nn.SiLU)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.first(x)]
        for _ in range(3):
            found.append(self.pool(found[-1]))
        return self.last(torch.cat(found, 1))


class Yolo(nn.Module):
    """Backbone, neck with upsampling, heads with distribution focal loss decoding (v8, 11) or anchors (v5)."""

    def __init__(self, version: int) -> None:
        super().__init__()
        self.version = version
        self.stem = unit(12 if version == 5 else 3, 16, 3, 2, act=nn.SiLU)
        self.small, self.deep = C2f(16), nn.Sequential(unit(16, 16, 3, 2, act=nn.SiLU), PyramidPool(16))
        self.mix = C2f(16, attention=version == 11)
        self.fuse = unit(32, 16, 1, act=nn.SiLU)
        self.heads = nn.ModuleList(nn.Conv2d(16, 3 * 7 if version == 5 else 4 * 16 + 2, 1) for _ in range(2))
        self.register_buffer("bins", torch.arange(16.0))
        self.register_buffer("anchors", torch.tensor([[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]]).view(1, 3, 1, 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        if self.version == 5:
            x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        near = self.small(self.stem(x))
        far = self.mix(self.deep(near))
        near = self.fuse(torch.cat([F.interpolate(far, scale_factor=2.0, mode="nearest"), near], 1))
        decode = self.anchored if self.version == 5 else self.distributed
        return torch.cat([decode(head(f)) for head, f in zip(self.heads, (near, far), strict=True)], 1)

    def anchored(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        y = x.view(b, 3, 7, h, w).permute(0, 1, 3, 4, 2).sigmoid()
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        xy = (y[..., :2] * 2 + torch.stack((columns, rows), 2) - 0.5) * 8
        wh = (y[..., 2:4] * 2) ** 2 * self.anchors
        return torch.cat([xy, wh, y[..., 4:]], 4).view(b, -1, 7)

    def distributed(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        boxes, scores = x.view(b, -1, h * w).split([64, 2], 1)
        sides = boxes.view(b, 4, 16, h * w).transpose(2, 1).softmax(1).mul(self.bins.view(1, 16, 1, 1)).sum(1)
        low, high = sides.chunk(2, 1)
        return torch.cat([(high - low) / 2, high + low, scores.sigmoid()], 1).transpose(1, 2)


class DeepLab(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = unit(3, 8, 3, 2)
        self.dilated = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=r, dilation=r, bias=False) for r in (2, 4))
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1, bias=False), nn.ReLU())
        self.head = nn.Sequential(unit(24, 8), nn.Conv2d(8, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        found = [conv(y) for conv in self.dilated]
        found.append(F.interpolate(self.pooled(y), size=y.shape[-2:], mode="bilinear", align_corners=False))
        return F.interpolate(self.head(torch.cat(found, 1)), size=x.shape[-2:], mode="bilinear", align_corners=False)


class Ssd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([unit(3, 8, 3, 2), nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), unit(8, 8))])
        self.boxes = nn.ModuleList(nn.Conv2d(8, 2 * 4, 3, padding=1) for _ in range(2))
        self.labels = nn.ModuleList(nn.Conv2d(8, 2 * 3, 3, padding=1) for _ in range(2))
        self.scale = nn.Parameter(torch.full((1, 8, 1, 1), 20.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found, boxes, labels = [], [], []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        found[0] = self.scale * F.normalize(found[0])
        for y, box, label in zip(found, self.boxes, self.labels, strict=True):
            boxes.append(box(y).permute(0, 2, 3, 1).flatten(1))
            labels.append(label(y).permute(0, 2, 3, 1).flatten(1))
        return torch.cat(boxes, 1).unflatten(1, (-1, 4)), torch.cat(labels, 1).unflatten(1, (-1, 3)).softmax(-1)


def ds_cnn() -> nn.Module:
    first = nn.Sequential(nn.Conv2d(1, 16, (10, 4), 2, (5, 1)), nn.BatchNorm2d(16), nn.ReLU())
    body = nn.Sequential(first, separable(16, 16), nn.AvgPool2d((5, 5)), nn.Flatten())
    return nn.Sequential(body, nn.Linear(80, 12), nn.Softmax(-1))


class Causal(nn.Module):
    def __init__(self, before: int, after: int, dilation: int) -> None:
        super().__init__()
        self.pad = 2 * dilation
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(before, after, 3, dilation=dilation))
        self.match = nn.Conv1d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.relu(self.conv(F.pad(x, (self.pad, 0)))) + self.match(x))


def tcn() -> nn.Module:
    return nn.Sequential(Causal(4, 8, 1), Causal(8, 8, 2), Causal(8, 8, 4), nn.Conv1d(8, 3, 1), nn.LogSoftmax(1))


class Crnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(unit(1, 8), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.MaxPool2d((2, 1)))
        self.lstm = nn.LSTM(8 * 4, 6, bidirectional=True)
        self.gru = nn.GRU(12, 5, bidirectional=True, batch_first=True)
        self.head = nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).flatten(1, 2).permute(2, 0, 1)
        y, _ = self.lstm(y)
        y, _ = self.gru(y.transpose(0, 1))
        return self.head(y).log_softmax(-1)


class Encoder(nn.Module):
    """BERT: embeddings, post-norm blocks, tanh pooler; a mask as additive bias."""

    def __init__(self, size: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, size), nn.Embedding(12, size)
        self.norms = nn.ModuleList(nn.LayerNorm(size, eps=1e-12) for _ in range(3))
        self.qkv = nn.ModuleList(nn.Linear(size, size) for _ in range(3))
        self.out, self.up, self.down = nn.Linear(size, size), nn.Linear(size, 32), nn.Linear(32, size)
        self.pool, self.head = nn.Linear(size, size), nn.Linear(size, 4)
        self.heads, self.each = heads, size // heads

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.norms[0](self.words(tokens) + self.places(torch.arange(tokens.shape[1])))
        bias = (1.0 - mask[:, None, None, :].float()) * -10000.0
        q, k, v = (p(x).view(*x.shape[:2], self.heads, self.each).transpose(1, 2) for p in self.qkv)
        shares = (q @ k.transpose(-1, -2) / math.sqrt(self.each) + bias).softmax(-1)
        x = self.norms[1](x + self.out((shares @ v).transpose(1, 2).flatten(2)))
        x = self.norms[2](x + self.down(F.gelu(self.up(x))))
        return self.head(torch.tanh(self.pool(x[:, 0])))


class FusedEncoder(nn.Module):
    """PyTorch's own encoder layer and scaled dot product attention."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.layer(self.words(tokens))
        heads = x.unflatten(2, (2, 8)).transpose(1, 2)
        return F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)


@dataclass(frozen=True)
class Family:
    """A network, and the shapes of its inputs; integers are tokens below the number given."""

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...] = ()

    def samples(self) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        if self.tokens:
            return tuple(torch.randint(0, n, s) for n, s in zip(self.tokens, self.shapes, strict=True))
        return tuple(torch.randn(shape) for shape in self.shapes)


IMAGE = ((2, 3, 32, 32),)
FAMILIES = {
    "mobilenet-v1": Family(mobilenet_v1, IMAGE),
    "mobilenet-v2": Family(mobilenet_v2, IMAGE),
    "mobilenet-v3": Family(mobilenet_v3, IMAGE),
    "efficientnet": Family(efficientnet, IMAGE),
    "resnet": Family(resnet, IMAGE),
    "yolov5": Family(lambda: Yolo(5), IMAGE),
    "yolov8": Family(lambda: Yolo(8), IMAGE),
    "yolo11": Family(lambda: Yolo(11), IMAGE),
    "deeplab": Family(DeepLab, IMAGE),
    "ssd": Family(Ssd, ((2, 3, 30, 30),)),
    "ds-cnn": Family(ds_cnn, ((2, 1, 49, 10),)),
    "tcn": Family(tcn, ((2, 4, 20),)),
    "crnn": Family(Crnn, ((2, 1, 16, 12),)),
    "bert": Family(Encoder, ((2, 9), (2, 9)), (30, 2)),
    "transformer": Family(FusedEncoder, ((2, 9),), (30,)),
}


COVERED = {"crnn", "mobilenet-v1", "mobilenet-v2", "resnet", "yolov8"}
"""Exported by the slower exporter in the long proofs only: other families hold the same operators."""
EXPORTS = [
    pytest.param(
        (family, dynamo),
        id=f"{name}-{'dynamo' if dynamo else 'trace'}",
        marks=pytest.mark.prove if dynamo and name in COVERED else pytest.mark.slow,
    )
    for name, family in FAMILIES.items()
    for dynamo in (False, True)
]


@pytest.fixture(params=EXPORTS)
def export(request: pytest.FixtureRequest) -> tuple[Family, bool]:
    """A family, and whether it is exported by way of `torch.export`."""
    chosen: tuple[Family, bool] = request.param
    return chosen
