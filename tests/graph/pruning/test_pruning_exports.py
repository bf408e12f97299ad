"""What PyTorch exports of common networks is pruned exactly, and what is left can be trained."""

from __future__ import annotations

import importlib.util
import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.graph import bridge
from edgewright.graph.load import load
from edgewright.graph.pruning import explain_fixed, find_groups, prepare, remove
from edgewright.graph.tidy import tidy

Exact = Callable[..., ir.Model]


def _bridge_families() -> ModuleType:
    """Returns the networks that the bridge is tested with."""
    spec = importlib.util.spec_from_file_location(
        "bridge_families", Path(__file__).parents[1] / "bridge" / "conftest.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bridge_families"] = module
    spec.loader.exec_module(module)
    return module


FAMILIES: Any = _bridge_families()
unit: Any = FAMILIES.unit


class Dense(nn.Module):
    """DenseNet: every layer reads what all layers before it made."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.layers = nn.ModuleList(self._layer(8 + 4 * i) for i in range(3))
        self.end = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1, bias=False), nn.AvgPool2d(2))
        self.head = nn.Linear(10, 5)

    def _layer(self, wide: int) -> nn.Module:
        first = nn.BatchNorm2d(wide), nn.ReLU(), nn.Conv2d(wide, 12, 1, bias=False)
        return nn.Sequential(*first, nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 4, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        found = [self.stem(x)]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        y: Tensor = self.head(self.end(torch.cat(found, 1)).mean((2, 3)))
        return y


class Shuffle(nn.Module):
    """ShuffleNetV2: half of the channels pass, then both halves are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last, self.head = unit(3, 16, 3, 2), unit(16, 24, 1), nn.Linear(24, 5)
        self.branches = nn.ModuleList(
            nn.Sequential(unit(8, 8, 1), unit(8, 8, 3, 1, 8, None), unit(8, 8, 1)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in self.branches:
            left, right = x.chunk(2, 1)
            x = torch.cat([left, branch(right)], 1)
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        y: Tensor = self.head(self.last(x).mean((2, 3)))
        return y


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a = unit(3, 8, 3, 2), unit(8, 6, 1)
        self.b = nn.Sequential(unit(8, 4, 1), unit(4, 6))
        self.c = nn.Sequential(nn.MaxPool2d(3, 1, 1), unit(8, 4, 1))
        self.last, self.head = unit(16, 12), nn.Linear(12 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y: Tensor = self.head(self.last(torch.cat([self.a(x), self.b(x), self.c(x)], 1)).flatten(1))
        return y


def resnext() -> nn.Module:
    block = FAMILIES.Residual(unit(16, 16, 1), unit(16, 32, 3, 1, 8), unit(32, 16, 1, act=None), after=nn.ReLU())
    wide = FAMILIES.Residual(unit(16, 16, 1), unit(16, 32, 3, 1, 2), unit(32, 16, 1, act=None), after=nn.ReLU())
    network: nn.Module = FAMILIES.classifier(unit(3, 16, 3, 2), block, wide, channels=16)
    return network


class UNet(nn.Module):
    """Skips by concatenation, transposed convolutions, one of them in groups, and slopes per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.downs = nn.ModuleList(self._pair(a, b) for a, b in ((3, 8), (8, 16), (16, 24)))
        self.ups = nn.ModuleList([nn.ConvTranspose2d(24, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2, groups=4)])
        self.joins = nn.ModuleList(self._pair(a, b) for a, b in ((32, 16), (16, 8)))
        self.last = nn.Conv2d(8, 2, 1)

    def _pair(self, before: int, after: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1), nn.InstanceNorm2d(after, affine=True), nn.PReLU(after)
        )

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.downs[0](x)]
        skips.append(self.downs[1](F.max_pool2d(skips[0], 2)))
        x = self.downs[2](F.max_pool2d(skips[1], 2))
        for up, join, skip in zip(self.ups, self.joins, reversed(skips), strict=True):
            x = join(torch.cat([up(x), skip], 1))
        y: Tensor = self.last(x)
        return y


class Vision(nn.Module):
    """A vision transformer whose queries, keys and values are one projection."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.first = nn.Conv2d(3, 24, 8, 8), nn.Parameter(torch.randn(1, 1, 24))
        self.norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(2))
        self.qkv, self.out, self.head = nn.Linear(24, 72), nn.Linear(24, 24), nn.Linear(24, 5)
        self.mix = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norms[0](x)).reshape(b, n, 3, 4, 6).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
        y: Tensor = self.head((x + self.mix(self.norms[1](x)))[:, 0])
        return y


class Attending(nn.Module):
    """PyTorch's own attention, which shapes its projections in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, 16), nn.Linear(16, 5)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        found, _ = self.attention(x, x, x, need_weights=False)
        y: Tensor = self.head((x + found).mean(1))
        return y


NETWORKS = {
    **FAMILIES.FAMILIES,
    "densenet": FAMILIES.Family(Dense, FAMILIES.IMAGE),
    "shufflenet": FAMILIES.Family(Shuffle, FAMILIES.IMAGE),
    "inception": FAMILIES.Family(Inception, FAMILIES.IMAGE),
    "resnext": FAMILIES.Family(resnext, FAMILIES.IMAGE),
    "unet": FAMILIES.Family(UNet, FAMILIES.IMAGE),
    "vit": FAMILIES.Family(Vision, FAMILIES.IMAGE),
    "attention": FAMILIES.Family(Attending, ((2, 9),), (30,)),
}
LEAST = {
    "mobilenet-v1": 3,
    "mobilenet-v2": 4,
    "mobilenet-v3": 3,
    "efficientnet": 3,
    "resnet": 5,
    "yolov5": 8,
    "yolov8": 8,
    "yolo11": 10,
    "deeplab": 5,
    "ssd": 2,
    "ds-cnn": 2,
    "tcn": 3,
    "crnn": 4,
    "bert": 3,
    "transformer": 2,
    "densenet": 8,
    "shufflenet": 6,
    "inception": 6,
    "resnext": 4,
    "unet": 6,
    "vit": 2,
    "attention": 1,
}
"""Groups that have to be found at least."""
SLOW = {("shufflenet", False), ("vit", True), ("crnn", False)}
CASES = [
    pytest.param(name, dynamo, marks=pytest.mark.slow if (name, dynamo) in SLOW else pytest.mark.prove)
    for name in NETWORKS
    for dynamo in (False, True)
]


def exported(family: Any, *, dynamo: bool) -> ir.Model:
    """Returns the network in ONNX with an open batch and every batch norm kept."""
    torch.manual_seed(0)
    network = family.make().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            centres = {"running_mean": 0.0, "running_var": 1.0, "weight": 1.0, "bias": 0.0}
            for key, centre in centres.items():
                getattr(module, key).data.uniform_(centre - 0.4, centre + 0.4)
    names = [f"x{i}" for i in range(len(family.shapes))]
    given = network, family.samples()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.backends.mha.set_fastpath_enabled(False)
        if dynamo:
            free = tuple({0: torch.export.Dim("batch")} for _ in names)
            options: dict[str, Any] = {"dynamic_shapes": free, "optimize": False, "verbose": False}
            program = torch.onnx.export(*given, dynamo=True, input_names=names, **options)
            assert program is not None
            return tidy(program.model)[0]
        out: Any = io.BytesIO()
        options = {"opset_version": 17, "training": torch.onnx.TrainingMode.PRESERVE}
        free_axes = {name: {0: "batch"} for name in names}
        torch.onnx.export(*given, out, dynamo=False, input_names=names, dynamic_axes=free_axes, **options)
    return tidy(ir.from_proto(onnx.load_from_string(out.getvalue())))[0]


@pytest.mark.parametrize(("name", "dynamo"), CASES)
def test_networks_are_pruned_exactly_and_train(name: str, dynamo: bool, exact: Exact) -> None:
    family = NETWORKS[name]
    model = prepare(exported(family, dynamo=dynamo))
    groups = find_groups(model)
    assert len(groups) >= LEAST[name], explain_fixed(model)
    samples = [x.numpy() for x in family.samples()]
    feed = {value.name: x for value, x in zip(model.graph.inputs, samples, strict=True)}
    for seed in range(3):
        small = exact(model, groups, [feed], seed)
    _train(small, family.samples())


def _train(model: ir.Model, samples: tuple[Tensor, ...]) -> None:
    """Trains one step through the bridge: every floating weight that is left is reached."""
    module = bridge.to_torch(model)
    optimiser = torch.optim.SGD(module.parameters(), 0.01)
    outputs = [y for y in module(*samples) if y.requires_grad]
    torch.stack([y.square().mean() for y in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    assert bridge.write_back(module, model)


@pytest.mark.bench
@pytest.mark.parametrize(
    ("path", "groups"), [("kws/kws01_ref_model_float32.onnx", 5), ("yolox_nano/yolox_nano.onnx", 67)]
)
def test_benchmark_models_are_pruned_exactly(bench: Path, path: str, groups: int, exact: Exact) -> None:
    model = prepare(tidy(load(bench / path))[0])
    found = find_groups(model)
    assert len(found) == groups
    (value,) = model.graph.inputs
    assert value.shape is not None
    shape = [axis if isinstance(axis, int) else 1 for axis in value.shape]
    feed = {value.name: np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)}
    exact(model, found, [feed], 0)
    remove(model, {group.name: range(max(group.size // 2, 1)) for group in found})
