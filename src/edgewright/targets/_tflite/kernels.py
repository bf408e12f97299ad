"""Which operators LiteRT computes in integers, in which types, and what it asks of their scales.

Found by running each kernel of LiteRT 2.3, its own and XNNPACK's (`tests/targets/tflite/test_integer_kernels.py`), and
held against the 8-bit quantisation specification (ai.google.dev/edge/litert/conversion/tensorflow/quantization/
quantization_spec), which is stricter than some kernels: MAXIMUM computes with unequal scales, wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import onnx_ir as ir

from edgewright.graph.quantisers import DEQUANTIZE, Numbers, is_constant
from edgewright.targets._tflite.fusion import NONE, RELU_N1_TO_1, activation_code

MOVES, PICKS, AVERAGES, COMPUTES, WEIGHS, READS = "moves", "picks", "averages", "computes", "weighs", "reads"
INT8, INT16 = "int8", "int16"
_BOTH, _NARROW = frozenset({INT8, INT16}), frozenset({INT8})


@dataclass(frozen=True, slots=True)
class Kernel:
    """What an operator does with integers.

    Attributes:
        kind: `moves` values, or `picks` some of them in order (one scale on all sides, nothing rounded); `averages`
            (one scale, rounds); `computes` (any scales); `weighs` (weights, bias and any scales); `reads` (its result
            is no real number).
        types: Of activations.
        fixed: Type -> scale and zero point of the result, whatever the data.
        many: All inputs are data, not the first alone.
    """

    kind: str
    types: frozenset[str] = _BOTH
    fixed: Mapping[str, Numbers] = field(default_factory=dict)
    many: bool = False


def _fixed(scale: float, zero: int, short: float = 0.0) -> Mapping[str, Numbers]:
    found = {INT8: Numbers(INT8, scale, zero)}
    return {**found, INT16: Numbers(INT16, short, 0)} if short else found


_UNIT = _fixed(1 / 256, -128, 1 / 32768)
KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        **dict.fromkeys(
            ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose", "Slice", "Split", "Gather"),
            Kernel(MOVES),
        ),
        **dict.fromkeys(("GatherND", "Pad", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin"), Kernel(MOVES)),
        **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), Kernel(MOVES, _NARROW)),
        **dict.fromkeys(("Expand", "Tile"), Kernel(MOVES)),
        "Concat": Kernel(MOVES, many=True),
        "Where": Kernel(MOVES, many=True),
        "Resize": Kernel(AVERAGES),
        "AveragePool": Kernel(AVERAGES),
        **dict.fromkeys(("Max", "Min"), Kernel(PICKS, many=True)),
        **dict.fromkeys(("Relu", "Clip"), Kernel(PICKS)),
        **dict.fromkeys(("Add", "Sub", "Mul"), Kernel(COMPUTES, many=True)),
        "PRelu": Kernel(COMPUTES, _NARROW, many=True),
        **dict.fromkeys(("GlobalAveragePool", "ReduceMean", "ReduceSum", "LeakyRelu", "Abs"), Kernel(COMPUTES)),
        **dict.fromkeys(("Gelu", "Exp"), Kernel(COMPUTES)),
        **dict.fromkeys(("HardSwish", "Elu", "Log"), Kernel(COMPUTES, _NARROW)),
        **dict.fromkeys(("Sigmoid", "Softmax"), Kernel(COMPUTES, fixed=_UNIT)),
        "Tanh": Kernel(COMPUTES, fixed=_fixed(1 / 128, 0, 1 / 32768)),
        "LogSoftmax": Kernel(COMPUTES, _NARROW, _fixed(16 / 256, 127)),
        "LpNormalization": Kernel(COMPUTES, _NARROW, _fixed(1 / 128, 0)),
        **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "FullyConnected"), Kernel(WEIGHS)),
        "BatchMatMul": Kernel(COMPUTES, many=True),
        **dict.fromkeys(("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"), Kernel(READS, many=True)),
        **dict.fromkeys(("ArgMax", "ArgMin"), Kernel(READS, _NARROW)),
    }
)


def kernel(node: ir.Node) -> Kernel | None:
    """Returns the integer kernel of a node; None where it has none."""
    found = KERNELS.get(node.op_type)
    if node.op_type == "MatMul" and not (constant_data(node.inputs[1]) and rank_of(node.inputs[1]) == 2):
        return KERNELS["BatchMatMul"]
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") == "nearest":
        return Kernel(MOVES)
    if node.op_type == "Resize" and node.attributes.get_string("mode") == "cubic":
        return None
    if node.op_type == "Pad" and node.attributes.get_string("mode", "constant") == "constant" and not _zeros(node):
        return Kernel(PICKS)
    if node.op_type == "Clip" and activation_code(node) == RELU_N1_TO_1:
        return Kernel(PICKS, _NARROW)
    return found


def data_inputs(node: ir.Node, found: Kernel) -> tuple[int, ...]:
    """Returns the indices of the inputs that hold data, not sizes, indices or weights."""
    if node.op_type == "Where":
        return 1, 2
    if node.op_type == "Clip" and activation_code(node) == NONE:
        return tuple(index for index, value in enumerate(node.inputs) if value is not None)
    return tuple(range(len(node.inputs))) if found.many else (0,)


def constant_data(value: ir.Value | None) -> bool:
    """Says whether a value is known before the model runs, also behind a DequantizeLinear."""
    made = value.producer() if value is not None else None
    return is_constant(value) or (made is not None and made.op_type == DEQUANTIZE and is_constant(made.inputs[0]))


def rank_of(value: ir.Value | None) -> int:
    """Returns how many axes a value has; 0 where that is not known."""
    return len(value.shape) if value is not None and value.shape is not None else 0


def _zeros(node: ir.Node) -> bool:
    """Says whether a Pad pads with zeros, which every integer type says exactly."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    array = None if value is None else ir.convenience.get_const_tensor(value)
    return value is None or (array is not None and not array.numpy().any())
