"""The ExecuTorch target beyond the conformance suite: which operators XNNPACK computes in integers, and how exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.target import Artifact, RunOptions
from edgewright.errors import ConfigError, StepFailed
from edgewright.graph.schemes import find
from edgewright.graph.schemes.lint import lint
from edgewright.graph.shapes import infer_shapes
from edgewright.runtimes import load_artifact, open_runner
from edgewright.runtimes._etdump import Event
from edgewright.targets._executorch.kernels import placed, precision_of
from edgewright.targets._executorch.lower import PORTABLE, XNNPACK, Operator
from edgewright.targets._executorch.refusal import refusals
from edgewright.targets.executorch import ExecuTorchTarget, runtime_range
from edgewright.testing.targets import compiled

RNG = np.random.default_rng(3)
STEP = 0.05


class Net:
    """Branches of one input, each between quantisers of int8."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[str] = []

    def const(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, inputs: list[str], out: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [out], f"{out}_node", **attributes))
        return out

    def pair(self, value: str, scale: float = STEP, zero: int = 3) -> str:
        numbers = [self.const(f"{value}_s", np.float32(scale)), self.const(f"{value}_z", np.int8(zero))]
        self.op("QuantizeLinear", [value, *numbers], f"{value}_q")
        return self.op("DequantizeLinear", [f"{value}_q", *numbers], f"{value}_dq")

    def weights(self, name: str, *shape: int, axis: int = 0) -> str:
        scale = (0.002 + 0.004 * RNG.random(shape[axis])).astype(np.float32)
        levels = RNG.integers(-127, 128, shape).astype(np.int8)
        numbers = [self.const(f"{name}_s", scale), self.const(f"{name}_z", np.zeros(shape[axis], np.int8))]
        return self.op("DequantizeLinear", [self.const(f"{name}_i", levels), *numbers], name, axis=axis)

    def give(self, value: str, **numbers: Any) -> str:
        """Quantises a branch's result and makes it an output."""
        self.outputs.append(self.pair(value, **numbers))
        return self.outputs[-1]

    def model(self, *shape: int | str) -> onnx.ModelProto:
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "net", [given], made, self.constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return onnx.shape_inference.infer_shapes(proto)


def every_operator() -> onnx.ModelProto:
    net = Net()
    x = net.pair("x")
    bias = RNG.standard_normal(8).astype(np.float32)
    net.op("Conv", [x, net.weights("w1", 8, 4, 3, 3), net.const("b1", bias)], "conv", pads=[1, 1, 1, 1])
    net.op("Relu", ["conv"], "relu")
    c = net.give("relu")
    net.op("Conv", [c, net.weights("w2", 8, 1, 3, 3)], "dw", pads=[0, 0, 1, 1], strides=[2, 2], group=8)
    net.op("Clip", ["dw", net.const("lo", np.float32(0)), net.const("hi", np.float32(6))], "clip")
    net.give("clip")
    net.op("ConvTranspose", [x, net.weights("w3", 4, 6, 2, 2, axis=1)], "up", strides=[2, 2])
    net.give("up", scale=0.04)
    net.op("Conv", [x, net.weights("w4", 8, 4, 1, 1)], "side")
    s = net.give("side", scale=0.04)
    net.op("Add", [c, s], "add")
    net.op("Relu", ["add"], "add_relu")
    net.give("add_relu", scale=0.07)
    net.op("Mul", [c, s], "mul")
    net.give("mul", scale=0.09)
    net.op("Sub", [c, s], "sub")
    net.give("sub", scale=0.06)
    net.op("Concat", [c, s], "cat", axis=1)
    net.give("cat", scale=0.06)
    net.op("MaxPool", [c], "pool", kernel_shape=[2, 2], strides=[2, 2])
    p = net.give("pool")
    net.op("Transpose", [p], "turned", perm=[0, 2, 3, 1])
    net.give("turned")
    net.op("Slice", [p, *(net.const(n, np.array([v], np.int64)) for n, v in (("st", 2), ("en", 6), ("ax", 1)))], "cut")
    net.give("cut")
    net.op("GlobalAveragePool", [c], "mean")
    net.op("Flatten", [net.give("mean", scale=0.02)], "flat")
    f = net.give("flat", scale=0.02)
    net.op("Gemm", [f, net.weights("w5", 5, 8), net.const("b5", bias[:5])], "gemm", transB=1)
    net.give("gemm")
    net.op("MatMul", [f, net.weights("w6", 8, 6, axis=1)], "product")
    net.op("Add", ["product", net.const("b6", bias[:6])], "product_bias")
    net.give("product_bias")
    return net.model(1, 4, 8, 8)


def as_written(proto: onnx.ModelProto, feed: dict[str, Any]) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


@pytest.mark.slow
def test_every_operator_of_the_scheme_runs_in_integers_and_rounds_as_the_plan_says(tmp_path: Path) -> None:
    proto = every_operator()
    path = compiled("executorch", proto, tmp_path, strict=True)
    artifact = load_artifact(path)
    feed = {"x": RNG.standard_normal((1, 4, 8, 8)).astype(np.float32) * 2}
    steps = {
        n.name: float(numpy_helper.to_array(n)) for n in proto.graph.initializer if n.name.endswith("_s") and not n.dims
    }
    with open_runner(path, RunOptions(threads=1)) as runner:
        found = runner.run(feed)
    exact = {}
    for spec, want in zip(artifact.outputs, as_written(proto, feed), strict=True):
        off = np.abs(found[spec.name] - want) / steps[spec.name.removesuffix("_dq") + "_s"]
        assert off.max() < 1.01, spec.name
        exact[spec.name] = float((off < 0.01).mean())
    assert min(exact.values()) > 0.95, exact
    by_source = {source: node for node in artifact.placement for source in node.source}
    for name in ("conv", "dw", "up", "side", "add", "mul", "sub", "mean", "gemm", "product"):
        assert (by_source[f"{name}_node"].precision, by_source[f"{name}_node"].where) == ("int8", "XNNPACK"), name
    for name in ("cat", "pool", "turned", "cut", "flat"):
        assert by_source[f"{name}_node"].precision == "integer", by_source[f"{name}_node"]
    assert artifact.precision == "int8"
    assert artifact.proof[0].startswith("XNNPACK runs")


