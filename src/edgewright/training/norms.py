"""Batch norm of a converted model, made trainable.

The bridge computes BatchNormalization with the statistics that the model stores. Here each such node becomes a module
that, while it trains, uses the statistics of the batch and updates the stored ones. Scale, offset and statistics stay
where the bridge put them, under their ONNX names, so that `write_back` finds them.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

MOMENTUM = 0.1
"""Weight of a batch in the running statistics. That of the model is for the thousands of steps of a first training."""


class BatchNorm(nn.Module):
    """Batch norm whose tensors are given; `training` decides between the batch's statistics and the stored ones."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.frozen = False

    def forward(self, x: Tensor, scale: Tensor, offset: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Normalises [batch, channels, ...] per channel; updates `mean` and `variance` in place while training."""
        learning = self.training and not self.frozen
        return F.batch_norm(x, mean, variance, scale, offset, learning, MOMENTUM, self.epsilon)


def make_trainable(module: fx.GraphModule) -> int:
    """Turns the batch norms of a converted `module` into trainable ones, in place.

    Left alone, with stored statistics: those inside the bodies of If, Loop and Scan, whose statistics are computed
    or shared with other operators, and those that already are in training mode.

    Returns:
        How many there are.
    """
    from edgewright.graph.bridge.operators.normalisation import batch_normalization

    count = 0
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not batch_normalization or not _stored(node):
            continue
        name = f"batch_norm_{count}"
        while hasattr(module, name):
            name += "_"
        module.add_submodule(name, BatchNorm(node.kwargs.get("epsilon", 1e-5)))
        with module.graph.inserting_before(node):
            new = module.graph.call_module(name, node.args)
        new.meta.update(node.meta)
        node.replace_all_uses_with(new)
        module.graph.erase_node(node)
        count += 1
    if count:
        module.recompile()
    return count


def freeze(network: nn.Module, *, frozen: bool = True) -> None:
    """Makes batch norms use their stored statistics while the rest trains, or ends that."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.frozen = frozen


def has_trainable(network: nn.Module) -> bool:
    """Tells whether a batch norm in `network` uses the statistics of the batch while training."""
    return any(isinstance(module, BatchNorm) and not module.frozen for module in network.modules())


def _stored(node: fx.Node) -> bool:
    """Tells whether a batch norm reads statistics of its own that the model stores, one per channel."""
    if node.kwargs.get("training_mode") or not node.kwargs.get("spatial", 1) or len(node.args) < 5:
        return False
    statistics = node.args[3:5]
    return all(isinstance(v, fx.Node) and v.op == "get_attr" and len(v.users) == 1 for v in statistics)
