"""Filters that were only set to zero leave the model, and the function stays the same."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgewright.errors import ConfigError
from edgewright.graph.load import load
from edgewright.graph.load import save as save_model
from edgewright.passes._infer import open_infer
from edgewright.passes.shrink import Shrink

Arrays = Mapping[str, Any]
EXACT = 1e-5
NORM = "gamma, beta, mean, var"


class _Context:
    seed = 0

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1, note


def noise(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    made = {name: rng.standard_normal(shape).astype(np.float32) * 0.5 for name, shape in shapes.items()}
    return {name: np.abs(array) + 0.5 if name.startswith("var") else array for name, array in made.items()}


def shrunk(text: str, weights: Arrays, folder: Path, x: str = "float[n,3,8,8]") -> tuple[dict[str, int], Any]:
    """Runs the pass, compares both models on noise, and returns first axes of what is left, and the notes."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g ({x} x) => (float[] y) {{ {text} }}')
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items())
    for node in proto.graph.node:
        node.name = node.output[0]
    return applied(ir.from_proto(proto), folder)


def applied(model: ir.Model, folder: Path) -> tuple[dict[str, int], Any]:
    source, out = folder / "source", folder / "out"
    out.mkdir(parents=True)
    save_model(model, source)
    Shrink().run({"model": source}, out, _Context(folder))
    before, after = load(source), load(out)
    for batch in (2, 3):
        feed = {}
        for value in before.graph.inputs:
            shape = [axis if isinstance(axis, int) else batch for axis in value.shape or ()]
            feed[value.name or ""] = np.random.default_rng(batch).standard_normal(shape).astype(np.float32)
        expected, got = open_infer(before)(feed), open_infer(after)(feed)
        for key, array in expected.items():
            assert got[key].shape == array.shape
            assert np.abs(got[key] - array).max() <= EXACT * max(np.abs(array).max(), 1e-3), key
    sizes = {
        name: int(value.shape[0])  # type: ignore[arg-type]
        for name, value in after.graph.initializers.items()
        if value.shape is not None and len(value.shape)
    }
    return sizes, json.loads((out / "pruning.json").read_text())


BODY = f"c1 = Conv(x, w1)  n1 = BatchNormalization(c1, {NORM})  r1 = Relu(n1)"
SHAPES = {"w1": (8, 3, 1, 1), **dict.fromkeys(("gamma", "beta", "mean", "var"), (8,)), "w2": (5, 8, 1, 1), "b2": (5,)}


def test_constant_channels_go_into_the_next_bias(tmp_path: Path) -> None:
    weights = noise(SHAPES)
    weights["w1"][[1, 4, 6]] = 0  # the batch norm makes constants of these, above zero or not
    weights["beta"][[1, 4]] = 0.7
    sizes, notes = shrunk(f"{BODY}  y = Conv(r1, w2, b2)", weights, tmp_path)
    assert sizes["w1"] == 5
    assert notes["groups"] == [{"group": "c1", "kind": "channels", "layers": ["c1"], "before": 8, "after": 5}]
    assert notes["fixed"] == []
    assert notes["parameters"] < 0.7
    assert notes["macs"] == pytest.approx(5 / 8)


def test_a_layer_without_bias_is_given_one(tmp_path: Path) -> None:
    weights = noise({name: shape for name, shape in SHAPES.items() if name != "b2"})
    weights["w1"][2], weights["beta"][2] = 0, 1.5
    sizes, _ = shrunk(f"{BODY}  y = Conv(r1, w2)", weights, tmp_path)
    assert sizes["w1"] == 7


def test_behind_padding_one_constant_stands_for_all(tmp_path: Path) -> None:
    """A border of zeros makes a map of a constant, not a bias: channels of zeros go, others are multiples of one."""
    weights = noise({**SHAPES, "w2": (5, 8, 3, 3)})
    weights["w1"][[1, 3, 4, 6, 7]] = 0
    weights["mean"][[1, 3, 4, 6, 7]] = 0
    weights["beta"][[1, 3, 4, 6, 7]] = [-0.3, 0.7, 0.2, 0, 1.5]  # Relu leaves 0, 0.7, 0.2, 0, 1.5
    sizes, notes = shrunk(f"{BODY}  y = Conv<pads=[1,1,1,1]>(r1, w2, b2)", weights, tmp_path)
    assert sizes["w1"] == 4
    ((layer, why),) = notes["fixed"]
    assert layer == "c1"
    assert "one filter of zeros stays" in why
    assert "pads" in why


