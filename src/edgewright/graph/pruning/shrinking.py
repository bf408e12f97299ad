"""Channels that samples do not change, removed without changing the function: what they say goes into the next bias."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.initializers import add_initializer
from edgewright.graph.pruning.atoms import Labels, moves
from edgewright.graph.pruning.constants import Array, Known, channels, known_values, padded
from edgewright.graph.pruning.groups import Group, groups_of
from edgewright.graph.pruning.pointwise import REDUCING
from edgewright.graph.pruning.scene import Scene, operand
from edgewright.graph.pruning.trace import trace
from edgewright.graph.quantisers import numbers


@dataclass(frozen=True, slots=True, eq=False)
class Shrinking:
    """What can go.

    Attributes:
        groups: All groups of the model.
        kept: Group -> channels that stay; groups that stay whole are left out.
        left: Layer -> why channels of it that do not depend on samples have to stay.
    """

    groups: tuple[Group, ...]
    kept: Mapping[str, tuple[int, ...]]
    left: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class _Site:
    """A layer that sums over channels.

    Attributes:
        node: The layer.
        labels: Classes of the channels it sums over, [channels].
        known: Their values, NaN where samples decide.
        weights: [channels, what is summed to], None where both factors depend on samples.
        folds: Whether a constant channel equals a bias there.
    """

    node: ir.Node
    labels: Labels
    known: Array
    weights: Array | None
    folds: bool


@dataclass(slots=True)
class _Verdicts:
    blocked: dict[int, str] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)


def fold_constant_channels(model: ir.Model) -> Shrinking:
    """Finds channels that no sample changes and adds what they contribute to the biases behind, in place.

    The function stays the same; `remove(model, result.kept)` then takes them out. A channel can go where every layer
    that sums over it either has only zeros for it, or sees one number at every position. A number other than zero in
    front of a convolution that pads with zeros is not that, and the channel stays.

    Args:
        model: Float, as `prepare` leaves it.

    Raises:
        ConfigError: The model is quantised.
    """
    scene = trace(model)
    groups, known = groups_of(scene), known_values(model, scene)
    sites = list(_sites(model, scene, known))
    verdicts = _judge(scene, sites)
    kept: dict[str, tuple[int, ...]] = {}
    gone: list[int] = []
    left: dict[str, str] = {}
    for group in groups:
        roots = _roots(scene, group)
        free = np.array([root in verdicts.idle and root not in verdicts.blocked for root in roots.tolist()])
        if free.all():
            free[0] = False
        if free.any():
            kept[group.name] = tuple(np.flatnonzero(~free).tolist())
            gone += roots[free].tolist()
        left.update(_left(group, roots, verdicts))
    for site in sites:
        _fold(site, np.array(gone, np.int64))
    return Shrinking(groups, kept, left)


def _roots(scene: Scene, group: Group) -> Labels:
    first = group.members[0]
    return scene.atoms.roots(scene.labels[first.tensor][first.axis][first.places[:, 0]])


def _left(group: Group, roots: Labels, verdicts: _Verdicts) -> dict[str, str]:
    """Says why channels that are constant in some layer stay."""
    reasons = [verdicts.blocked[root] for root in roots.tolist() if root in verdicts.idle and root in verdicts.blocked]
    return {group.producers[0]: f"{len(reasons)} constant channels stay: {reasons[0]}"} if reasons else {}


def _judge(scene: Scene, sites: list[_Site]) -> _Verdicts:
    """Finds classes that nobody needs (`idle`: constant or unread somewhere), and those that some layer needs."""
    verdicts = _Verdicts()
    for site in sites:
        unread = np.zeros(site.labels.size, bool) if site.weights is None else (site.weights == 0).all(axis=1)
        constant = ~np.isnan(site.known)
        foldable = constant & ((site.known == 0) | (site.folds and site.weights is not None))
        for place in np.flatnonzero(site.labels >= 0).tolist():
            root = int(site.labels[place])
            if unread[place] or constant[place]:
                verdicts.idle.add(root)
            if not (unread[place] or foldable[place]):
                verdicts.blocked.setdefault(root, _why(site, constant[place]))
    return verdicts


def _why(site: _Site, constant: bool) -> str:
    name = f"{site.node.op_type} `{site.node.name}`"
    if not constant:
        return f"{name} reads what samples change"
    return (
        f"{name} reads a constant other than zero and cannot add it to a bias{' because it pads' * padded(site.node)}"
    )


def _sites(model: ir.Model, scene: Scene, known: Known) -> Iterator[_Site]:
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
) -> _Site:
    value = node.inputs[index]
    labels = scene.atoms.free(scene.of(value)[axis])
    found = known.get((value.name or "") if value is not None else "")
    constant = numbers(value)
    if found is None and constant is not None:
        found = np.asarray(constant, np.float64)
    flat = np.full(labels.size, np.nan) if found is None else channels(found, axis, labels.size)
    return _Site(node, labels, flat, weights, folds)


def _conv(node: ir.Node, scene: Scene, known: Known) -> Iterator[_Site]:
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
) -> Iterator[_Site]:
    """Taps whose sum is zero are still used where samples decide: `absolute` says what is unread."""
    site = _site(node, scene, known, 0, 1, table, folds=folds)
    hidden = (table == 0).all(axis=1) & (absolute != 0).any(axis=1)
    if hidden.any():
        yield _Site(node, np.where(hidden, site.labels, -1), site.known, absolute, folds=False)
        site = _Site(node, np.where(hidden, -1, site.labels), site.known, table, folds)
    yield site


def _conv_transpose(node: ir.Node, scene: Scene, known: Known) -> Iterator[_Site]:
    weights = numbers(node.inputs[1])
    if weights is None:
        yield _site(node, scene, known, 0, 1, None, folds=False)
    else:
        table = np.abs(weights.reshape(weights.shape[0], -1)).astype(np.float64)
        yield _site(node, scene, known, 0, 1, table, folds=False)


def _gemm(node: ir.Node, scene: Scene, known: Known) -> Iterator[_Site]:
    weights = numbers(node.inputs[1])
    rows = node.attributes.get_int("transA", 0)
    table = None
    if weights is not None:
        table = np.asarray(weights.T if node.attributes.get_int("transB", 0) else weights, np.float64)
        table = table * node.attributes.get_float("alpha", 1.0)
    plain = not rows and node.attributes.get_float("beta", 1.0) == 1.0
    yield _site(node, scene, known, 0, 0 if rows else 1, table, folds=plain)


def _matmul(node: ir.Node, scene: Scene, known: Known) -> Iterator[_Site]:
    weights, rank = numbers(node.inputs[1]), len(scene.of(node.inputs[0]))
    if weights is not None and weights.ndim == 2:
        yield _site(node, scene, known, 0, rank - 1, np.asarray(weights, np.float64), folds=True)
        return
    first = _site(node, scene, known, 0, rank - 1, None, folds=False)
    second = _site(node, scene, known, 1, max(len(scene.of(node.inputs[1])) - 2, 0), None, folds=False)
    yield _Site(node, first.labels, np.where(first.known == 0, first.known, second.known), None, folds=False)


def _recurrent(node: ir.Node, scene: Scene, known: Known) -> Iterator[_Site]:
    for index, data in ((1, 0), (2, None)):
        weights = numbers(node.inputs[index])
        table = None if weights is None else np.abs(weights).reshape(-1, weights.shape[-1]).T.astype(np.float64)
        if data is not None:
            yield _site(node, scene, known, 0, 2, table, folds=False)
        else:
            labels = scene.atoms.free(scene.of(node.inputs[index])[2])
            yield _Site(node, labels, np.full(labels.size, np.nan), table, folds=False)


def _fold(site: _Site, gone: NDArray[np.int64]) -> None:
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


_MAKERS: Mapping[str, Callable[[ir.Node, Scene, Known], Iterator[_Site]]] = {
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
