"""The kernels of TensorFlow Lite Micro: what each takes, and what it keeps in the arena.

Sizes are those of the structs in tensorflow/lite/micro/kernels (`OpData...`) and in c/builtin_op_data.h (options), as
lists of fields (see `layout`); they are held against the interpreter of the package `tflite-micro`, operator by
operator, by `tests/targets/test_micro_kernels.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

INT8 = ("int8",)
FLOAT = ("float32",)
BOTH = ("int8", "float32")
ALL = ("int8", "int16", "float32")
WIDE = (*ALL, "int32")
ANY = (*WIDE, "bool")


@dataclass(frozen=True, slots=True)
class Kernel:
    """One operator.

    Attributes:
        add: Method of `MicroMutableOpResolver` that registers it, without `Add`.
        types: Types of its first computed input that it runs.
        data: Fields of what it keeps from `Init` on; empty for nothing.
        options: Fields of its parsed options; empty where it has none.
        channels: Input whose quantised channels get a multiplier and a shift each, 4 bytes both; -1 for none.
    """

    add: str
    types: tuple[str, ...]
    data: str = ""
    options: str = ""
    channels: int = -1


def _same(names: str, types: tuple[str, ...], data: str = "", options: str = "") -> dict[str, Kernel]:
    """Returns kernels of one kind; `NAME:Method` where the method is not the name in camel case."""
    pairs = (entry.partition(":") for entry in names.split())
    return {op: Kernel(method or camel(op), types, data, options) for op, _, method in pairs}


def camel(op: str) -> str:
    """Returns `LeakyRelu` for `LEAKY_RELU`."""
    return "".join(part.capitalize() for part in op.split("_"))


_CONV = "9i 2p 3i 2c"
_WINDOW = "7i"
KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "CONV_2D": Kernel("Conv2D", ALL, _CONV, _WINDOW, 1),
        "DEPTHWISE_CONV_2D": Kernel("DepthwiseConv2D", ALL, _CONV, _WINDOW, 1),
        "TRANSPOSE_CONV": Kernel("TransposeConv", ALL, "18i 2p", "5i", 1),
        "FULLY_CONNECTED": Kernel("FullyConnected", ALL, "9i 2p b 2c", "4i 2p", 1),
        "BATCH_MATMUL": Kernel("BatchMatMul", ALL, "3p b", "3b"),
        "AVERAGE_POOL_2D": Kernel("AveragePool2D", ALL, "6i 2f", "10i"),
        "MAX_POOL_2D": Kernel("MaxPool2D", ALL, "6i 2f", "10i"),
        "L2_POOL_2D": Kernel("L2Pool2D", FLOAT, "5i", "10i"),
        "ADD": Kernel("Add", WIDE, "b 12i 2f", "2i"),
        "SUB": Kernel("Sub", WIDE, "b 12i", "2i"),
        "MUL": Kernel("Mul", WIDE, "7i 2f", "i"),
        "DIV": Kernel("Div", (*BOTH, "int32"), "7i", "i"),
        "SQUARED_DIFFERENCE": Kernel("SquaredDifference", WIDE, "28i"),
        "SOFTMAX": Kernel("Softmax", ALL, "d 5i 2p i f 3p", "f"),
        "CONCATENATION": Kernel("Concatenation", ANY, "b 2p h i f 10c", "2i"),
        "PAD": Kernel("Pad", ALL, "14i"),
        "PADV2": Kernel("PadV2", ALL, "14i"),
        "MIRROR_PAD": Kernel("MirrorPad", BOTH, "5i", "i"),
        "STRIDED_SLICE": Kernel("StridedSlice", ANY, "21i", "6i"),
        "RESHAPE": Kernel("Reshape", ANY, "", "9i"),
        "SQUEEZE": Kernel("Squeeze", ANY, "", "9i"),
        "LEAKY_RELU": Kernel("LeakyRelu", ALL, "6i", "f"),
        "L2_NORMALIZATION": Kernel("L2Normalization", BOTH, "i", "i"),
        "GATHER": Kernel("Gather", BOTH, "5i", "2i"),
        "CUMSUM": Kernel("CumSum", BOTH, "9i", "2b"),
        "SELECT_V2": Kernel("SelectV2", ALL, "b"),
        "PRELU": Kernel("Prelu", BOTH, "7i"),
        "QUANTIZE": Kernel("Quantize", WIDE, "8i"),
        "DEQUANTIZE": Kernel("Dequantize", ("int8", "int16", "uint8"), "8i"),
        "CAST": Kernel("Cast", ANY, "", "2i"),
        "HARD_SWISH": Kernel("HardSwish", BOTH, "5i"),
        "ELU": Kernel("Elu", BOTH, "64i"),
        "RELU": Kernel("Relu", ALL, "7i"),
        "RELU6": Kernel("Relu6", ALL, "2i"),
        "RSQRT": Kernel("Rsqrt", ("int16", "float32"), "7i"),
        **_same("LOGISTIC TANH", ALL, "4i"),
        **_same("ABS", ALL, "7i"),
        **_same("MEAN SUM", ALL, "11i", "b"),
        **_same("REDUCE_MAX REDUCE_MIN", BOTH, "11i", "b"),
        **_same("DEPTH_TO_SPACE SPACE_TO_DEPTH", BOTH, "5i", "i"),
        **_same("SPACE_TO_BATCH_ND", BOTH, "i"),
        **_same("BATCH_TO_SPACE_ND", BOTH),
        **_same("GATHER_ND", BOTH, "4i"),
        **_same("RESIZE_NEAREST_NEIGHBOR", ALL, "", "2b"),
        **_same("RESIZE_BILINEAR", BOTH, "", "2b"),
        **_same("SPLIT SPLIT_V", WIDE, "", "i"),
        **_same("PACK UNPACK", WIDE, "", "2i"),
        **_same("ARG_MAX ARG_MIN", BOTH, "", "i"),
        **_same("MAXIMUM MINIMUM", WIDE),
        **_same("TRANSPOSE EXPAND_DIMS", ALL),
        **_same("SLICE BROADCAST_TO", ANY),
        **_same("GREATER", WIDE, "8i"),
        **_same("EQUAL NOT_EQUAL", (*BOTH, "int32", "bool"), "8i"),
        **_same("GREATER_EQUAL LESS LESS_EQUAL", (*BOTH, "int32"), "8i"),
        **_same("NEG EXP SQRT SQUARE LOG SIN COS FLOOR CEIL ROUND FLOOR_MOD", FLOAT),
        **_same("LOG_SOFTMAX", BOTH, "5i 2p"),
        **_same("ZEROS_LIKE", (*BOTH, "int32")),
        **_same("FILL", (*BOTH, "int32")),
        **_same("REVERSE_V2", (*ALL, "int32", "bool")),
        **_same("SHAPE", ANY, "", "i"),
        **_same("LOGICAL_AND LOGICAL_OR LOGICAL_NOT", ("bool",)),
    }
)
