"""Importance of channels by gradients: how much the model's answers move when a channel goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgewright.core.step import Context
from edgewright.graph.batch import free_batch
from edgewright.graph.bridge import to_torch
from edgewright.graph.pruning import Group
from edgewright.training.distillation.outputs import detector, kind_of
from edgewright.training.distillation.settings import Detector
from edgewright.training.examples import Examples
from edgewright.training.heads import logits_of

Rows = NDArray[np.float64]
Weighing = Callable[[Tensor], Tensor]
_MOVED = 256
"""Samples that tell how far the outputs of a variant move."""
_LOOKED_AT = 8
"""Samples that tell what kind of output it is."""


def taylor(
    model: ir.Model, groups: Sequence[Group], examples: Examples, batch: int, context: Context
) -> Mapping[str, Rows]:
    """Returns the importance of every channel of every group, in one unit.

    A gate on a channel changes a loss, to first order, by the sum of weight times gradient over the weights that
    read the channel; squared, and averaged over samples, this is the importance of Molchanov et al. (2019, "Importance
    estimation for neural network pruning", equation 8). The loss here is a sum of all outputs with random signs, new
    ones for every sample: the expectation of the square is then the squared change of the outputs, and no labels are
    needed, which a trained network fits too well to tell much. Of a dense detector's raw output each value counts as
    its loss curves there: it is mostly background, and boxes are larger numbers than scores.

    Args:
        model: Float; left as it is.
        groups: Of `model`.
        examples: Samples.
        batch: Samples per gradient.
        context: Seed and progress.
    """
    network = to_torch(free_batch(model) or model, outputs=logits_of(model))
    network.eval()
    generator = torch.Generator().manual_seed(context.seed)
    order = torch.randperm(len(examples), generator=generator)
    weighing = _weighing(network, examples, order[:_LOOKED_AT])
    totals = {group.name: np.zeros(group.size) for group in groups}
    found = [order[start : start + batch] for start in range(0, len(order), batch)]
    for index, rows in enumerate(found):
        network.zero_grad(set_to_none=True)
        outputs = network(*(tensor[rows] for tensor in examples.inputs))
        torch.autograd.backward(_projected(outputs, weighing, generator))
        gates = _Gates(network)
        for group in groups:
            totals[group.name] += gates.of(group) ** 2
        context.progress((index + 1) / len(found), f"importance, batch {index + 1} of {len(found)}")
    network.zero_grad(set_to_none=True)
    return {name: total / len(examples) for name, total in totals.items()}


def _weighing(network: fx.GraphModule, examples: Examples, rows: Tensor) -> tuple[Weighing, ...]:
    """Returns, per output, how much a change of each of its values counts."""
    with torch.no_grad():
        outputs = network(*(tensor[rows] for tensor in examples.inputs))
    dense = (out.is_floating_point() and kind_of("", out, 0) == "detector" for out in outputs)
    return tuple(
        detector(out, Detector()).sensitivity if found else torch.ones_like
        for out, found in zip(outputs, dense, strict=True)
    )


def _projected(outputs: tuple[Tensor, ...], weighing: Sequence[Weighing], generator: torch.Generator) -> Tensor:
    """Returns the sum of all outputs with random signs."""
    parts = []
    for out, weights in zip(outputs, weighing, strict=True):
        if out.is_floating_point():
            signs = torch.randint(0, 2, tuple(out.shape), generator=generator) * 2.0 - 1.0
            parts.append((out * weights(out.detach()) * signs).sum())
    return torch.stack(parts).sum()


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


def movement(
    model: ir.Model, variants: Mapping[str, Callable[[], ir.Model]], examples: Examples, batch: int, context: Context
) -> Mapping[str, float]:
    """Returns how far the outputs of each variant are from those of `model`: squared, summed over outputs.

    The unit is that of `taylor` without labels: what a whole branch is worth stands beside what a channel is. Some of
    the samples are enough: it is one sum over all outputs, not one per channel.

    Args:
        model: Left as it is.
        variants: Name -> makes the model without something; asked one by one.
        examples: Samples.
        batch: Samples per run.
        context: Seed and progress.
    """
    names = logits_of(model)
    rows = torch.randperm(len(examples), generator=torch.Generator().manual_seed(context.seed))[:_MOVED]
    parts = [[tensor[some] for tensor in examples.inputs] for some in torch.split(rows, batch)]
    whole = to_torch(model, outputs=names).eval()
    found = {}
    with torch.no_grad():
        wanted = [whole(*part) for part in parts]
        for index, (name, variant) in enumerate(variants.items()):
            network = to_torch(variant(), outputs=names).eval()
            moved = sum(_distance(network(*part), want) for part, want in zip(parts, wanted, strict=True))
            found[name] = moved / len(rows)
            context.progress((index + 1) / len(variants), "importance of what goes together")
    return found


def _distance(outputs: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    return sum(float((out - want).float().square().sum()) for out, want in zip(outputs, wanted, strict=True))
