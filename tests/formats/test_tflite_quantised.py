"""Quantised operators: the imported graph against LiteRT, in steps of the output's integers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

pytest.importorskip("ai_edge_litert.schema_py_generated")
pytest.importorskip("onnxruntime")

from ai_edge_litert import schema_py_generated as schema

from edgewright.errors import Corrupt, SourceError
from edgewright.formats.tflite.convert import to_onnx
from edgewright.formats.tflite.reader import parse
from edgewright.graph.check import check_file
from edgewright.graph.load import load, save
from edgewright.graph.qdq import read_plan
from edgewright.graph.tidy import tidy
from edgewright.sources._litert import interpreter_evaluator
from edgewright.sources._verify import onnxruntime_evaluator
from edgewright.testing._tflite_options import options

RNG = np.random.default_rng(23)
SHAPE = (1, 6, 8, 4)
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
GRIDS = {"int8": (0.05, 3), "uint8": (0.05, 120), "int16": (0.0002, 0)}


class Weights:
    """Stored integers: int8 per channel along `axis`, or one scale; the old uint8 files have a zero point too."""

    def __init__(self, *shape: int, axis: int | None = None) -> None:
        self.shape, self.axis = shape, axis


class Bias:
    """Integers of 32 bits (64 for 16-bit activations), scale = input x weights."""

    def __init__(self, size: int) -> None:
        self.size = size


class As:
    """An activation with a grid of its own."""

    def __init__(self, shape: tuple[int, ...], scale: float, zero: int, dtype: str = "") -> None:
        self.shape, self.scale, self.zero, self.dtype = shape, scale, zero, dtype


def ints(*values: Any) -> Any:
    return np.asarray(values, np.int32)


def built(op: str, given: Sequence[Any], outs: Sequence[Any], made: Any, dtype: str, build: Any, tensor: Any) -> bytes:
    scale = GRIDS[dtype][0]
    tensors: list[Any] = []
    inputs: list[int] = []
    stored = "uint8" if dtype == "uint8" else "int8"
    scales: tuple[float, ...] = (1.0,)
    for value in given:
        if isinstance(value, np.ndarray):
            tensors.append(tensor(value.shape, value, value.dtype.name))
        elif isinstance(value, Weights):
            count = 1 if value.axis is None or stored == "uint8" else value.shape[value.axis]
            scales = tuple(float(s) for s in RNG.uniform(0.005, 0.02, count))
            low, high, middle = (-127, 127, 0) if stored == "int8" else (0, 255, 131)
            numbers = RNG.integers(low, high, value.shape, endpoint=True)
            tensors.append(tensor(value.shape, numbers, stored, scales, (middle,) * count, value.axis or 0))
        elif isinstance(value, Bias):
            kind = "int64" if dtype == "int16" else "int32"
            sums = tuple(scale * s for s in scales)
            numbers = np.rint(RNG.normal(0, 0.5, value.size) / np.asarray(sums))
            tensors.append(tensor((value.size,), numbers, kind, sums))
        else:
            inputs.append(len(tensors))
            tensors.append(activation(value, dtype, tensor))
    gives = [*range(len(tensors), len(tensors) + len(outs))]
    count = len(tensors)
    tensors += [activation(value, dtype, tensor) for value in outs]
    return bytes(build(tensors, [(op, range(count), gives, made)], inputs, gives))


def activation(value: Any, dtype: str, tensor: Any) -> Any:
    if isinstance(value, As):
        return tensor(value.shape, None, value.dtype or dtype, (value.scale,), (value.zero,))
    return tensor(value, None, dtype, (GRIDS[dtype][0],), (GRIDS[dtype][1],))


def steps(content: bytes, folder: Path) -> int:
    """Returns by how many steps an output is apart at most, on integers from end to end of the inputs' types."""
    graph = parse(content)
    model, _ = tidy(to_onnx(graph))
    path = save(model, folder)
    check_file(path)
    outputs = [graph.tensors[n] for n in graph.outputs]
    litert = interpreter_evaluator(content, [t.name for t in outputs])
    imported = onnxruntime_evaluator(path, literal=True)
    worst = 0
    for _ in range(3):
        feed = {}
        for number in graph.inputs:
            t = graph.tensors[number]
            values = RNG.integers(*LIMITS[t.dtype], t.shape, endpoint=True)
            feed[t.name] = ((values - t.zero_point[0]) * t.scale[0]).astype(np.float32)
        expected, found = litert(feed), imported(feed)
        for t in outputs:
            assert np.ptp(expected[t.name]) > 3 * t.scale[0]
            apart = np.abs(expected[t.name] - found[t.name]) / t.scale[0]
            worst = max(worst, int(np.rint(apart.max())))
    return worst


