"""Layers that sum over channels: what they do with one that no sample changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.initializers import add_initializer
from edgewright.graph.pruning.atoms import Labels, moves
from edgewright.graph.pruning.constants import Array, Known, channels, padded
from edgewright.graph.pruning.pointwise import REDUCING
from edgewright.graph.pruning.scene import Scene, operand
from edgewright.graph.quantisers import numbers


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A layer that sums over channels.

    Attributes:
        node: The layer.
        labels: Classes of the channels it sums over, [channels].
        known: Their values, NaN where samples decide.
        weights: [channels, what is summed to], None where both factors depend on samples.
        folds: A constant channel is a bias there.
    """

    node: ir.Node
    labels: Labels
    known: Array
    weights: Array | None
    folds: bool

    @property
    def unread(self) -> NDArray[np.bool_]:
        """Channels for which there are only zeros."""
        nothing = np.zeros(self.labels.size, bool)
        return nothing if self.weights is None else np.asarray((self.weights == 0).all(axis=1), bool)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Channels that no sample changes."""
        return ~np.isnan(self.known)

    @property
    def foldable(self) -> NDArray[np.bool_]:
        """Channels that this layer can do without."""
        bias = self.constant if self.folds and self.weights is not None else np.zeros(self.labels.size, bool)
        return np.asarray(self.unread | (self.known == 0) | bias, bool)

    @property
    def merges(self) -> bool:
        """Whether the weights of a channel can be added to those of another that is a multiple of it."""
        weights = self.node.inputs[1] if self.node.op_type in _CHANNEL_AXIS else None
        alone = weights is not None and weights.is_initializer() and len(weights.uses()) == 1
        return alone and self.weights is not None and self.node.attributes.get_int("group", 1) == 1

    def why(self, place: int) -> str:
        """Returns why the layer needs a channel."""
        name = f"{self.node.op_type} `{self.node.name}`"
        if not self.constant[place]:
            return f"{name} reads what is not the same for all samples and positions"
        return f"{name} reads a constant other than zero, no bias there{' because it pads' * padded(self.node)}"


_CHANNEL_AXIS = {"Conv": 1, "ConvTranspose": 0}


def merge(site: Site, keep: int, others: Sequence[int]) -> None:
    """Adds the weights of constant channels to those of another one, in proportion to their values, in place."""
    value = site.node.inputs[1]
    assert value is not None
    assert value.const_value is not None
    weights = value.const_value.numpy()
    moved = np.moveaxis(weights.astype(np.float64), _CHANNEL_AXIS[site.node.op_type], 0)
    shares = site.known[list(others)] / site.known[keep]
    moved[keep] += np.tensordot(shares, moved[list(others)], axes=1)
    array = np.moveaxis(moved, 0, _CHANNEL_AXIS[site.node.op_type]).astype(weights.dtype)
    value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)


def find_sites(model: ir.Model, scene: Scene, known: Known) -> Iterator[Site]:
    """Returns every layer that sums over channels."""
    for node in model.graph:
        maker = _MAKERS.get(node.op_type)
        if maker is not None:
            yield from maker(node, scene, known)
        elif node.op_type in REDUCING:
            for axis, labels in enumerate(scene.of(node.inputs[0])):
                if moves(labels) and len(scene.of(node.outputs[0])) and _reduced(node, scene, axis):
                    yield _site(node, scene, known, 0, axis, None, folds=False)


def _reduced(node: ir.Node, scene: Scene, axis: int) -> bool:
    out = scene.of(node.outputs[0])
    labels = scene.atoms.roots(scene.of(node.inputs[0])[axis])
    return not any(np.array_equal(scene.atoms.roots(other), labels) for other in out)


def _site(
    node: ir.Node, scene: Scene, known: Known, index: int, axis: int, weights: Array | None, *, folds: bool
) -> Site:
    value = node.inputs[index]
    labels = scene.atoms.free(scene.of(value)[axis])
    found = known.get((value.name or "") if value is not None else "")
    constant = numbers(value)
    if found is None and constant is not None:
        found = np.asarray(constant, np.float64)
    flat = np.full(labels.size, np.nan) if found is None else channels(found, axis, labels.size)
    return Site(node, labels, flat, weights, folds)


def _conv(node: ir.Node, scene: Scene, known: Known) -> Iterator[Site]:
    weights, groups = numbers(node.inputs[1]), node.attributes.get_int("group", 1)
    inside = scene.of(node.inputs[0])[1].size
    if weights is None:
        yield _site(node, scene, known, 0, 1, None, folds=False)
    elif groups == 1 or weights.shape[1] > 1:
        taps = weights.reshape(groups, -1, weights.shape[1], int(np.prod(weights.shape[2:])))
        table = np.zeros((inside, weights.shape[0]))
        rows, columns = inside // groups, weights.shape[0] // groups
        absolute = np.zeros_like(table)
        for group in range(groups):
            place = slice(group * rows, (group + 1) * rows), slice(group * columns, (group + 1) * columns)
            table[place] = taps[group].sum(axis=2, dtype=np.float64).T
            absolute[place] = np.abs(taps[group]).sum(axis=2, dtype=np.float64).T
        yield from _split_by_use(node, scene, known, table, absolute, not padded(node))


def _split_by_use(
    node: ir.Node, scene: Scene, known: Known, table: Array, absolute: Array, folds: bool
) -> Iterator[Site]:
    """Taps whose sum is zero are still used where samples decide: `absolute` says what is unread."""
    site = _site(node, scene, known, 0, 1, table, folds=folds)
    hidden = (table == 0).all(axis=1) & (absolute != 0).any(axis=1)
    if hidden.any():
        yield Site(node, np.where(hidden, site.labels, -1), site.known, absolute, folds=False)
        site = Site(node, np.where(hidden, -1, site.labels), site.known, table, folds)
    yield site


def _conv_transpose(node: ir.Node, scene: Scene, known: Known) -> Iterator[Site]:
    weights = numbers(node.inputs[1])
    if weights is None:
        yield _site(node, scene, known, 0, 1, None, folds=False)
    else:
        table = np.abs(weights.reshape(weights.shape[0], -1)).astype(np.float64)
        yield _site(node, scene, known, 0, 1, table, folds=False)


def _gemm(node: ir.Node, scene: Scene, known: Known) -> Iterator[Site]:
    weights = numbers(node.inputs[1])
    rows = node.attributes.get_int("transA", 0)
    table = None
    if weights is not None:
        table = np.asarray(weights.T if node.attributes.get_int("transB", 0) else weights, np.float64)
        table = table * node.attributes.get_float("alpha", 1.0)
    plain = not rows and node.attributes.get_float("beta", 1.0) == 1.0
    yield _site(node, scene, known, 0, 0 if rows else 1, table, folds=plain)


def _matmul(node: ir.Node, scene: Scene, known: Known) -> Iterator[Site]:
    weights, rank = numbers(node.inputs[1]), len(scene.of(node.inputs[0]))
    if weights is not None and weights.ndim == 2:
        yield _site(node, scene, known, 0, rank - 1, np.asarray(weights, np.float64), folds=True)
        return
    first = _site(node, scene, known, 0, rank - 1, None, folds=False)
    second = _site(node, scene, known, 1, max(len(scene.of(node.inputs[1])) - 2, 0), None, folds=False)
    yield Site(node, first.labels, np.where(first.known == 0, first.known, second.known), None, folds=False)


def _recurrent(node: ir.Node, scene: Scene, known: Known) -> Iterator[Site]:
    for index, data in ((1, 0), (2, None)):
        weights = numbers(node.inputs[index])
        table = None if weights is None else np.abs(weights).reshape(-1, weights.shape[-1]).T.astype(np.float64)
        if data is not None:
            yield _site(node, scene, known, 0, 2, table, folds=False)
        else:
            labels = scene.atoms.free(scene.of(node.inputs[index])[2])
            yield Site(node, labels, np.full(labels.size, np.nan), table, folds=False)


def fold(site: Site, gone: NDArray[np.int64]) -> None:
    """Adds what the channels that go contribute to the bias of a layer."""
    removed = np.isin(site.labels, gone) & (np.nan_to_num(site.known) != 0)
    if site.weights is None or not site.folds or not removed.any():
        return
    added = site.known[removed] @ site.weights[removed]
    if np.any(added):
        _BIASES[site.node.op_type](site.node, added)


def _add_input(node: ir.Node, added: Array) -> None:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    bias, weights = numbers(operand(node, 2)), numbers(node.inputs[1])
    total = np.asarray(added if bias is None else bias + added, None if weights is None else weights.dtype)
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, add_initializer(graph, f"{node.name}/bias", total))


def _add_behind(node: ir.Node, added: Array) -> None:
    """A MatMul has no bias: an Add behind it is given one, or put there."""
    graph, out = node.graph, node.outputs[0]
    assert isinstance(graph, ir.Graph)
    weights = numbers(node.inputs[1])
    assert weights is not None
    uses = list(out.uses())
    if len(uses) == 1 and uses[0].node.op_type == "Add" and not out.is_graph_output():
        index = 1 - uses[0].idx
        bias = numbers(uses[0].node.inputs[index])
        if bias is not None and bias.shape == added.shape:
            new = add_initializer(graph, f"{node.name}/bias", (bias + added).astype(weights.dtype))
            uses[0].node.replace_input_with(index, new)
            return
    bias_value = add_initializer(graph, f"{node.name}/bias", added.astype(weights.dtype))
    add = ir.node("Add", [out, bias_value], name=f"{node.name}/add")
    add.outputs[0].name, add.outputs[0].type, add.outputs[0].shape = f"{node.name}/add_out", out.type, out.shape
    ir.convenience.replace_all_uses_with(out, add.outputs[0])
    add.replace_input_with(0, out)
    graph.insert_after(node, add)


_MAKERS: Mapping[str, Callable[[ir.Node, Scene, Known], Iterator[Site]]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
}
_BIASES: Mapping[str, Callable[[ir.Node, Array], None]] = {
    "Conv": _add_input,
    "Gemm": _add_input,
    "MatMul": _add_behind,
}
