"""Models quantised elsewhere are read as plans, and planned anew by the rules of another scheme."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgewright.core.target import Plan, TensorPlan
from edgewright.errors import ConfigError
from edgewright.graph.load import load
from edgewright.graph.qdq import read_plan
from edgewright.graph.replan import NO_RANGE, range_of, replan, strip
from edgewright.graph.schemes import find, names
from edgewright.graph.schemes.lint import lint
from edgewright.graph.shapes import infer_shapes
from edgewright.passes._infer import open_infer
from edgewright.testing._scheme_models import network, quantised

FEED = {"x": np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)}


def elsewhere(folder: Path, **config: Any) -> Path:
    """The network as `onnxruntime.quantization` writes it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter([FEED])

        def get_next(self) -> Any:
            return next(self.feeds, None)

    ir.save(network(), folder / "float.onnx")
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8} | {
        key: getattr(QuantType, value) for key, value in config.pop("types", {}).items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_static(
            folder / "float.onnx", folder / "qdq.onnx", Reader(), quant_format=QuantFormat.QDQ, **kinds, **config
        )
    return folder / "qdq.onnx"


def error(model: ir.Model) -> float:
    """Largest difference from the float network, relative to its largest output."""
    expected, got = open_infer(network())(FEED)["y"], open_infer(model)(FEED)["y"]
    return float(np.abs(expected - got).max() / np.abs(expected).max())


@pytest.mark.sample(5)
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("activation", ["QUInt8", "QInt8", "QUInt16", "QInt16"])
def test_plan_of_onnx_runtimes_own_tool(activation: str, per_channel: bool, tmp_path: Path) -> None:
    path = elsewhere(tmp_path, per_channel=per_channel, types={"activation_type": activation})
    plan = {t.tensor: t for t in read_plan(load(path).graph).tensors}
    assert plan["x"].dtype == activation[1:].lower()
    weights = next(t for name, t in plan.items() if name.startswith("w1"))
    assert (weights.dtype, len(weights.scale)) == ("int8", 4 if per_channel else 1)
    assert weights.axis == (0 if per_channel else None)
    bias = next(t for name, t in plan.items() if name.startswith("b1"))
    assert bias.dtype == "int32"
    assert np.allclose(bias.scale, np.asarray(weights.scale) * plan["p0"].scale[0], rtol=1e-6)


@pytest.mark.sample(5)
@pytest.mark.parametrize("scheme", names())
def test_applied_to_every_scheme(scheme: str, tmp_path: Path) -> None:
    model = load(elsewhere(tmp_path, per_channel=True))
    made, plan = replan(model, read_plan(model.graph), find(scheme))
    assert plan.scheme == scheme
    assert lint(made.graph, find(scheme), plan.kept_float) == ()
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    assert error(made) < 0.1


@pytest.mark.sample(5)
@pytest.mark.parametrize("scheme", names())
def test_own_plan_applied_again_changes_nothing(scheme: str) -> None:
    model, plan = quantised(find(scheme))
    read = {t.tensor: t for t in read_plan(model.graph).tensors}
    assert {n: (t.dtype, t.axis) for n, t in read.items()} == {t.tensor: (t.dtype, t.axis) for t in plan.tensors}
    made, again = replan(model, read_plan(model.graph), find(scheme))
    for tensor in again.tensors:
        before = read[tensor.tensor]
        np.testing.assert_allclose(tensor.scale, before.scale, rtol=1e-5, err_msg=tensor.tensor)
        assert tensor.zero_point == before.zero_point
    assert len(again.tensors) == len(plan.tensors)
    assert [v.name for v in made.graph.outputs] == ["y"]


def test_stripped_model_is_the_float_model_with_rounded_weights() -> None:
    model, _ = quantised(find("onnxruntime-u8s8"))
    count = strip(model.graph)
    assert count > 10
    assert not [n for n in model.graph if "Linear" in n.op_type]
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert error(infer_shapes(model)) < 0.05


def test_weights_still_float_behind_a_pair_are_read() -> None:
    model = ir.from_proto(_float_weights())
    plan = {t.tensor: t for t in read_plan(model.graph).tensors}
    assert plan["w"] == TensorPlan("w", "int8", (0.5, 0.25), (0, 0), 0, "given with the model")
    assert read_plan(model.graph).kept_float == {}
    assert strip(model.graph) == 2
    assert model.graph.initializers["w"].const_value is not None


def test_negative_axis_counts_from_the_back() -> None:
    model = ir.from_proto(_float_weights(axis=-4))
    assert {t.tensor: t.axis for t in read_plan(model.graph).tensors}["w"] == 0


def test_what_no_range_is_known_of_stays_float() -> None:
    model, _ = quantised(find("openvino-u8s8"))
    made, plan = replan(model, read_plan(model.graph), find("onnxruntime-u8s8"))
    assert NO_RANGE in plan.kept_float.values()
    assert lint(made.graph, find("onnxruntime-u8s8"), plan.kept_float) == ()
    assert {t.tensor for t in plan.tensors} >= {"x", "r0"}


def test_plan_of_another_model_is_refused() -> None:
    other = Plan("x", (TensorPlan("nothing", "uint8", (1.0,), (0,), None, ""),))
    with pytest.raises(ConfigError, match="no range") as error:
        replan(network(), other, find("generic-u8s8"))
    assert "same model" in error.value.hint


def test_range_of_integers() -> None:
    assert range_of(TensorPlan("t", "uint8", (0.5,), (10,), None, "")) == (-5.0, 122.5)
    assert range_of(TensorPlan("t", "int8", (0.5,), (0,), None, "")) == (-63.5, 63.5)
    assert range_of(TensorPlan("t", "int16", (1.0,), (5,), None, "")) == (-32773.0, 32762.0)


def _float_weights(axis: int = 0) -> onnx.ModelProto:
    x = [helper.make_tensor_value_info("x", 1, [1, 3, 4, 4])]
    y = [helper.make_tensor_value_info("y", 1, None)]
    constants = {
        "s": np.float32(0.1), "z": np.uint8(3), "w": np.ones((2, 3, 1, 1), np.float32),
        "ws": np.array([0.5, 0.25], np.float32), "wz": np.zeros(2, np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=axis),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=axis),
        helper.make_node("Conv", ["xd", "wd"], ["y"], "conv"),
    ]
    graph = helper.make_graph(
        nodes, "g", x, y, [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)