CONV = {"strideH": 2, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
POOL = {"strideH": 2, "strideW": 2, "filterHeight": 3, "filterWidth": 3}
ALL, BYTES, SMALL = ("int8", "uint8", "int16"), ("int8", "uint8"), ("int8",)
FIXED = {"int8": (1 / 256, -128), "uint8": (1 / 256, 0), "int16": (1 / 32768, 0)}
TANH = {"int8": (1 / 128, 0), "uint8": (1 / 128, 128), "int16": (1 / 32768, 0)}
WIDE = {"int8": (0.4, -9), "uint8": (0.4, 100), "int16": (0.0011, 0)}


def case(
    op: str, given: Sequence[Any], outs: Any, made: Any, dtypes: Sequence[str], most: int = 1, name: str = ""
) -> Any:
    outs = outs if isinstance(outs, list) else [outs]
    return [
        pytest.param(
            op,
            given,
            outs,
            made,
            dtype,
            most,
            id=f"{op}{name and '-' + name}-{dtype}",
            marks=() if dtype == "int8" else pytest.mark.slow,  # the whole takes a while
        )
        for dtype in dtypes
    ]


def grid(shape: tuple[int, ...], grids: Any) -> Any:
    return lambda dtype: As(shape, *grids[dtype])


CASES = [
    *case(
        "CONV_2D",
        [SHAPE, Weights(5, 3, 3, 4, axis=0), Bias(5)],
        grid((1, 3, 8, 5), WIDE),
        options("Conv2D", **CONV),
        ALL,
    ),
    *case(
        "CONV_2D",
        [SHAPE, Weights(5, 1, 1, 4), Bias(5)],
        grid((1, 6, 8, 5), WIDE),
        options("Conv2D", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=3),
        ALL,
        name="relu6",
    ),
    *case(
        "DEPTHWISE_CONV_2D",
        [SHAPE, Weights(1, 3, 3, 8, axis=3), Bias(8)],
        grid((1, 3, 4, 8), WIDE),
        options("DepthwiseConv2D", **{**CONV, "strideW": 2}, depthMultiplier=2, fusedActivationFunction=1),
        ALL,
    ),
    *case(
        "TRANSPOSE_CONV",
        [ints(1, 12, 16, 3), Weights(3, 3, 3, 4, axis=0), SHAPE, Bias(3)],
        grid((1, 12, 16, 3), WIDE),
        options("TransposeConv", strideH=2, strideW=2),
        ("int8", "int16"),
    ),
    *case(
        "FULLY_CONNECTED",
        [(3, 12), Weights(5, 12), Bias(5)],
        grid((3, 5), WIDE),
        options("FullyConnected", fusedActivationFunction=1),
        ALL,
    ),
    *case(
        "FULLY_CONNECTED",
        [(1, 3, 12), Weights(5, 12, axis=0), Bias(5)],
        grid((1, 3, 5), WIDE),
        options("FullyConnected", keepNumDims=True),
        SMALL,
        name="kept axes",
    ),
    *case("BATCH_MATMUL", [(2, 3, 4), (2, 4, 5)], grid((2, 3, 5), WIDE), options("BatchMatMul"), ("int8", "int16")),
    *case("ADD", [SHAPE, lambda t: As(SHAPE, *WIDE[t])], grid(SHAPE, WIDE), options("Add"), ALL),
    *case("SUB", [SHAPE, lambda t: As(SHAPE, *WIDE[t])], grid(SHAPE, WIDE), options("Sub"), ALL),
    *case("MUL", [SHAPE, (1, 1, 1, 4)], grid(SHAPE, WIDE), options("Mul", fusedActivationFunction=1), ALL),
    *case("MAXIMUM", [SHAPE, SHAPE], SHAPE, options("MaximumMinimum"), ALL),
    *case("AVERAGE_POOL_2D", [SHAPE], (1, 3, 4, 4), options("Pool2D", **POOL), ALL),
    *case("MAX_POOL_2D", [SHAPE], (1, 2, 3, 4), options("Pool2D", **POOL, padding=1), ALL),
    *case(
        "MEAN",
        [SHAPE, ints(1, 2)],
        grid((1, 4), {t: (s / 3, z) for t, (s, z) in GRIDS.items()}),
        options("Reducer"),
        ALL,
    ),
    *case("CONCATENATION", [SHAPE, SHAPE], (1, 6, 8, 8), options("Concatenation", axis=3), ALL),
    *case("RESHAPE", [SHAPE, ints(1, 192)], (1, 192), options("Reshape", newShape=[1, 192]), ALL),
    *case("PAD", [SHAPE, ints([0, 0], [1, 2], [0, 3], [0, 0])], (1, 9, 11, 4), options("Pad"), ALL),
    *case("TRANSPOSE", [SHAPE, ints(0, 3, 2, 1)], (1, 4, 8, 6), options("Transpose"), ALL),
    *case(
        "STRIDED_SLICE",
        [SHAPE, ints(0, 1, 0, 0), ints(1, 5, 8, 4), ints(1, 2, 1, 1)],
        (1, 2, 8, 4),
        options("StridedSlice"),
        ALL,
    ),
    *case(
        "RESIZE_BILINEAR", [SHAPE, ints(12, 16)], (1, 12, 16, 4), options("ResizeBilinear", halfPixelCenters=True), ALL
    ),
    *case("RESIZE_NEAREST_NEIGHBOR", [SHAPE, ints(12, 16)], (1, 12, 16, 4), options("ResizeNearestNeighbor"), ALL),
    *case("SOFTMAX", [(3, 9)], grid((3, 9), FIXED), options("Softmax", beta=1.0), BYTES),
    *case("SOFTMAX", [(3, 9)], grid((3, 9), FIXED), options("Softmax", beta=1.0), ("int16",), 8),
    *case("LOGISTIC", [SHAPE], grid(SHAPE, FIXED), None, ALL, 2),
    *case("TANH", [SHAPE], grid(SHAPE, TANH), None, ALL, 2),
    *case("L2_NORMALIZATION", [SHAPE], grid(SHAPE, TANH), options("L2Norm"), BYTES),
    *case("HARD_SWISH", [SHAPE], grid(SHAPE, WIDE), options("HardSwish"), BYTES),
    *case("LEAKY_RELU", [SHAPE], grid(SHAPE, WIDE), options("LeakyRelu", alpha=0.2), ALL),
    *case("RELU", [SHAPE], SHAPE, None, ALL),
    *case("RELU6", [SHAPE], grid(SHAPE, WIDE), None, BYTES),
    *case("GELU", [SHAPE], grid(SHAPE, WIDE), options("Gelu"), BYTES),
    *case("PRELU", [SHAPE, Weights(1, 1, 4)], grid(SHAPE, WIDE), None, BYTES),
    *case("SPLIT", [ints(3).reshape(()), SHAPE], [(1, 6, 8, 2)] * 2, options("Split", numSplits=2), ALL),
    *case("QUANTIZE", [SHAPE], grid(SHAPE, WIDE), options("Quantize"), ALL, name="again"),
    *case("DEPTH_TO_SPACE", [(1, 3, 2, 8)], (1, 6, 4, 2), options("DepthToSpace", blockSize=2), BYTES),
    *case("SQUARED_DIFFERENCE", [SHAPE, SHAPE], grid(SHAPE, WIDE), options("SquaredDifference"), SMALL),
    *case("REDUCE_MAX", [SHAPE, ints(3)], (1, 6, 8), options("Reducer"), ALL),
]


@pytest.mark.sample(7)
@pytest.mark.parametrize(("op", "given", "outs", "made", "dtype", "most"), CASES)
def test_operator_is_within_a_step_of_litert(
    op: str,
    given: Sequence[Any],
    outs: Sequence[Any],
    made: Any,
    dtype: str,
    most: int,
    build_tflite: Any,
    tensor: Any,
    tmp_path: Path,
) -> None:
    def settled(values: Sequence[Any]) -> list[Any]:
        return [value(dtype) if callable(value) else value for value in values]

    content = built(op, settled(given), settled(outs), made, dtype, build_tflite, tensor)
    assert steps(content, tmp_path) <= most


def quantised_pair(build: Any, tensor: Any, **changes: Any) -> bytes:
    """A convolution with fused ReLU on int8; `changes` replace fields of input (`x_`), weights (`w_`), bias (`b_`)."""
    fields: dict[str, dict[str, Any]] = {
        "x": {"shape": (1, 4, 4, 2), "dtype": "int8", "scale": (0.5,), "zero": (3,)},
        "w": {
            "shape": (3, 1, 1, 2),
            "data": np.arange(-3, 3),
            "dtype": "int8",
            "scale": (0.1, 0.2, 0.3),
            "zero": (0, 0, 0),
        },
        "b": {"shape": (3,), "data": [10, -20, 30], "dtype": "int32", "scale": (0.05, 0.1, 0.15), "zero": (0, 0, 0)},
        "y": {"shape": (1, 4, 4, 3), "dtype": "int8", "scale": (0.25,), "zero": (-128,)},
    }
    for name, value in changes.items():
        fields[name[0]][name[2:]] = value
    made = options("Conv2D", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=1)
    tensors = [tensor(**fields[name]) for name in "xwby"]
    return bytes(build(tensors, [("CONV_2D", [0, 1, 2], [3], made)], [0], [3]))


def test_scales_axes_and_integers_are_the_files(build_tflite: Any, tensor: Any) -> None:
    model, _ = tidy(to_onnx(parse(quantised_pair(build_tflite, tensor))))
    plan = {t.tensor: t for t in read_plan(model.graph).tensors}
    assert set(plan) == {"t0", "t0_nchw", "t1", "t2", "t3_nchw", "t3"}
    x, weights, bias = plan["t0"], plan["t1"], plan["t2"]
    assert (x.dtype, x.scale, x.zero_point, x.axis) == ("int8", (0.5,), (3,), None)
    assert (weights.dtype, weights.scale, weights.axis) == ("int8", tuple(map(float, np.float32([0.1, 0.2, 0.3]))), 0)
    assert (bias.dtype, bias.scale, bias.axis) == ("int32", tuple(map(float, np.float32([0.05, 0.1, 0.15]))), 0)
    assert (plan["t3"].scale, plan["t3"].zero_point) == ((0.25,), (-128,))
    stored = model.graph.initializers["t1/quantised"].const_value
    assert stored is not None
    np.testing.assert_array_equal(stored.numpy(), np.arange(-3, 3, dtype=np.int8).reshape(3, 2, 1, 1))
    ops = [node.op_type for node in model.graph]
    assert ops[ops.index("Conv") : ops.index("Conv") + 4] == ["Conv", "Relu", "QuantizeLinear", "DequantizeLinear"]


def test_integers_at_the_ends_are_kept_on_request(build_tflite: Any, tensor: Any, tmp_path: Path) -> None:
    content = quantised_pair(build_tflite, tensor)
    model, _ = tidy(to_onnx(parse(content), integer_io=True))
    path = save(model, tmp_path)
    check_file(path)
    feed = {"t0": RNG.integers(-128, 127, (1, 4, 4, 2)).astype(np.int8)}
    expected = interpreter_evaluator(content, ["t3"], real=False)(feed)["t3"]
    found = onnxruntime_evaluator(path, literal=True)(feed)["t3"]
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, expected)


