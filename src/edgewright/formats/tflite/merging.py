"""Operators of a file that ONNX has in one: padding before a convolution, and dilation spelled as batches of pixels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from edgewright.formats.tflite.reader import TfliteGraph, TfliteOperator

_VALID, _SAME = 1, 0
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def merged(graph: TfliteGraph) -> TfliteGraph:
    """Returns `graph` with such groups as one convolution each, its option `pads` [top, left, bottom, right].

    What stood before a convolution stays for others that may read it.
    """
    uses = Counter(number for op in graph.operators for number in op.inputs)
    uses.update(graph.outputs)
    maker = {number: op for op in graph.operators for number in op.outputs}
    single = {number: op for op in graph.operators for number in op.inputs if uses[number] == 1}
    gone: set[int] = set()
    made: dict[int, TfliteOperator] = {}
    for op in graph.operators:
        before = maker.get(op.inputs[0]) if op.op in _CONVOLUTIONS else None
        if before is None:
            continue
        after = single.get(op.outputs[0])
        if after is not None and (found := _dilated(graph, before, op, after)) is not None:
            gone.add(id(op))
            made[id(after)] = found
        elif (padded := _padded(graph, before, op)) is not None:
            made[id(op)] = padded
    kept = tuple(made.get(id(op), op) for op in graph.operators if id(op) not in gone)
    return replace(graph, operators=kept)


def _padded(graph: TfliteGraph, pad: TfliteOperator, conv: TfliteOperator) -> TfliteOperator | None:
    """Zeros around an image that a convolution without padding reads."""
    if pad.op != "PAD" or conv.options["padding"] != _VALID or not _same_scale(graph, pad.inputs[0], pad.outputs[0]):
        return None
    amounts = graph.tensors[pad.inputs[1]].data
    if amounts is None or amounts.shape != (4, 2) or amounts[0].any() or amounts[3].any() or amounts.min() < 0:
        return None
    pads = [int(n) for n in (*amounts[1:3, 0], *amounts[1:3, 1])]
    return replace(conv, inputs=(pad.inputs[0], *conv.inputs[1:]), options={**conv.options, "pads": pads})


def _dilated(
    graph: TfliteGraph, spread: TfliteOperator, conv: TfliteOperator, gather: TfliteOperator
) -> TfliteOperator | None:
    """SPACE_TO_BATCH_ND, a convolution with steps of 1, BATCH_TO_SPACE_ND: one with dilation."""
    if (spread.op, gather.op) != ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"):
        return None
    blocks, others = (graph.tensors[op.inputs[1]].data for op in (spread, gather))
    before, cut = (graph.tensors[op.inputs[2]].data for op in (spread, gather))
    if blocks is None or others is None or before is None or cut is None:
        return None
    steps = tuple(conv.options[name] for name in ("stride_h", "stride_w", "dilation_h", "dilation_w"))
    scales = _same_scale(graph, *spread.inputs[:1], *spread.outputs) and _same_scale(
        graph, conv.outputs[0], gather.outputs[0]
    )
    if before.shape != (2, 2) or cut.shape != (2, 2):
        return None
    pads = (before - cut).T.reshape(-1)
    if blocks.tolist() != others.tolist() or steps != (1, 1, 1, 1) or not scales or pads.min() < 0:
        return None
    if conv.options["padding"] != _VALID:
        return None
    options = {
        **conv.options,
        "pads": [int(n) for n in pads],
        "dilation_h": int(blocks[0]),
        "dilation_w": int(blocks[1]),
    }
    return replace(conv, inputs=(spread.inputs[0], *conv.inputs[1:]), outputs=gather.outputs, options=options)


def _same_scale(graph: TfliteGraph, one: int, other: int) -> bool:
    a, b = graph.tensors[one], graph.tensors[other]
    return (a.scale, a.zero_point) == (b.scale, b.zero_point)
