"""Rules for indexing, ranking, comparing, recurrent layers and merged groups against LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert.schema_py_generated")
pytest.importorskip("onnxruntime")

from ai_edge_litert import schema_py_generated as schema

from edgewright.errors import SourceError
from edgewright.formats.tflite.convert import differences, to_onnx
from edgewright.formats.tflite.reader import parse
from edgewright.graph.check import check_file
from edgewright.graph.load import save, tensor_specs
from edgewright.graph.tidy import tidy
from edgewright.sources._feeds import make_feeds
from edgewright.sources._litert import interpreter_evaluator
from edgewright.sources._verify import Difference, compare, onnxruntime_evaluator
from edgewright.testing._tflite_options import options

RNG = np.random.default_rng(11)
SHAPE = (1, 6, 8, 4)


def numbers(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: Any) -> Any:
    return np.asarray(values, np.int32)


class Variable:
    """A state that starts from zero."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape


def compared(content: bytes, folder: Path) -> tuple[Difference, list[str]]:
    model, _ = tidy(to_onnx(parse(content)))
    path = save(model, folder)
    check_file(path)
    inputs, outputs = tensor_specs(model)
    feeds = make_feeds(None, inputs, 3, seed=1)
    litert = interpreter_evaluator(content, [spec.name for spec in outputs])
    return compare(litert, onnxruntime_evaluator(path), feeds.batches), [node.op_type for node in model.graph]


def case(op: str, given: Sequence[Any], outs: Any, made: Any = None, name: str = "") -> Any:
    """`given`: an array is a constant, a shape a float activation, (type, shape) another; `outs` likewise."""
    return pytest.param(op, given, outs if isinstance(outs, list) else [outs], made, id=f"{op}{name and '-' + name}")


def typed(value: Any) -> tuple[str, tuple[int, ...]]:
    return value if value and isinstance(value[0], str) else ("float32", value)


STRIDED = {"beginMask": 0, "endMask": 0, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0}
LSTM = {"fusedActivationFunction": schema.ActivationFunctionType.TANH}
H, WIDTH = 5, 3


def lstm(steps: int, *, coupled: bool = False, peepholes: bool = False) -> list[Any]:
    no_input = [None] if coupled else [numbers(H, WIDTH)]
    no_state = [None] if coupled else [numbers(H, H)]
    no_bias = [None] if coupled else [numbers(H)]
    holes = [None if coupled else numbers(H), numbers(H), numbers(H)] if peepholes else [None] * 3
    return [
        (2, steps, WIDTH),
        *no_input,
        *(numbers(H, WIDTH) for _ in range(3)),
        *no_state,
        *(numbers(H, H) for _ in range(3)),
        *holes,
        *no_bias,
        *(numbers(H) for _ in range(3)),
        None,
        None,
        Variable(2, H),
        Variable(2, H),
    ]


def both_ways() -> list[Any]:
    """One sequence: of several, LiteRT 2.3 computes all but the first wrongly where both directions are joined."""
    one = lambda: [*(numbers(H, WIDTH) for _ in range(4)), *(numbers(H, H) for _ in range(4)), *[None] * 3]  # noqa: E731
    ends = lambda: [*(numbers(H) for _ in range(4)), None, None]  # noqa: E731
    return [(1, 4, WIDTH), *one(), *ends(), *one(), *ends(), *(Variable(1, H) for _ in range(4)), *[None] * 9]


