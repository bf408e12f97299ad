"""A candidate whose graph we do not rewrite, such as a .tflite file: explained by comparing inner tensors.

Nothing can be undone in it. Instead the reference is made to round as the candidate does, one tensor at a time: what
that alone leaves of the output says how much of the loss the tensor explains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.parity import CONVERSION, PRECISION, LayerParity, Parity
from edgewright.graph.initializers import add_initializer
from edgewright.measure.parity import compare
from edgewright.measure.why import figures, graphs
from edgewright.measure.why.evidence import ACTIVATION, Evidence, LayerDifference, Unit
from edgewright.measure.why.models import Feed, activations, batch_of, open_model, run

Array = NDArray[Any]
MOST = 8
_SOUND_DB, _STEP_DB = 20.0, 12.0
_LEVELS = {"int8": 255, "uint8": 255, "int16": 65535}


def gather_foreign(
    reference: Path, candidate: Path, feed: Feed, paths: Mapping[str, str], safe_8_bits: bool, scratch: Path
) -> tuple[Evidence, Parity]:
    """Returns the evidence that inner tensors give, and the comparison it rests on.

    Raises:
        EdgewrightError: A model cannot be read or run, or its runtime shows no inner tensors.
    """
    opened = open_model(reference, scratch / "reference")
    size = batch_of(opened.model) or 1
    count = len(next(iter(feed.values()))) // size
    cuts = [{name: array[i * size : (i + 1) * size] for name, array in feed.items()} for i in range(count)]
    parity = compare(reference, candidate, lambda specs: cuts, local=False)
    whole = {name: array[: count * size] for name, array in feed.items()}
    values = activations(opened.model, whole, _near_guilty(opened.model, parity))
    units = tuple(_units(opened.model, parity, values, whole))
    layers = tuple(_different(opened.model, parity))
    outputs = min((layer.sqnr_db for layer in parity.outputs), default=figures.EXACT_DB)
    stages = {CONVERSION: layers[0].local_db if layers else figures.EXACT_DB, PRECISION: outputs}
    if layers and not units:
        stages[PRECISION] = figures.EXACT_DB
    if units:
        stages[PRECISION] = min(unit.alone_db for unit in units)
    return Evidence(stages, paths, units, layers, safe_8_bits=safe_8_bits, quantised=_in_integers(parity)), parity


def _in_integers(parity: Parity) -> bool:
    """Says whether the candidate's layers with weights are rounded; a file called INT8 may compute in float."""
    weighted = [layer for layer in parity.layers if layer.op in graphs.WEIGHTED]
    return sum(layer.range is not None for layer in weighted) > len(weighted) / 2


def _guilty(model: ir.Model, parity: Parity) -> Iterator[tuple[LayerParity, ir.Node]]:
    """Yields the layers that lose much although everything they read was sound, in graph order."""
    known = {layer.tensor: layer for layer in parity.layers}
    makers = graphs.producers(model.graph)
    for layer in parity.layers:
        node = makers.get(layer.tensor)
        if node is None or layer.sqnr_db > _SOUND_DB:
            continue
        before = [known[v.name].sqnr_db for v in node.inputs if v is not None and v.name in known]
        if not before or min(before) > layer.sqnr_db + _STEP_DB:
            yield layer, node


def _near_guilty(model: ir.Model, parity: Parity) -> list[str]:
    found = [
        (layer.tensor, *(v.name or "" for v in node.inputs if v is not None)) for layer, node in _guilty(model, parity)
    ]
    return [name for names in found[:MOST] for name in names]


def _units(model: ir.Model, parity: Parity, values: Mapping[str, Array], feed: Feed) -> Iterator[Unit]:
    wanted = run(model, feed)
    name = model.graph.outputs[0].name or ""
    for layer, node in list(_guilty(model, parity))[:MOST]:
        own = values.get(layer.tensor)
        if layer.range is None or own is None:
            continue
        used = layer.range
        left = run(_rounding(model, layer), feed)[name]
        alone = figures.columns_db(wanted[name], left)
        inputs = [v.name or "" for v in node.inputs if v is not None and v.name in values]
        members = {n: (float(values[n].min()), float(values[n].max())) for n in inputs}
        yield Unit(
            ACTIVATION,
            layer.tensor,
            layer.node,
            layer.node,
            layer.op,
            max(_SOUND_DB - alone, 0.0),
            alone,
            (used.low, used.high),
            (layer.low, layer.high),
            clipped=used.saturated,
            channels=tuple(map(float, figures.channel_largest(own, figures.channel_axis(own, layer.op)))),
            sharing=members if layer.op == "Concat" else {},
            join=layer.node if layer.op == "Concat" else "",
            pair=(layer.node,),
        )


def _rounding(model: ir.Model, layer: LayerParity) -> ir.Model:
    """Returns a copy of the reference that cuts one tensor off and rounds it as the candidate's integers do."""
    assert layer.range is not None
    copy = model.clone()
    graph = copy.graph
    value = next(v for node in graph for v in node.outputs if v.name == layer.tensor)
    low, high, scale = (np.float32(x) for x in (layer.range.low, layer.range.high, layer.range.scale))
    numbers = {"low": low, "high": high, "scale": scale}
    constants = {
        key: add_initializer(graph, f"{layer.tensor}/{key}", np.asarray(number)) for key, number in numbers.items()
    }
    users = list(value.uses())
    chain = [ir.node("Clip", [value, constants["low"], constants["high"]])]
    for op, other in (("Div", "scale"), ("Round", ""), ("Mul", "scale")):
        chain.append(ir.node(op, [chain[-1].outputs[0], *([constants[other]] if other else [])]))
    for node in chain:
        node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, value.shape
        node.outputs[0].name = f"{layer.tensor}/{node.op_type}"
    maker = value.producer()
    assert maker is not None
    graph.insert_after(maker, chain)
    last = chain[-1].outputs[0]
    for use in users:
        use.node.replace_input_with(use.idx, last)
    for index, output in enumerate(graph.outputs):
        if output is value:
            value.name, last.name = f"{layer.tensor}/exact", layer.tensor
            graph.outputs[index] = last
    return copy


def _different(model: ir.Model, parity: Parity) -> Iterator[LayerDifference]:
    """Yields guilty layers that are not rounded: they compute something else."""
    for layer, _ in list(_guilty(model, parity))[:MOST]:
        if layer.range is None:
            yield LayerDifference(CONVERSION, layer.node, layer.tensor, layer.sqnr_db)
