"""The same network trained with quantisers by NNCF, as its documentation says: quantise, train as usual, convert."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

os.environ.setdefault("NNCF_EXTENSION_LOAD_TIMEOUT", "0")  # it compiles kernels when it is first used


@dataclass(slots=True, eq=False)
class NncfTraining:
    """A PyTorch network with NNCF's quantisers.

    Attributes:
        network: Trained, float, with its batch norms.
        calibration: Images [n, ...] that ranges are initialised from.
        weight_bits: 8 or 4; activations have 8.
        rate: Learning rate of AdamW, with a cosine schedule as ours.
    """

    network: nn.Module
    calibration: Tensor
    weight_bits: int
    rate: float
    quantised: nn.Module = field(init=False)
    optimiser: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters

        weights = QuantizationParameters(num_bits=self.weight_bits)
        advanced = AdvancedQuantizationParameters(weights_quantization_params=weights)
        samples = nncf.Dataset(list(self.calibration.split(1)))
        device = (
            nncf.TargetDevice.ANY if self.weight_bits == 8 else nncf.TargetDevice.NPU
        )  # the others take 8 bits only
        self.quantised = nncf.quantize(
            self.network.eval(),
            samples,
            subset_size=len(self.calibration),
            target_device=device,
            advanced_parameters=advanced,
        )
        self.quantised.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(self.quantised.parameters(), self.rate, weight_decay=1e-4, fused=True)

    def step(self, images: Tensor, labels: Tensor, share: float = 1.0) -> None:
        """One step of training; `share` is what the schedule leaves of the rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * share
        answers = self.quantised(images.contiguous(memory_format=torch.channels_last))
        loss = nn.functional.cross_entropy(answers, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

    def train(self, images: Tensor, labels: Tensor, epochs: int, batch: int, seed: int) -> float:
        """Trains and returns the seconds that it took."""
        generator = torch.Generator().manual_seed(seed)
        self.quantised.train()
        started, steps = time.perf_counter(), -(-len(images) // batch)
        for epoch in range(epochs):
            order = torch.randperm(len(images), generator=generator)
            for index, rows in enumerate(order.split(batch)):
                done = (epoch * steps + index) / (epochs * steps)
                self.step(images[rows], labels[rows], 0.5 * (1 + float(np.cos(np.pi * done))))
        self.quantised.eval()
        return time.perf_counter() - started

    def classes(self, images: Tensor) -> NDArray[np.int64]:
        """Returns the most likely class of each image, by the network with quantisers."""
        self.quantised.eval()
        with torch.no_grad():
            return torch.cat([self.quantised(part).argmax(1) for part in images.split(250)]).numpy()

    def converted(self, images: Tensor) -> NDArray[np.int64]:
        """Returns the same by OpenVINO, of the converted model."""
        import openvino

        model = openvino.convert_model(self.quantised.eval(), example_input=images[:1])
        compiled = openvino.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
        answers: Sequence[Any] = [compiled(part.numpy())[0].argmax(1) for part in images.split(250)]
        return np.concatenate(answers)
