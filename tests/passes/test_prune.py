"""The pass `prune`: what it asks for, what it removes, what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.costs import COSTS_FILE, CostTable, Rates
from edgewright.core.pruning import PRUNING_FILE, Pruning
from edgewright.data import save_spec
from edgewright.data.spec import data_spec
from edgewright.errors import ConfigError
from edgewright.graph.load import load, save, tensor_specs
from edgewright.graph.pruning import find_groups, prepare, remove
from edgewright.graph.pruning.extents import layer_shapes
from edgewright.graph.shapes import bind_axes
from edgewright.passes._infer import open_infer
from edgewright.passes.prune import Prune

SIDE = 8


@dataclass(slots=True)
class _Context:
    scratch: Path
    seed: int = 0

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A stem, two residual units and a head; half of the channels inside the first unit are weak."""
    rng = np.random.default_rng(0)
    shapes = {
        "w0": (16, 2, 3, 3),
        "w1": (16, 16, 3, 3),
        "w2": (16, 16, 3, 3),
        "w3": (16, 16, 3, 3),
        "w4": (16, 16, 3, 3),
    }
    weights = {name: rng.normal(size=shape) / 12 for name, shape in shapes.items()}
    weights["w1"][1::2] *= 0.01
    weights["w4"] *= 0.001
    weights["wh"] = rng.normal(size=(16, 3))
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a0"], "stem", **same),
        helper.make_node("Relu", ["a0"], ["r0"], "r0"),
    ]
    for unit, (one, two) in enumerate((("w1", "w2"), ("w3", "w4"))):
        nodes += [
            helper.make_node("Conv", [f"r{unit}", one], [f"i{unit}"], f"unit{unit}.one", **same),
            helper.make_node("Relu", [f"i{unit}"], [f"j{unit}"], f"unit{unit}.relu"),
            helper.make_node("Conv", [f"j{unit}", two], [f"k{unit}"], f"unit{unit}.two", **same),
            helper.make_node("Add", [f"k{unit}", f"r{unit}"], [f"s{unit}"], f"unit{unit}.add"),
            helper.make_node("Relu", [f"s{unit}"], [f"r{unit + 1}"], f"unit{unit}.out"),
        ]
    nodes += [
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "wh"], ["y"], "head"),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])]
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    proto = helper.make_model(
        helper.make_graph(nodes, "net", given, outputs, held),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    save(ir.from_proto(proto), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def data(tmp_path: Path, model: Path) -> Path:
    """Samples without labels."""
    x = np.random.default_rng(1).normal(size=(24, 2, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=x)
    split = {"reader": "npz", "path": "samples.npz", "value": "x", "label": ""}
    save_spec(data_spec(tmp_path, {"calibration": split}, inputs=tensor_specs(load(model))[0]), tmp_path / "data.json")
    return tmp_path / "data.json"


@pytest.fixture
def costs(tmp_path: Path, model: Path) -> Path:
    """A table in which every operator costs 1 microsecond and 1 more per 10,000 multiply-accumulates."""
    bound = bind_axes(prepare(load(model)), {"batch": 1})
    groups = find_groups(bound)
    layers = tuple(replace(shape, kind="any") for shape in layer_shapes(bound, groups, remove))
    sizes = {group.name: group.size for group in groups}
    table = CostTable("onnxruntime", "", 1, "", sizes, layers, {"any": Rates(1.0, 0.0, 0.0, 1e-4)}, 0.0, 100.0)
    (tmp_path / "costs").mkdir()
    (tmp_path / "costs" / COSTS_FILE).write_bytes(encode_json(table))
    return tmp_path / "costs"


def run(step: Prune, given: Mapping[str, Path], folder: Path) -> tuple[ir.Model, Pruning]:
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir()
    scratch.mkdir()
    step.run(given, out, _Context(scratch))
    return load(out), decode_stored(Pruning, (out / PRUNING_FILE).read_bytes())


def test_latency_is_what_the_table_says(model: Path, data: Path, costs: Path, tmp_path: Path) -> None:
    pruned, told = run(Prune(latency=0.6, align=4), {"model": model, "data": data, "costs": costs}, tmp_path)
    assert told.goal == "latency 0.6"
    assert told.predicted is not None
    assert 0.4 < told.predicted <= 0.6
    assert told.macs < 0.6
    sizes = {group.name: group.size for group in find_groups(prepare(pruned))}
    assert {group.group: group.after for group in told.groups if group.after > 1} == sizes
    x = np.zeros((2, 2, SIDE, SIDE), np.float32)
    assert np.isfinite(open_infer(pruned)({"x": x})["y"]).all()


def test_weak_channels_go_first(model: Path, data: Path, tmp_path: Path) -> None:
    step = Prune(macs=0.75, align=1, keep=("stem", "unit1*"))
    pruned, told = run(step, {"model": model, "data": data}, tmp_path)
    left = {group.group: group.after for group in told.groups}
    assert 1 < left["unit0.one"] <= 8
    assert left["stem"] == left["unit1.one"] == 16
    kept, full = pruned.graph.initializers["w1"].const_value, load(model).graph.initializers["w1"].const_value
    assert kept is not None
    assert full is not None
    strong = full.numpy()[::2]
    assert all(any(np.array_equal(row, other) for other in strong) for row in kept.numpy())


@pytest.mark.parametrize("importance", ["magnitude", "batch-norm"])
def test_size_without_data(model: Path, tmp_path: Path, importance: str) -> None:
    _, told = run(Prune(size=0.5, importance=importance, align=2), {"model": model}, tmp_path)
    assert 0.3 < told.parameters <= 0.52
    assert told.goal == "size 0.5"


def test_a_branch_that_does_little_goes_whole(model: Path, data: Path, tmp_path: Path) -> None:
    pruned, told = run(Prune(macs=0.6, blocks=True), {"model": model, "data": data}, tmp_path)
    assert ("branch unit1.add", 0) in [(group.group, group.after) for group in told.groups]
    assert "unit1.one" not in [node.name for node in pruned.graph]
    assert {group.group: group.after for group in told.groups}["unit1.one"] == 0


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, ("costs", "data")),
        ({"latency": 0.5}, ("costs", "data")),
        ({"macs": 0.5}, ("data",)),
        ({"importance": "magnitude"}, ("costs",)),
        ({"size": 0.5, "importance": "magnitude"}, ()),
    ],
)
def test_it_asks_only_for_what_it_needs(fields: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    assert Prune.wants(fields) == wanted


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latency": 0.5, "macs": 0.5}, "2 goals"),
        ({"latency": 1.5}, "latency = 1.5"),
        ({"importance": "size"}, "importance"),
        ({"align": -1}, "align = -1"),
        ({"blocks": True, "importance": "magnitude"}, "blocks"),
        ({"keep_float": ("@first",)}, "without a scheme"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Prune(**fields)


def test_a_goal_out_of_reach_says_what_is_within(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="out of reach") as error:
        run(Prune(macs=0.001), {"model": model, "data": data}, tmp_path)
    assert "ask for" in (error.value.hint or "")


def test_costs_of_another_model_are_refused(model: Path, data: Path, costs: Path, tmp_path: Path) -> None:
    path = costs / COSTS_FILE
    table = decode_stored(CostTable, path.read_bytes())
    path.write_bytes(encode_json(replace(table, sizes={**table.sizes, "other": 4})))
    with pytest.raises(ConfigError, match="another model"):
        run(Prune(), {"model": model, "data": data, "costs": costs}, tmp_path)