def test_what_differs_at_the_border_stays(tmp_path: Path) -> None:
    """A depthwise convolution that pads makes another map of every constant."""
    text = f"{BODY}  d = Conv<group=8, pads=[1,1,1,1]>(r1, w3)  y = Conv(d, w2, b2)"
    weights = noise({**SHAPES, "w3": (8, 1, 3, 3)})
    weights["w1"][[1, 4]], weights["mean"][[1, 4]], weights["beta"][[1, 4]] = 0, 0, 0.5
    sizes, notes = shrunk(text, weights, tmp_path)
    assert sizes["w1"] == 8
    assert "2 filters of zeros stay" in dict(notes["fixed"])["c1"]


def test_filters_nobody_reads_go(tmp_path: Path) -> None:
    weights = noise(SHAPES)
    weights["w2"][:, [0, 3]] = 0
    sizes, _ = shrunk(f"{BODY}  y = Conv<pads=[1,1,1,1]>(r1, w2, b2)", weights, tmp_path)
    assert sizes["w1"] == 6


def test_taps_that_add_up_to_zero_are_read(tmp_path: Path) -> None:
    weights = noise({**SHAPES, "w2": (5, 8, 3, 3)})
    weights["w2"][:, 0] = 0
    weights["w2"][:, 0, 0, 0], weights["w2"][:, 0, 2, 2] = 1, -1
    sizes, _ = shrunk(f"{BODY}  y = Conv(r1, w2, b2)", weights, tmp_path)
    assert sizes["w1"] == 8


def test_a_folded_residual_network(tmp_path: Path) -> None:
    """Batch norms folded: a filter of zeros with a bias. A residual channel goes only where both sides have none."""
    text = (
        "c1 = Conv(x, w1, b1)  r1 = Relu(c1)  c2 = Conv<pads=[1,1,1,1]>(r1, w2, b2)  r2 = Relu(c2)"
        "  c3 = Conv<pads=[1,1,1,1]>(r2, w3, b3)  s = Add(c3, r1)  r = Relu(s)  p = GlobalAveragePool(r)"
        "  f = Flatten(p)  y = Gemm<transB=1>(f, w4, b4)"
    )
    weights = noise(
        {"w1": (6, 3, 1, 1), "b1": (6,), "w2": (8, 6, 3, 3), "b2": (8,), "w3": (6, 8, 3, 3), "b3": (6,), "w4": (4, 6)}
        | {"b4": (4,)}
    )
    weights["w1"][[0, 1, 2]], weights["b1"][[0, 1, 2]] = 0, [0, 0.5, 0]
    weights["w3"][[0, 1]], weights["b3"][[0, 1]] = 0, [0.3, -0.2]
    weights["w2"][[3, 5]], weights["b2"][[3, 5]] = 0, [0, -1]
    weights["w2"][:, 2] = 0
    sizes, notes = shrunk(text, weights, tmp_path)
    assert sizes["w2"] == 6
    assert sizes["w1"] == 5  # 0 goes; 1 is 0.5 behind padding; 2 is made by the other branch
    assert "pads" in dict(notes["fixed"])["c1"]


def test_depthwise_and_squeeze_and_excitation(tmp_path: Path) -> None:
    text = (
        "c1 = Conv(x, w1, b1)  h1 = HardSwish(c1)  c2 = Conv<group=8, pads=[1,1,1,1]>(h1, w2, b2)  h2 = HardSwish(c2)"
        "  g = GlobalAveragePool(h2)  e = Conv(g, w3, b3)  q = Relu(e)  t = Conv(q, w4, b4)  u = Sigmoid(t)"
        "  m = Mul(h2, u)  y = Conv(m, w5)"
    )
    shapes = {"w1": (8, 3, 1, 1), "b1": (8,), "w2": (8, 1, 3, 3), "b2": (8,), "w3": (4, 8, 1, 1), "b3": (4,)}
    weights = noise({**shapes, "w4": (8, 4, 1, 1), "b4": (8,), "w5": (5, 8, 1, 1)})
    for name in ("w1", "b1", "w2", "b2"):
        weights[name][[2, 5]] = 0
    weights["w3"][1], weights["b3"][1] = 0, 0.4
    sizes, _ = shrunk(text, weights, tmp_path)
    assert (sizes["w2"], sizes["w3"]) == (6, 3)