CASES = [
    case("COS", [SHAPE], SHAPE, options("Cos")),
    case("SIN", [SHAPE], SHAPE),
    case("ROUND", [SHAPE], SHAPE),
    case("SIGN", [SHAPE], SHAPE),
    case("NEG", [SHAPE], SHAPE, options("Neg")),
    case(
        "RSQRT",
        [
            numbers(3) ** 2 + 1,
        ],
        (3,),
        None,
        "constant",
    ),
    case("POW", [np.abs(numbers(3)), (2, 3)], (2, 3), options("Pow")),
    case("FLOOR_DIV", [SHAPE, numbers(4)], SHAPE, options("FloorDiv")),
    case("FLOOR_DIV", [("int32", (2, 3)), ints([-3, 2, 5])], ("int32", (2, 3)), options("FloorDiv"), "integers"),
    case("FLOOR_MOD", [SHAPE, np.float32([2.5])], SHAPE, options("FloorMod")),
    case("FLOOR_MOD", [("int32", (2, 3)), ints([-3, 2, 5])], ("int32", (2, 3)), options("FloorMod"), "integers"),
    case("ATAN2", [SHAPE, SHAPE], SHAPE, options("ATan2")),
    case("RIGHT_SHIFT", [ints([-9, 7, 64]), ("int32", (2, 3))], ("int32", (2, 3)), options("RightShift")),
    case("BITWISE_XOR", [ints([-9, 7, 64]), ("int32", (2, 3))], ("int32", (2, 3)), options("BitwiseXor")),
    case(
        "CONV_3D",
        [(1, 5, 6, 7, 2), numbers(3, 2, 3, 2, 4), numbers(4)],
        (1, 3, 3, 4, 4),
        options("Conv3D", strideD=2, strideH=2, strideW=2, dilationDFactor=1, dilationHFactor=1, dilationWFactor=1),
    ),
    case(
        "CONV_3D_TRANSPOSE",
        [ints(1, 6, 6, 8, 3), numbers(3, 2, 3, 3, 2), (1, 3, 3, 4, 2), numbers(3)],
        (1, 6, 6, 8, 3),
        options("Conv3D", strideD=2, strideH=2, strideW=2, dilationDFactor=1, dilationHFactor=1, dilationWFactor=1),
    ),
    case("ADD_N", [SHAPE, SHAPE, SHAPE], SHAPE, options("AddN")),
    case("L2_NORMALIZATION", [SHAPE], SHAPE, options("L2Norm")),
    case("ZEROS_LIKE", [SHAPE], SHAPE, options("ZerosLike")),
    *(
        case(op, [SHAPE, SHAPE], ("bool", SHAPE), options(kind))
        for op, kind in (
            ("EQUAL", "Equal"),
            ("NOT_EQUAL", "NotEqual"),
            ("GREATER", "Greater"),
            ("GREATER_EQUAL", "GreaterEqual"),
            ("LESS", "Less"),
            ("LESS_EQUAL", "LessEqual"),
        )
    ),
    case("LOGICAL_AND", [("bool", SHAPE), ("bool", SHAPE)], ("bool", SHAPE), options("LogicalAnd")),
    case("LOGICAL_OR", [("bool", SHAPE), ("bool", SHAPE)], ("bool", SHAPE), options("LogicalOr")),
    case("LOGICAL_NOT", [("bool", SHAPE)], ("bool", SHAPE), options("LogicalNot")),
    case("SELECT_V2", [("bool", SHAPE), SHAPE, numbers(4)], SHAPE, options("SelectV2")),
    case("SELECT", [("bool", (3,)), (3, 4), (3, 4)], (3, 4), options("Select"), "rows"),
    case("CAST", [("int32", (2, 3))], (2, 3), options("Cast", inDataType=2, outDataType=0)),
    case("CAST", [SHAPE], ("int32", SHAPE), options("Cast", inDataType=0, outDataType=2), "to integers"),
    case("GATHER", [(5, 4), ints([3, 1, 0])], (1, 3, 4), options("Gather", axis=0)),
    case("GATHER", [(2, 5, 4), ints(3, 1)], (2, 5, 2), options("Gather", axis=-1), "last axis"),
    case("GATHER", [(2, 5, 4), ints([3, 1], [0, 4])], (2, 2, 4), options("Gather", axis=1, batchDims=1), "batch"),
    case("GATHER", [numbers(9, 4), ("int32", (1, 6))], (1, 6, 4), options("Gather"), "table"),
    case("EMBEDDING_LOOKUP", [("int32", (6,)), numbers(9, 4)], (6, 4)),
    case("GATHER_ND", [(5, 4), ints([3, 1], [0, 2])], (2,), options("GatherNd")),
    case("SCATTER_ND", [ints([3], [1], [3]), (3, 2), ints(5, 2)], (5, 2), options("ScatterNd")),
    case(
        "SPLIT_V",
        [SHAPE, ints(1, 3, 2), ints(1)],
        [(1, 1, 8, 4), (1, 3, 8, 4), (1, 2, 8, 4)],
        options("SplitV", numSplits=3),
    ),
    case("PACK", [(2, 3), (2, 3)], (2, 2, 3), options("Pack", valuesCount=2, axis=1)),
    case("UNPACK", [(2, 3, 4)], [(2, 4)] * 3, options("Unpack", num=3, axis=1)),
    case("REVERSE_V2", [SHAPE, ints(1, 2)], SHAPE, options("ReverseV2")),
    case("REVERSE_SEQUENCE", [(2, 4, 3), ints(2, 4)], (2, 4, 3), options("ReverseSequence", seqDim=1, batchDim=0)),
    case("TILE", [(2, 3), ints(2, 1)], (4, 3), options("Tile")),
    case("BROADCAST_TO", [(1, 3), ints(4, 3)], (4, 3), options("BroadcastTo")),
    case("FILL", [ints(2, 3), ()], (2, 3), options("Fill")),
    case("ARG_MAX", [SHAPE, ints(3)], ("int64", (1, 6, 8)), options("ArgMax", outputType=4)),
    case("ARG_MIN", [(2, 5), ints(-1)], ("int32", (2,)), options("ArgMin", outputType=2)),
    case("TOPK_V2", [(2, 9), ints(3).reshape(())], [(2, 3), ("int32", (2, 3))], options("TopKV2")),
    case(
        "ONE_HOT",
        [("int32", (4,)), ints(3).reshape(()), np.asarray(2, np.float32), np.asarray(-1, np.float32)],
        (4, 3),
        options("OneHot", axis=-1),
    ),
    case("CUMSUM", [(2, 5), ints(1).reshape(())], (2, 5), options("Cumsum")),
    case("CUMSUM", [(2, 5), ints(0).reshape(())], (2, 5), options("Cumsum", exclusive=True, reverse=True), "back"),
    case("BATCH_MATMUL", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), options("BatchMatMul")),
    case("BATCH_MATMUL", [(2, 4, 3), (2, 5, 4)], (2, 3, 5), options("BatchMatMul", adjX=True, adjY=True), "turned"),
    case("BATCH_MATMUL", [(2, 3, 4), numbers(5, 4)], (2, 3, 5), options("BatchMatMul", adjY=True), "constant"),
    case("FULLY_CONNECTED", [(3, 4), (5, 4)], (3, 5), options("FullyConnected"), "computed weights"),
    case("REDUCE_PROD", [(2, 5), ints(1)], (2,), options("Reducer")),
    case("REDUCE_ANY", [("bool", (2, 3)), ints(1)], ("bool", (2,)), options("Reducer")),
    case("REDUCE_ALL", [("bool", (2, 3)), ints(1)], ("bool", (2,)), options("Reducer")),
    case("MEAN", [SHAPE, ints(3)], (1, 6, 8), options("Reducer"), "channels"),
    case("SOFTMAX", [SHAPE], SHAPE, options("Softmax", beta=1.0)),
    case("L2_POOL_2D", [SHAPE], (1, 3, 4, 4), options("Pool2D", strideH=2, strideW=2, filterHeight=2, filterWidth=2)),
    case(
        "LOCAL_RESPONSE_NORMALIZATION",
        [(1, 3, 3, 9)],
        (1, 3, 3, 9),
        options("LocalResponseNormalization", radius=2, bias=1.5, alpha=0.3, beta=0.7),
    ),
    case("SPACE_TO_BATCH_ND", [SHAPE, ints(2, 3), ints([1, 1], [0, 1])], (6, 4, 3, 4), options("SpaceToBatchND")),
    case("BATCH_TO_SPACE_ND", [(6, 4, 3, 4), ints(2, 3), ints([1, 1], [0, 1])], SHAPE, options("BatchToSpaceND")),
    case("SPACE_TO_BATCH_ND", [(1, 7, 4), ints(2), ints([1, 0])], (2, 4, 4), options("SpaceToBatchND"), "sequence"),
    case("MIRROR_PAD", [SHAPE, ints([0, 0], [1, 1], [0, 1], [0, 0])], (1, 8, 9, 4), options("MirrorPad", mode=1)),
    case(
        "STRIDED_SLICE",
        [SHAPE, ints(0, 1), ints(0, 3), ints(1, 1)],
        (1, 6, 8, 2),
        options("StridedSlice", **{**STRIDED, "ellipsisMask": 1}),
        "ellipsis",
    ),
    case(
        "STRIDED_SLICE",
        [(3, 5), ints(0, 0, 2), ints(0, 0, 3), ints(1, 1, 1)],
        (3, 1),
        options("StridedSlice", **{**STRIDED, "newAxisMask": 2, "beginMask": 1, "endMask": 1, "shrinkAxisMask": 4}),
        "new axis",
    ),
    case(
        "STRIDED_SLICE",
        [(3, 5), ints(2, 4), ints(-4, -6), ints(-1, -2)],
        (3, 3),
        options("StridedSlice", **STRIDED),
        "backwards",
    ),
    case("UNIDIRECTIONAL_SEQUENCE_LSTM", lstm(4), (2, 4, H), options("UnidirectionalSequenceLSTM", **LSTM)),
    case(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        lstm(8),
        (2, 8, H),
        options("UnidirectionalSequenceLSTM", **LSTM, cellClip=10.0),
        "clipped as Keras does",
    ),
    case(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        lstm(4, coupled=True, peepholes=True),
        (2, 4, H),
        options("UnidirectionalSequenceLSTM", **LSTM),
        "coupled peepholes",
    ),
    case(
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        both_ways(),
        (1, 4, 2 * H),
        options("BidirectionalSequenceLSTM", **LSTM, mergeOutputs=True, timeMajor=False),
    ),
    case(
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        both_ways(),
        [(1, 4, H), (1, 4, H)],
        options("BidirectionalSequenceLSTM", **LSTM, mergeOutputs=False, timeMajor=False),
        "apart",
    ),
    case(
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        [(2, 4, WIDTH), numbers(H, WIDTH), numbers(H, H), numbers(H), Variable(2, H)],
        (2, 4, H),
        options("SequenceRNN", **LSTM),
    ),
]


