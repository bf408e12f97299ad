"""What ships computes the same integers with and without VNNI: the session option is set where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.codec import decode_stored
from edgewright.core.target import Artifact
from edgewright.runtimes import open_runner
from edgewright.targets.onnxruntime import PRECISE, OnnxRuntimeTarget

RNG = np.random.default_rng(0)


class Silent:
    """A step's context that reports to nobody."""

    seed = 0
    scratch = Path()

    def progress(self, fraction: float, note: str = "") -> None:
        pass


def _write(nodes: list[Any], constants: dict[str, Any], x: tuple[str, int], folder: Path) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*x])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [x[0], None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    folder.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    return folder


def _static(weights: Any, folder: Path) -> Path:
    """Two products with the same weights: quantised activations, dequantised weights."""
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q1"),
        node("DequantizeLinear", ["xq", "s", "z"], ["xf"], name="d1"),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], name="dw"),
        node("MatMul", ["xf", "wf"], ["a"], name="first"),
        node("QuantizeLinear", ["a", "t", "z"], ["aq"], name="q2"),
        node("DequantizeLinear", ["aq", "t", "z"], ["af"], name="d2"),
        node("MatMul", ["af", "wf"], ["b"], name="second"),
        node("QuantizeLinear", ["b", "u", "z"], ["bq"], name="q3"),
        node("DequantizeLinear", ["bq", "u", "z"], ["y"], name="d3"),
    ]
    scales = {name: np.float32(value) for name, value in {"s": 1, "t": 3000, "u": 8e6, "ws": 1}.items()}
    return _write(nodes, {**scales, "z": np.uint8(0), "w": weights, "wz": np.int8(0)}, ("n", 16), folder)


def _dynamic(weights: Any, folder: Path) -> Path:
    node = helper.make_node
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"], name="q"),
        node("MatMulInteger", ["xq", "w", "xz"], ["i"], name="product"),
        node("Cast", ["i"], ["f"], name="cast", to=TensorProto.FLOAT),
        node("Mul", ["f", "xs"], ["y"], name="scaled"),
    ]
    return _write(nodes, {"w": weights}, ("n", 16), folder)


@pytest.mark.parametrize(("build", "size"), [(_static, 127), (_dynamic, 127), (_static, 63), (_dynamic, 63)])
def test_products_that_could_saturate_are_computed_exactly(build: Any, size: int, tmp_path: Path) -> None:
    weights = np.full((16, 16), size, np.int8)
    (tmp_path / "out").mkdir()
    OnnxRuntimeTarget().run({"model": build(weights, tmp_path / "hub")}, tmp_path / "out", Silent())  # type: ignore[arg-type]
    artifact = decode_stored(Artifact, (tmp_path / "out" / "artifact.json").read_bytes())
    assert dict(artifact.session) == ({PRECISE: "1"} if size > 64 else {})
    x = np.full((1, 16), 255, np.float32)
    with open_runner(tmp_path / "out") as runner:
        (found,) = runner.run({"x": x}).values()
    once = 255 * 16 * size
    twice = np.rint(once / 3000) * 3000 * 16 * size
    expected = once if build is _dynamic else np.rint(twice / 8e6) * 8e6
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_user_has_the_last_word(tmp_path: Path) -> None:
    hub = _static(np.full((16, 16), 127, np.int8), tmp_path / "hub")
    (tmp_path / "out").mkdir()
    OnnxRuntimeTarget(session={PRECISE: "0"}).run({"model": hub}, tmp_path / "out", Silent())  # type: ignore[arg-type]
    artifact = decode_stored(Artifact, (tmp_path / "out" / "artifact.json").read_bytes())
    assert dict(artifact.session) == {PRECISE: "0"}
