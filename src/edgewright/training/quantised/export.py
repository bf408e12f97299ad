"""What was learnt, back into the quantisers of the model and into its plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from edgewright.core.target import Plan, TensorPlan
from edgewright.graph import bridge
from edgewright.graph.affine import Grid, quantise
from edgewright.graph.bridge.paths import tensor_at
from edgewright.graph.initializers import add_initializer
from edgewright.graph.plan import FIXED
from edgewright.training.quantised.convert import Learnable, Site
from edgewright.training.quantised.steps import QuantiseBias

LEARNED = "learned"


def write(trained: Learnable, model: ir.Model) -> Plan:
    """Writes scales, zero points and integers into a model, in place, and float weights that are not quantised.

    The model then computes what the network does: the same integers, scales and zero points.

    Args:
        trained: What was learnt.
        model: The one that was converted, or one whose nodes and initialisers have the same names.

    Returns:
        The plan of the model as it is now; reasons of what was trained begin with "learned".
    """
    trained.room(trained.network)
    bridge.write_back(trained.network, model)
    nodes = {node.name: node for node in model.graph}
    found: dict[str, TensorPlan] = {}
    for site in trained.sites:
        scale, zero = parameters(site)
        graph, quantiser = model.graph, site.quantiser
        for named in (quantiser.node, quantiser.pair):
            if named is not None:
                _set(graph, nodes[named.name], 1, scale)
                _set(graph, nodes[named.name], 2, zero)
        if site.path:
            _set(graph, nodes[quantiser.node.name], 0, integers(trained, site))
        for plan in trained.plan.tensors:
            if plan.tensor == site.quantiser.tensor:
                found[plan.tensor] = _learned(plan, scale, zero, bias=isinstance(site.module, QuantiseBias))
    tensors = tuple(found.get(plan.tensor, plan) for plan in trained.plan.tensors)
    return replace(trained.plan, tensors=tensors)


def parameters(site: Site) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns scales and zero points as they are now, scalars or one per channel."""
    with torch.no_grad():
        if isinstance(site.module, QuantiseBias):
            scale = site.module.scale().cpu().numpy()
            return scale, np.zeros(scale.shape, np.int64)
        step = site.module.step
        return step.scale().cpu().numpy(), step.zero().cpu().numpy().astype(np.int64)


def integers(trained: Learnable, site: Site) -> NDArray[Any]:
    """Returns what a quantiser with float values of its own rounds them to now, int64."""
    scale, zero = parameters(site)
    values = tensor_at(trained.network, site.path).detach().cpu().numpy()
    axis = site.quantiser.axis if scale.ndim else None
    return quantise(values, scale, zero, Grid("int64", *site.module.limits), axis)


def _set(graph: ir.Graph, node: ir.Node, index: int, array: NDArray[Any]) -> None:
    """Replaces a constant that `node` reads; other nodes that read it keep theirs."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return
    old = ir.convenience.get_const_tensor(value)
    assert old is not None
    numbers = old.numpy()
    new = np.asarray(array).reshape(numbers.shape).astype(numbers.dtype)
    if np.array_equal(new, numbers):
        return
    if len(value.uses()) == 1 and value.is_initializer():
        value.const_value = ir.tensor(new, dtype=old.dtype, name=value.name)
        return
    made = add_initializer(graph, f"{value.name}/{LEARNED}", new)
    made.const_value = ir.tensor(new, dtype=old.dtype, name=made.name)
    node.replace_input_with(index, made)


def _learned(plan: TensorPlan, scale: NDArray[np.float32], zero: NDArray[np.int64], *, bias: bool) -> TensorPlan:
    scales = tuple(float(s) for s in scale.reshape(-1))
    zeros = tuple(int(z) for z in zero.reshape(-1))
    ratio = float(np.median(np.asarray(scales) / np.asarray(plan.scale)))
    before = plan.reason.partition("; before: ")[2] or plan.reason
    what = f"{LEARNED}, {ratio:.4g} times the step before{' in the median' if len(scales) > 1 else ''}"
    reason = plan.reason if bias or plan.reason == FIXED else f"{what}; before: {before}"
    return replace(plan, scale=scales, zero_point=zeros, reason=reason)
