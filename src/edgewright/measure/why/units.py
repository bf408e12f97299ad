"""What the candidate rounds: every quantiser and every stored weight, with its figures, and what undoing it brings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE
from edgewright.measure.why import figures, graphs
from edgewright.measure.why.evidence import ACTIVATION, BIAS, WEIGHTS, Unit
from edgewright.measure.why.graphs import Quantiser
from edgewright.measure.why.models import Opened

Array = NDArray[Any]
TRIED = 14
"""Roundings that are undone to see what it brings; the worst by themselves."""
_JOINS = ("Concat",)
_MOVING = (
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Gather",
    "Split",
    "Expand",
    "Tile",
    "Identity",
)
"""Operators that move integers as well as floats: where they run says nothing."""
_INT32 = 2**31 - 2**8


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What units are made from.

    Attributes:
        candidate: With quantisers.
        values: Tensor -> values of the reference.
        calibration: The same on the calibration split; empty without one.
        weights: `node/index` -> the reference's numbers, for weights and biases that are its own rounded.
        reference: Tensor -> node of the reference.
        measure: Model -> what it leaves of the output, in dB.
    """

    candidate: Opened
    values: Mapping[str, Array]
    calibration: Mapping[str, Array]
    weights: Mapping[str, Array]
    reference: Mapping[str, ir.Node]
    measure: Callable[[ir.Model], float]


@dataclass(frozen=True, slots=True, eq=False)
class _Draft:
    unit: Unit
    undo: Callable[[], ir.Model]


def units(scene: Scene) -> tuple[Unit, ...]:
    """Returns the roundings that were tried, the one whose undoing helps most first."""
    drafts = sorted((*_activations(scene), *_constants(scene)), key=lambda draft: draft.unit.alone_db)
    before = scene.measure(scene.candidate.model)
    found = [replace(d.unit, gain_db=scene.measure(d.undo()) - before) for d in drafts[:TRIED]]
    return tuple(sorted(found, key=lambda unit: -unit.gain_db))


def _activations(scene: Scene) -> Iterator[_Draft]:
    graph = scene.candidate.model.graph
    floats = _float_between(scene.candidate)
    every = {q.tensor: q for q in graphs.quantisers(graph)}
    moved = _moved(every)
    for name, quantiser in every.items():
        values = scene.values.get(name)
        if values is None or moved[name][0] != name:
            continue
        joined = _joined(quantiser, every, scene.values)
        group = (*moved[name], *joined[1]) if joined else moved[name]
        unit = _activation(scene, quantiser, values, floats)
        if joined:
            members = {n: scene.values[n] for n in joined[1] if n in scene.values}
            shares = {n: (float(v.min()), float(v.max())) for n, v in members.items()}
            worst = min(_alone(every[n], scene.values[n], "Concat") for n in shares)
            unit = replace(unit, join=joined[0], sharing=shares, alone_db=worst)
        yield _Draft(unit, lambda group=group: _without_all(scene.candidate.model, group))  # type: ignore[misc]


def _activation(scene: Scene, quantiser: Quantiser, values: Array, floats: Mapping[str, str]) -> Unit:
    name = quantiser.tensor
    source = quantiser.node.inputs[0]
    assert source is not None
    made = source.producer()
    op = made.op_type if made is not None else ""
    given = scene.calibration.get(name)
    readers = [reader for node in quantiser.back for reader in graphs.real_readers(node.outputs[0])]
    low, high = quantiser.range
    slack = (high - low) / 255
    return Unit(
        ACTIVATION,
        name,
        _reference_node(scene, name, readers),
        made.name or "" if made is not None else "",
        op,
        0.0,
        _alone(quantiser, values, op),
        (low, high),
        (float(values.min()), float(values.max())),
        None if given is None else (float(given.min()), float(given.max())),
        float(((values < low - slack) | (values > high + slack)).mean()),
        tuple(map(float, figures.channel_largest(values, figures.channel_axis(values, op)))),
        quantiser.axis is not None,
        batch_norm=next((r.name or "" for r in readers if r.op_type == "BatchNormalization"), ""),
        float_node=_float_beside(made, readers, floats),
        pair=_pair(made, readers),
        evenable=_evenable(made, readers),
    )


def _reference_node(scene: Scene, tensor: str, readers: list[ir.Node]) -> str:
    node = scene.reference.get(tensor)
    if node is not None:
        return node.name or ""
    for reader in readers:
        for value in reader.outputs:
            found = scene.reference.get(graphs.plain_name(value))
            if found is not None:
                return found.name or ""
    return ""


def _alone(quantiser: Quantiser, values: Array, op: str) -> float:
    left = figures.rounded(values, quantiser.scale, quantiser.zero, *quantiser.limits, quantiser.axis)
    axis = figures.channel_axis(values, op)
    return figures.columns_db(np.moveaxis(values, axis, -1), np.moveaxis(left, axis, -1))


def _joined(
    quantiser: Quantiser, every: Mapping[str, Quantiser], values: Mapping[str, Array]
) -> tuple[str, tuple[str, ...]] | None:
    """Returns the join whose result `quantiser` rounds, and the tensors that share its scale."""
    made = quantiser.node.inputs[0].producer() if quantiser.node.inputs[0] is not None else None
    if made is None or made.op_type not in _JOINS:
        return None
    sources = [graphs.plain_name(s) for v in made.inputs if (s := graphs.real_source(v)) is not None]
    same = [n for n in sources if n in every and np.allclose(every[n].scale, quantiser.scale, rtol=1e-3)]
    names = (quantiser.tensor, *same) if same else (quantiser.tensor,)
    known = [n for n in sources if n in values]
    return (made.name or "", tuple(dict.fromkeys((*names, *(k for k in known if k in every))))) if known else None