@pytest.mark.sample(7)
@pytest.mark.parametrize(("op", "given", "outs", "made"), CASES)
def test_operator_agrees_with_litert(
    op: str, given: Sequence[Any], outs: Sequence[Any], made: Any, build_tflite: Any, tensor: Any, tmp_path: Path
) -> None:
    tensors, takes, inputs = [], [], []
    for value in given:
        if value is None:
            takes.append(-1)
            continue
        takes.append(len(tensors))
        if isinstance(value, np.ndarray):
            tensors.append(tensor(value.shape, value, value.dtype.name))
        elif isinstance(value, Variable):
            tensors.append(tensor(value.shape, variable=True))
        else:
            inputs.append(len(tensors))
            tensors.append(tensor(typed(value)[1], None, typed(value)[0]))
    gives = range(len(tensors), len(tensors) + len(outs))
    tensors += [tensor(typed(value)[1], None, typed(value)[0]) for value in outs]
    difference, _ = compared(build_tflite(tensors, [(op, takes, list(gives), made)], inputs, list(gives)), tmp_path)
    assert difference.samples == 3
    assert difference.snr_db is None or difference.snr_db > 95


def placed(given: Sequence[Any], tensor: Any) -> tuple[list[Any], list[int]]:
    """Tensors, and their numbers as an operator reads them."""
    tensors, takes = [], []
    for value in given:
        takes.append(-1 if value is None else len(tensors))
        if value is not None:
            shape = value if isinstance(value, tuple) else value.shape
            data = value if isinstance(value, np.ndarray) else None
            tensors.append(tensor(shape, data, variable=isinstance(value, Variable)))
    return tensors, takes


