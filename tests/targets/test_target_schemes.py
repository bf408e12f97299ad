"""Every operator that a scheme promises is proven to run in integers on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgewright.core.measurement import Device
from edgewright.runtimes import load_artifact
from edgewright.runtimes._machine import local_device
from edgewright.testing._target_models import Builder
from edgewright.testing.targets import compiled, make

IMAGE = (1, 4, 8, 8)
ROWS = (8, 4)
AXES = np.array([2, 3])


def between_quantizers(op: str) -> onnx.ModelProto:
    """x -> QDQ -> `op` -> QDQ -> y."""
    build = Builder()
    shape = ROWS if op in {"MatMul", "Gemm", "Softmax"} else (1, 4, 1, 1) if op == "Expand" else IMAGE
    inputs = [("x", TensorProto.FLOAT, shape)]
    x = build.quantizer("x", 0.02, 128)
    if op in {"Add", "Mul", "Concat", "Where"}:
        inputs.append(("x2", TensorProto.FLOAT, shape))
    BUILD[op](build, x)
    y = build.quantizer("o", *((1 / 256, 0) if op in {"Sigmoid", "Softmax"} else (0.02, 128)))
    build.add("Identity", [y], "y")
    model = build.model(inputs, [("y", TensorProto.FLOAT, ["?"])], {})
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(model)


Body = Callable[[Builder, str], object]


def plain(op: str, *constants: object, **attributes: object) -> Body:
    def add(build: Builder, x: str) -> None:
        names = [build.constant(f"k{i}", np.asarray(c)) if c is not None else "" for i, c in enumerate(constants)]
        build.add(op, [x, *names], "o", **attributes)

    return add


def second(op: str, **attributes: object) -> Body:
    return lambda build, x: build.add(op, [x, build.quantizer("x2", 0.02, 128)], "o", **attributes)


def weighted(op: str, *shape: int, axis: int = 0, **attributes: object) -> Body:
    def add(build: Builder, x: str) -> None:
        weights = build.quantized_weights("w", *shape)
        build.nodes[-1].attribute[0].i = axis
        build.add(op, [x, weights], "o", **attributes)

    return add


def split(build: Builder, x: str) -> None:
    build.nodes.append(helper.make_node("Split", [x], ["o", "rest"], name="o_node", axis=1, num_outputs=2))
    build.add(
        "DequantizeLinear", [build.add("QuantizeLinear", ["rest", "x_scale", "x_zero"], "rq"), "x_scale"], "unused"
    )


def where(build: Builder, x: str) -> None:
    choice = build.constant("choice", np.arange(8) % 2 == 0)
    build.add("Where", [choice, x, build.quantizer("x2", 0.02, 128)], "o")


POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}
BUILD: dict[str, Body] = {
    "Conv": weighted("Conv", 4, 4, 3, 3),
    "ConvTranspose": weighted("ConvTranspose", 4, 4, 2, 2, axis=1),
    "MatMul": weighted("MatMul", 4, 4, axis=1),
    "Gemm": weighted("Gemm", 4, 4, transB=1),
    "Add": second("Add"),
    "Mul": second("Mul"),
    "Concat": second("Concat", axis=1),
    "AveragePool": plain("AveragePool", **POOL),
    "MaxPool": plain("MaxPool", **POOL),
    "GlobalAveragePool": plain("GlobalAveragePool"),
    "GlobalMaxPool": plain("GlobalMaxPool"),
    "LeakyRelu": plain("LeakyRelu", alpha=0.1),
    "Sigmoid": plain("Sigmoid"),
    "Softmax": plain("Softmax"),
    "ReduceMean": plain("ReduceMean", AXES),
    "ReduceSum": plain("ReduceSum", AXES),
    "ReduceMax": plain("ReduceMax", AXES),
    "Resize": plain(
        "Resize", None, np.float32([1, 1, 2, 2]), coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    ),
    "Reshape": plain("Reshape", [1, -1]),
    "Flatten": plain("Flatten"),
    "Transpose": plain("Transpose", perm=[0, 2, 3, 1]),
    "Squeeze": plain("Squeeze", [0]),
    "Unsqueeze": plain("Unsqueeze", [0]),
    "Slice": plain("Slice", [1], [5], [2]),
    "Gather": plain("Gather", [1, 3], axis=2),
    "Expand": plain("Expand", [1, 4, 3, 3]),
    "Tile": plain("Tile", [1, 1, 2, 1]),
    "DepthToSpace": plain("DepthToSpace", blocksize=2),
    "Split": split,
    "Where": where,
}


def promised(device: Device) -> Iterator[tuple[str, str]]:
    for target in ("onnxruntime", "openvino"):
        schemes = make(target).schemes(device)
        ops = {op for scheme in schemes for op in (*scheme.quantized, *scheme.shared)}
        yield from ((target, op) for op in sorted(ops))


@pytest.mark.sample(7)
@pytest.mark.parametrize(("target", "op"), list(promised(local_device())))
def test_promised_operator_runs_in_integers(target: str, op: str, tmp_path: Path) -> None:
    artifact = load_artifact(compiled(target, between_quantizers(op), tmp_path))
    assert [node for node in artifact.placement if not node.planned] == []
    found = {node.precision for node in artifact.placement if "o_node" in node.source}
    assert found <= {"int8", "integer", "conversion"}
    assert found or op == "Concat", "the node is not traced"


@pytest.mark.parametrize(("target", "op"), [("onnxruntime", "ConvTranspose"), ("openvino", "Softmax")])
def test_operator_left_out_does_not(target: str, op: str, tmp_path: Path) -> None:
    artifact = load_artifact(compiled(target, between_quantizers(op), tmp_path))
    notes = [node.note for node in artifact.placement if not node.planned and "o_node" in node.source]
    assert notes
    assert "int8" in notes[0]


def device(machine: str, *isa: str) -> Device:
    return Device("local", machine, machine, 4, isa, 8 << 30, "test")


def test_the_processor_decides_the_order() -> None:
    def first(target: str, where: Device) -> tuple[str, ...]:
        return tuple(scheme.name for scheme in make(target).schemes(where))

    with_vnni = first("onnxruntime", device("x86_64", "avx2", "avx512_vnni"))
    assert with_vnni == ("onnxruntime-u8s8", "onnxruntime-u8s8-pairs", "onnxruntime-s8s8")
    assert first("onnxruntime", device("x86_64", "avx2"))[0] == "onnxruntime-u8s8-pairs"
    assert first("onnxruntime", device("aarch64", "asimddp"))[0] == "onnxruntime-s8s8"
    assert first("openvino", device("x86_64", "avx2", "avx_vnni")) == ("openvino-u8s8",)
    assert first("openvino", device("x86_64", "avx2")) == ("openvino-u8s8-avx2", "openvino-u8s7")


def test_precisions_need_their_instructions() -> None:
    plain_x86, sapphire = device("x86_64", "avx2"), device("x86_64", "avx512_bf16", "amx_bf16", "avx512_fp16")
    openvino, ort = make("openvino"), make("onnxruntime")
    assert "bfloat16" in openvino.precisions(plain_x86)["bfloat16"]
    assert openvino.precisions(sapphire)["bfloat16"] == ""
    assert all(ort.precisions(sapphire)[name] for name in ("float16", "bfloat16"))