def test_heads_and_features_of_a_transformer(tmp_path: Path) -> None:
    text = (
        "q0 = MatMul(x, wq)  q1 = Reshape(q0, heads)  q = Transpose<perm=[0,2,1,3]>(q1)  k0 = MatMul(x, wk)"
        "  k1 = Reshape(k0, heads)  k = Transpose<perm=[0,2,3,1]>(k1)  v0 = MatMul(x, wv)  v1 = Reshape(v0, heads)"
        "  v = Transpose<perm=[0,2,1,3]>(v1)  s = MatMul(q, k)  a = Softmax(s)  o = MatMul(a, v)"
        "  o1 = Transpose<perm=[0,2,1,3]>(o)  o2 = Reshape(o1, joined)  o3 = MatMul(o2, wo)  z = Add(o3, x)"
        "  f = MatMul(z, up)  fb = Add(f, bu)  g = Sigmoid(fb)  w = MatMul(g, down)  y = Add(w, z)"
    )
    shapes = {**dict.fromkeys(("wq", "wk", "wv", "wo"), (12, 12)), "up": (12, 20), "bu": (20,), "down": (20, 12)}
    weights = noise(shapes) | {"heads": np.array([0, 0, 3, 4]), "joined": np.array([0, 0, 12])}
    weights["wv"][:, 4:8] = 0
    weights["up"][:, :6] = 0
    sizes, notes = shrunk(text, weights, tmp_path, "float[n,5,12]")
    assert {group["kind"]: group["after"] for group in notes["groups"]} == {"heads": 2, "channels": 14}
    assert sizes["wo"] == 8
    assert sizes["down"] == 14


def test_a_layer_keeps_one_channel(tmp_path: Path) -> None:
    weights = noise(SHAPES)
    weights["w1"][:] = 0
    sizes, _ = shrunk(f"{BODY}  y = Conv(r1, w2, b2)", weights, tmp_path)
    assert sizes["w1"] == 1


def test_a_model_without_such_channels_stays(tmp_path: Path) -> None:
    weights = noise(SHAPES)
    sizes, notes = shrunk(f"{BODY}  y = Conv(r1, w2, b2)", weights, tmp_path)
    assert {name: sizes[name] for name in SHAPES} == {name: shape[0] for name, shape in SHAPES.items()}
    assert (notes["macs"], notes["parameters"]) == (1, 1)


def test_a_quantised_model_is_refused(tmp_path: Path) -> None:
    text = "q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  y = Conv(d, w)"
    weights: Arrays = {
        "s": np.array(0.1, np.float32),
        "z": np.array(0, np.uint8),
        "w": np.ones((4, 3, 1, 1), np.float32),
    }
    with pytest.raises(ConfigError, match="quantised"):
        shrunk(text, weights, tmp_path)


@pytest.mark.slow
def test_what_torch_prunes_comes_in_whole_and_goes_out_smaller(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch import nn
    from torch.nn.utils import prune

    torch.manual_seed(0)
    first, second, norm = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, bias=False), nn.BatchNorm2d(24)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5))
    network = nn.Sequential(first, nn.ReLU(), second, norm, nn.ReLU(), head)
    for layer, share in ((first, 0.5), (second, 0.25)):
        prune.ln_structured(layer, "weight", share, 2, 0)  # type: ignore[no-untyped-call]
        prune.remove(layer, "weight")  # type: ignore[no-untyped-call]
    with torch.no_grad():
        assert first.bias is not None
        first.bias[first.weight.abs().sum((1, 2, 3)) == 0] = 0
        norm.bias.normal_()
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(network, (torch.zeros(2, 3, 9, 9),), dynamo=True, optimize=False, verbose=False)
    sizes, notes = applied(program.model, tmp_path)
    assert (sizes["0.bias"], sizes["3.bias"]) == (8, 18)
    assert notes["macs"] == pytest.approx(0.5 * 0.75, rel=0.1)
