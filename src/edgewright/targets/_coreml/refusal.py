"""Says before anything is paid for what Core ML, its converter or the bridge to it cannot take."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from edgewright.errors import SourceError
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, is_constant
from edgewright.targets._coreml.options import QUANTISERS, Options

MOST_AXES = 5
_KNOWN = frozenset({"INT8", "UINT8"})
_BORDER = frozenset({"FLOAT", "FLOAT16", "DOUBLE", "INT64", "INT32", "INT16", "INT8", "UINT8", "UINT16", "BOOL"})
_UNKNOWN = {
    "If": "branches at run time",
    "Loop": "loops at run time",
    "Scan": "loops at run time",
    "NonZero": "results whose size depends on the data",
    "Unique": "results whose size depends on the data",
    "Compress": "results whose size depends on the data",
    "DynamicQuantizeLinear": "quantisation by the range of each input",
    "MatMulInteger": "products of integers",
    "ConvInteger": "products of integers",
    "QLinearConv": "products of integers",
    "QLinearMatMul": "products of integers",
    "Det": "determinants",
    "STFT": "spectra",
    "DFT": "spectra",
}
"""Operators that the bridge converts, and what of them an ML program made by coremltools cannot hold."""


def refusals(model: ir.Model, options: Options) -> Iterator[str]:
    """Yields one sentence per reason."""
    yield from free_axes(model)
    yield from _border(model)
    yield from _bridge(model)
    for node in model.graph:
        if node.op_type in _UNKNOWN and node.domain in ("", "ai.onnx"):
            yield f"node {node.name} ({node.op_type}): Core ML has no {_UNKNOWN[node.op_type]}"
        elif node.op_type in (QUANTIZE, DEQUANTIZE):
            yield from _quantiser(node, options)


def free_axes(model: ir.Model) -> Iterator[str]:
    """Yields one sentence per input with a free axis that is not the batch: packages are made with fixed sizes."""
    for value in _inputs(model):
        named = [(axis, getattr(size, "value", size)) for axis, size in enumerate(value.shape or ())]
        free = [f'"{size}"' if size else str(axis) for axis, size in named if axis and not isinstance(size, int)]
        if free:
            yield f'input "{value.name}": axis {", ".join(free)} has no fixed size, which a Core ML package needs here'


def _border(model: ir.Model) -> Iterator[str]:
    for side, values in (("input", _inputs(model)), ("output", list(model.graph.outputs))):
        for value in values:
            axes = None if value.shape is None else len(value.shape)
            if axes is not None and not 1 <= axes <= MOST_AXES:
                yield f'{side} "{value.name}" has {axes} axes, Core ML takes 1 to {MOST_AXES}'
            if value.dtype is not None and value.dtype.name not in _BORDER:
                yield f'{side} "{value.name}" is {value.dtype.name.lower()}, which Core ML has no tensors of'


def _bridge(model: ir.Model) -> Iterator[str]:
    """Asks the bridge to PyTorch, node by node."""
    from edgewright.graph.bridge import claims, oldest_opset
    from edgewright.graph.bridge.convert import check
    from edgewright.graph.opset import opset

    known, version = claims(), opset(model)
    strange = False
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        name = f"node {node.name} ({node.domain + '.' if node.domain else ''}{node.op_type})"
        if node.domain not in ("", "ai.onnx") or node.op_type not in known:
            strange = True
            yield f"{name}: the bridge to PyTorch, which leads to Core ML, does not know this operator"
        elif version < oldest_opset(node.op_type):
            strange = True
            yield f"{name}: opset {version}, the bridge to PyTorch takes it from opset {oldest_opset(node.op_type)} on"
    if not strange and not model.functions:
        try:
            check(model)
        except SourceError as error:
            yield error.message


def _quantiser(node: ir.Node, options: Options) -> Iterator[str]:
    if len(node.inputs) < 2 or node.inputs[0] is None:
        return
    where = f"node {node.name} ({node.op_type})"
    stored = is_constant(node.inputs[0])
    integers = node.outputs[0] if node.op_type == QUANTIZE else node.inputs[0]
    kind = integers.dtype.name if integers.dtype is not None else "UINT8"
    if not is_constant(node.inputs[1]):
        yield f"{where}: its scale is computed at run time, Core ML needs a constant one"
    elif node.attributes.get_int("block_size", 0):
        yield f"{where}: weights in blocks are not supported here, expand them or use one scale per channel"
    elif stored:
        return
    elif kind not in _KNOWN:
        yield f"{where}: activations of {kind.lower()}, Core ML has quantisers to int8 and uint8"
    elif options.release < QUANTISERS:
        yield f"{where}: activations are quantised from iOS17 on, minimum is {options.minimum}"


def _inputs(model: ir.Model) -> list[ir.Value]:
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]
