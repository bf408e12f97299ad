"""How far the outputs of one model are from those of another: sums that grow with samples, not with memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.parity import EXACT_DB

_TINY = 1e-12
Outputs = Mapping[str, NDArray[Any]]


def probabilities(graph: ir.Graph) -> frozenset[str]:
    """Returns the outputs that a Softmax over the last axis makes."""
    return frozenset(v.name or "" for v in graph.outputs if _is_softmax(v.producer(), v))


def _is_softmax(node: ir.Node | None, value: ir.Value) -> bool:
    if node is None or node.op_type != "Softmax":
        return False
    axis = node.attributes.get_int("axis", -1)
    return axis == -1 or (value.shape is not None and axis == len(value.shape) - 1)


@dataclass(slots=True)
class Divergence:
    """Running sums over samples.

    Attributes:
        probable: Outputs that are probabilities along their last axis.
        signal: Output -> sum of squares of the reference.
        noise: Output -> sum of squared differences.
        entropy: Output -> sum of Kullback-Leibler divergences in nats.
        counts: Output -> number of values, and of distributions.
    """

    probable: frozenset[str]
    signal: dict[str, float] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    entropy: dict[str, float] = field(default_factory=dict)
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, reference: Outputs, found: Outputs) -> None:
        """Adds one run; outputs that are not in `found` are equal to the reference."""
        for name, truth in reference.items():
            if not np.issubdtype(truth.dtype, np.floating):
                continue
            exact = truth.astype(np.float64)
            other = found[name].astype(np.float64) if name in found else exact
            self._sum(self.signal, name, float(np.square(exact).sum()))
            self._sum(self.noise, name, float(np.square(exact - other).sum()))
            values, rows = self.counts.get(name, (0, 0))
            self.counts[name] = values + exact.size, rows + exact.size // max(exact.shape[-1] if exact.ndim else 1, 1)
            if name in self.probable:
                self._sum(self.entropy, name, _kl(exact, other))

    def loss(self) -> float:
        """Returns the mean over outputs of noise over signal, or of the divergence of probabilities."""
        return float(np.mean([self._loss(name) for name in self.signal])) if self.signal else 0.0

    def sqnr_db(self) -> float:
        """Returns the signal-to-noise ratio over all outputs."""
        noise, signal = sum(self.noise.values()), sum(self.signal.values())
        if noise <= 0.0:
            return EXACT_DB
        return float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -EXACT_DB, EXACT_DB))

    def mse(self) -> float:
        """Returns the mean squared error over all outputs."""
        return sum(self.noise.values()) / max(sum(values for values, _ in self.counts.values()), 1)

    def divergence(self) -> float | None:
        """Returns the mean Kullback-Leibler divergence in nats; None where no output is a probability."""
        rows = sum(self.counts[name][1] for name in self.entropy)
        return sum(self.entropy.values()) / rows if rows else None

    def _loss(self, name: str) -> float:
        if name in self.entropy:
            return self.entropy[name] / max(self.counts[name][1], 1)
        return self.noise[name] / max(self.signal[name], _TINY)

    @staticmethod
    def _sum(table: dict[str, float], name: str, value: float) -> None:
        table[name] = table.get(name, 0.0) + value


def _kl(truth: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    p, q = np.maximum(truth, _TINY), np.maximum(other, _TINY)
    return float((p * np.log(p / q)).sum())
