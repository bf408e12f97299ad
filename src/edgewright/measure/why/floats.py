"""Layers that compute something else in float than the reference's: other attributes, other weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.measure.why import figures, graphs
from edgewright.measure.why.evidence import LayerDifference
from edgewright.measure.why.models import Feed, activations, run

Array = NDArray[Any]
SHOWN_DB = 30.0
"""A layer that leaves more than this of its result is the same layer."""
_ROUNDING = 0.52
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "BatchNormalization": {"epsilon": 1e-5},
    "LayerNormalization": {"epsilon": 1e-5},
    "Conv": {"group": 1},
    "LeakyRelu": {"alpha": 0.01},
}


def differences(
    stage: str, before: ir.Model, after: ir.Model, feed: Feed, reference: Mapping[str, ir.Node]
) -> tuple[LayerDifference, ...]:
    """Returns the layers of `after` that make something else of the same inputs, in graph order.

    Args:
        stage: The one between the two models.
        before: In float.
        after: In float.
        feed: Prepared samples.
        reference: Tensor -> node of the reference, for its name.
    """
    wanted = activations(before, feed)
    common = _common(after, wanted)
    local = _local(after, common, feed, wanted)
    makers, theirs = graphs.producers(before.graph), graphs.producers(after.graph)
    found = []
    for name in (plain for node in after.graph for v in node.outputs if (plain := graphs.plain_name(v)) in local):
        left = figures.ratio_db(wanted[name], local[name])
        if left < SHOWN_DB:
            attribute, weights = _compared(makers[name], theirs[name])
            node = reference.get(name, makers[name]).name or ""
            found.append(LayerDifference(stage, node, name, left, attribute, weights))
    return tuple(found)


def _common(model: ir.Model, wanted: Mapping[str, Array]) -> set[str]:
    made = [v for node in model.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT]
    ranks = {v.name or "": None if v.shape is None else len(v.shape) for v in made}
    return {n for n, rank in ranks.items() if n in wanted and rank in (None, wanted[n].ndim)}


def _local(model: ir.Model, common: set[str], feed: Feed, wanted: Mapping[str, Array]) -> dict[str, Array]:
    parted = graphs.cut_floats(model, common)
    given = {f"{name}{graphs.CUT}": wanted[name] for name in common}
    return run(parted, {**feed, **given})


def _compared(before: ir.Node, after: ir.Node) -> tuple[str, float | None]:
    attribute = ""
    if before.op_type == after.op_type:
        attribute = next(iter(_attributes(before, after)), "")
    one, other = _weights(before), _weights(after)
    known = one is not None and other is not None and one.shape == other.shape
    return attribute, figures.ratio_db(one, other) if known and one is not None and other is not None else None


def _weights(node: ir.Node) -> Array | None:
    return graphs.stored(node.inputs[1]) if node.op_type in graphs.WEIGHTED and len(node.inputs) > 1 else None


def _attributes(before: ir.Node, after: ir.Node) -> Iterator[str]:
    defaults = _DEFAULTS.get(before.op_type, {})
    for name in sorted({*before.attributes, *after.attributes}):
        one, other = (n.attributes[name].value if name in n.attributes else defaults.get(name) for n in (before, after))
        if one is None or other is None or isinstance(one, ir.Graph):
            continue
        if not _same(one, other):
            yield f"{name} {_shown(one)} became {_shown(other)}"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (int, float, list, tuple)) and isinstance(other, (int, float, list, tuple)):
        first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
        return first.shape == second.shape and bool(np.allclose(first, second, rtol=1e-5, atol=0))
    return bool(one == other)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(list(value) if isinstance(value, tuple) else value)


def own_weights(references: tuple[ir.Model, ...], candidate: ir.Model) -> dict[str, Array]:
    """Returns `node/index` -> the reference's numbers, for every constant of the candidate that is those rounded.

    A bias that does not fit into its integers counts as rounded too; anything that rounding does not explain is
    another weight, and is left to the comparison in float.

    Args:
        references: The reference as it is and cleaned up; the nearer one is taken.
        candidate: With quantisers or in half precision.
    """
    known = [graphs.producers(model.graph) for model in references]
    found: dict[str, Array] = {}
    for node in candidate.graph:
        if node.op_type not in graphs.WEIGHTED:
            continue
        twins = [made[name] for made in known if (name := graphs.plain_name(node.outputs[0])) in made]
        for index in (1, 2):
            options = [w for twin in twins if (w := _own(twin, node, index)) is not None]
            if options:
                stored = graphs.stored(node.inputs[index])
                assert stored is not None
                found[f"{node.name}/{index}"] = min(options, key=lambda w: float(np.square(w - stored).sum()))
    return found


def _own(twin: ir.Node, node: ir.Node, index: int) -> Array | None:
    if twin.op_type != node.op_type or len(node.inputs) <= index or len(twin.inputs) <= index:
        return None
    value = node.inputs[index]
    wanted, have = graphs.stored(twin.inputs[index]), graphs.stored(value)
    if value is None or wanted is None or have is None or wanted.shape != have.shape:
        return None
    back = value.producer()
    if back is None:
        return wanted if figures.ratio_db(wanted, have) > 2 * SHOWN_DB / 1.5 else None
    integers, scale = graphs.constant(back.inputs[0]), graphs.constant(back.inputs[1])
    assert integers is not None
    assert scale is not None
    axis = back.attributes.get_int("axis", 1) or 0
    shape = [1] * wanted.ndim
    if scale.size > 1:
        shape[axis] = -1
    step = np.abs(scale.astype(np.float64)).reshape(shape if scale.size > 1 else ())
    wide = np.iinfo(integers.dtype)
    edge = (integers >= wide.max - 1) | (integers <= wide.min + 1) | (np.abs(integers.astype(np.int64)) >= 2**31 - 2**8)
    explained = (np.abs(wanted - have) <= _ROUNDING * step + 1e-6 * np.abs(wanted)) | edge
    return wanted if float(explained.mean()) > 0.98 else None
