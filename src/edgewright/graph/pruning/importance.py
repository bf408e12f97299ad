"""How much a channel matters, judged by its weights alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.pruning.groups import Group, Member
from edgewright.graph.quantisers import numbers


def magnitude(model: ir.Model, group: Group) -> NDArray[np.float64]:
    """Returns the L2 norm of every channel over all layers that make or read it, [channels].

    In each layer norms are divided by their mean, so that layers count alike (Li et al. 2017, over whole groups as in
    Fang et al. 2023); the mean over all channels is about 1.
    """
    layers = [member for member in group.members if member.role in ("makes", "reads")]
    norms = [_normalised(np.linalg.norm(slices(model, member), axis=1)) for member in layers or group.members]
    return np.asarray(np.sqrt(np.mean(np.square(norms), axis=0)))


def batch_norm_scale(model: ir.Model, group: Group) -> NDArray[np.float64]:
    """Returns the mean size of the batch norm scales of every channel, [channels] (network slimming, Liu et al. 2017).

    A group without a batch norm is judged by `magnitude`.
    """
    scales = _norm_inputs(model, 1)
    found = [
        _normalised(np.abs(slices(model, member)).mean(axis=1)) for member in group.members if member.tensor in scales
    ]
    return np.asarray(np.mean(found, axis=0)) if found else magnitude(model, group)


def zeroed(model: ir.Model, group: Group) -> NDArray[np.bool_]:
    """Returns which channels have nothing but zeros in every layer that makes them, or in every layer that reads them.

    What is behind the first kind may still be a constant, of a bias or a batch norm: see `shrinking`.
    """
    found = []
    for role in ("makes", "reads"):
        layers = [member for member in group.members if member.role == role]
        if layers:
            found.append(np.all([(slices(model, member) == 0).all(axis=1) for member in layers], axis=0))
    return np.asarray(np.any(found, axis=0)) if found else np.zeros(group.size, bool)


def slices(model: ir.Model, member: Member) -> NDArray[np.float64]:
    """Returns what one initialiser holds of every channel, [channels, elements].

    Raises:
        KeyError: The model has no such constant.
    """
    array = numbers(model.graph.initializers[member.tensor])
    if array is None:
        raise KeyError(member.tensor)
    moved = np.moveaxis(np.asarray(array, np.float64), member.axis, 0)
    return np.asarray(moved[member.places].reshape(len(member.places), -1))


def _normalised(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(norms / max(float(norms.mean()), np.finfo(np.float64).tiny))


def _norm_inputs(model: ir.Model, index: int) -> set[str]:
    nodes = [node for node in model.graph if node.op_type == "BatchNormalization"]
    return {node.inputs[index].name or "" for node in nodes}  # type: ignore[union-attr]
