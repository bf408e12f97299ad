"""The step `channel-costs` on a real runtime: forms are run, and a table comes out that prices any sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.codec import decode_stored
from edgewright.core.costs import COSTS_FILE, CostTable
from edgewright.core.recipe import StepSpec
from edgewright.engine import registry
from edgewright.errors import ConfigError
from edgewright.graph.load import save
from edgewright.graph.pruning import Group
from edgewright.graph.shapes import bind_axes
from edgewright.measure.channel_costs import ChannelCosts
from edgewright.measure.costs.probing import origins_of, pruned, sizes_between, sizes_to_try


class _Context:
    seed = 0

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.told: list[float] = []

    def progress(self, fraction: float, note: str = "") -> None:
        self.told.append(fraction)


def chain(folder: Path, widths: tuple[int, ...], side: int) -> Path:
    """Convolutions one after another, a pool and a head."""
    rng = np.random.default_rng(0)
    nodes, held, before = [], [], 3
    for index, width in enumerate(widths):
        weights = rng.normal(size=(width, before, 3, 3)).astype(np.float32)
        held.append(numpy_helper.from_array(weights, f"w{index}"))
        given = "x" if index == 0 else f"r{index - 1}"
        same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes.append(helper.make_node("Conv", [given, f"w{index}"], [f"a{index}"], f"conv{index}", **same))
        nodes.append(helper.make_node("Relu", [f"a{index}"], [f"r{index}"], f"relu{index}"))
        before = width
    held.append(numpy_helper.from_array(rng.normal(size=(before, 4)).astype(np.float32), "wh"))
    nodes += [
        helper.make_node("GlobalAveragePool", [f"r{len(widths) - 1}"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "wh"], ["y"], "head"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, side, side])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, held)
    save(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", "onnxruntime-u8s8"])
def test_any_sizes_have_a_price(tmp_path: Path, scheme: str) -> None:
    model, context, out = chain(tmp_path / "model", (32, 64), 24), _Context(tmp_path), tmp_path / "out"
    out.mkdir()
    step = ChannelCosts(StepSpec("onnxruntime"), scheme=scheme, forms=4, rounds=4, runs=20)
    step.run({"model": model}, out, context)
    table = decode_stored(CostTable, (out / COSTS_FILE).read_bytes())
    assert dict(table.sizes) == {"conv0": 32, "conv1": 64}
    assert len(table.probes) == 3
    assert table.microseconds > 0
    assert table.predict({}) == pytest.approx(table.microseconds, rel=0.3)
    assert table.relative({"conv0": 8, "conv1": 8}) < table.relative({"conv0": 16, "conv1": 32}) < 1
    assert table.between is not None
    assert dict(table.between.sizes) == {"conv0": 20, "conv1": 44}
    assert context.told == sorted(context.told)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("tmp")], "probes are cleaned away"


def test_a_model_without_channels_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([node], "relu", value[:1], value[1:])
    save(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])), tmp_path / "model")
    with pytest.raises(ConfigError, match="no channel"):
        ChannelCosts().run({"model": tmp_path / "model"}, tmp_path, _Context(tmp_path))


def test_it_is_found_by_name() -> None:
    step = registry.make(
        "measure", StepSpec("channel-costs", {"target": {"name": "openvino", "config": {}}, "threads": 2})
    )
    assert step == ChannelCosts(StepSpec("openvino"), threads=2)


def _group(name: str, size: int, multiple: int = 1) -> Group:
    return Group(name, size, (), (name,), (), "channels", 1, multiple)


def test_forms_are_aligned_and_differ() -> None:
    groups = [_group("a", 64), _group("b", 24), _group("c", 4), _group("d", 12, 6)]
    forms = sizes_to_try(groups, 12, 8, seed=0)
    assert forms[0] == {"a": 64, "b": 24, "c": 4, "d": 12}
    assert len({tuple(form.values()) for form in forms}) == 12
    for form in forms:
        assert form["a"] % 8 == form["b"] % 8 == 0
        assert 1 <= form["c"] <= 4
        assert form["d"] in (6, 12)
    assert forms == sizes_to_try(groups, 12, 8, seed=0)


def test_some_forms_lack_branches() -> None:
    groups = [_group("a", 64), _group("b", 24)]
    forms = sizes_to_try(groups, 12, 8, seed=0, branches=("branch one", "branch two"))
    gone = [[name for name in form if name.startswith("branch") and not form[name]] for form in forms]
    assert not any(gone[:4]), "the whole model and uniform widths are whole"
    assert 3 <= sum(map(bool, gone)) < 8
    assert {name for names in gone for name in names} == {"branch one", "branch two"}


def test_a_form_lacks_its_branches() -> None:
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    rng = np.random.default_rng(0)
    held = [(name, rng.normal(size=(4, into, 3, 3))) for name, into in (("w0", 2), ("w1", 4))]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "stem", **same),
        helper.make_node("Conv", ["a", "w1"], ["b"], "inside", **same),
        helper.make_node("Add", ["a", "b"], ["c"], "add"),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n, 8, 8]) for name, n in (("x", 2), ("y", 4))]
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in held]
    graph = helper.make_graph(nodes, "unit", ends[:1], ends[1:], weights)
    model = bind_axes(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])), {})
    whole = [node.name for node in pruned(model, {}).graph]
    assert whole == ["stem", "inside", "add", "relu"]
    assert [node.name for node in pruned(model, {"branch add": 0}).graph] == ["stem", "relu"]


def test_sizes_between_are_half_way() -> None:
    groups = [_group("a", 64), _group("b", 8), _group("c", 24, 8)]
    assert sizes_between(groups, 8) == {"a": 44, "b": 8, "c": 24}
    assert sizes_between(groups[1:], 8) is None
    assert sizes_between(groups, 1) is None


def test_what_clean_up_joins_is_traced_to_both() -> None:
    """A batch norm is folded under the name of its own tensor, and the Conv gets a new name."""
    values = ["scale", "offset", "mean", "variance"]
    original = _graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
            helper.make_node("BatchNormalization", ["a", *values], ["b"], "norm"),
            helper.make_node("Relu", ["b"], ["y"], "relu"),
        ],
        ["w", *values],
    )
    simple = _graph(
        [helper.make_node("Conv", ["x", "folded"], ["b"], "Conv_7"), helper.make_node("Relu", ["b"], ["y"], "relu")],
        ["folded"],
    )
    assert origins_of(simple, original) == {"Conv_7": ("conv", "norm"), "relu": ("relu",)}


def test_an_operator_belongs_to_the_one_that_computes_least() -> None:
    original = _graph([helper.make_node("Relu", ["x"], ["a"], "one"), helper.make_node("Abs", ["a"], ["y"], "two")], [])
    simple = _graph(
        [
            helper.make_node("Relu", ["x"], ["a"], "one"),
            helper.make_node("Identity", ["a"], ["new"], "made"),
            helper.make_node("Abs", ["new"], ["y"], "two"),
        ],
        [],
    )
    assert origins_of(simple, original) == {"one": ("one",), "two": ("two",)}


def _graph(nodes: list[onnx.NodeProto], held: list[str]) -> ir.Graph:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    constants = [numpy_helper.from_array(np.ones(1, np.float32), name) for name in held]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], constants)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])).graph