@pytest.mark.slow
def test_what_xnnpack_leaves_is_named_with_its_place(tmp_path: Path) -> None:
    net = Net()
    net.op("Resize", ["x", "", net.const("scales", np.array([1, 1, 2, 2], np.float32))], "big", mode="nearest",
           coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    net.op("Sigmoid", ["big"], "y")
    net.outputs.append("y")
    path = compiled("executorch", net.model("batch", 2, 4, 4), tmp_path, batch=2)
    artifact: Artifact = load_artifact(path)
    where = {source: node.where for node in artifact.placement for source in node.source}
    assert where == {"big_node": "CPU", "y_node": "XNNPACK"}
    assert "upsample_nearest2d" in artifact.proof[0]
    feed = {"x": RNG.standard_normal((5, 2, 4, 4)).astype(np.float32)}
    with open_runner(path) as runner:
        want = 1 / (1 + np.exp(-feed["x"].repeat(2, 2).repeat(2, 3)))
        np.testing.assert_allclose(runner.run(feed)["y"], want, atol=1e-5)


def test_the_model_of_every_operator_obeys_the_scheme() -> None:
    graph = infer_shapes(ir.from_proto(every_operator())).graph
    broken = {finding.rule for finding in lint(graph, find("executorch-s8s8"))}
    assert broken == {"shared-scales"}, "only the Concat with operands of two scales, which are requantised"


def test_a_free_axis_and_open_ended_operators_are_refused_by_name() -> None:
    net = Net()
    net.op("NonZero", ["x"], "places")
    net.outputs.append("places")
    proto = net.model("batch", "length")
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    reasons = tuple(refusals(ir.from_proto(proto)))
    assert any('"length"' in reason for reason in reasons)
    assert any("places_node" in reason and "depends on values" in reason for reason in reasons)


def test_a_batch_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch = 0"):
        compiled("executorch", every_operator(), tmp_path, batch=0)


def test_a_model_that_breaks_its_scheme_is_refused_before_anything_is_compiled(tmp_path: Path) -> None:
    from edgewright.core.codec import encode_json
    from edgewright.core.target import Plan
    from edgewright.testing.targets import QuietContext

    folder, out = tmp_path / "model", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    onnx.save(every_operator(), folder / "model.onnx")
    (folder / "plan.json").write_bytes(encode_json(Plan("executorch-s8s8")))
    with pytest.raises(StepFailed, match="shared-scales"):
        ExecuTorchTarget().run({"model": folder}, out, QuietContext(tmp_path))
    assert not list(out.iterdir())


def operator(op: str, part: int | None, source: str = "", *, integers: bool = False) -> Operator:
    where = PORTABLE if part is None else XNNPACK
    return Operator(op, op, where, part, (source,) if source else (), "float32", integers)


def test_kernels_find_their_operators_though_layout_changes_stand_between() -> None:
    operators = [
        operator("aten.view_copy", 0, "r"),
        operator("aten.convolution", 0, "a"),
        operator("aten.upsample_nearest2d", None, "u"),
        operator("aten.convolution", 1, "b"),
        operator("aten._softmax", 1, "s"),
    ]
    kernels = [
        (3, "Transpose (ND, X32) #1", True),
        (3, "Convolution (NHWC, F32) IGEMM #1", True),
        (4, "native_call_upsample_nearest2d.vec_out", False),
        (5, "Fully Connected (NC, F32) GEMM #1", True),
        (5, "Softmax (NC, F32) #1", True),
    ]
    events = [Event(instruction, kernel, delegated, 2.0) for instruction, kernel, delegated in kernels]
    found = placed(operators, events, {event.node: event.microseconds for event in events})
    assert [node.source for node in found] == [(), ("a",), ("u",), ("b",), ("s",)]
    assert [node.share for node in found] == [0.2] * 5


@pytest.mark.parametrize(
    ("kernel", "precision"),
    [
        ("Convolution (NHWC, QC8) IGEMM", "int8"),
        ("Fully Connected (NC, QS8, QC8W) GEMM", "int8"),
        ("Fully Connected (NC, QD8, F32, QC8W) GEMM", "int8 (dynamic)"),
        ("Convolution (NHWC, F32) DWConv", "float32"),
        ("Convolution (NHWC, F16) IGEMM", "float16"),
        ("Max Pooling (NHWC, S8)", "integer"),
        ("Transpose (ND, X8)", "integer"),
        ("Convert (NC)", "conversion"),
    ],
)
def test_a_kernels_name_tells_its_precision(kernel: str, precision: str) -> None:
    assert precision_of(kernel) == precision


def test_later_releases_of_the_major_version_are_expected_to_run_the_file() -> None:
    assert runtime_range("1.5.1") == ">=1.5,<2"