def _moved(every: Mapping[str, Quantiser]) -> dict[str, tuple[str, ...]]:
    """Returns tensor -> all tensors that hold the same integers, moved; the first of them is where they are made."""
    first: dict[str, str] = {}
    for name, quantiser in every.items():
        made = quantiser.node.inputs[0].producer() if quantiser.node.inputs[0] is not None else None
        source = graphs.real_source(made.inputs[0]) if made is not None and made.op_type in _MOVING else None
        before = graphs.plain_name(source) if source is not None else ""
        same = before in first and np.allclose(every[before].scale, quantiser.scale, rtol=1e-3)
        first[name] = first[before] if same else name
    return {name: tuple(n for n in every if first[n] == first[name]) for name in every}


def _without_all(model: ir.Model, tensors: tuple[str, ...]) -> ir.Model:
    for tensor in tensors:
        model = graphs.without(model, tensor)
    return model


def _float_between(candidate: Opened) -> dict[str, str]:
    """Returns candidate node -> its operator, for nodes between quantisers that the runtime computes in float."""
    where = {n: p.precision for p in candidate.artifact.placement for n in (p.source or (p.node,))}
    found = {}
    for node in candidate.model.graph:
        inputs = [v for v in node.inputs if v is not None and v.const_value is None]
        between = bool(inputs) and all(_is_back(v) for v in inputs) and any(_is_rounded(v) for v in node.outputs)
        if between and node.op_type not in (QUANTIZE, DEQUANTIZE, *_MOVING) and where.get(node.name or "") == "float32":
            found[node.name or ""] = node.op_type
    return found


def _is_back(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type == DEQUANTIZE


def _is_rounded(value: ir.Value) -> bool:
    return any(use.node.op_type == QUANTIZE for use in value.uses())


def _float_beside(made: ir.Node | None, readers: list[ir.Node], floats: Mapping[str, str]) -> str:
    beside = [made, *readers] if made is not None else readers
    return next((node.name or "" for node in beside if node.name in floats), "")


def _pair(made: ir.Node | None, readers: list[ir.Node]) -> tuple[str, ...]:
    before: list[ir.Node] = []
    while made is not None:
        before.insert(0, made)
        first = graphs.real_source(made.inputs[0]) if made.op_type in ("Relu", "Clip") else None
        made = first.producer() if first is not None else None
    return tuple(dict.fromkeys(node.name or "" for node in (*before, *readers)))


def _evenable(made: ir.Node | None, readers: list[ir.Node]) -> bool:
    if made is not None and made.op_type == "Relu":
        source = graphs.real_source(made.inputs[0])
        made = source.producer() if source is not None else None
    return made is not None and made.op_type == "Conv" and bool(readers) and all(r.op_type == "Conv" for r in readers)


def _constants(scene: Scene) -> Iterator[_Draft]:
    """Yields the weights and biases that are stored as integers."""
    for node in scene.candidate.model.graph:
        if node.op_type not in graphs.WEIGHTED:
            continue
        for index, kind in ((1, WEIGHTS), (2, BIAS)):
            wanted = scene.weights.get(f"{node.name}/{index}")
            value = node.inputs[index] if len(node.inputs) > index else None
            back = value.producer() if value is not None else None
            if wanted is None or back is None or back.op_type != DEQUANTIZE:
                continue
            unit = _constant(scene, node, kind, wanted, back)
            change = {f"{node.name}/{index}": wanted}
            yield _Draft(unit, lambda change=change: graphs.with_weights(scene.candidate.model, change))  # type: ignore[misc]


def _constant(scene: Scene, node: ir.Node, kind: str, wanted: Array, back: ir.Node) -> Unit:
    found = graphs.stored(node.inputs[1 if kind == WEIGHTS else 2])
    integers, scale = graphs.constant(back.inputs[0]), graphs.constant(back.inputs[1])
    assert found is not None
    assert integers is not None
    assert scale is not None
    tensor = graphs.plain_name(node.outputs[0])
    turned = "transB" in node.attributes and node.attributes.get_int("transB") == 1
    axis = 0 if node.op_type == "Conv" or turned else wanted.ndim - 1
    largest = float(np.abs(wanted).max(initial=1e-12))
    error = float(np.abs(wanted - found).max(initial=0.0)) / largest
    limit = _INT32 if kind == BIAS else 2**30
    moved = [np.moveaxis(a, axis, -1) for a in (wanted, found)]
    alone = figures.ratio_db(wanted, found) if kind == BIAS else _weights_db(*moved)
    reader = scene.reference.get(tensor)
    return Unit(
        kind,
        tensor,
        (reader.name or "") if reader is not None else "",
        node.name or "",
        node.op_type,
        0.0,
        alone,
        (float(found.min(initial=0.0)), float(found.max(initial=0.0))),
        (float(wanted.min(initial=0.0)), float(wanted.max(initial=0.0))),
        channels=tuple(map(float, figures.channel_largest(wanted, axis))),
        per_channel=scale.size > 1,
        at_limit=int((np.abs(integers.astype(np.int64)) >= limit).sum()),
        error=error,
    )


def _weights_db(wanted: Array, found: Array) -> float:
    """Like `columns_db`, each channel relative to its own size instead of its variation."""
    one, other = wanted.reshape(-1, wanted.shape[-1]).astype(np.float64), found.reshape(-1, wanted.shape[-1])
    power = np.square(one).mean(0)
    alive = power > 1e-12 * max(float(power.max(initial=0.0)), 1e-30)
    share = float((np.square(one - other).mean(0)[alive] / power[alive]).mean()) if alive.any() else 0.0
    return figures.EXACT_DB if share <= 1e-20 else float(-10 * np.log10(share))
