"""Groups of operators of a file: merged, folded, cut off; and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert.schema_py_generated")
pytest.importorskip("onnxruntime")


from edgewright.errors import SourceError
from edgewright.formats.tflite.convert import to_onnx
from edgewright.formats.tflite.cutting import cut
from edgewright.formats.tflite.reader import parse
from edgewright.graph.check import check_file
from edgewright.graph.load import save, tensor_specs
from edgewright.graph.tidy import tidy
from edgewright.sources._feeds import make_feeds
from edgewright.sources._litert import interpreter_evaluator, with_outputs
from edgewright.sources._verify import compare, onnxruntime_evaluator
from edgewright.testing._tflite_options import options

RNG = np.random.default_rng(31)


def ints(*values: Any) -> Any:
    return np.asarray(values, np.int32)


def operators_if_equal(content: bytes, folder: Path) -> Counter[str]:
    """Compares with LiteRT and returns the ONNX operators."""
    model, _ = tidy(to_onnx(parse(content)))
    path = save(model, folder)
    check_file(path)
    inputs, outputs = tensor_specs(model)
    litert = interpreter_evaluator(content, [spec.name for spec in outputs])
    difference = compare(litert, onnxruntime_evaluator(path), make_feeds(None, inputs, 3, seed=1).batches)
    assert difference.snr_db is None or difference.snr_db > 100
    return Counter(node.op_type for node in model.graph)


ONE = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


@pytest.fixture
def kernel(tensor: Any) -> Any:
    values = RNG.standard_normal((5, 3, 3, 4)).astype(np.float32)
    return tensor(values.shape, values)


@pytest.fixture
def bias(tensor: Any) -> Any:
    return tensor((5,), RNG.standard_normal(5).astype(np.float32))


@pytest.mark.parametrize(("high", "merged"), [([0, 0], True), ([0, 1], False)])
def test_padding_moves_into_a_convolution(
    high: Any, merged: bool, kernel: Any, bias: Any, build_tflite: Any, tensor: Any, tmp_path: Path
) -> None:
    """Except padding of channels."""
    channels = 4 - sum(high)
    pads = ints([0, 0], [1, 0], [2, 1], high)
    tensors = [
        tensor((1, 6, 8, channels)),
        tensor((4, 2), pads, "int32"),
        tensor((1, 7, 11, 4)),
        kernel,
        tensor((1, 5, 9, 5)),
    ]
    operators = [
        ("PAD", [0, 1], [2], options("Pad")),
        ("CONV_2D", [2, 3, 5], [4], options("Conv2D", **ONE, padding=1)),
    ]
    found = operators_if_equal(build_tflite([*tensors, bias], operators, [0], [4]), tmp_path)
    assert found["Pad"] == (0 if merged else 1)


def test_padding_that_others_read_stays(kernel: Any, bias: Any, build_tflite: Any, tensor: Any, tmp_path: Path) -> None:
    pads = ints([0, 0], [1, 1], [1, 1], [0, 0])
    tensors = [tensor((1, 6, 8, 4)), tensor((4, 2), pads, "int32"), tensor((1, 8, 10, 4)), kernel, tensor((1, 6, 8, 5))]
    operators = [
        ("PAD", [0, 1], [2], options("Pad")),
        ("CONV_2D", [2, 3, 5], [4], options("Conv2D", **ONE, padding=1)),
    ]
    assert operators_if_equal(build_tflite([*tensors, bias], operators, [0], [4, 2]), tmp_path)["Pad"] == 1


def test_batches_of_pixels_are_a_dilation(
    kernel: Any, bias: Any, build_tflite: Any, tensor: Any, tmp_path: Path
) -> None:
    """As TensorFlow writes a dilated convolution with padding SAME: what is padded to fill blocks is cut again."""
    tensors = [
        tensor((1, 7, 9, 4)),
        tensor((2,), ints(2, 2), "int32"),
        tensor((2, 2), ints([2, 3], [2, 3]), "int32"),
        tensor((4, 6, 7, 4)),
        kernel,
        tensor((4, 4, 5, 5)),
        tensor((2, 2), ints([0, 1], [0, 1]), "int32"),
        tensor((1, 7, 9, 5)),
    ]
    operators = [
        ("SPACE_TO_BATCH_ND", [0, 1, 2], [3], options("SpaceToBatchND")),
        ("CONV_2D", [3, 4, 8], [5], options("Conv2D", **ONE, padding=1)),
        ("BATCH_TO_SPACE_ND", [5, 1, 6], [7], options("BatchToSpaceND")),
    ]
    found = operators_if_equal(build_tflite([*tensors, bias], operators, [0], [7]), tmp_path)
    assert found == {"Transpose": 2, "Conv": 1}


def test_pixels_spread_once_for_two_convolutions(
    kernel: Any, bias: Any, build_tflite: Any, tensor: Any, tmp_path: Path
) -> None:
    tensors = [
        tensor((1, 8, 8, 4)),
        tensor((2,), ints(2, 2), "int32"),
        tensor((2, 2), ints([2, 2], [2, 2]), "int32"),
        tensor((4, 6, 6, 4)),
        kernel,
        bias,
        tensor((2, 2), ints([0, 0], [0, 0]), "int32"),
        *(tensor(shape) for shape in ((4, 4, 4, 5), (1, 8, 8, 5)) for _ in range(2)),
    ]
    one = options("Conv2D", **ONE, padding=1)
    operators = [("SPACE_TO_BATCH_ND", [0, 1, 2], [3], options("SpaceToBatchND"))]
    for branch in (0, 1):
        operators.append(("CONV_2D", [3, 4, 5], [7 + branch], one))
        operators.append(("BATCH_TO_SPACE_ND", [7 + branch, 1, 6], [9 + branch], options("BatchToSpaceND")))
    found = operators_if_equal(build_tflite(tensors, operators, [0], [9, 10]), tmp_path)
    assert found == {"Transpose": 3, "Conv": 2}


def test_sizes_computed_from_fixed_shapes_vanish(build_tflite: Any, tensor: Any, tmp_path: Path) -> None:
    """Height and width doubled, as exporters write it: shape, slice, product, cast."""
    tensors = [
        tensor((1, 3, 4, 2)),
        tensor((4,), None, "int32"),
        tensor((1,), ints(1), "int32"),
        tensor((1,), ints(3), "int32"),
        tensor((1,), ints(1), "int32"),
        tensor((2,), None, "int32"),
        tensor((2,), ints(2, 2), "int32"),
        tensor((2,), None, "int32"),
        tensor((1, 6, 8, 2)),
    ]
    operators = [
        ("SHAPE", [0], [1], options("Shape", outType=2)),
        ("STRIDED_SLICE", [1, 2, 3, 4], [5], options("StridedSlice")),
        ("MUL", [5, 6], [7], options("Mul")),
        ("RESIZE_NEAREST_NEIGHBOR", [0, 7], [8], options("ResizeNearestNeighbor")),
    ]
    found = operators_if_equal(build_tflite(tensors, operators, [0], [8]), tmp_path)
    assert found == {"Transpose": 2, "Resize": 1}


def test_sizes_of_an_open_batch_are_not_computed_for_nothing(build_tflite: Any, tensor: Any, tmp_path: Path) -> None:
    tensors = [
        tensor((1, 3, 4), signature=(-1, 3, 4)),
        tensor((3,), None, "int32"),
        tensor((1,), ints(0), "int32"),
        tensor((1,), ints(1), "int32"),
        tensor((), None, "int32"),
        tensor((), np.int32(12), "int32"),
        tensor((2,), None, "int32"),
        tensor((1, 12), signature=(-1, 12)),
    ]
    operators = [
        ("SHAPE", [0], [1], options("Shape", outType=2)),
        ("STRIDED_SLICE", [1, 2, 3, 3], [4], options("StridedSlice", shrinkAxisMask=1)),
        ("PACK", [4, 5], [6], options("Pack", valuesCount=2)),
        ("RESHAPE", [0, 6], [7], options("Reshape")),
    ]
    content = build_tflite(tensors, operators, [0], [7])
    model, _ = tidy(to_onnx(parse(content)))
    assert [node.op_type for node in model.graph] == ["Reshape"]
    found = onnxruntime_evaluator(save(model, tmp_path))({"t0": np.zeros((5, 3, 4), np.float32)})
    assert found["t7"].shape == (5, 12)


def test_float16_weights(build_tflite: Any, tensor: Any, tmp_path: Path) -> None:
    weights = RNG.standard_normal((5, 8)).astype(np.float16)
    tensors = [tensor((2, 8)), tensor((5, 8), weights, "float16"), tensor((5, 8)), tensor((2, 5))]
    operators = [
        ("DEQUANTIZE", [1], [2], options("Dequantize")),
        ("FULLY_CONNECTED", [0, 2, -1], [3], options("FullyConnected")),
    ]
    assert operators_if_equal(build_tflite(tensors, operators, [0], [3]), tmp_path) == {"Gemm": 1}


@pytest.fixture
def detector(build_tflite: Any, tensor: Any) -> bytes:
    tensors = [tensor((2, 8)), tensor((2, 8)), tensor((2, 8))]
    made: bytes = build_tflite(
        tensors, [("TANH", [0], [1], None), ("CUSTOM", [1], [2], None)], [0], [2], custom="TFLite_Detection_PostProcess"
    )
    return made


def test_a_decoder_at_the_end_is_named_with_the_way_out(detector: bytes) -> None:
    with pytest.raises(SourceError, match="CUSTOM TFLite_Detection_PostProcess") as caught:
        to_onnx(parse(detector))
    assert 'outputs = ["t1"]' in caught.value.hint


def test_a_file_cut_before_its_decoder(detector: bytes, tmp_path: Path) -> None:
    graph = cut(parse(detector), ["t1"])
    path = save(tidy(to_onnx(graph))[0], tmp_path)
    feed = {"t0": RNG.standard_normal((2, 8)).astype(np.float32)}
    expected = interpreter_evaluator(with_outputs(detector, graph.outputs), ["t1"])(feed)["t1"]
    np.testing.assert_allclose(onnxruntime_evaluator(path)(feed)["t1"], expected, rtol=1e-6)


def test_an_unknown_tensor_to_cut_at_is_refused_with_near_names(detector: bytes) -> None:
    with pytest.raises(SourceError, match='output "t11"') as caught:
        cut(parse(detector), ["t11"])
    assert "t1" in caught.value.hint
