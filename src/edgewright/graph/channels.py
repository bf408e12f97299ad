"""Figures per channel of chosen tensors: extremes and means, reduced inside the graph, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import DataError
from edgewright.graph.initializers import add_initializer
from edgewright.graph.opset import opset
from edgewright.graph.statistics import Feed, Infer

_OPS = {"ReduceMin": "/channel_low", "ReduceMax": "/channel_high", "ReduceMean": "/channel_mean"}
_AXES_AS_INPUT = 18


@dataclass(frozen=True, slots=True, eq=False)
class ChannelFigures:
    """What was seen in each channel of one tensor; arrays of [channels], float64.

    Attributes:
        low: Smallest values.
        high: Largest values.
        mean: Means over samples and positions.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]


def with_channels(model: ir.Model, axes: Mapping[str, int]) -> ir.Model:
    """Returns a copy of `model` whose outputs are the figures of every channel of the tensors in `axes`.

    Args:
        model: With shapes inferred: the number of axes of each tensor must be known.
        axes: Tensor name -> its channel axis; negative ones count from the end.

    Raises:
        KeyError: There is no such tensor.
    """
    copy = model.clone()
    graph = copy.graph
    values = {v.name: v for v in (*graph.inputs, *(v for n in graph for v in n.outputs))}
    graph.outputs.clear()
    for name, axis in axes.items():
        value = values[name]
        assert value.shape is not None
        rank = len(value.shape)
        others = [i for i in range(rank) if i != axis % rank]
        for op, suffix in _OPS.items():
            graph.outputs.append(_reduced(graph, value, op, others, f"{name}{suffix}", opset(copy) >= _AXES_AS_INPUT))
    return copy


def gather_channels(infer: Infer, batches: Iterable[tuple[int, Feed]]) -> dict[str, ChannelFigures]:
    """Returns the figures of every tensor over all batches.

    Args:
        infer: Runs the model of `with_channels`.
        batches: (number of samples, feed) pairs; means weigh batches by their number of samples.

    Raises:
        DataError: There are no samples, or a figure is not finite.
    """
    found: dict[str, list[NDArray[np.float64]]] = {}
    samples = 0
    for size, feed in batches:
        samples += size
        made = infer(feed)
        for name in {key.rsplit("/", 1)[0] for key in made}:
            low, high, mean = (np.asarray(made[f"{name}{suffix}"], np.float64) for suffix in _OPS.values())
            _merge(found, name, low, high, mean * size)
    if not samples:
        raise DataError("the calibration split is empty", hint="name samples for it, 100 or more")
    for name, (_, _, total) in found.items():
        if not np.isfinite(total).all():
            raise DataError(f'tensor "{name}" is not finite on the calibration data', hint="check the samples")
    return {name: ChannelFigures(low, high, total / samples) for name, (low, high, total) in found.items()}


def _merge(
    found: dict[str, list[NDArray[np.float64]]],
    name: str,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    total: NDArray[np.float64],
) -> None:
    known = found.get(name)
    if known is None:
        found[name] = [low, high, total]
    else:
        found[name] = [np.minimum(known[0], low), np.maximum(known[1], high), known[2] + total]


def _reduced(graph: ir.Graph, value: ir.Value, op: str, axes: list[int], name: str, as_input: bool) -> ir.Value:
    inputs: list[ir.Value] = [value]
    attributes: dict[str, Any] = {"keepdims": 0}
    if as_input:
        inputs.append(add_initializer(graph, f"{name}/axes", np.asarray(axes, np.int64)))
    else:
        attributes["axes"] = axes
    node = ir.node(op, inputs, attributes, name=name)
    node.outputs[0].name, node.outputs[0].dtype = name, ir.DataType.FLOAT
    graph.append(node)
    return node.outputs[0]
