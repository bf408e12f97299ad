"""A MobileNet-style network made hard to quantise, and what each technique of the ladder brings it back.

    python benchmarks/hard_mobilenet.py
    python benchmarks/hard_mobilenet.py --spread 1000 --epochs 4

The network is trained on Fashion-MNIST and its batch norms are folded. Then the channels inside every inverted residual
block are multiplied by random factors that differ 100-fold, and divided again in the layer behind: the same function,
but weights that no single scale fits, as Nagel et al. 2019 found them in MobileNetV2. Weights have 7 bits and one scale
per tensor (7 bits so that processors without VNNI, which add products in 16 bits, compute the same as all others).
Accuracy is that of ONNX Runtime's integer kernels on all test images; intervals are paired bootstraps.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgewright.core.codec import encode
from edgewright.core.recipe import StepSpec
from edgewright.data import save_spec
from edgewright.data.spec import data_spec
from edgewright.engine import registry
from edgewright.graph.load import load, tensor_specs
from edgewright.graph.schemes import find
from edgewright.passes._infer import open_infer

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
MSE = {"weights": "mse"}
EQUALISE = StepSpec("equalise")
RUNGS: Mapping[str, tuple[tuple[StepSpec, ...], Mapping[str, Any], tuple[StepSpec, ...]]] = {
    "naive: minmax": ((), {}, ()),
    "weights mse": ((), MSE, ()),
    "weights mse > full bias correction": ((), MSE, (StepSpec("bias-correction", {"method": "full"}),)),
    "equalise > minmax": ((EQUALISE,), {}, ()),
    "equalise > weights mse": ((EQUALISE,), MSE, ()),
    "equalise > weights mse > fast bias correction": (
        (EQUALISE,),
        MSE,
        (StepSpec("bias-correction", {"method": "fast"}),),
    ),
    "equalise > weights mse > full bias correction": (
        (EQUALISE,),
        MSE,
        (StepSpec("bias-correction", {"method": "full"}),),
    ),
}
OURS = tuple(RUNGS)[-1]
NAIVE = next(iter(RUNGS))


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int = 4) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = nn.Sequential(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide))
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide)
        )
        self.project = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x).relu()).relu())
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """Stem, five inverted residual blocks, mean over positions, linear head."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(nn.Conv2d(1, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w))
        sizes = [(w, w, 1), (w, w * 3 // 2, 2), (w * 3 // 2, w * 3 // 2, 1), (w * 3 // 2, w * 5 // 2, 2)]
        self.blocks = nn.ModuleList(Block(*size) for size in (*sizes, (w * 5 // 2, w * 5 // 2, 1)))
        self.head = nn.Linear(w * 5 // 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def train(images: Images, labels: Labels, *, width: int, epochs: int, seed: int = 0, batch: int = 128) -> MobileNet:
    """Trains with AdamW and one cycle; returns the network in evaluation mode."""
    torch.manual_seed(seed)
    network = MobileNet(width, int(labels.max()) + 1)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    steps = epochs * (len(x) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, steps)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for rows in order[: len(x) // batch * batch].split(batch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def harden(network: MobileNet, spread: float, seed: int = 0) -> MobileNet:
    """Folds batch norms, then rescales the channels inside every block by factors that differ `spread`-fold."""
    fold = torch.nn.utils.fusion.fuse_conv_bn_eval
    rng = np.random.default_rng(seed)
    hard = MobileNet(network.stem[0].out_channels, network.head.out_features).eval()
    hard.load_state_dict(network.state_dict())
    hard.stem = fold(hard.stem[0], hard.stem[1])  # type: ignore[assignment]
    for block in hard.blocks:
        assert isinstance(block, Block)
        layers = [fold(each[0], each[1]) for each in (block.expand, block.depthwise, block.project)]
        for first, second in itertools.pairwise(layers):
            exponents = rng.uniform(-0.5, 0.5, first.out_channels)
            exponents[:2] = -0.5, 0.5
            factor = torch.tensor(spread**exponents, dtype=torch.float32)
            first.weight.data *= factor[:, None, None, None]
            first.bias.data *= factor
            behind = factor[:, None, None, None] if second.groups > 1 else factor[None, :, None, None]
            second.weight.data /= behind
        block.expand, block.depthwise, block.project = layers  # type: ignore[assignment]
    return hard


@dataclass
class Bench:
    """A folder of models, and the data that passes and scores need."""

    work: Path
    images: Images
    labels: Labels
    scheme: Mapping[str, Any]
    scratch: Path = Path()
    seed: int = 0
    made: dict[str, Path] = field(default_factory=dict)

    def progress(self, fraction: float, note: str = "") -> None:
        """Steps report here; the benchmark shows nothing."""

    def step(self, spec: StepSpec, **inputs: Path) -> Path:
        out = Path(tempfile.mkdtemp(prefix=f"{spec.name}-", dir=self.work))
        self.scratch = Path(tempfile.mkdtemp(dir=self.work))
        registry.make("passes", spec).run(inputs, out, self)
        return out

    def import_network(self, network: nn.Module, calibration: Images) -> None:
        """Exports and cleans up the float model, and writes the calibration split."""
        exported = self.work / "exported.onnx"
        shape = torch.export.Dim("batch")
        program = torch.onnx.export(
            network,
            (torch.zeros(2, *self.images.shape[1:]),),
            dynamic_shapes=({0: shape},),
            opset_version=18,
            verbose=False,
        )
        assert program is not None
        program.save(str(exported))
        self.made["float"] = self.step(StepSpec("clean-up"), model=exported)
        np.savez(self.work / "calibration.npz", x=calibration)
        split = {"reader": "npz", "path": "calibration.npz", "value": "x", "label": ""}
        specs = tensor_specs(load(self.made["float"]))[0]
        save_spec(data_spec(self.work, {"calibration": split}, inputs=specs), self.work / "data.json")

    def rung(self, name: str) -> None:
        """Makes the model of one rung."""
        before, config, after = RUNGS[name]
        data = self.work / "data.json"
        model = self.made["float"]
        for spec in before:
            model = self.step(spec, model=model, data=data)
        start = model
        statistics = self.step(StepSpec("calibrate"), model=start, data=data)
        spec = StepSpec("static-int8", {"scheme": self.scheme, **config})
        model = self.step(spec, model=start, statistics=statistics)
        for spec in after:
            model = self.step(spec, model=model, data=data, float=start)
        self.made[name] = model

    def correct(self, name: str) -> NDArray[np.bool_]:
        """Returns which test images the model of a rung gets right."""
        model = load(self.made[name])
        infer, key, result = open_infer(model), model.graph.inputs[0].name or "", model.graph.outputs[0].name or ""
        batches = np.array_split(self.images, max(len(self.images) // 200, 1))
        found = np.concatenate([infer({key: batch})[result].argmax(1) for batch in batches])
        return np.asarray(found == self.labels)


def per_tensor(name: str) -> dict[str, Any]:
    """Returns a scheme with one scale per weight tensor, as configuration."""
    scheme = dataclasses.replace(find(name), name=f"{name}-per-tensor", weight_per_channel=False)
    encoded: dict[str, Any] = encode(scheme)  # type: ignore[assignment]
    return encoded


def ladder(bench: Bench, rungs: Sequence[str] = tuple(RUNGS)) -> dict[str, NDArray[np.bool_]]:
    """Makes and scores the rungs; returns which images each gets right, `float` first."""
    found = {"float": bench.correct("float")}
    for name in rungs:
        bench.rung(name)
        found[name] = bench.correct(name)
    return found


def interval(difference: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Returns the paired 95% bootstrap interval of a mean difference, in points."""
    rng = np.random.default_rng(seed)
    means = [difference[rng.integers(0, len(difference), len(difference))].mean() for _ in range(1000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return 100 * float(low), 100 * float(high)


def show(found: Mapping[str, NDArray[np.bool_]], seconds: float) -> None:
    base = found["float"]
    print(f"{'':<48} {'top-1':>7} {'points against float':>22}")
    for name, right in found.items():
        low, high = interval(right.astype(float) - base)
        print(f"{name:<48} {right.mean():7.2%} {100 * (right.mean() - base.mean()):+7.2f} [{low:+.2f}, {high:+.2f}]")
    print(f"{len(base)} test images, {seconds:.0f} s for all rungs, load {os.getloadavg()[0]:.1f}")


def fashion(split: str) -> tuple[Images, Labels]:
    folder = Path(os.environ.get("EDGEWRIGHT_BENCH", Path(__file__).resolve().parents[2] / "shared" / "bench"))
    with np.load(folder / "fashion_mnist" / f"fashion_mnist_{split}.npz") as archive:
        images, labels = archive["x"], archive["y"]
    order = np.random.default_rng(0).permutation(len(labels))
    scaled = (images[order, None].astype(np.float32) / 255 - 0.28604) / 0.35302
    return np.ascontiguousarray(scaled, np.float32), labels[order].astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spread", type=float, default=100.0, help="largest over smallest factor of a channel")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--images", type=int, default=30_000, help="training images")
    parser.add_argument("--scheme", default="onnxruntime-u8s7")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="file that keeps the trained network; used if it is there")
    chosen = parser.parse_args()
    images, labels = fashion("train")
    start = time.perf_counter()
    if chosen.keep is not None and chosen.keep.is_file():
        network = MobileNet(chosen.width, int(labels.max()) + 1).eval()
        network.load_state_dict(torch.load(chosen.keep, weights_only=True))
    else:
        network = train(images[: chosen.images], labels[: chosen.images], width=chosen.width, epochs=chosen.epochs)
        print(f"trained in {time.perf_counter() - start:.0f} s")
    if chosen.keep is not None:
        torch.save(network.state_dict(), chosen.keep)
    hard = harden(network, chosen.spread, chosen.seed)
    test, truth = fashion("test")
    with tempfile.TemporaryDirectory(prefix="edgewright-hard-") as name:
        bench = Bench(Path(name), test, truth, per_tensor(chosen.scheme))
        bench.import_network(hard, images[-128:])
        start = time.perf_counter()
        show(ladder(bench), time.perf_counter() - start)


if __name__ == "__main__":
    main()
