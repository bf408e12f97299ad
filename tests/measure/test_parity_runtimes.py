"""Layers compared through the real runtimes, on a small network quantised by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.parity import EXACT_DB, LayerParity, Parity
from edgewright.data import data_spec
from edgewright.errors import DataError, SourceError
from edgewright.measure.layers.opening import Scratch, open_side
from edgewright.measure.parity import PARITY_FILE, ParityStep, compare, given_feeds, random_feeds
from edgewright.targets.openvino import OpenVinoTarget

RNG = np.random.default_rng(5)
WEIGHTS = {
    "w1": RNG.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
    "w2": RNG.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32),
    "w3": RNG.normal(0, 0.3, (4, 8)).astype(np.float32),
}
IMAGES = RNG.normal(0, 1, (6, 3, 12, 12)).astype(np.float32)


def float_nodes(wrap: Any = lambda name: name, weight: Any = lambda name: name) -> list[Any]:
    """conv > relu > conv > relu > mean > flatten > gemm; `wrap` and `weight` say what an operator reads."""
    node = helper.make_node
    return [
        node("Conv", [wrap("x"), weight("w1")], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("Conv", [wrap("r1"), weight("w2")], ["c2"], "conv2", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c2"], ["r2"], "relu2"),
        node("GlobalAveragePool", [wrap("r2")], ["m"], "mean"),
        node("Flatten", [wrap("m")], ["f"], "flat"),
        node("Gemm", [wrap("f"), weight("w3")], ["y"], "dense", transB=1),
    ]


def model_of(nodes: list[Any], constants: dict[str, np.ndarray], output: str = "y") -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 12, 12])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def floating(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parity") / "float.onnx"
    onnx.save(model_of(float_nodes(), WEIGHTS), path)
    return path


def activations() -> dict[str, np.ndarray]:
    import onnxruntime

    model = model_of(float_nodes(), WEIGHTS)
    names = ["r1", "r2", "m", "f"]
    model.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return {"x": IMAGES, **dict(zip(names, session.run(names, {"x": IMAGES}), strict=True))}


def quantised(dtype: Any, shrink: dict[str, float] | None = None) -> onnx.ModelProto:
    """Quantises every activation; `shrink` makes the range of some that much too narrow."""
    constants: dict[str, np.ndarray] = {}
    seen, nodes = activations(), []
    for name, values in seen.items():
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        factor = (shrink or {}).get(name, 1.0)
        scale = np.float32((high - low) * factor / 255)
        constants |= {
            f"{name}_s": scale,
            f"{name}_z": np.clip(np.rint(np.iinfo(dtype).min - low / ((high - low) / 255)), -128, 255).astype(dtype),
        }
    for name, values in WEIGHTS.items():
        axes = tuple(range(1, values.ndim))
        scale = (np.abs(values).max(axis=axes) / 63).astype(np.float32)
        shaped = scale.reshape(-1, *[1] * (values.ndim - 1))
        constants |= {
            f"{name}_i": np.rint(values / shaped).astype(np.int8),
            f"{name}_s": scale,
            f"{name}_z": np.zeros(len(scale), np.int8),
        }
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}_i", f"{name}_s", f"{name}_z"], [f"{name}_d"], axis=0)
        )
    for node in float_nodes(lambda name: f"{name}_d", lambda name: f"{name}_d"):
        for name in (n[:-2] for n in node.input if n[:-2] in seen and not any(q.output[0] == n for q in nodes)):
            pair = [f"{name}_s", f"{name}_z"]
            nodes.append(helper.make_node("QuantizeLinear", [name, *pair], [f"{name}_q"], f"{name}_Q"))
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *pair], [f"{name}_d"], f"{name}_D"))
        nodes.append(node)
    return model_of(nodes, constants)


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def layers(found: Parity) -> dict[str, LayerParity]:
    return {layer.tensor: layer for layer in found.layers}


FEEDS = given_feeds({"x": IMAGES}, 6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_a_quantised_model_layer_by_layer(floating: Path, tmp_path: Path, dtype: Any) -> None:
    found = compare(floating, saved(quantised(dtype), tmp_path / "q.onnx"), FEEDS)
    by_name = layers(found)
    assert found.samples == 6
    assert {"r1", "r2", "m", "f"} <= set(by_name)
    for name in ("r1", "r2"):
        layer = by_name[name]
        assert (layer.precision, layer.matched) == ("int8", "name")
        assert 25 < layer.sqnr_db < 60
        assert layer.local_sqnr_db is not None
        assert layer.range is not None
        assert layer.range.saturated == 0
        assert layer.weights is not None
        assert layer.weights.sqnr_db is not None
        assert 30 < layer.weights.sqnr_db < 60
    second = by_name["r2"]
    assert second.local_sqnr_db is not None
    assert second.local_sqnr_db > second.sqnr_db, "the first layer's error is no part of the second's own"
    assert by_name["r1"].local_sqnr_db == pytest.approx(by_name["r1"].sqnr_db, abs=0.01)
    assert found.outputs[0].sqnr_db > 25
    assert found.outputs[0].local_sqnr_db is None
    assert "fused" in found.unmatched["c1"] or "no tensor" in found.unmatched["c1"]
    assert not [key for key in found.conditions if "note" in key], "reading changed no kernel"
    assert decode_stored(Parity, encode_json(found)) == found


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_reading_leaves_kernels_and_outputs_as_they_are(tmp_path: Path, dtype: Any) -> None:
    """What the artifact gives alone, it gives to the last bit while its inner tensors are read."""
    import onnxruntime

    path = saved(quantised(dtype), tmp_path / "q.onnx")
    plain = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": IMAGES})[0]
    with open_side(path, tmp_path / "scratch") as side:
        found = side.run({"x": IMAGES})
        assert np.array_equal(found["y"], plain)
        assert Counter(tap.precision for tap in side.taps if tap.integers)["int8"] >= 3


def test_a_range_too_narrow_shows_where_it_is(floating: Path, tmp_path: Path) -> None:
    found = layers(compare(floating, saved(quantised(np.uint8, {"r1": 0.25}), tmp_path / "q.onnx"), FEEDS))
    guilty, after = found["r1"], found["r2"]
    assert guilty.range is not None
    assert guilty.range.saturated > 0.05
    assert guilty.local_sqnr_db is not None
    assert guilty.local_sqnr_db < 12
    assert after.sqnr_db < 15
    assert after.range is not None
    assert after.range.saturated < 0.01
    # Fed with the reference, the second layer still reads through the narrow range of its input.
    assert after.local_sqnr_db is not None
    assert guilty.candidate_high < guilty.high / 2


def test_the_same_model_is_equal(floating: Path) -> None:
    found = compare(floating, floating, random_feeds(2))
    assert {layer.sqnr_db for layer in found.layers} == {EXACT_DB}
    assert {layer.local_sqnr_db for layer in found.layers} == {EXACT_DB}
    assert found.outputs[0].cosine == pytest.approx(1.0)


@pytest.mark.slow
def test_an_artifact_of_openvino(floating: Path, tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    out.mkdir()
    OpenVinoTarget().run({"model": saved(quantised(np.uint8), tmp_path / "q.onnx")}, out, Scratch(tmp_path / "s"))
    found = compare(floating, out, FEEDS)
    by_name = layers(found)
    assert {"r1", "r2", "f"} <= set(by_name)
    assert by_name["r1"].local_sqnr_db is None
    assert by_name["r1"].range is not None
    assert by_name["r1"].range.dtype == "uint8"
    assert by_name["r2"].precision == "int8"
    assert 25 < by_name["r2"].sqnr_db < 60
    assert not [text for key, text in found.conditions.items() if "note" in key and "changes the outputs" in text]


def test_the_step_reads_the_project_data(floating: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=IMAGES, y=np.zeros(6, np.int64))
    spec = data_spec(tmp_path, {"reader": "npz", "path": "d.npz", "tune": {}}, [{"op": "cast", "dtype": "float32"}])
    (tmp_path / "data.json").write_bytes(encode_json(spec))
    inputs = {
        "reference": floating,
        "artifact": saved(quantised(np.uint8), tmp_path / "q.onnx"),
        "data": tmp_path / "data.json",
    }
    out = tmp_path / "out"
    out.mkdir()
    ParityStep(samples=4).run(inputs, out, Scratch(tmp_path / "s"))
    found = decode_stored(Parity, (out / PARITY_FILE).read_bytes())
    assert (found.samples, found.conditions["samples"]) == (4, "the tune split")


def test_samples_and_models_that_do_not_fit(floating: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no samples"):
        compare(floating, floating, given_feeds({"x": IMAGES[:0]}, 4))
    with pytest.raises(SourceError, match=r"neither \.onnx"):
        compare(floating, tmp_path / "model.bin", FEEDS)
    with pytest.raises(DataError, match="takes x"):
        compare(floating, floating, given_feeds({"a": IMAGES, "b": IMAGES}, 4))
    assert replace(ParityStep(), samples=2).samples == 2


@pytest.mark.bench
@pytest.mark.slow
def test_a_published_detector_that_lost_everything_in_its_last_join(bench: Path) -> None:
    folder = bench / "yolox_nano"
    images = np.random.default_rng(0).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)
    found = compare(
        folder / "yolox_nano.onnx",
        folder / "yolox_nano_only_int8_quantize.tflite",
        given_feeds({"images": images}, 1),
    )
    assert len(found.unmatched) <= 5
    convolutions = [layer for layer in found.layers if layer.op == "Conv"]
    assert len(convolutions) == 113
    assert min(layer.sqnr_db for layer in convolutions) > 60
    first = next(layer for layer in found.layers if layer.sqnr_db < 20)
    assert first.op == "Concat"
    assert first.local_sqnr_db is not None
    assert first.local_sqnr_db < 10
    assert first.range is not None
    assert first.range.high < 1 < first.high
    assert first.range.saturated > 0.01