def test_a_bias_without_scale_takes_that_of_its_sums(build_tflite: Any, tensor: Any) -> None:
    for changes in ({"b_scale": ()}, {"b_scale": (0.0, 0.0, 0.0)}):
        model = to_onnx(parse(quantised_pair(build_tflite, tensor, **changes)))
        plan = {t.tensor: t for t in read_plan(model.graph).tensors}
        np.testing.assert_allclose(plan["t2"].scale, [0.05, 0.1, 0.15], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"x_scale": (float("nan"),)}, "scale 0 is nan"),
        ({"x_scale": (float("inf"),)}, "scale 0 is inf"),
        ({"x_scale": (0.0,)}, "scale 0 is 0"),
        ({"w_scale": (0.1, -0.2, 0.3)}, "scale 1 is -0.2"),
        ({"b_scale": (0.1, float("nan"), 0.3)}, "scale 1 is nan"),
        ({"x_zero": (300,)}, "zero point 300 lies outside -128 to 127 of int8"),
        ({"x_zero": (2**40,)}, "zero point 1099511627776 lies outside"),
        ({"w_scale": (0.1, 0.2), "w_zero": (0, 0)}, "2 scales along axis 0, which has size 3"),
        ({"w_zero": (0, 0)}, "3 scales but 2 zero points"),
        ({"w_axis": 7}, "3 scales along axis 7 of 4 axes"),
        ({"w_axis": -5}, "3 scales along axis -5 of 4 axes"),
    ],
)
def test_a_damaged_quantisation_table_is_named(changes: Any, what: str, build_tflite: Any, tensor: Any) -> None:
    with pytest.raises(Corrupt) as caught:
        parse(quantised_pair(build_tflite, tensor, **changes))
    assert what in caught.value.message
    assert "quantisation of tensor" in caught.value.message


