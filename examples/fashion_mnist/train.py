"""Trains a network on Fashion-MNIST and sets images aside for calibration and tuning.

Reads `$EDGEWRIGHT_BENCH/fashion_mnist`, writes `work/NETWORK.safetensors`, `work/heldout.npz` and, for passes that
train, `work/train.npz` beside this file.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import network as networks
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).parent
MEAN, STD = 0.28604, 0.35302
HELD_OUT = 4000  # images of the training set that training never sees


def load(data: Path, split: str) -> tuple[Tensor, Tensor]:
    """Returns normalised images [n, 1, 28, 28] and labels [n]."""
    with np.load(data / f"fashion_mnist_{split}.npz") as arrays:
        x = torch.from_numpy(arrays["x"]).float().div_(255).sub_(MEAN).div_(STD)
        return x.unsqueeze(1), torch.from_numpy(arrays["y"].astype(np.int64))


def divide(data: Path, order: np.ndarray, folder: Path) -> None:
    """Writes the images that training leaves alone and the others, in shuffled order."""
    with np.load(data / "fashion_mnist_train.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    for name, rows in (("heldout", order[:HELD_OUT]), ("train", order[HELD_OUT:])):
        np.savez(folder / f"{name}.npz", x=x[rows], y=y[rows])


def augment(x: Tensor) -> Tensor:
    """Mirrors half of the images."""
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)


def train(network: nn.Module, x: Tensor, y: Tensor, epochs: int, batch: int) -> None:
    """One cycle of the learning rate (Smith 2018)."""
    steps = len(x) // batch
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.2, total_steps=epochs * steps, pct_start=0.25)
    loss_of = nn.CrossEntropyLoss()
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(x))[: steps * batch].split(batch):
            loss = loss_of(network(augment(x[rows]).contiguous(memory_format=torch.channels_last)), y[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            cycle.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.3f}", flush=True)


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of images whose most likely class is the right one."""
    network.eval()
    right = sum(int((network(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True))
    return right / len(y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EDGEWRIGHT_BENCH", "")) / "fashion_mnist")
    parser.add_argument("--network", choices=("resnet20", "mobilenetv2"), default="resnet20")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"no data in {options.data}: set EDGEWRIGHT_BENCH (see examples/README.md) or give --data")
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    started = time.perf_counter()
    x, y = load(options.data, "train")
    order = np.random.default_rng(0).permutation(len(x))  # the files are ordered by class
    (HERE / "work").mkdir(exist_ok=True)
    divide(options.data, order, HERE / "work")
    network = getattr(networks, options.network)().to(memory_format=torch.channels_last)
    train(network, x[order[HELD_OUT:]], y[order[HELD_OUT:]], options.epochs, options.batch)
    top1 = accuracy(network, *load(options.data, "test"))
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, HERE / "work" / f"{options.network}.safetensors")
    print(f"top-1 on the 10,000 test images: {top1:.4f} after {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
