"""Importance of channels by gradients: how much the model's answers move when a channel goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, fx

from edgewright.core.step import Context
from edgewright.graph.bridge import to_torch
from edgewright.graph.pruning import Group
from edgewright.training.examples import NO_LABEL, Examples
from edgewright.training.heads import logits_of

Rows = NDArray[np.float64]


def taylor(
    model: ir.Model, groups: Sequence[Group], examples: Examples, batch: int, context: Context
) -> Mapping[str, Rows]:
    """Returns the importance of every channel of every group, in one unit.

    A gate on a channel changes the loss, to first order, by the sum of weight times gradient over the weights that
    read the channel; squared, and averaged over batches, this is the importance of Molchanov et al. (2019, "Importance
    estimation for neural network pruning", equation 8). With labels the loss is cross-entropy. Without, it is a random
    projection of the outputs, a new one per sample: the expectation of the square is then the squared change of all
    outputs.

    Args:
        model: Float; left as it is.
        groups: Of `model`.
        examples: Samples; labels are used where all of them are class indices.
        batch: Samples per gradient; small ones tell more.
        context: Seed and progress.
    """
    network = to_torch(model, outputs=logits_of(model))
    network.eval()
    generator = torch.Generator().manual_seed(context.seed)
    order = torch.randperm(len(examples), generator=generator)
    totals = {group.name: np.zeros(group.size) for group in groups}
    found = [order[start : start + batch] for start in range(0, len(order), batch)]
    for index, rows in enumerate(found):
        network.zero_grad(set_to_none=True)
        loss = _loss(network(*(tensor[rows] for tensor in examples.inputs)), examples, rows, generator)
        torch.autograd.backward(loss)
        gates = _Gates(network)
        for group in groups:
            totals[group.name] += gates.of(group) ** 2
        context.progress((index + 1) / len(found), f"importance, batch {index + 1} of {len(found)}")
    network.zero_grad(set_to_none=True)
    return {name: total / len(found) for name, total in totals.items()}


def _loss(outputs: tuple[Tensor, ...], examples: Examples, rows: Tensor, generator: torch.Generator) -> Tensor:
    if examples.labels is not None and _classes(examples.labels, outputs[0]):
        return F.cross_entropy(outputs[0], examples.labels[rows], reduction="sum")
    signs = (torch.randint(0, 2, tuple(out.shape), generator=generator) * 2 - 1 for out in outputs)
    return torch.stack(
        [(out * sign).sum() for out, sign in zip(outputs, signs, strict=True) if out.is_floating_point()]
    ).sum()


def _classes(labels: Tensor, logits: Tensor) -> bool:
    """Tells whether every sample has the index of a class of `logits`."""
    fits = labels.ndim == 1 and not labels.is_floating_point() and logits.ndim == 2
    return fits and bool((labels != NO_LABEL).all()) and int(labels.max()) < logits.shape[1]


@dataclass(frozen=True, slots=True)
class _Gates:
    """Derivatives of the loss by a factor on every channel, from the gradients of the weights."""

    network: fx.GraphModule

    def of(self, group: Group) -> Rows:
        """Returns one derivative per channel."""
        read = [member for member in group.members if member.role == "reads"]
        makes = [member for member in group.members if member.role != "reads"]
        for members in (read, makes):
            found = [(member, self._products(member.tensor)) for member in members]
            known = [(member, products) for member, products in found if products is not None]
            if known:
                parts = [_along(products, m.axis)[m.places].sum(axis=1) for m, products in known]
                return np.asarray(np.sum(parts, axis=0))
        return np.zeros(group.size)

    def _products(self, tensor: str) -> Rows | None:
        """Returns weight times gradient of an initialiser; None where training cannot change it."""
        path = self.network.meta["initialisers"].get(tensor)
        weight = dict(self.network.named_parameters()).get(path) if path is not None else None
        if weight is None or weight.grad is None:
            return None
        return np.asarray((weight.detach() * weight.grad).numpy(), np.float64)


def _along(products: Rows, axis: int) -> Rows:
    others = tuple(other for other in range(products.ndim) if other != axis)
    return np.asarray(products.sum(axis=others))
