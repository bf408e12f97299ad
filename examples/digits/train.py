"""Trains a small network on scikit-learn's handwritten digits and writes them out as pictures.

The 1,797 digits are scans of 43 people's handwriting (UCI "Optical Recognition of Handwritten Digits"), 8 x 8 pixels
each; they come inside the scikit-learn package. Pictures of digits that training never sees go to `work/calibration`,
`work/tune`, `work/test` and `work/unseen`, the others to `work/train`, the weights to `work/digits.safetensors`.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from network import SIZE, digit_network
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

WORK = Path(__file__).parent / "work"
HELD_OUT = {"calibration": 100, "tune": 350, "test": 350, "unseen": 50}
EPOCHS, BATCH = 12, 64


def load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns all digits in shuffled order, [n, 32, 32] in 0..255, and what they show."""
    digits = load_digits()
    images = [cv2.resize((image * 255 / 16).astype(np.uint8), (SIZE, SIZE)) for image in digits.images]
    order = np.random.default_rng(0).permutation(len(images))
    return np.stack(images)[order], digits.target.astype(np.int64)[order]


def write_pictures(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Writes one PNG per digit, in a folder per class."""
    shutil.rmtree(folder, ignore_errors=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / str(label) / f"{number:04}.png"), image)


def shifted(x: Tensor) -> Tensor:
    """Moves a batch by up to two pixels in each direction."""
    down, right = (int(v) for v in torch.randint(-2, 3, (2,)))
    return torch.roll(x, (down, right), (2, 3))


def train(network: nn.Module, x: Tensor, y: Tensor) -> None:
    """One cycle of the learning rate (Smith 2018)."""
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    steps = EPOCHS * (len(x) // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    network.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            loss = nn.functional.cross_entropy(network(shifted(x[rows])), y[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            cycle.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {total / (len(x) // BATCH):.3f}", flush=True)


def main() -> None:
    torch.manual_seed(0)
    started = time.perf_counter()
    images, labels = load()
    at = 0
    for split, count in HELD_OUT.items():
        write_pictures(WORK / split, images[at : at + count], labels[at : at + count])
        at += count
    write_pictures(WORK / "train", images[at:], labels[at:])
    x, y = torch.from_numpy(images).float().div(255).unsqueeze(1), torch.from_numpy(labels)
    network = digit_network()
    train(network, x[at:], y[at:])
    save_file(network.state_dict(), WORK / "digits.safetensors")
    network.eval()
    with torch.no_grad():
        right = (network(x[:at]).argmax(1) == y[:at]).float().mean().item()
    print(f"trained on {len(x) - at} digits in {time.perf_counter() - started:.0f} s")
    print(f"{right:.1%} of the {at} others recognised")


if __name__ == "__main__":
    main()