def test_an_activation_with_a_scale_per_channel_is_refused(build_tflite: Any, tensor: Any) -> None:
    content = quantised_pair(build_tflite, tensor, x_scale=(0.5, 0.25), x_zero=(3, 3), x_axis=3)
    with pytest.raises(SourceError, match='tensor "t0" is an activation with a scale per channel'):
        to_onnx(parse(content))


def test_float_ends_with_integers_between(build_tflite: Any, tensor: Any, tmp_path: Path) -> None:
    inner = {"dtype": "int8", "scale": (0.03,), "zero": (-5,)}
    tensors = [tensor((2, 8)), tensor((2, 8), **inner), tensor((2, 8), **inner), tensor((2, 8))]
    operators = [
        ("QUANTIZE", [0], [1], options("Quantize")),
        ("RELU", [1], [2], None),
        ("DEQUANTIZE", [2], [3], options("Dequantize")),
    ]
    content = build_tflite(tensors, operators, [0], [3])
    path = save(tidy(to_onnx(parse(content)))[0], tmp_path)
    feed = {"t0": RNG.standard_normal((2, 8)).astype(np.float32)}
    expected = interpreter_evaluator(content, ["t3"])(feed)["t3"]
    np.testing.assert_array_equal(onnxruntime_evaluator(path)(feed)["t3"], expected)
    assert [node.op_type for node in load(path).graph].count("QuantizeLinear") == 2


@pytest.mark.parametrize("count", [6, 7])
def test_weights_of_4_bits(count: int, build_tflite: Any, tensor: Any) -> None:
    values = RNG.integers(-8, 7, count, endpoint=True)
    packed = np.zeros((count + 1) // 2, np.uint8)
    for index, value in enumerate(values):
        packed[index // 2] |= (int(value) & 0xF) << (4 * (index % 2))
    stored = tensor((count,), packed, "uint8", (0.5,))
    content = build_tflite([tensor((count,)), stored, tensor((count,))], [("ADD", [0, 1], [2], None)], [0], [2])
    schema_model = schema.ModelT.InitFromPackedBuf(content, 0)
    schema_model.subgraphs[0].tensors[1].type = schema.TensorType.INT4
    builder = flatbuffers.Builder(256)
    builder.Finish(schema_model.Pack(builder), file_identifier=b"TFL3")
    read = parse(bytes(builder.Output())).tensors[1]
    assert read.dtype == "int4"
    np.testing.assert_array_equal(read.real(), values * 0.5)
