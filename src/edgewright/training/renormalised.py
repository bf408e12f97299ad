"""Batch norm put back behind convolutions while a network trains whose batch norm was folded at export.

A network that was trained with batch norm is hard to train without: steps that fit one layer are too long for another,
and the noise of the batch's statistics, which keeps a network from learning few samples by heart, is missing. A new
batch norm whose statistics are those of the layer's outputs, whose scale is their spread and whose offset is their
mean changes nothing at first; it trains with the rest and is folded into the convolution at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgewright.graph.bridge.operators.convolution import conv
from edgewright.training.norms import BatchNorm

_EPSILON = 1e-5
_AT_ONCE = 16
_PARTS = ("scale", "offset", "mean", "variance")


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A convolution, the batch norm behind it, and the names of its tensors."""

    node: fx.Node
    norm: fx.Node
    stem: str


@contextmanager
def renormalised(network: fx.GraphModule, samples: Sequence[Tensor]) -> Iterator[int]:
    """Puts batch norm behind the convolutions of `network` while the context is open.

    Left alone: convolutions without a bias, whose weights are shared or fixed, or that have a batch norm already, and
    networks that take one sample at a time.

    Args:
        network: Converted by the bridge, in main memory.
        samples: One tensor per input: what the statistics start from.

    Yields:
        How many there are.
    """
    layers = _inserted(network, samples)
    try:
        yield len(layers)
    finally:
        for layer in layers:
            _fold(network, layer)
        network.recompile()


def _inserted(network: fx.GraphModule, samples: Sequence[Tensor]) -> list[_Layer]:
    found = [] if "forward" in vars(network) else [node for node in network.graph.nodes if _foldable(network, node)]
    statistics = _Statistics(network, found).over(samples) if found else {}
    layers = [_insert(network, node, *statistics[node], f"renormalised_{i}") for i, node in enumerate(found)]
    network.recompile()
    return layers


def _foldable(network: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "call_function" or node.target is not conv or len(node.args) < 3:
        return False
    behind = [network.get_submodule(str(user.target)) for user in node.users if user.op == "call_module"]
    return not any(isinstance(module, BatchNorm) for module in behind) and all(
        isinstance(given, fx.Node)
        and given.op == "get_attr"
        and len(given.users) == 1
        and getattr(_attribute(network, given), "requires_grad", False)
        for given in node.args[1:3]
    )


class _Statistics(fx.Interpreter):
    """Mean and variance per channel of what some nodes give; samples go through in small groups."""

    def __init__(self, network: fx.GraphModule, nodes: Sequence[fx.Node]) -> None:
        super().__init__(network)
        self.sums: dict[fx.Node, list[Any]] = {node: [0.0, 0.0, 0] for node in nodes}

    @torch.no_grad()
    def over(self, samples: Sequence[Tensor]) -> dict[fx.Node, tuple[Tensor, Tensor]]:
        for parts in zip(*(torch.split(tensor, _AT_ONCE) for tensor in samples), strict=True):
            self.run(*parts)
        found = {node: (total / count, squares / count) for node, (total, squares, count) in self.sums.items()}
        return {node: (mean.float(), (square - mean**2).clamp(min=0).float()) for node, (mean, square) in found.items()}

    def run_node(self, n: fx.Node) -> Any:
        made = super().run_node(n)
        if n in self.sums:
            values = made.double().movedim(1, 0).flatten(1)
            sums = self.sums[n]
            sums[:] = sums[0] + values.sum(1), sums[1] + values.square().sum(1), sums[2] + values.shape[1]
        return made


def _insert(network: fx.GraphModule, node: fx.Node, mean: Tensor, variance: Tensor, stem: str) -> _Layer:
    network.add_submodule(stem, BatchNorm(_EPSILON))
    values = (variance + _EPSILON).sqrt(), mean.clone(), mean.clone(), variance
    for part, value in zip(_PARTS, values, strict=True):
        if part in ("scale", "offset"):
            network.register_parameter(f"{stem}_{part}", nn.Parameter(value))
        else:
            network.register_buffer(f"{stem}_{part}", value)
    users = list(node.users)
    with network.graph.inserting_after(node):
        norm = network.graph.call_module(stem)
    with network.graph.inserting_before(norm):
        norm.args = (node, *(network.graph.get_attr(f"{stem}_{part}") for part in _PARTS))
    for user in users:
        user.replace_input_with(node, norm)
    return _Layer(node, norm, stem)


@torch.no_grad()
def _fold(network: fx.GraphModule, layer: _Layer) -> None:
    scale, offset, mean, variance = (getattr(network, f"{layer.stem}_{part}").detach() for part in _PARTS)
    weight, bias = (_attribute(network, given) for given in layer.node.args[1:3])
    factor = scale / (variance + _EPSILON).sqrt()
    weight.mul_(factor.reshape(-1, *[1] * (weight.dim() - 1)))
    bias.copy_((bias - mean) * factor + offset)
    layer.norm.replace_all_uses_with(layer.node)
    tensors = [node for node in layer.norm.args[1:] if isinstance(node, fx.Node)]
    for node in (layer.norm, *tensors):
        network.graph.erase_node(node)
    network.delete_submodule(layer.stem)
    for part in _PARTS:
        delattr(network, f"{layer.stem}_{part}")


def _attribute(network: fx.GraphModule, node: Any) -> Any:
    found: Any = network
    for part in str(node.target).split("."):
        found = getattr(found, part)
    return found
