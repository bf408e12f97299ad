"""Cross-layer equalisation: channels of neighbouring layers are rescaled so that their weights share one range.

From Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", sections 4.1.1 and
4.1.3. With f(s x) = s f(x) between two layers, dividing an output channel of the first by s and multiplying the same
input channel of the second changes nothing, and s = sqrt(range 1 / range 2) makes both ranges equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import ConfigError
from edgewright.graph.bias import responses
from edgewright.graph.channels import ChannelFigures
from edgewright.graph.initializers import add_initializer
from edgewright.graph.links import Link, input_rows, output_rows
from edgewright.graph.quantisers import numbers

CLIPS = ("keep", "bounds", "relu")
ROUNDS = 100
SETTLED = 1e-3
"""Natural logarithm of the largest factor of a round at which iterating ends."""
WIDEST = 1e4
"""Largest factor of a channel in all: beyond it float32 rounding and denormal weights would show."""
_LINEAR = frozenset(["Relu", "Identity", "AveragePool", "GlobalAveragePool", "Flatten", "Reshape", "Squeeze", "Clip"])


@dataclass(frozen=True, slots=True, eq=False)
class Equalised:
    """What was done.

    Attributes:
        factors: `first -> second` of each link -> largest over smallest factor of its channels.
        absorbed: Node name -> how many channels gave a constant part of their bias to the next layer.
        clips: Name of a Clip -> what became of it.
    """

    factors: Mapping[str, float]
    absorbed: Mapping[str, int]
    clips: Mapping[str, str]


@dataclass(slots=True)
class _State:
    """Weights and biases in float64 while they are rescaled, by id of the node."""

    weights: dict[int, NDArray[Any]] = field(default_factory=dict)
    biases: dict[int, NDArray[Any]] = field(default_factory=dict)
    total: dict[int, NDArray[Any]] = field(default_factory=dict)


def equalise(
    graph: ir.Graph,
    links: Sequence[Link],
    seen: Mapping[str, ChannelFigures],
    clip: str = "keep",
    absorb: bool = True,
) -> Equalised:
    """Rescales channels until nothing changes any more, in place.

    Args:
        graph: Float.
        links: Of `links.find_links`.
        seen: Figures of what the first operator of every link gives, before activation.
        clip: What to do with Clip(0, limit): `keep` it and scale only as far as it allows (it becomes a Relu where no
            sample reaches the limit); `bounds` gives each channel its own limit; `relu` drops the limit.
        absorb: Move the part of a bias that every sample exceeds into the next layer's bias.

    Raises:
        ConfigError: `clip` is none of these.
    """
    if clip not in CLIPS:
        raise ConfigError(f'clip "{clip}", expected one of {", ".join(CLIPS)}', hint="correct the field `clip`")
    state = _read(links)
    for _ in range(ROUNDS):
        largest = max((_round(link, state, _bounds(link, seen, clip)) for link in links), default=0.0)
        if largest < SETTLED:
            break
    clips = {link.clip.name or "": _settle_clip(graph, link, state, seen, clip) for link in links if link.clip}
    absorbed = {link.first.name or "": _absorb(link, state, seen) for link in links} if absorb else {}
    _write(graph, links, state)
    spread = {f"{k.first.name} -> {k.second.name}": float(np.ptp(np.log(state.total[id(k.first)]))) for k in links}
    return Equalised(
        {name: float(np.exp(each)) for name, each in spread.items()},
        {name: count for name, count in absorbed.items() if count},
        clips,
    )


def _read(links: Sequence[Link]) -> _State:
    state = _State()
    for node in {id(n): n for link in links for n in (link.first, link.second)}.values():
        weights = numbers(node.inputs[1])
        assert weights is not None
        state.weights[id(node)] = weights.astype(np.float64)
        bias = numbers(node.inputs[2]) if len(node.inputs) > 2 else None
        count = len(output_rows(node, weights))
        state.biases[id(node)] = np.broadcast_to(0.0 if bias is None else bias.astype(np.float64), (count,)).copy()
        state.total[id(node)] = np.ones(count)
    return state


def _bounds(link: Link, seen: Mapping[str, ChannelFigures], clip: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the smallest and the largest factor that each channel may have in all."""
    high = seen[link.tensor].high
    ones = np.ones(len(high))
    if link.clip is None or clip != "keep" or high.max() <= link.limit:
        return ones / WIDEST, ones * WIDEST
    reached = high >= link.limit
    return np.where(reached, 1.0, np.maximum(high / link.limit, 1 / WIDEST)), np.where(reached, 1.0, WIDEST)


