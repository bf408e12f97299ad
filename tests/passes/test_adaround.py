"""Adaptive rounding: at four bits the network's output comes much nearer to the float one; a stopped run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper

from edgewright.core.codec import encode_json
from edgewright.data import DataSpec
from edgewright.errors import ConfigError
from edgewright.graph.blocks import blocks_of
from edgewright.graph.load import load, save
from edgewright.graph.schemes import find
from edgewright.passes._infer import open_infer
from edgewright.passes.adaround import Adaround
from edgewright.passes.calibrate import Calibrate
from edgewright.passes.static_int8 import StaticInt8

SAMPLES = 48


@dataclass
class Context:
    scratch: Path
    seed: int = 0
    stop_after: float = 2.0

    def progress(self, fraction: float, note: str = "") -> None:
        if fraction >= self.stop_after:
            raise KeyboardInterrupt


def residual_network() -> onnx.ModelProto:
    """Stem, a residual unit of two convolutions, pooling, a linear head: [n, 3, 12, 12] to [n, 5]."""
    rng = np.random.default_rng(0)
    shapes = {"w0": (12, 3, 3, 3), "w1": (12, 12, 3, 3), "w2": (12, 12, 1, 1), "w3": (12, 5)}
    weights = {name: rng.normal(size=s) / np.sqrt(np.prod(s[1:])) for name, s in shapes.items()}
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="stem", **pads),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu0"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="first", **pads),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="second"),
        helper.make_node("Add", ["c2", "r0"], ["s"], name="add"),
        helper.make_node("Relu", ["s"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3"], ["y"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 12, 12])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def pictures(count: int, seed: int) -> np.ndarray:
    """Neighbouring values alike, as in pictures: where inputs are independent the nearest integer is the best."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0.5, 1.0, size=(count, 3, 4, 4)).repeat(3, axis=2).repeat(3, axis=3)
    return np.asarray(coarse + 0.2 * rng.normal(size=coarse.shape), np.float32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors only lose by threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The float model, its four-bit version and the samples, on disk."""
    root = tmp_path_factory.mktemp("adaround")
    np.savez(root / "samples.npz", x=pictures(SAMPLES, seed=1))
    table = {"reader": "npz", "path": "samples.npz", "label": ""}
    spec = DataSpec(root=str(root), splits={"calibration": table, "tune": table, "test": table})
    (root / "data.json").write_bytes(encode_json(spec))
    made = {"float": root / "float", "statistics": root / "statistics", "model": root / "quantised"}
    for folder in made.values():
        folder.mkdir()
    save(ir.from_proto(residual_network()), made["float"])
    made["data"] = root / "data.json"
    context = Context(root)
    Calibrate().run({"model": made["float"], "data": made["data"]}, made["statistics"], context)
    scheme = replace(find("generic-u8s8"), weight_bits=4, name="four-bit")
    given = {"model": made["float"], "statistics": made["statistics"]}
    StaticInt8(scheme).run(given, made["model"], context)
    return made


def run(scene: dict[str, Path], scratch: Path, step: Adaround, stop_after: float = 2.0) -> Path:
    out = scratch / "out"
    (scratch / "scratch").mkdir(parents=True, exist_ok=True)
    out.mkdir(exist_ok=True)
    given = {name: scene[name] for name in ("model", "float", "data")}
    step.run(given, out, Context(scratch / "scratch", stop_after=stop_after))
    return out


def error(scene: dict[str, Path], candidate: Path) -> float:
    """Squared error of the output on samples that nothing was learnt from, relative to the float output."""
    x = pictures(200, seed=2)
    exact = open_infer(load(scene["float"]))({"x": x})["y"]
    found = open_infer(load(candidate), fuse=False)({"x": x})["y"]
    return float(((found - exact) ** 2).sum() / (exact**2).sum())


STEP = Adaround(steps=250, batch=8, rate=0.02)


@pytest.mark.slow
def test_four_bit_weights_lose_much_less(scene: dict[str, Path], tmp_path: Path) -> None:
    nearest, rounded = error(scene, scene["model"]), error(scene, run(scene, tmp_path, STEP))
    assert rounded < 0.6 * nearest


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_ends_the_same(scene: dict[str, Path], tmp_path: Path) -> None:
    step = replace(STEP, steps=20, most_layers=1)
    whole = run(scene, tmp_path / "whole", step)
    with pytest.raises(KeyboardInterrupt):
        run(scene, tmp_path / "stopped", step, stop_after=0.5)
    kept = len(list((tmp_path / "stopped" / "scratch").glob("block-*.npz")))
    assert 0 < kept < 4
    again = run(scene, tmp_path / "stopped", step)
    assert (again / "model.onnx").read_bytes() == (whole / "model.onnx").read_bytes()


def test_a_residual_unit_is_one_block_and_layers_alone_on_request(scene: dict[str, Path]) -> None:
    graph = load(scene["model"]).graph
    names = [[layer.name for layer in block.layers] for block in blocks_of(graph)]
    assert names == [["stem"], ["first", "second"], ["head"]]
    assert [b.layers[0].name for b in blocks_of(graph, 1)] == ["stem", "first", "second", "head"]
    assert blocks_of(graph, 1)[0].output.name == "r0"


def test_a_float_model_has_nothing_to_round(scene: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no operator has stored weights"):
        run({**scene, "model": scene["float"]}, tmp_path, STEP)
