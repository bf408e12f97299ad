"""Each operator rule against LiteRT, on small files built in code."""

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
from edgewright.formats.tflite.convert import to_onnx
from edgewright.formats.tflite.reader import parse
from edgewright.graph.check import check_file
from edgewright.graph.load import save, tensor_specs
from edgewright.graph.tidy import tidy
from edgewright.sources._feeds import make_feeds
from edgewright.sources._litert import interpreter_evaluator, with_float_weights
from edgewright.sources._verify import Difference, compare, onnxruntime_evaluator
from edgewright.testing._tflite_options import options

RNG = np.random.default_rng(7)


def weights(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def compared(content: bytes, folder: Path, reference: bytes | None = None) -> tuple[Difference, list[str]]:
    model, _ = tidy(to_onnx(parse(content)))
    path = save(model, folder)
    check_file(path)
    inputs, outputs = tensor_specs(model)
    feeds = make_feeds(None, inputs, 3, seed=1)
    litert = interpreter_evaluator(reference or content, [spec.name for spec in outputs])
    difference = compare(litert, onnxruntime_evaluator(path), feeds.batches)
    assert difference.samples == 3
    return difference, [node.op_type for node in model.graph]


CONV = {"strideH": 2, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
DEPTHWISE = {"strideH": 2, "strideW": 2, "depthMultiplier": 2, "dilationHFactor": 1, "dilationWFactor": 1}
POOL = {"strideH": 2, "strideW": 2, "filterHeight": 3, "filterWidth": 3}
I32 = "int32"
SHAPE = (1, 7, 9, 4)


def case(op: str, shapes: Sequence[Any], out: tuple[int, ...], made: Any = None) -> Any:
    """`shapes`: the inputs in order; an array is a constant, a tuple an activation."""
    return pytest.param(op, shapes, out, made, id=f"{op}-{len(shapes)}-{'x'.join(map(str, out))}")


CASES = [
    case("CONV_2D", [SHAPE, weights(5, 3, 3, 4), weights(5)], (1, 4, 9, 5), options("Conv2D", **CONV)),
    case("CONV_2D", [SHAPE, weights(5, 3, 3, 4), weights(5)], (1, 3, 7, 5), options("Conv2D", **CONV, padding=1)),
    case(
        "CONV_2D",
        [SHAPE, weights(5, 3, 3, 4), weights(5)],
        (1, 7, 9, 5),
        options("Conv2D", strideH=1, strideW=1, dilationHFactor=2, dilationWFactor=3, fusedActivationFunction=3),
    ),
    case(
        "DEPTHWISE_CONV_2D",
        [SHAPE, weights(1, 3, 3, 8), weights(8)],
        (1, 4, 5, 8),
        options("DepthwiseConv2D", **DEPTHWISE, fusedActivationFunction=1),
    ),
    case(
        "TRANSPOSE_CONV",
        [np.asarray([1, 14, 18, 3], np.int32), weights(3, 3, 3, 4), SHAPE],
        (1, 14, 18, 3),
        options("TransposeConv", strideH=2, strideW=2),
    ),
    case("AVERAGE_POOL_2D", [SHAPE], (1, 4, 5, 4), options("Pool2D", **POOL)),
    case("MAX_POOL_2D", [SHAPE], (1, 3, 4, 4), options("Pool2D", **POOL, padding=1)),
    case(
        "FULLY_CONNECTED",
        [(1, 12), weights(5, 12), weights(5)],
        (1, 5),
        options("FullyConnected", fusedActivationFunction=1),
    ),
    case(
        "FULLY_CONNECTED",
        [(1, 3, 4), weights(5, 4), weights(5)],
        (1, 3, 5),
        options("FullyConnected", keepNumDims=True),
    ),
    case("FULLY_CONNECTED", [(1, 2, 6), weights(5, 12), weights(5)], (1, 5), options("FullyConnected")),
    case("ADD", [SHAPE, weights(4)], SHAPE, options("Add", fusedActivationFunction=1)),
    case("MUL", [SHAPE, SHAPE], SHAPE, options("Mul")),
    case("SUB", [weights(1, 1, 1, 4), SHAPE], SHAPE, options("Sub")),
    case("DIV", [SHAPE, np.float32([2.5])], SHAPE, options("Div")),
    case("MAXIMUM", [SHAPE, weights(4)], SHAPE, options("MaximumMinimum")),
    case("SQUARED_DIFFERENCE", [SHAPE, weights(4)], SHAPE, options("SquaredDifference")),
    case("PRELU", [SHAPE, weights(1, 1, 4)], SHAPE),
    case("RELU6", [SHAPE], SHAPE),
    case("RELU_N1_TO_1", [SHAPE], SHAPE),
    case("LEAKY_RELU", [SHAPE], SHAPE, options("LeakyRelu", alpha=0.3)),
    case("HARD_SWISH", [SHAPE], SHAPE, options("HardSwish")),
    case("LOGISTIC", [SHAPE], SHAPE),
    case("TANH", [SHAPE], SHAPE),
    case("GELU", [SHAPE], SHAPE, options("Gelu", approximate=True)),
    case("GELU", [(1, 8)], (1, 8), options("Gelu", approximate=False)),
    case("SOFTMAX", [(1, 9)], (1, 9), options("Softmax", beta=1.0)),
    case("SOFTMAX", [(1, 4, 9)], (1, 4, 9), options("Softmax", beta=0.5)),
    case("LOG_SOFTMAX", [(1, 9)], (1, 9), options("LogSoftmax")),
    case("RESHAPE", [SHAPE, np.int32([1, 252])], (1, 252), options("Reshape", newShape=[1, 252])),
    case("SQUEEZE", [(1, 1, 9)], (1, 9), options("Squeeze", squeezeDims=[1])),
    case("TRANSPOSE", [SHAPE, np.int32([0, 2, 1, 3])], (1, 9, 7, 4), options("Transpose")),
    case("TRANSPOSE", [SHAPE, np.int32([0, 3, 1, 2])], (1, 4, 7, 9), options("Transpose")),
    case("TRANSPOSE", [SHAPE, np.int32([0, 2, 3, 1])], (1, 9, 4, 7), options("Transpose")),
    case("PAD", [SHAPE, np.int32([[0, 0], [1, 2], [0, 3], [0, 0]])], (1, 10, 12, 4), options("Pad")),
    case(
        "PADV2",
        [SHAPE, np.int32([[0, 0], [1, 2], [0, 3], [2, 0]]), np.float32([1.5])],
        (1, 10, 12, 6),
        options("PadV2"),
    ),
    case("MIRROR_PAD", [SHAPE, np.int32([[0, 0], [2, 2], [1, 0], [0, 0]])], (1, 11, 10, 4), options("MirrorPad")),
    case("CONCATENATION", [SHAPE, SHAPE], (1, 7, 9, 8), options("Concatenation", axis=3)),
    case("CONCATENATION", [SHAPE, SHAPE], (1, 14, 9, 4), options("Concatenation", axis=-3)),
    case("MEAN", [SHAPE, np.int32([1, 2])], (1, 4), options("Reducer")),
    case("MEAN", [SHAPE, np.int32([1, 2])], (1, 1, 1, 4), options("Reducer", keepDims=True)),
    case("SUM", [SHAPE, np.int32([3])], (1, 7, 9), options("Reducer")),
    case("REDUCE_MAX", [SHAPE, np.int32([-1])], (1, 7, 9, 1), options("Reducer", keepDims=True)),
    case(
        "RESIZE_BILINEAR", [SHAPE, np.int32([14, 12])], (1, 14, 12, 4), options("ResizeBilinear", halfPixelCenters=True)
    ),
    case("RESIZE_BILINEAR", [SHAPE, np.int32([14, 12])], (1, 14, 12, 4), options("ResizeBilinear", alignCorners=True)),
    case("RESIZE_BILINEAR", [SHAPE, np.int32([14, 12])], (1, 14, 12, 4), options("ResizeBilinear")),
    case("RESIZE_NEAREST_NEIGHBOR", [SHAPE, np.int32([14, 12])], (1, 14, 12, 4), options("ResizeNearestNeighbor")),
    case(
        "RESIZE_NEAREST_NEIGHBOR",
        [SHAPE, np.int32([15, 4])],
        (1, 15, 4, 4),
        options("ResizeNearestNeighbor", halfPixelCenters=True),
    ),
    case("DEPTH_TO_SPACE", [(1, 3, 2, 8)], (1, 6, 4, 2), options("DepthToSpace", blockSize=2)),
    case("SPACE_TO_DEPTH", [(1, 6, 4, 2)], (1, 3, 2, 8), options("SpaceToDepth", blockSize=2)),
    case(
        "STRIDED_SLICE",
        [SHAPE, np.int32([0, 1, -5, 0]), np.int32([1, 6, -1, 0]), np.int32([1, 2, 1, 1])],
        (1, 3, 4, 4),
        options("StridedSlice", endMask=8),
    ),
    case(
        "STRIDED_SLICE",
        [(1, 5, 6), np.int32([0, -1, 0]), np.int32([0, 0, 0]), np.int32([1, 1, 1])],
        (1, 6),
        options("StridedSlice", beginMask=5, endMask=5, shrinkAxisMask=2),
    ),
    case("SLICE", [SHAPE, np.int32([0, 1, 2, 0]), np.int32([-1, 3, -1, 2])], (1, 3, 7, 2), options("Slice")),
    case("ARG_MAX", [(1, 9), np.int32([1])], (1,), options("ArgMax", outputType=schema.TensorType.INT32)),
    case("EXP", [SHAPE], SHAPE, options("Exp")),
    case("SQUARE", [SHAPE], SHAPE, options("Square")),
    case("ABS", [SHAPE], SHAPE, options("Abs")),
]


@pytest.mark.sample(7)
@pytest.mark.parametrize(("op", "given", "out", "made"), CASES)
@pytest.mark.parametrize("around", [False, True], ids=["alone", "after-a-pool"])
def test_operator_agrees_with_litert(
    op: str,
    given: Sequence[Any],
    out: tuple[int, ...],
    made: Any,
    around: bool,
    build_tflite: Any,
    tensor: Any,
    tmp_path: Path,
) -> None:
    """Alone, and behind a 1x1 pool, which makes its 4-D inputs channels-first inside."""
    tensors: list[Any] = []
    operators: list[Any] = []
    takes: list[int] = []
    inputs: list[int] = []
    for value in given:
        if isinstance(value, np.ndarray):
            tensors.append(tensor(value.shape, value, value.dtype.name))
        else:
            tensors.append(tensor(value))
            inputs.append(len(tensors) - 1)
            if around and len(value) == 4:
                tensors.append(tensor(value))
                one = options("Pool2D", strideH=1, strideW=1, filterHeight=1, filterWidth=1)
                operators.append(("MAX_POOL_2D", [len(tensors) - 2], [len(tensors) - 1], one))
        takes.append(len(tensors) - 1)
    tensors.append(tensor(out, None, "int32" if op == "ARG_MAX" else "float32"))
    operators.append((op, takes, [len(tensors) - 1], made))
    difference, _ = compared(build_tflite(tensors, operators, inputs, [len(tensors) - 1]), tmp_path)
    assert difference.snr_db is None or difference.snr_db > 100


def test_split_agrees_with_litert(build_tflite: Any, tensor: Any, tmp_path: Path) -> None:
    tensors = [tensor((), np.int32(3), I32), tensor(SHAPE), tensor((1, 7, 9, 2)), tensor((1, 7, 9, 2))]
    content = build_tflite(tensors, [("SPLIT", [0, 1], [2, 3], options("Split", numSplits=2))], [1], [2, 3])
    difference, _ = compared(content, tmp_path)
    assert difference.largest == 0


def test_chain_of_convolutions_needs_one_transpose_each_way(build_tflite: Any, tensor: Any, tmp_path: Path) -> None:
    one = options("Conv2D", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    kernel, bias = weights(4, 3, 3, 4), weights(4)
    tensors = [tensor(SHAPE), tensor(kernel.shape, kernel), tensor((4,), bias), *(tensor(SHAPE) for _ in range(4))]
    operators = [
        ("CONV_2D", [0, 1, 2], [3], one),
        ("RELU6", [3], [4], None),
        ("ADD", [4, 3], [5], options("Add", fusedActivationFunction=1)),
        ("CONV_2D", [5, 1, 2], [6], one),
    ]
    difference, ops = compared(build_tflite(tensors, operators, [0], [6]), tmp_path)
    assert ops.count("Transpose") == 2
    assert ops[0] == ops[-1] == "Transpose"
    assert difference.snr_db is None or difference.snr_db > 100


@pytest.mark.parametrize("per_axis", [False, True])
def test_integer_weights_become_the_floats_they_stand_for(
    per_axis: bool, build_tflite: Any, tensor: Any, tmp_path: Path
) -> None:
    stored = RNG.integers(-127, 128, (5, 3, 3, 4)).astype(np.int8)
    scale = tuple(RNG.uniform(0.001, 0.1, 5 if per_axis else 1))
    tensors = [
        tensor(SHAPE),
        tensor(stored.shape, stored, "int8", scale),
        tensor((5,), weights(5)),
        tensor((1, 4, 9, 5)),
    ]
    content = build_tflite(tensors, [("CONV_2D", [0, 1, 2], [3], options("Conv2D", **CONV))], [0], [3])
    graph = parse(content)
    expected = stored * np.asarray(scale, np.float32).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(graph.tensors[1].real(), expected, rtol=1e-6)
    difference, _ = compared(content, tmp_path, reference=with_float_weights(content))
    assert difference.snr_db is None or difference.snr_db > 100


def test_dynamic_batch_stays_dynamic(build_tflite: Any, tensor: Any, tmp_path: Path) -> None:
    tensors = [
        tensor(SHAPE, signature=(-1, 7, 9, 4)),
        tensor((2,), np.int32([-1, 252]), I32),
        tensor((1, 252), signature=(-1, 252)),
    ]
    content = build_tflite(tensors, [("RESHAPE", [0, 1], [2], options("Reshape", newShape=[-1, 252]))], [0], [2])
    path = save(tidy(to_onnx(parse(content)))[0], tmp_path)
    found = onnxruntime_evaluator(path)({"t0": np.zeros((3, 7, 9, 4), np.float32)})
    assert found["t2"].shape == (3, 252)


def test_unsupported_operator_is_named_with_its_tensor(build_tflite: Any, tensor: Any) -> None:
    content = build_tflite([tensor((1, 8)), tensor((1, 8))], [("BITCAST", [0], [1], None)], [0], [1])
    with pytest.raises(SourceError, match=r'BITCAST \(writes tensor "t1"\)'):
        to_onnx(parse(content))


def test_custom_operator_is_named(build_tflite: Any, tensor: Any) -> None:
    content = build_tflite([tensor((1, 8)), tensor((1, 8))], [("CUSTOM", [0], [1], None)], [0], [1], custom="MyOp")
    with pytest.raises(SourceError, match="CUSTOM MyOp"):
        to_onnx(parse(content))
