"""The oldest TensorFlow Lite runtime that knows the operators of a file.

Source: tensorflow/lite/tools/versioning/runtime_version.cc. Listed is what came after 2.3.0, the release whose
operators take 8-bit weights per channel.
"""

from __future__ import annotations

from collections.abc import Iterable

ENTRY = "min_runtime_version"
_SIZE = 16
_OLDEST = (2, 3, 0)
_LATER = """
2.4.0: ADD 3, BATCH_MATMUL 3, CONV_2D 5, CUMSUM 1, GATHER 4, MEAN 3, PAD 3, PADV2 3, RESIZE_NEAREST_NEIGHBOR 4, SLICE 4
2.4.0: SUB 4, SUB 5, TRANSPOSE 5, ABS 2
2.5.0: BATCH_MATMUL 4, BROADCAST_TO 2, BROADCAST_TO 3, DEPTH_TO_SPACE 2, FILL 3, GATHER 5, GATHER_ND 3, REDUCE_MAX 3
2.5.0: REDUCE_MIN 3, RELU 3, RELU6 3, RESIZE_BILINEAR 4, REVERSE_V2 3, RSQRT 2, SLICE 5, SQUARED_DIFFERENCE 2
2.5.0: SQUEEZE 2, STRIDED_SLICE 5, ABS 3
2.6.0: ADD 4, MUL 5, PAD 4, PADV2 4, REDUCE_ALL 1, REDUCE_PROD 2, STRIDED_SLICE 6, ABS 4
2.7.0: CAST 2, DEQUANTIZE 5, QUANTIZE 3
2.8.0: CAST 3, TILE 3, WHERE 2
2.9.0: ARG_MAX 3, ARG_MIN 3, CAST 4, CONV_2D 6, GELU 1, GELU 2
2.10.0: ATAN2 1, RELU_0_TO_1 1
2.11.0: CONV_2D 7, DEPTHWISE_CONV_2D 7, FULLY_CONNECTED 10, MUL 6, SIGN 1
2.12.0: ABS 5, CAST 5, FILL 4, MIRROR_PAD 3, SELECT 3, SIGN 2, TILE 4, TRANSPOSE 6, UNIDIRECTIONAL_SEQUENCE_LSTM 4
2.13.0: TRANSPOSE_CONV 4
"""


def _read(listed: str) -> dict[tuple[str, int], tuple[int, ...]]:
    found = {}
    for line in listed.strip().splitlines():
        release, _, entries = line.partition(": ")
        for entry in entries.split(", "):
            op, _, version = entry.partition(" ")
            found[op, int(version)] = tuple(map(int, release.split(".")))
    return found


_SINCE = _read(_LATER)


def least_runtime(operators: Iterable[tuple[str, int]]) -> str:
    """Returns a release, e.g. `2.4.0`.

    Args:
        operators: Name and version of every operator of the file.
    """
    return ".".join(map(str, max((_SINCE.get(each, _OLDEST) for each in operators), default=_OLDEST)))


def least_runtime_entry(operators: Iterable[tuple[str, int]]) -> bytes:
    """Returns the content of the metadata entry: 16 bytes."""
    return least_runtime(operators).encode().ljust(_SIZE, b"\0")
