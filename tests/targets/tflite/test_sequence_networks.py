"""Recurrent layers and transformers, compiled and held against ONNX Runtime."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

TESTS = Path(__file__).parents[2]
BRIDGE = TESTS / "graph" / "bridge"
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6
VARIANTS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "lstm": ("LSTM", {}, ()),
    "lstm of lengths": ("LSTM", {"direction": "bidirectional"}, ("lengths", "h", "c")),
    "lstm backwards": ("LSTM", {"direction": "reverse"}, ("h", "c")),
    "lstm with peepholes": ("LSTM", {"clip": 0.5}, ("h", "c", "peepholes")),
    "gru": ("GRU", {"direction": "bidirectional"}, ("h",)),
    "gru of lengths": ("GRU", {"direction": "reverse"}, ("lengths",)),
    "gru before reset": ("GRU", {"linear_before_reset": 1}, ("h",)),
    "rnn": ("RNN", {"direction": "bidirectional", "activations": ["Relu", "Tanh"]}, ("lengths", "h")),
}


def layer(op: str, attributes: dict[str, Any], given: tuple[str, ...]) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    count = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[op] * HIDDEN
    shapes = {"w": (count, rows, INPUTS), "r": (count, rows, HIDDEN), "b": (count, 2 * rows)}
    shapes |= {"h": (count, BATCH, HIDDEN), "c": (count, BATCH, HIDDEN), "peepholes": (count, 3 * HIDDEN)}
    values = {name: (0.5 * random.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    values["lengths"] = np.asarray([5, 2, 3], np.int32)
    order = ["lengths", "h", *(["c", "peepholes"] if op == "LSTM" else [])]
    names = ["x", "w", "r", "b", *(name if name in given else "" for name in order)]
    outputs = ["y", "y_h", *(["y_c"] if op == "LSTM" else [])]
    node = helper.make_node(op, names, outputs, name="layer", hidden_size=HIDDEN, **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (STEPS, BATCH, INPUTS))
    graph = helper.make_graph(
        [node],
        "layer",
        [x],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(values[name], name) for name in names if name in values],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", VARIANTS)
def test_recurrent_layers(judge: Any, name: str) -> None:
    x = np.random.default_rng(1).normal(size=(STEPS, BATCH, INPUTS)).astype(np.float32)
    found = judge.model(layer(*VARIANTS[name]), x=x)
    assert found.decibels > 110


def loaded(name: str, path: Path) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


TOKENS = {"GATHER", "FLOOR_MOD", "CAST", "RESHAPE", "EQUAL", "LOGICAL_NOT"}
"""What turns token numbers into floats: XNNPACK computes floats only."""
NETWORKS = [
    pytest.param("bert", False, TOKENS, marks=pytest.mark.slow),
    pytest.param("bert", True, TOKENS, marks=pytest.mark.prove),
    pytest.param("transformer", True, TOKENS, marks=pytest.mark.slow),
    pytest.param("crnn", False, {"CONCATENATION", "LOG_SOFTMAX"}, marks=pytest.mark.slow),
    pytest.param("tcn", False, {"LOG_SOFTMAX"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "dynamo", "left"), NETWORKS)
def test_networks_of_sequences(judge: Any, name: str, dynamo: bool, left: set[str]) -> None:
    family = loaded("bridge_networks", BRIDGE / "conftest.py").FAMILIES[name]
    proto = loaded("bridge_exports", BRIDGE / "test_bridge_exports.py").exported(family, dynamo=dynamo)
    found = judge.model(proto, **{f"x{i}": sample.numpy()[:1] for i, sample in enumerate(family.samples())})
    assert found.decibels > 120
    assert {*found.left} <= left
    assert sum(found.left.values()) <= 5


@pytest.mark.slow
def test_the_transformer_of_the_example(judge: Any) -> None:
    bridge = loaded("bridge_networks", BRIDGE / "conftest.py")
    network = loaded("banking77_network", TESTS.parent / "examples" / "banking77" / "network.py")
    family = bridge.Family(network.classifier, ((1, 48),), (4000,))
    proto = loaded("bridge_exports", BRIDGE / "test_bridge_exports.py").exported(family, dynamo=False)
    tokens = family.samples()[0].numpy()
    tokens[:, 20:] = 0
    found = judge.model(proto, x0=tokens)
    assert found.decibels > 110
    assert {*found.left} <= TOKENS
