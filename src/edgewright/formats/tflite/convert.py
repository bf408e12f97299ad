"""A TensorFlow Lite graph as ONNX, float: int8 weights are turned into the float values they stand for."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.errors import SourceError
from edgewright.formats.tflite import pointwise, shaping, spatial
from edgewright.formats.tflite.emitter import Emitter
from edgewright.formats.tflite.reader import TfliteGraph, TfliteOperator, TfliteTensor

OPSET = 18
RULES = {**spatial.RULES, **pointwise.RULES, **shaping.RULES}
_INTEGERS = ("int8", "uint8", "int16")


def to_onnx(graph: TfliteGraph) -> ir.Model:
    """Translates `graph`; images become channels-first inside, inputs and outputs keep the file's layout and names.

    Raises:
        SourceError: An operator is not supported (it is named with its tensor), or the activations are quantised.
    """
    check_supported(graph)
    emitter = Emitter(graph)
    inputs = [emitter.add_input(number) for number in graph.inputs]
    for op in graph.operators:
        RULES[op.op](emitter, op)
    outputs = [_output(emitter, number, inputs) for number in graph.outputs]
    made = ir.Graph(
        inputs,
        outputs,
        nodes=emitter.nodes,
        initializers=emitter.initializers,
        opset_imports={"": OPSET},
        name="tflite",
    )
    return ir.Model(made, ir_version=8, producer_name="edgewright")


def has_integer_weights(graph: TfliteGraph) -> bool:
    """Returns whether constants are stored as scaled integers (dynamic-range quantisation)."""
    return any(t.data is not None and t.scale and t.dtype in _INTEGERS for t in graph.tensors)


def check_supported(graph: TfliteGraph) -> None:
    """Checks that every operator and tensor of `graph` can be translated.

    Raises:
        SourceError: One cannot; all unsupported operators are named.
    """
    for number in {n for op in graph.operators for n in (*op.inputs, *op.outputs) if n >= 0}:
        _check_tensor(graph.tensors[number])
    refused = [_refusal(graph, op) for op in graph.operators if op.op not in RULES]
    if refused:
        raise SourceError(
            f"operators not supported: {'; '.join(dict.fromkeys(refused))}",
            hint="import the model from the framework it was made with (PyTorch or ONNX), or convert without them",
        )


def _check_tensor(tensor: TfliteTensor) -> None:
    if tensor.data is None and tensor.scale and tensor.dtype in _INTEGERS:
        raise SourceError(
            f'tensor "{tensor.name}" is a quantised {tensor.dtype} activation: fully quantised files are not read yet',
            hint="give the float file (or the one with int8 weights only) that it was made from",
        )
    if tensor.variable or tensor.sparse or tensor.dtype.startswith("type "):
        kind = "a variable" if tensor.variable else "sparse" if tensor.sparse else f"of element {tensor.dtype}"
        raise SourceError(
            f'tensor "{tensor.name}" is {kind}, which is not supported',
            hint="convert the model without it, or import it from PyTorch or ONNX",
        )


def _refusal(graph: TfliteGraph, op: TfliteOperator) -> str:
    name = graph.tensors[op.outputs[0]].name if op.outputs else "nothing"
    return f'{op.op} (writes tensor "{name}")'


def _output(emitter: Emitter, number: int, inputs: list[ir.Value]) -> ir.Value:
    value = emitter.last(number)
    if value in inputs or value.producer() is None:
        value = emitter.node("Identity", [value], emitter.tensor(number).name)
        emitter.store(number, value, first=False)
    return value
