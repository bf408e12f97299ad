"""Element types of ONNX in PyTorch.

Types that PyTorch cannot hold are held one value each in the nearest one that can: 4-bit and 2-bit integers in
`int8` and `uint8`, 4-bit floats in `float32`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from edgewright.errors import SourceError

Kind = ir.DataType

HELD_IN: dict[Kind, torch.dtype] = {
    Kind.FLOAT: torch.float32, Kind.DOUBLE: torch.float64, Kind.FLOAT16: torch.float16, Kind.BFLOAT16: torch.bfloat16,
    Kind.INT8: torch.int8, Kind.INT16: torch.int16, Kind.INT32: torch.int32, Kind.INT64: torch.int64,
    Kind.UINT8: torch.uint8, Kind.UINT16: torch.uint16, Kind.UINT32: torch.uint32, Kind.UINT64: torch.uint64,
    Kind.BOOL: torch.bool, Kind.COMPLEX64: torch.complex64, Kind.COMPLEX128: torch.complex128,
    Kind.FLOAT8E4M3FN: torch.float8_e4m3fn, Kind.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    Kind.FLOAT8E5M2: torch.float8_e5m2, Kind.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    Kind.INT4: torch.int8, Kind.UINT4: torch.uint8, Kind.INT2: torch.int8, Kind.UINT2: torch.uint8,
    Kind.FLOAT4E2M1: torch.float32, Kind.FLOAT8E8M0: torch.float8_e8m0fnu,
}  # fmt: skip

INTEGER_BITS: dict[Kind, tuple[bool, int]] = {
    Kind.INT2: (True, 2), Kind.INT4: (True, 4), Kind.INT8: (True, 8), Kind.INT16: (True, 16), Kind.INT32: (True, 32),
    Kind.UINT2: (False, 2), Kind.UINT4: (False, 4), Kind.UINT8: (False, 8), Kind.UINT16: (False, 16),
    Kind.UINT32: (False, 32),
}  # fmt: skip
"""Signed or not, and width, of the integers that quantisation writes."""

WIDE_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
"""PyTorch stores these and does next to no arithmetic in them."""
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz, torch.float8_e8m0fnu)
_BITS = {torch.bfloat16: np.int16, **dict.fromkeys(FLOAT8, np.uint8)}


def torch_dtype(kind: Kind | int) -> torch.dtype:
    """Returns the PyTorch type that holds elements of `kind`.

    Raises:
        SourceError: None does: strings and undefined types.
    """
    kind = Kind(kind)
    if kind not in HELD_IN:
        raise SourceError(
            f"elements of type {kind.name.lower()} cannot be held in PyTorch",
            hint="take strings out of the model: convert text to numbers before it",
        )
    return HELD_IN[kind]


def kind_of(tensor: Tensor) -> Kind:
    """Returns the ONNX type of a tensor, where several are held alike the one of the same name."""
    return next(kind for kind, dtype in HELD_IN.items() if dtype == tensor.dtype)


def integer_range(kind: Kind) -> tuple[int, int]:
    """Returns the smallest and the largest value of an integer type."""
    signed, bits = INTEGER_BITS[kind]
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def to_tensor(array: np.ndarray[Any, Any], kind: Kind | None = None) -> Tensor:
    """Copies an array, of ONNX's narrow types too, into a tensor.

    Args:
        array: Any shape; narrow types as `ml_dtypes` has them.
        kind: The ONNX type, found from the array when None.
    """
    dtype = torch_dtype(Kind.from_numpy(array.dtype) if kind is None else kind)
    if dtype in _BITS:
        return torch.from_numpy(array.view(_BITS[dtype]).copy()).view(dtype)
    if array.dtype.kind not in "fiubc":
        array = array.astype(np.float32 if dtype == torch.float32 else np.int8 if dtype == torch.int8 else np.uint8)
    array = array.astype(array.dtype.newbyteorder("="), copy=True)
    return torch.from_numpy(np.array(array, order="C")).to(dtype)


def to_array(tensor: Tensor, kind: Kind | None = None) -> np.ndarray[Any, Any]:
    """Copies a tensor into an array of ONNX type `kind`; of the tensor's own type when None."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype in _BITS:
        named = kind or kind_of(tensor)
        bits = torch.int16 if tensor.dtype == torch.bfloat16 else torch.uint8
        return np.array(tensor.view(bits).numpy()).view(named.numpy())
    array = np.array(tensor.numpy())
    return array if kind is None else array.astype(kind.numpy(), copy=False)
