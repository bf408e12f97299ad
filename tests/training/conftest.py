"""Small networks and data that training is tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgewright.training.examples import Examples


@dataclass(slots=True)
class Told:
    """A Context that remembers what it was told."""

    scratch: Path
    seed: int = 0
    notes: list[tuple[float, str]] = field(default_factory=list)

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1, (fraction, note)
        self.notes.append((fraction, note))


@pytest.fixture
def blobs() -> Callable[..., Examples]:
    """Makes images whose class can be learnt."""
    return _blobs


@pytest.fixture
def convolutional() -> Callable[..., ir.Model]:
    """Makes a network for them."""
    return _convolutional


@pytest.fixture
def onnx_model() -> Callable[..., ir.Model]:
    """Makes a model of nodes and weights."""
    return _onnx_model


@pytest.fixture
def context(tmp_path: Path) -> Told:
    return Told(tmp_path)


def _blobs(count: int = 96, classes: int = 3, *, seed: int = 0) -> Examples:
    """Images [2, 6, 6]: noise around the colour of the class."""
    rng = np.random.default_rng(seed)
    patterns = np.array([[2, 0], [0, 2], [-2, -2]])[:classes, :, None, None]
    labels = rng.integers(0, classes, count)
    images = (patterns[labels] + rng.normal(size=(count, 2, 6, 6)) * 0.5).astype(np.float32)
    raw = labels.tolist()
    return Examples((torch.from_numpy(images),), torch.tensor(raw), raw, [{} for _ in raw], Path())


def _convolutional(classes: int = 3, *, batch: int | str = "batch", opset: int = 17, softmax: bool = False) -> ir.Model:
    """Conv, batch norm, ReLU, pooling and Gemm on images [2, 6, 6]; a softmax behind them when asked for."""
    rng = np.random.default_rng(1)
    weights = {
        "conv.weight": rng.normal(size=(8, 2, 3, 3)) * 0.3,
        "norm.scale": np.ones(8),
        "norm.offset": np.zeros(8),
        "norm.mean": np.zeros(8),
        "norm.variance": np.ones(8),
        "head.weight": rng.normal(size=(classes, 8)) * 0.3,
        "head.bias": np.zeros(classes),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization",
            ["c", *(f"norm.{r}" for r in ("scale", "offset", "mean", "variance"))],
            ["n"],
            name="n",
        ),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "head.weight", "head.bias"], ["logits"], transB=1),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    return _onnx_model(nodes, weights, [batch, 2, 6, 6], [batch, classes], opset)


def _onnx_model(
    nodes: list[object], weights: dict[str, object], shape: list[int | str], result: list[int | str], opset: int = 17
) -> ir.Model:
    """One float input `x`, one output: that of the last node."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, result)],  # type: ignore[attr-defined]
        [numpy_helper.from_array(_narrow(np.asarray(value)), name) for name, value in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def _narrow(array: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return array.astype(np.float32) if array.dtype == np.float64 else array
