"""Pairs of operators between which the scale of a channel can be moved: all between them is homogeneous."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.kinds import KINDS
from edgewright.graph.quantisers import numbers

HOMOGENEOUS = frozenset(
    ["Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity"]
)
"""Operators on single channels with f(s x) = s f(x) for every positive s."""
JOINING = frozenset(["Flatten", "Reshape", "Squeeze"])
"""Operators that pass channels on where there is one position only."""
CURVED = frozenset(KINDS["activation"]) - HOMOGENEOUS - {"Clip"}
SCALABLE = ("Conv", "Gemm")


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """Output channels of `first` are the input channels of `second`.

    Attributes:
        first: Conv or Gemm.
        second: Conv or Gemm that alone reads the result.
        between: Operators on the way, in order.
        clip: The Clip(0, limit) among them.
        limit: Its upper limit; infinite without one.
    """

    first: ir.Node
    second: ir.Node
    between: tuple[ir.Node, ...]
    clip: ir.Node | None
    limit: float

    @property
    def tensor(self) -> str:
        """Name of what `first` gives."""
        return self.first.outputs[0].name or ""


def find_links(graph: ir.Graph) -> tuple[tuple[Link, ...], dict[str, str]]:
    """Returns the links in graph order, and node name -> why there is none behind it.

    Args:
        graph: Float, cleaned up, with shapes inferred and nodes named.
    """
    links: list[Link] = []
    left: dict[str, str] = {}
    for node in graph:
        if node.op_type in SCALABLE and numbers(node.inputs[1]) is not None:
            found = _link(node)
            if isinstance(found, Link):
                links.append(found)
            elif found:
                left[node.name or ""] = found
    return tuple(links), left


def output_rows(node: ir.Node, weights: NDArray[Any]) -> NDArray[Any]:
    """Returns a view of `weights` as [output channels, ...]."""
    return weights.T if node.op_type == "Gemm" and not _turned(node) else weights


def input_rows(node: ir.Node, weights: NDArray[Any], channels: int) -> NDArray[Any]:
    """Returns a view of `weights` as [groups, output channels of a group, input channels of a group, taps]."""
    if node.op_type == "Gemm":
        rows = weights if _turned(node) else weights.T
        return rows[None, :, :, None]
    within = weights.shape[1]
    return weights.reshape(channels // within, -1, within, int(np.prod(weights.shape[2:])))


def _link(first: ir.Node) -> Link | str:
    if not _own_constants(first):
        return "its weights or its bias have other readers, or are multiplied by a factor"
    between: list[ir.Node] = []
    clip: ir.Node | None = None
    limit = np.inf
    value = first.outputs[0]
    while True:
        users = [use.node for use in value.uses()]
        if value.is_graph_output() or not users:
            return ""
        if len(users) > 1:
            curved = sorted({user.op_type for user in users} & CURVED)
            return _curved(curved[0]) if curved else "its result has several readers"
        user = users[0]
        if user.op_type in SCALABLE and user.inputs[0] is value:
            known = numbers(user.inputs[1]) is not None and _own_constants(user)
            return Link(first, user, tuple(between), clip, limit) if known else "the next operator's weights are shared"
        if user.op_type == "Clip" and clip is None:
            low, limit = _limits(user)
            if low != 0 or not limit > 0:
                return f"a Clip from {low:g} to {limit:g} does not start at 0"
            clip = user
        elif not _passes(user, value):
            return _curved(user.op_type) if user.op_type in CURVED else _reason(user.op_type)
        between.append(user)
        value = user.outputs[0]


def _curved(op: str) -> str:
    return f"{op} follows, whose result does not scale with its argument"


def _reason(op: str) -> str:
    if op == "BatchNormalization":
        return "a BatchNormalization follows: run `clean-up` first, which folds it"
    return f"{op} follows"


def _passes(node: ir.Node, value: ir.Value) -> bool:
    if node.inputs[0] is not value:
        return False
    if node.op_type in JOINING:
        before, after = static_tail(value), static_tail(node.outputs[0])
        return before is not None and after is not None and before == after and len(after) == 1
    return node.op_type in HOMOGENEOUS


def static_tail(value: ir.Value) -> tuple[int, ...] | None:
    """Returns the sizes behind the batch axis without trailing ones; None where they are not known."""
    if value.shape is None:
        return None
    sizes = tuple(value.shape)[1:]
    if not all(isinstance(size, int) for size in sizes):
        return None
    known = [int(size) for size in sizes if isinstance(size, int)]
    while len(known) > 1 and known[-1] == 1:
        known.pop()
    return tuple(known)


def _limits(clip: ir.Node) -> tuple[float, float]:
    given: Mapping[int, float] = {1: -np.inf, 2: np.inf}
    found = []
    for index, default in given.items():
        value = clip.inputs[index] if index < len(clip.inputs) else None
        constant = numbers(value)
        found.append(default if value is None else float(constant) if constant is not None else np.nan)
    return found[0], found[1]


def _own_constants(node: ir.Node) -> bool:
    constants = [v for v in node.inputs[1:3] if v is not None]
    alone = all(len(v.uses()) == 1 and v.is_initializer() and v.dtype == ir.DataType.FLOAT for v in constants)
    bias = numbers(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    turned = node.op_type == "Gemm" and bool(node.attributes.get_int("transA", 0))
    return alone and plain and not turned and bias is not None and bias.ndim == 1


def _turned(node: ir.Node) -> bool:
    return bool(node.attributes.get_int("transB", 0))
