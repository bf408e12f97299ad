"""A repository with a small project, and what goes wrong with its model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

VENV_BIN = Path(sys.executable).parent
TOML = """
schema = 1
name = "shop"
labels = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
[model]
source = "model.onnx"
[data]
reader = "npz"
path = "digits.npz"
value = "x"
label = "y"
[data.calibration]
rows = "0:50"
[data.tune]
rows = "900:1000"
[data.test]
rows = "1200:1600"
[[postprocess]]
op = "softmax"
[[postprocess]]
op = "top-k"
k = 3
[quality]
metrics = ["top-1"]
[budget]
quality_drop = 0.02
[search]
ladder = ["float"]
timing_seconds = 0.2
[output]
golden = 2
[[targets]]
name = "onnxruntime"
"""
NAME = "shop-onnxruntime"
LAYERS, HIDDEN = 4, 256


def write_repository(folder: Path) -> Path:
    """Writes project, data and model; it is a repository by its `.git` folder."""
    (folder / ".git").mkdir(parents=True)
    (folder / "edgewright.toml").write_text(TOML)
    images, labels = _digits()
    np.savez(folder / "digits.npz", x=images, y=labels)
    write_model(folder)
    return folder


def write_model(folder: Path, *, noise: float = 0.0, layers: int = LAYERS, table: int = 0) -> None:
    """Writes a classifier with a side branch of `layers` products of one matrix that hardly counts.

    Args:
        folder: Gets `model.onnx`.
        noise: Added to the weights that decide, relative to their spread: a worse model.
        layers: More of them make a slower model of the same size.
        table: Rows of a table of which one is read: a larger model of the same speed.
    """
    rng = np.random.default_rng(0)
    images, labels = _digits()
    first = rng.normal(size=(64, HIDDEN)).astype(np.float32)
    features = np.maximum(images[50:900].reshape(-1, 64) @ first, 0)
    wanted = np.eye(10)[labels[50:900]] * 8.0
    fitted = np.linalg.solve(features.T @ features + 30.0 * np.eye(HIDDEN), features.T @ wanted)
    fitted = fitted + noise * fitted.std() * rng.normal(size=fitted.shape)
    square = np.linalg.qr(rng.normal(size=(HIDDEN, HIDDEN)))[0]
    constants = {"first": first, "last": fitted, "square": square, "little": np.float32(1e-6)}
    nodes = [_node("Flatten", ["image"], "flat"), _node("MatMul", ["flat", "first"], "h"), _node("Relu", ["h"], "s0")]
    nodes += [_node("MatMul", ["s0", "last"], "logits0")]
    for index in range(layers):
        nodes += [_node("MatMul", [f"s{index}", "square"], f"m{index}"), _node("Relu", [f"m{index}"], f"s{index + 1}")]
    nodes += _read_row(constants, table) if table else []
    beside = ([f"s{layers}"], ["row"])[: 2 if table else 1]
    for index, inputs in enumerate(beside):
        nodes += [_node("ReduceMean", inputs, f"mean{index}", axes=[1], keepdims=1)]
        nodes += [_node("Mul", [f"mean{index}", "little"], f"small{index}")]
        nodes += [_node("Add", [f"logits{index}", f"small{index}"], f"logits{index + 1}")]
    nodes += [_node("Identity", [f"logits{len(beside)}"], "logits")]
    graph = helper.make_graph(
        nodes,
        "shop",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(_stored(value), name) for name, value in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )


def _read_row(constants: dict[str, Any], rows: int) -> list[onnx.NodeProto]:
    constants["table"] = np.random.default_rng(1).normal(size=(rows, HIDDEN))
    return [
        _node("ArgMax", ["logits0"], "best", axis=1, keepdims=0),
        _node("Gather", ["table", "best"], "row"),
    ]


def _stored(value: Any) -> Any:
    return np.asarray(value, dtype=np.float32)


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], f"/{output}", **attributes)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    return (digits.images[:, None] / 16.0).astype(np.float32), digits.target.astype(np.int64)
