"""Zeros put among the weights, and what comes after them: clean-up, integers, a compiled artifact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.codec import decode_stored
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Plan
from edgewright.engine import registry
from edgewright.errors import ConfigError
from edgewright.graph.load import MODEL_FILE, PLAN_FILE, load
from edgewright.graph.sparsity import LayerSparsity, measure, total
from edgewright.passes.sparsify import Sparsify
from edgewright.testing.passes import statistics_of

RNG = np.random.default_rng(0)


@dataclass
class Quiet:
    scratch: Path
    seed: int = 0

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1


def network() -> onnx.ModelProto:
    """Stem of three channels, batch norm, depthwise, pointwise, and a Gemm."""
    weights: dict[str, Any] = {
        "stem": RNG.standard_normal((8, 3, 3, 3)), "deep": RNG.standard_normal((8, 1, 3, 3)),
        "wide": RNG.standard_normal((16, 8, 3, 3)), "fc": RNG.standard_normal((16, 5)),
        **{n: np.abs(RNG.standard_normal(8)) + 0.5 for n in ("scale", "shift", "mean", "var")},
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b"], "norm"),
        helper.make_node("Relu", ["b"], ["c"], "relu"),
        helper.make_node("Conv", ["c", "deep"], ["d"], "depthwise", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Conv", ["d", "wide"], ["e"], "wide", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["e"], ["f"], "pool"),
        helper.make_node("Flatten", ["f"], ["g"], "flat"),
        helper.make_node("Gemm", ["g", "fc"], ["y"], "fc"),
    ]
    value = helper.make_tensor_value_info
    stored = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
                              [value("y", TensorProto.FLOAT, ["n", 5])], stored)  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    (tmp_path / "hub").mkdir()
    onnx.save(network(), tmp_path / "hub" / MODEL_FILE)
    return tmp_path / "hub"


def apply(name: str, config: dict[str, Any], model: Path, out: Path, **inputs: Path) -> Path:
    out.mkdir()
    step = registry.make("passes", StepSpec(name, config))
    step.run({"model": model, **inputs}, out, Quiet(out))
    return out


def layers(folder: Path) -> dict[str, LayerSparsity]:
    return {layer.layer: layer for layer in measure(load(folder))}


def test_half_of_every_four_inputs_goes_and_the_rest_says_why_not(hub: Path, tmp_path: Path) -> None:
    out = apply("sparsify", {}, hub, tmp_path / "out")
    found = layers(out)
    assert {name: layer.pattern for name, layer in found.items()} == {
        "stem": "", "depthwise": "", "wide": "2:4", "fc": "2:4"}  # fmt: skip
    assert found["wide"].share == found["fc"].share == 0.5
    plan = decode_stored(Plan, (out / PLAN_FILE).read_bytes())
    said = plan.hints["sparsity"]
    assert said["layers"] == {"wide": 0.5, "fc": 0.5}
    assert said["share"] == pytest.approx(total(tuple(found.values())))
    assert "3 input channels" in said["dense"]["stem"]
    assert "depthwise" in said["dense"]["depthwise"]


def test_the_pattern_outlives_clean_up_and_integers(hub: Path, tmp_path: Path) -> None:
    sparse = apply("sparsify", {}, hub, tmp_path / "sparse")
    clean = apply("clean-up", {}, sparse, tmp_path / "clean")
    assert not any(node.op_type == "BatchNormalization" for node in load(clean).graph)
    feeds = [{"x": RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(2)]
    statistics = statistics_of(clean, feeds, tmp_path / "statistics")
    config = {"scheme": "onnxruntime-u8s8", "weights": "mse"}
    integers = apply("static-int8", config, clean, tmp_path / "int8", statistics=statistics)
    assert any(node.op_type == "DequantizeLinear" for node in load(integers).graph)
    patterns = [layer.pattern for layer in measure(load(integers))]
    assert patterns == ["", "", "2:4", "2:4"]


@pytest.mark.slow
def test_the_pattern_is_in_the_artifact(hub: Path, tmp_path: Path) -> None:
    sparse = apply("sparsify", {"keep": ["fc"]}, hub, tmp_path / "sparse")
    out = tmp_path / "artifact"
    out.mkdir()
    registry.make("targets", StepSpec("openvino")).run({"model": sparse}, out, Quiet(tmp_path / "scratch"))
    assert (out / "artifact.json").is_file()
    assert layers(sparse)["fc"].pattern == ""
    import openvino

    model = openvino.Core().read_model(next(out.rglob("*.xml")))
    kernels = [op.input_value(1).get_node() for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]
    shares = [float((node.get_data() == 0).mean()) for node in kernels if node.get_type_name() == "Constant"]
    assert any(share == pytest.approx(0.5) for share in shares)


@pytest.mark.parametrize(("scope", "even"), [("layer", True), ("global", False), ("lamp", False)])
def test_unstructured_zeros_are_as_many_as_asked(hub: Path, tmp_path: Path, scope: str, even: bool) -> None:
    found = layers(
        apply("sparsify", {"pattern": "unstructured", "sparsity": 0.75, "scope": scope}, hub, tmp_path / "o")
    )
    assert found.pop("depthwise").share == 0
    count = sum(round(layer.share * layer.weights) for layer in found.values())
    assert count == pytest.approx(0.75 * sum(layer.weights for layer in found.values()), abs=2)
    assert all(layer.share == pytest.approx(0.75, abs=0.01) for layer in found.values()) == even
    assert all(layer.pattern in ("unstructured", "1:4", "2:4") for layer in found.values() if layer.share > 0.25)


def test_a_second_time_changes_nothing(hub: Path, tmp_path: Path) -> None:
    for i, config in enumerate(({}, {"pattern": "unstructured", "sparsity": 0.6})):
        once = apply("sparsify", config, hub, tmp_path / f"once{i}")
        again = apply("sparsify", config, once, tmp_path / f"again{i}")
        assert (once / MODEL_FILE).read_bytes() == (again / MODEL_FILE).read_bytes()


def test_weights_shared_by_layers_that_sum_otherwise_stay_dense(tmp_path: Path) -> None:
    """A tied embedding: the head reads the table along the other axis, and a product reads it as it is."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "up"),
        helper.make_node("Gemm", ["a", "w"], ["b"], "down", transB=1),
        helper.make_node("MatMul", ["b", "v"], ["y"], "other"),
    ]
    value = helper.make_tensor_value_info
    stored = [numpy_helper.from_array(RNG.standard_normal((4, 8)).astype(np.float32), n) for n in ("w", "v")]
    graph = helper.make_graph(nodes, "g", [value("x", 1, [1, 4])], [value("y", 1, [1, 8])], stored)
    (tmp_path / "hub").mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "hub" / MODEL_FILE)
    out = apply("sparsify", {}, tmp_path / "hub", tmp_path / "out")
    assert {name: layer.pattern for name, layer in layers(out).items()} == {"up": "", "down": "", "other": "2:4"}
    said = decode_stored(Plan, (out / PLAN_FILE).read_bytes()).hints["sparsity"]["dense"]
    assert "shared" in said["up"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"pattern": "2-4"}, "pattern"),
        ({"pattern": "4:4"}, "keeps 4 of 4"),
        ({"sparsity": 1.0}, "sparsity = 1.0"),
        ({"scope": "model"}, "scope"),
    ],
)
def test_what_cannot_be_meant_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        Sparsify(**config)
    assert error.value.hint


def test_models_without_fitting_weights_are_refused(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no layer fits the pattern 2:64"):
        apply("sparsify", {"pattern": "2:64"}, hub, tmp_path / "a")
    model = load(hub)
    weight = model.graph.initializers["fc"]
    weight.const_value = ir.tensor(np.ones((16, 5), np.int8), name="fc")
    from edgewright.graph.load import save

    save(model, tmp_path / "integers")
    with pytest.raises(ConfigError, match="stored as int8"):
        apply("sparsify", {}, tmp_path / "integers", tmp_path / "b")


def test_learnt_rounding_leaves_zeros_alone() -> None:
    from edgewright.passes._rounding import Stored, _Soft

    real = RNG.standard_normal((4, 8)).astype(np.float32)
    real[:, ::2] = 0
    soft = _Soft(Stored("w", real, np.full((4, 1), 0.1), np.full((4, 1), 3), (-128, 127)))
    soft.logit.data.fill_(9.0)
    assert (soft.integers()[:, ::2] == 3).all()
    np.testing.assert_array_equal(soft.integers()[:, 1::2], np.floor(real[:, 1::2] / np.float32(0.1)) + 4)
    assert (soft.soft()[:, ::2] == 0).all()
