"""Networks as PyTorch exports them, and the benchmark models: what is left to move, and how long the solver takes."""

from __future__ import annotations

import cProfile
import importlib.util
import sys
from pathlib import Path
from random import Random
from typing import Any

import onnx_ir as ir
import pytest

from edgewright.graph.channels_last import to_channels_last
from edgewright.graph.load import load
from edgewright.graph.shapes import bind_axes
from edgewright.graph.simplify import simplify

BRIDGE = Path(__file__).parents[1] / "bridge"

LEFT = {
    "mobilenet-v1": 1,
    "mobilenet-v2": 1,
    "mobilenet-v3": 1,
    "efficientnet": 1,
    "resnet": 1,
    "yolov5": 3,  # input, and per head what exchanges anchors and pixels in the model itself
    "yolov8": 1,
    "yolo11": 5,  # input, and what attention needs: queries, keys, values with the heads before the pixels, and back
    "deeplab": 2,
    "ssd": 1,
    "ds-cnn": 0,
    "crnn": 1,
    "bert": 4,
}
"""Transposes after solving: one per border that is a map; more only where the network itself moves."""

INSIDE = {"yolov5": 2, "yolo11": 4, "bert": 4, "crnn": 1}
"""The same where maps may cross the borders channels-last: what the network itself moves, nothing else."""


def loaded(name: str, path: Path) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", LEFT)
def test_exports_keep_no_move_inside(tools: Any, name: str) -> None:
    family = loaded("bridge_networks", BRIDGE / "conftest.py").FAMILIES[name]
    proto = loaded("bridge_exports", BRIDGE / "test_bridge_exports.py").exported(family, dynamo=False)
    model = simplify(bind_axes(ir.from_proto(proto), {}, default=1))
    after = tools.solved(model)
    tools.assert_same(model, after)
    left = tools.transposes(after)
    assert len([node for node in left if not (node.name or "").endswith("/adjoint")]) <= LEFT[name]
    free = tools.solved(model, **{f"moved_{side}": maps(getattr(model.graph, side)) for side in ("inputs", "outputs")})
    tools.assert_same(model, free)
    assert len(tools.transposes(free)) <= INSIDE.get(name, 0)


def maps(values: Any) -> frozenset[str]:
    return frozenset(value.name for value in values if len(value.shape) == 4)


def u_net(b: Any, rng: Random) -> str:
    """Down twice, up twice, joined with what was there before."""
    kept, x = [], b.input(1, 3, 16, 16)
    for channels in (4, 8):
        size = b.shapes[x][2]
        x = b.op("Conv", [x, b.weight(rng, channels, b.shapes[x][1], 3, 3)], [1, channels, size, size], pads=[1] * 4)
        x = b.op("Relu", [x], b.shapes[x])
        kept.append(x)
        x = b.op("MaxPool", [x], [1, channels, size // 2, size // 2], kernel_shape=[2, 2], strides=[2, 2])
    for skip in reversed(kept):
        c, size = b.shapes[x][1], b.shapes[x][2]
        x = b.op("ConvTranspose", [x, b.weight(rng, c, 4, 2, 2)], [1, 4, 2 * size, 2 * size], strides=[2, 2])
        x = b.op("Concat", [x, skip], [1, 4 + b.shapes[skip][1], 2 * size, 2 * size], axis=1)
    return str(b.op("Conv", [x, b.weight(rng, 2, b.shapes[x][1], 1, 1)], [1, 2, 16, 16]))


def test_a_u_net_is_moved_at_its_borders_alone(tools: Any) -> None:
    b = tools.Builder()
    model = b.model(u_net(b, Random(0)))
    after = tools.solved(model)
    tools.assert_same(model, after)
    assert len(tools.transposes(after)) == 2


@pytest.mark.bench
@pytest.mark.parametrize(("name", "left"), [("kws/kws01_ref_model_float32.onnx", 0), ("yolox_nano/yolox_nano.onnx", 1)])
@pytest.mark.parametrize("clean", [False, True])
def test_benchmark_models_are_moved_at_their_input_alone(
    tools: Any, bench: Path, name: str, left: int, clean: bool
) -> None:
    model = bind_axes(load(bench / name), {}, default=1)
    model = simplify(model) if clean else model
    after = model.clone()
    to_channels_last(after)
    tools.assert_same(model, after)
    assert len(tools.transposes(after)) == left


def residual(b: Any, rng: Random, nodes: int) -> str:
    """One long chain of residual blocks with excitation: a single region for the solver."""
    shape = [1, 8, 4, 4]
    x = b.op("Conv", [b.input(*shape), b.weight(rng, 8, 8, 1, 1)], shape)
    while len(b.nodes) < nodes:
        y = b.op("Conv", [x, b.weight(rng, 8, 8, 1, 1)], shape)
        y = b.op("Mul", [y, b.op("Sigmoid", [y], shape)], shape)
        mean = b.op("Flatten", [b.op("GlobalAveragePool", [y], [1, 8, 1, 1])], [1, 8])
        gate = b.op("Reshape", [b.op("Tanh", [mean], [1, 8]), b.ints(1, 8, 1, 1)], [1, 8, 1, 1])
        x = b.op("Add", [x, b.op("Mul", [y, gate], shape)], shape)
    return str(x)


@pytest.mark.slow
def test_work_grows_with_the_graph_not_with_its_square(tools: Any) -> None:
    """Function calls are counted, not seconds: they are the same on every machine."""
    calls = []
    for nodes in (500, 2000):
        b = tools.Builder()
        model = b.model(residual(b, Random(0), nodes))
        with cProfile.Profile() as profile:
            to_channels_last(model)
        calls.append(sum(entry.callcount for entry in profile.getstats()))
        assert len(tools.transposes(model)) == 2
    assert calls[1] < 6 * calls[0]
