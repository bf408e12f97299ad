"""Scales that keep sums of two neighbouring products within 16 bits while they learn (see `graph.saturation`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from edgewright.graph.bridge.paths import tensor_at
from edgewright.graph.placement import WEIGHTED
from edgewright.graph.quantisers import Quantiser
from edgewright.graph.saturation import least_scale
from edgewright.training.quantised.steps import StepSize


class PairRoom:
    """Widens scales of weights where two neighbours grew too large together."""

    def __init__(self) -> None:
        self.weights: list[tuple[ir.Node, str, StepSize]] = []

    def add(self, quantiser: Quantiser, path: str, step: StepSize) -> None:
        """Watches stored weights; everything else that is stored is left alone."""
        uses = [use.node for use in quantiser.node.outputs[0].uses() if use.node.op_type in WEIGHTED and use.idx == 1]
        if uses and isinstance(step.growth, nn.Parameter):
            self.weights.append((uses[0], path, step))

    def __call__(self, network: nn.Module, inputs: Sequence[object] = ()) -> None:
        """Widens, in place; a hook before the forward pass."""
        with torch.no_grad():
            for node, path, step in self.weights:
                values = tensor_at(network, path).cpu().numpy()
                least = np.maximum(np.asarray(least_scale(node, values, step.axis), np.float32), np.float32(1e-30))
                floor = torch.from_numpy(np.log(least / step.start.cpu().numpy())).to(step.growth)
                step.growth.copy_(torch.maximum(step.growth, floor))
