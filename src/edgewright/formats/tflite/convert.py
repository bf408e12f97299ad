"""A TensorFlow Lite graph as ONNX: float, or with its own quantisation as QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import math

import onnx_ir as ir

from edgewright.errors import Corrupt, SourceError
from edgewright.formats.tflite import (
    folding,
    indexing,
    pointwise,
    quantised,
    ranking,
    recurrent,
    shaping,
    spatial,
    volumes,
)
from edgewright.formats.tflite.emitter import Emitter
from edgewright.formats.tflite.merging import merged
from edgewright.formats.tflite.reader import TfliteGraph, TfliteOperator, TfliteTensor

_MAX_ELEMENTS = 2**31
_IR_VERSIONS = {18: 8, 20: 9, 21: 10}
RULES = {
    **spatial.RULES,
    **pointwise.RULES,
    **shaping.RULES,
    **indexing.RULES,
    **ranking.RULES,
    **recurrent.RULES,
    **volumes.RULES,
    **quantised.RULES,
}
_CONTRADICTIONS = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError)
"""What a rule raises for an operator that does not fit its tensors."""


def to_onnx(graph: TfliteGraph, *, integer_io: bool = False) -> ir.Model:
    """Translates `graph`; images become channels-first inside, inputs and outputs keep the file's layout and names.

    Args:
        graph: The file.
        integer_io: Inputs and outputs that the file declares as scaled integers stay integers; otherwise they are
            float32, and rounded inside.

    Raises:
        SourceError: An operator is not supported (it is named with its tensor).
        Corrupt: An operator contradicts its tensors.
    """
    check_supported(graph)
    emitter = Emitter(graph, integer_io=integer_io)
    inputs = [emitter.add_input(number) for number in graph.inputs]
    for op in _merged(graph).operators:
        _write(emitter, op)
    outputs: list[ir.Value] = []
    for number in graph.outputs:
        outputs.append(emitter.add_output(number, [*inputs, *outputs]))
    nodes, initializers = _needed(emitter, outputs)
    opset = {"": emitter.opset}
    made = ir.Graph(inputs, outputs, nodes=nodes, initializers=initializers, opset_imports=opset, name="tflite")
    return ir.Model(made, ir_version=_IR_VERSIONS[emitter.opset], producer_name="edgewright")


def _merged(graph: TfliteGraph) -> TfliteGraph:
    """Groups merged; a damaged group is left as it is, and named when it is written."""
    try:
        return merged(graph)
    except _CONTRADICTIONS:
        return graph


def _write(emitter: Emitter, op: TfliteOperator) -> None:
    try:
        if folding.foldable(emitter, op):
            folding.fold(emitter, op, RULES[op.op])
        else:
            RULES[op.op](emitter, op)
    except _CONTRADICTIONS as error:
        named = _refusal(emitter.graph, op)
        raise Corrupt(
            f"{named}: its inputs, options and shapes do not fit each other ({error})",
            hint="the file is damaged, or its converter is at fault; check that LiteRT runs it, and convert it again",
        ) from error


def differences(graph: TfliteGraph) -> tuple[str, ...]:
    """Returns what the translation leaves out on purpose, for a reader."""
    return tuple(
        f'the cell state of "{name}" is clipped in the file, not in ONNX; it matters only where it grows that large'
        for name in recurrent.clipped(graph)
    )


def is_quantised(graph: TfliteGraph) -> bool:
    """Returns whether activations are scaled integers."""
    return any(t.data is None and t.scaled for t in graph.tensors)


def has_hybrid_operators(graph: TfliteGraph) -> bool:
    """Returns whether float activations meet weights stored as scaled integers (dynamic-range quantisation)."""
    return any(graph.tensors[number].scaled for number in hybrid_weights(graph))


def hybrid_weights(graph: TfliteGraph) -> frozenset[int]:
    """Returns the scaled constants that operators on float activations read."""
    return frozenset(
        number
        for op in graph.operators
        if op.op not in ("DEQUANTIZE", "QUANTIZE")
        for number in op.inputs
        if number >= 0 and graph.tensors[number].data is not None and graph.tensors[number].scaled
        if any(graph.tensors[n].dtype == "float32" for n in op.outputs)
    )


def _needed(emitter: Emitter, outputs: list[ir.Value]) -> tuple[list[ir.Node], list[ir.Value]]:
    """Returns the nodes and constants that an output depends on: sizes computed for nothing are left out."""
    wanted = {id(value) for value in outputs}
    kept = []
    for node in reversed(emitter.nodes):
        if any(id(value) in wanted for value in node.outputs):
            kept.append(node)
            wanted |= {id(value) for value in node.inputs}
    return kept[::-1], [value for value in emitter.initializers if id(value) in wanted]


def check_supported(graph: TfliteGraph) -> None:
    """Checks that every operator and tensor of `graph` can be translated.

    Raises:
        SourceError: One cannot; all unsupported operators are named.
    """
    for op in graph.operators:
        for number in (*op.inputs, *op.outputs):
            if number >= 0:
                _check_tensor(graph.tensors[number], may_vary=op.op in recurrent.VARIABLES)
    unknown = [op for op in graph.operators if op.op not in RULES]
    if unknown:
        named = dict.fromkeys(_refusal(graph, op) for op in unknown)
        raise SourceError(f"operators not supported: {'; '.join(named)}", hint=_way_out(graph, unknown))


def _way_out(graph: TfliteGraph, unknown: list[TfliteOperator]) -> str:
    """Says what to do; where only the end of the file is unknown, it can be cut off."""
    made = {number for op in unknown for number in op.outputs}
    last = all(n in graph.outputs or not any(n in op.inputs for op in graph.operators) for n in made)
    before = [n for op in unknown for n in op.inputs if n >= 0 and graph.tensors[n].data is None and n not in made]
    if last and before:
        names = ", ".join(f'"{graph.tensors[n].name}"' for n in dict.fromkeys(before))
        return f"it stands at the end: import the network before it with outputs = [{names}], and decode these yourself"
    return "import the model from the framework it was made with (PyTorch or ONNX), or convert without them"


def _check_tensor(tensor: TfliteTensor, *, may_vary: bool) -> None:
    activation = tensor.data is None
    what = next(
        (
            words
            for wrong, words in (
                (math.prod(tensor.shape) > _MAX_ELEMENTS, f"of {math.prod(tensor.shape)} elements"),
                (tensor.sparse, "sparse"),
                (tensor.variable and not may_vary, "a variable, which keeps its value between runs"),
                (tensor.details != 0, "quantised in blocks or by a method of its own"),
                (tensor.dtype.startswith("type "), f"of element {tensor.dtype}"),
                (activation and tensor.dtype == "int4", "an activation of 4 bits"),
                (activation and len(tensor.scale) > 1 and tensor.scaled, "an activation with a scale per channel"),
            )
            if wrong
        ),
        None,
    )
    if what:
        raise SourceError(
            f'tensor "{tensor.name}" is {what}, which is not supported',
            hint="convert the model without it, or import it from PyTorch or ONNX",
        )


def _refusal(graph: TfliteGraph, op: TfliteOperator) -> str:
    name = graph.tensors[op.outputs[0]].name if op.outputs else "nothing"
    return f'{op.op} (writes tensor "{name}")'
