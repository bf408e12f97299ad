"""A real, tiny project: handwritten digits, a convolution with random filters and a fitted linear layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

TOML = """
schema = 1
name = "tiny"
labels = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

[model]
source = "model.onnx"

[data]
reader = "npz"
path = "digits.npz"
value = "x"
label = "y"
[data.calibration]
rows = "0:120"
[data.tune]
rows = "900:1200"
[data.test]
rows = "1200:1500"

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
timing_seconds = 0.3
[[targets]]
name = "onnxruntime"
"""


def write_project(folder: Path, toml: str = TOML) -> Path:
    """Writes model, data and TOML; returns the path of the TOML."""
    digits = load_digits()
    images = (digits.images[:, None] / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int64)
    np.savez(folder / "digits.npz", x=images, y=labels)
    onnx.save(fitted_network(images[120:900], labels[120:900]), folder / "model.onnx")
    (folder / "edgewright.toml").write_text(toml)
    return folder / "edgewright.toml"


def fitted_network(images: np.ndarray, labels: np.ndarray) -> onnx.ModelProto:
    """Random 3x3 filters, ReLU, and a linear layer fitted by least squares."""
    rng = np.random.default_rng(0)
    filters = rng.normal(size=(32, 1, 3, 3)).astype(np.float32)
    features = _features(images, filters)
    design = np.c_[features, np.ones(len(features))]
    wanted = np.eye(10)[labels] * 8.0
    fitted = np.linalg.solve(design.T @ design + 3.0 * np.eye(design.shape[1]), design.T @ wanted).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "filters"], ["c"], "conv", strides=[2, 2], pads=[0, 0, 0, 0]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "weight", "bias"], ["logits"], "linear"),
    ]
    constants = {"filters": filters, "weight": fitted[:-1], "bias": fitted[-1]}
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _features(images: np.ndarray, filters: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(images[:, 0], (3, 3), axis=(1, 2))[:, ::2, ::2]
    maps = np.einsum("nhwij,fij->nfhw", windows, filters[:, 0])
    return np.maximum(maps, 0).reshape(len(images), -1)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The project's TOML in a folder of its own, with a cache of its own."""
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    folder.mkdir()
    return write_project(folder)
