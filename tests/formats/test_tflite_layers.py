"""A fully quantised .tflite file in LiteRT: as an artifact, and layer by layer beside its float ONNX original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, RunOptions
from edgewright.errors import Corrupt, DataError
from edgewright.measure.parity import compare, given_feeds
from edgewright.runtimes import open_runner
from edgewright.runtimes.litert import LiteRtRunner

RNG = np.random.default_rng(3)
KERNELS = [RNG.normal(0, 0.3, shape).astype(np.float32) for shape in ((5, 3, 3, 3), (4, 5, 3, 3))]
IMAGES = RNG.normal(0, 1, (4, 3, 9, 9)).astype(np.float32)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], "conv0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu0"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 9, 9])],
        [helper.make_tensor_value_info("r1", TensorProto.FLOAT, [1, 4, 9, 9])],
        [numpy_helper.from_array(w, f"w{n}") for n, w in enumerate(KERNELS)],
    )
    path = tmp_path / "float.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def converted(build_tflite: Callable[..., bytes], tensor: Any) -> Callable[[tuple[float, float]], bytes]:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

    def make(highest: tuple[float, float]) -> bytes:
        """int8 throughout, channels last; `highest` are the ends of the ranges behind the two convolutions."""
        scales = [8 / 255, *(high / 255 for high in highest)]
        zeros = [0, -128, -128]
        tensors = [tensor((1, 9, 9, 3), dtype="int8", scale=(scales[0],), zero=(zeros[0],))]
        operators = []
        for n, kernel in enumerate(KERNELS):
            step = np.abs(kernel).max(axis=(1, 2, 3)) / 127
            integers = np.rint(kernel / step.reshape(-1, 1, 1, 1)).transpose(0, 2, 3, 1)
            bias = tuple(float(scales[n] * s) for s in step)
            channels = len(kernel)
            tensors += [
                tensor(integers.shape, integers, "int8", tuple(map(float, step))),
                tensor((channels,), np.zeros(channels), "int32", bias),
                tensor((1, 9, 9, channels), dtype="int8", scale=(scales[n + 1],), zero=(zeros[n + 1],)),
            ]
            options = schema.Conv2DOptionsT()
            options.padding, options.strideW, options.strideH = schema.Padding.SAME, 1, 1
            options.fusedActivationFunction = schema.ActivationFunctionType.RELU
            options.dilationWFactor = options.dilationHFactor = 1
            last = len(tensors) - 1
            operators.append(("CONV_2D", [3 * n, last - 2, last - 1], [last], options))
        return build_tflite(tensors, operators, [0], [len(tensors) - 1])

    return make


def test_layers_of_another_format_layout_and_names(original: Path, converted: Any, tmp_path: Path) -> None:
    (tmp_path / "q.tflite").write_bytes(converted((8.0, 12.0)))
    found = compare(original, tmp_path / "q.tflite", given_feeds({"x": IMAGES}, 4))
    layers = {layer.tensor: layer for layer in found.layers}
    assert set(layers) == {"r0", "r1"}
    for layer in layers.values():
        assert (layer.matched, layer.candidate_op, layer.precision) == ("values", "CONV_2D", "int8")
        assert layer.sqnr_db > 25
        assert layer.range is not None
        assert layer.range.dtype == "int8"
        assert layer.range.low == 0
        assert layer.weights is not None
        assert layer.weights.sqnr_db is not None
        assert layer.weights.sqnr_db > 35
    assert layers["r1"].local_sqnr_db is not None
    assert layers["r1"].local_sqnr_db > layers["r1"].sqnr_db
    assert found.outputs[0].sqnr_db == layers["r1"].sqnr_db


def test_the_guilty_layer_is_the_one_with_the_error_of_its_own(original: Path, converted: Any, tmp_path: Path) -> None:
    (tmp_path / "q.tflite").write_bytes(converted((1.0, 12.0)))
    found = compare(original, tmp_path / "q.tflite", given_feeds({"x": IMAGES}, 4))
    guilty = next(layer for layer in found.layers if layer.tensor == "r0")
    assert guilty.range is not None
    assert guilty.range.saturated > 0.1
    assert guilty.local_sqnr_db is not None
    assert guilty.local_sqnr_db < 12


def test_runs_as_an_artifact(converted: Any, tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(converted((8.0, 12.0)))
    direct = LiteRtRunner((tmp_path / "model.tflite").read_bytes(), "model")
    assert [str(spec) for spec in (*direct.inputs, *direct.outputs)] == ["t0: int8[1, 9, 9, 3]", "t6: int8[1, 9, 9, 4]"]
    artifact = Artifact("litert", "litert", "2", "", ("model.tflite",), direct.inputs, direct.outputs, "int8")
    (tmp_path / "artifact.json").write_bytes(encode_json(artifact))
    feed = {"t0": RNG.integers(-128, 127, (1, 9, 9, 3)).astype(np.int8)}
    with open_runner(tmp_path, RunOptions(threads=2)) as runner:
        assert np.array_equal(runner.run(feed)["t6"], direct.run(feed)["t6"])
        assert runner.operator_times() == ()
        with pytest.raises(DataError, match="expected int8"):
            runner.run({"t0": feed["t0"].astype(np.float32)})


def test_a_damaged_file_is_refused() -> None:
    with pytest.raises(Corrupt, match="LiteRT cannot open it"):
        LiteRtRunner(b"\x1c\0\0\0TFL3" + bytes(60), "broken.tflite")