def _round(link: Link, state: _State, bounds: tuple[NDArray[Any], NDArray[Any]]) -> float:
    """Rescales the channels of one link; returns the largest logarithm of a factor."""
    first, second, total = id(link.first), id(link.second), state.total[id(link.first)]
    rows = output_rows(link.first, state.weights[first])
    columns = input_rows(link.second, state.weights[second], len(rows))
    one = np.abs(rows).reshape(len(rows), -1).max(axis=1)
    other = np.abs(columns).max(axis=(1, 3)).reshape(-1)
    alive = (one > 0) & (other > 0)
    factor = np.sqrt(np.where(alive, one, 1.0) / np.where(alive, other, 1.0))
    factor = np.clip(total * factor, *bounds) / total
    rows /= factor.reshape(-1, *[1] * (rows.ndim - 1))
    columns *= factor.reshape(columns.shape[0], 1, columns.shape[2], 1)
    state.biases[first] /= factor
    state.total[first] = total * factor
    return float(np.abs(np.log(factor)).max())


def _settle_clip(graph: ir.Graph, link: Link, state: _State, seen: Mapping[str, ChannelFigures], clip: str) -> str:
    """Replaces the Clip of a link where its limit moved or is not needed; returns what became of it."""
    node = link.clip
    assert node is not None
    reached = float(np.mean(seen[link.tensor].high >= link.limit))
    if clip == "keep" and reached:
        return f"kept: {reached:.0%} of the channels reach {link.limit:g}"
    relu = ir.node("Relu", [node.inputs[0]], name=f"{node.name}/relu")
    _describe(relu.outputs[0], node.outputs[0])
    made, became = [relu], f"Relu: {reached:.0%} of the channels reach {link.limit:g}"
    if clip == "bounds" and reached:
        rank = len(node.outputs[0].shape or ())
        limits = (link.limit / state.total[id(link.first)]).astype(np.float32).reshape(-1, *[1] * (rank - 2))
        least = ir.node("Min", [relu.outputs[0], add_initializer(graph, f"{node.name}/limits", limits)])
        least.name = f"{node.name}/min"
        _describe(least.outputs[0], node.outputs[0])
        relu.outputs[0].name = f"{node.outputs[0].name}/relu"
        made, became = [relu, least], "a limit for each channel"
    old, name = node.outputs[0], node.outputs[0].name
    old.name = f"{name}/clipped"
    made[-1].outputs[0].name = name
    graph.insert_before(node, made)
    ir.convenience.replace_all_uses_with(old, made[-1].outputs[0])
    graph.remove(node, safe=True)
    return became


def _describe(value: ir.Value, like: ir.Value) -> None:
    value.type, value.shape = like.type, like.shape


def _absorb(link: Link, state: _State, seen: Mapping[str, ChannelFigures]) -> int:
    """Moves what every sample has in common in a channel behind the activation; returns for how many channels."""
    if link.clip is not None or not any(n.op_type == "Relu" for n in link.between):
        return 0
    if any(n.op_type not in _LINEAR for n in link.between) or any(_padded(n) for n in (*link.between, link.second)):
        return 0
    first, second = id(link.first), id(link.second)
    constant = np.maximum(seen[link.tensor].low, 0.0) / state.total[first]
    if not constant.any():
        return 0
    state.biases[first] -= constant
    state.biases[second] += responses(link.second, state.weights[second], constant)
    return int(np.count_nonzero(constant))


def _padded(node: ir.Node) -> bool:
    """Says whether an operator reads zeros beyond the border, which are no channel's constant."""
    automatic = node.attributes.get_string("auto_pad", "") or ""
    return "SAME" in automatic or any(node.attributes.get_ints("pads", ()) or ())


def _write(graph: ir.Graph, links: Sequence[Link], state: _State) -> None:
    for node in {id(n): n for link in links for n in (link.first, link.second)}.values():
        _update(node, 1, state.weights[id(node)])
        bias = state.biases[id(node)].astype(np.float32)
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            _update(node, 2, bias)
        elif bias.any():
            node.resize_inputs(3)
            node.replace_input_with(2, add_initializer(graph, f"{node.name}/bias", bias))


def _update(node: ir.Node, index: int, array: NDArray[Any]) -> None:
    value = node.inputs[index]
    assert value is not None
    tensor = ir.tensor(np.ascontiguousarray(array, np.float32), name=value.name)
    value.const_value = tensor
