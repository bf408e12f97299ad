"""Inputs and outputs of the file: names, layouts and types."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.errors import StepFailed
from edgewright.graph.channels_last import DOMAIN, order_of
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE
from edgewright.graph.shapes import static_shape
from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.options import Border, Options
from edgewright.targets._tflite.stored import parameters

_TO_LAST = (0, 2, 3, 1)
_SPATIAL = frozenset({"Conv", "MaxPool", "AveragePool", "Resize", "SpaceToDepth", "ConvTranspose"})


def moved_borders(graph: ir.Graph, options: Options) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the inputs and outputs that the file has channels-last: images, where asked."""
    if not options.channels_last:
        return frozenset(), frozenset()
    taken = [value.name or "" for value in graph.inputs if _image(value)]
    given = [value.name or "" for value in graph.outputs if _feature_map(value)]
    return frozenset(taken), frozenset(given)


def named_inputs(emission: Emission, graph: ir.Graph) -> dict[str, tuple[int, Border | None]]:
    """Declares the inputs of the file; name -> tensor and border, None where nothing differs."""
    found: dict[str, tuple[int, Border | None]] = {}
    for value in graph.inputs:
        if value.name in graph.initializers:
            continue
        quantiser = _sole_quantiser(value) if emission.options.integer_only else None
        number = emission.take(value, quantiser=quantiser, dtype=emission.options.integer_only)
        found[value.name or ""] = (number, _border(emission, number, value))
    return found


def named_outputs(emission: Emission, graph: ir.Graph) -> dict[str, tuple[int, Border | None]]:
    """Finds the outputs of the file; name -> tensor and border."""
    found: dict[str, tuple[int, Border | None]] = {}
    for value in graph.outputs:
        number = emission.give(value, emission.options.integer_only)
        found[value.name or ""] = (number, _border(emission, number, value))
    return found


def _border(emission: Emission, number: int, value: ir.Value) -> Border | None:
    tensor = emission.tensor(number)
    perm = order_of(value)
    given = tensor.quantisation if value.dtype == ir.DataType.FLOAT else None
    scale, zero = (0.0, 0) if given is None else (given.scale[0], given.zero_point[0])
    return Border(perm, tensor.dtype, scale, zero) if perm or given is not None else None


def _image(value: ir.Value) -> bool:
    return _rank(value) == 4 and any(_reaches_spatial(use.node) for use in value.uses())


def _reaches_spatial(node: ir.Node) -> bool:
    """Looks through the quantisers that stand before an image's first operator."""
    if node.op_type in (QUANTIZE, DEQUANTIZE, "Pad", "Sub", "Mul", "Div", "Add", "Slice", "Concat"):
        return any(_reaches_spatial(use.node) for output in node.outputs for use in output.uses())
    return node.op_type in _SPATIAL or node.domain == DOMAIN


def _feature_map(value: ir.Value) -> bool:
    node = value.producer()
    while node is not None and node.op_type in (QUANTIZE, DEQUANTIZE, "Sigmoid", "Relu", "Clip") and node.inputs[0]:
        node = node.inputs[0].producer()
    return _rank(value) == 4 and node is not None and node.op_type in ("Conv", "ConvTranspose", "Resize")


def _rank(value: ir.Value) -> int:
    return len(static_shape(value) or ())


def _sole_quantiser(value: ir.Value) -> ir.Node | None:
    users = [use.node for use in value.uses()]
    if users and all(user.op_type == QUANTIZE for user in users) and len({parameters(user) for user in users}) == 1:
        return users[0]
    if value.dtype is not None and value.dtype.is_integer():
        return None
    raise StepFailed(
        f'input "{value.name}" is not quantised, so the file cannot take integers',
        hint="quantise the whole model: static-int8 with the scheme litert-s8s8-full, nothing kept in float",
    )
