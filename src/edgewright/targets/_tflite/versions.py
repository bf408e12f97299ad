"""Versions of operators: the lowest that knows the types and options at hand, so that older runtimes refuse the file.

Source: `op_version.cc` of TensorFlow Lite 2.19. Stricter in one place: a product with one weight scale per channel asks
for the version in which runtimes first look at more than the first scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgewright.targets._tflite.file import Tensor

_I8, _I16 = "int8", "int16"
_TWO_THREE = {_I8: 2, _I16: 3}
_TWO_FOUR = {_I8: 2, _I16: 4}
_BOTH_TWO = {_I8: 2, _I16: 2}
_EXTREME = {_I8: 2, "bool": 3}
_TWO = {_I8: 2}
_BY_TYPE: Mapping[str, Mapping[str, int]] = {
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D", "TANH", "LOGISTIC", "BATCH_MATMUL", "PAD", "PADV2"), _TWO_THREE),
    **dict.fromkeys(("SOFTMAX", "MEAN", "MIRROR_PAD", "REDUCE_MAX", "REDUCE_MIN", "RELU6", "RSQRT"), _TWO_THREE),
    **dict.fromkeys(("LESS", "GREATER_EQUAL", "TOPK_V2"), _TWO_THREE),
    **dict.fromkeys(("L2_NORMALIZATION", "SPACE_TO_DEPTH", "SPLIT_V", "SUM", "LOG_SOFTMAX", "GREATER"), _TWO),
    **dict.fromkeys(("LESS_EQUAL", "SQUARED_DIFFERENCE", "DEPTH_TO_SPACE", "NOT_EQUAL"), _TWO),
    **dict.fromkeys(("EXP", "LOG", "REDUCE_PROD"), _BOTH_TWO),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "MAXIMUM", "MINIMUM"), _TWO_FOUR),
    **dict.fromkeys(("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"), _TWO_FOUR),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), _EXTREME),
    "EQUAL": {_I8: 2, _I16: 4},
    "TRANSPOSE": {_I8: 2, "bool": 3, _I16: 5},
    "SPLIT": {_I8: 2, "int32": 3, _I16: 4},
    "SLICE": {_I8: 2, _I16: 4, "uint32": 6},
    "UNPACK": {_I8: 2, "uint8": 2, "bool": 3, _I16: 4},
    "DEQUANTIZE": {_I8: 2, _I16: 3, "float16": 3, "int4": 6},
    "ABS": {_I8: 2, "uint8": 2, _I16: 3, "int32": 5},
    "RELU": {_I8: 2, "uint8": 2, _I16: 3},
    "STRIDED_SLICE": {_I8: 2, "bool": 3, "uint32": 7},
    "REVERSE_V2": {_I8: 3, "bool": 2},
    "PACK": {_I8: 2, _I16: 3, "uint32": 4},
    "CONCATENATION": {_I8: 2, _I16: 3, "uint32": 4},
    "TILE": {_I8: 3},
    "ADD": {_I8: 2, _I16: 3, "int64": 4},
    "SUB": {_I8: 2, _I16: 5, "int64": 4},
    "MUL": {_I8: 2, _I16: 4, "int64": 5, "uint32": 7},
    "GATHER": {_I8: 2, _I16: 4, "bool": 3, "int4": 7},
    "GATHER_ND": {_I16: 3, "bool": 5},
    "FILL": {_I8: 3, _I16: 3, "bool": 2},
    "LEAKY_RELU": {_I16: 2},
    "GELU": {_I8: 2, "uint8": 2},
    "SIGN": {"int32": 2},
    "RANGE": {"int64": 2},
    "SELECT_V2": {"uint32": 2},
    "BROADCAST_TO": {_I8: 3, _I16: 3},
}
_LOWEST = {"BROADCAST_TO": 2}
"""Its first version was taken back."""
_DATA_AT = {"SPLIT": 1, "FILL": 1, "TRANSPOSE_CONV": 2, "SELECT_V2": 1}
_WIDE = {"TRANSPOSE": 4, "SLICE": 5, "STRIDED_SLICE": 4, "PAD": 4, "PADV2": 4}
"""Version that takes more than four axes."""
_BROADCAST = {"MAXIMUM": 3, "MINIMUM": 3, "SUB": 3, "DIV": 2}
"""Version that broadcasts over more than four axes."""

Given = Sequence[Tensor | None]
Extra = Callable[[Given, Given, Mapping[str, Any]], int]


def version_of(op: str, inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    """Returns the version of an operator.

    Args:
        op: Name in the schema.
        inputs: None for one left out.
        outputs: Likewise.
        fields: Of its options.
    """
    at = _DATA_AT.get(op, 0)
    data = inputs[at] if at < len(inputs) else None
    found = max(_LOWEST.get(op, 1), _BY_TYPE.get(op, {}).get(data.dtype, 1) if data is not None else 1)
    ranks = [len(each.shape) for each in inputs if each is not None]
    if data is not None and len(data.shape) > 4:
        found = max(found, _WIDE.get(op, 1))
    if len({each.shape for each in inputs[:2] if each is not None}) > 1 and max(ranks, default=0) > 4:
        found = max(found, _BROADCAST.get(op, 1))
    extra = _EXTRA.get(op)
    return found if extra is None else max(found, extra(inputs, outputs, fields))


def _hybrid(inputs: Given) -> bool:
    data, weights = inputs[:2]
    return data is not None and weights is not None and data.dtype == "float32" and weights.dtype == _I8


def _per_axis(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.quantisation is not None and tensor.quantisation.axis is not None


def _dtype(tensors: Given, index: int = 0) -> str:
    found = tensors[index] if index < len(tensors) else None
    return "" if found is None else found.dtype


def _conv(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    data, weights = inputs[0], inputs[1]
    grouped = data is not None and weights is not None and data.shape[-1] != weights.shape[-1]
    if grouped:
        return 6
    if _hybrid(inputs):
        return 5 if _per_axis(weights) else 2
    return {_I8: 3, _I16: 4}.get(_dtype(inputs), 1)


def _depthwise(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    if _hybrid(inputs):
        return 6 if _per_axis(inputs[1]) else 4
    dilated = fields.get("dilationWFactor", 1) != 1 or fields.get("dilationHFactor", 1) != 1
    return {_I8: 3, _I16: 5}.get(_dtype(inputs), 2 if dilated else 1)


def _fully_connected(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    if _per_axis(inputs[1]):
        return 12
    found = {_I8: 4, _I16: 7}.get(_dtype(inputs), 1)
    if _hybrid(inputs):
        found = 9 if fields.get("asymmetricQuantizeInputs") else 3
    if fields.get("keepNumDims"):
        found = max(found, 5)
    return max(found, 6) if len(inputs) == 2 or inputs[2] is None else found


def _transposed(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    if fields.get("fusedActivationFunction"):
        return 4
    if len(inputs) > 3 and inputs[3] is not None:
        return 3
    return 2 if _dtype(inputs, 1) == _I8 else 1


def _mul(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    scales = [each.quantisation.scale[0] for each in (*inputs, *outputs) if each is not None and each.quantisation]
    if len(scales) == 3:
        return 3 if scales[0] * scales[1] / scales[2] >= 1.0 else 1
    return 7 if _dtype(inputs) == _I16 else 1


def _add(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    plain = inputs[0] is not None and inputs[0].quantisation is None
    return 5 if _dtype(inputs) == _I16 and plain else 1


def _dequantize(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    return 5 if _per_axis(inputs[0]) else 1


def _quantize(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    return 3 if _per_axis(outputs[0]) else 2 if _dtype(outputs) == _I16 else 1


def _resize(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    return 3 if fields.get("halfPixelCenters") or fields.get("alignCorners") else 1


def _strided_slice(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    if fields.get("offset"):
        return 8
    return 6 if fields.get("ellipsisMask") or fields.get("newAxisMask") else 1


def _gather(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    return 6 if _dtype(inputs, 1) == _I16 else 5 if fields.get("batchDims") else 1


def _batch_matmul(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    return 4 if _hybrid(inputs) and fields.get("asymmetricQuantizeInputs") else 1


_CAST = (("int4", 6), ("float64", 5), ("float16", 5), ("uint16", 4), (_I8, 3), ("uint32", 2))


def _cast(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    kinds = {_dtype(inputs), _dtype(outputs)}
    return next((version for kind, version in _CAST if kind in kinds), 1)


def _transpose(inputs: Given, outputs: Given, fields: Mapping[str, Any]) -> int:
    return 6 if inputs[0] is not None and len(inputs[0].shape) > 5 else 1


_EXTRA: Mapping[str, Extra] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transposed,
    "MUL": _mul,
    "ADD": _add,
    "DEQUANTIZE": _dequantize,
    "QUANTIZE": _quantize,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "STRIDED_SLICE": _strided_slice,
    "GATHER": _gather,
    "BATCH_MATMUL": _batch_matmul,
    "CAST": _cast,
    "TRANSPOSE": _transpose,
}