@pytest.mark.parametrize(("steps", "told"), [(8, 0), (11, 1)])
def test_a_clipped_cell_state_is_told_where_it_may_matter(
    steps: int, told: int, build_tflite: Any, tensor: Any
) -> None:
    tensors, takes = placed(lstm(steps), tensor)
    tensors.append(tensor((2, steps, H)))
    made = options("UnidirectionalSequenceLSTM", **LSTM, cellClip=10.0)
    output = len(tensors) - 1
    graph = parse(build_tflite(tensors, [("UNIDIRECTIONAL_SEQUENCE_LSTM", takes, [output], made)], [0], [output]))
    assert len(differences(graph)) == told


def test_an_operator_with_a_projection_is_refused(build_tflite: Any, tensor: Any) -> None:
    given = lstm(4)
    given[16] = numbers(H, H)
    tensors, takes = placed(given, tensor)
    tensors.append(tensor((2, 4, H)))
    output, made = len(tensors) - 1, options("UnidirectionalSequenceLSTM", **LSTM)
    content = build_tflite(tensors, [("UNIDIRECTIONAL_SEQUENCE_LSTM", takes, [output], made)], [0], [output])
    with pytest.raises(SourceError, match="with a projection or layer normalisation is not supported"):
        to_onnx(parse(content))
