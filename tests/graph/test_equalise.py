"""Equalisation: the same float function, weights that share one range, and what it must leave alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgewright.errors import ConfigError
from edgewright.graph.channels import gather_channels, with_channels
from edgewright.graph.equalise import Equalised, equalise
from edgewright.graph.links import find_links, input_rows, output_rows
from edgewright.graph.names import name_nodes
from edgewright.graph.quantisers import numbers
from edgewright.graph.shapes import infer_shapes
from edgewright.passes._infer import open_infer

RNG = np.random.default_rng(0)


def separable(activation: str, *, bias: float = 0.1, pads: int = 1) -> ir.Model:
    """Conv 3 -> 6, depthwise, Conv 6 -> 8, mean, Flatten, Gemm 8 -> 4, with uneven channels; opset 17."""
    uneven = 10.0 ** np.linspace(-1, 1, 6).astype(np.float32)
    weights = {
        "w0": RNG.standard_normal((6, 3, 3, 3)) * uneven[:, None, None, None],
        "w1": RNG.standard_normal((6, 1, 3, 3)) / uneven[:, None, None, None],
        "w2": RNG.standard_normal((8, 6, 1, 1)) * uneven[None, ::-1, None, None],
        "w3": RNG.standard_normal((8, 4)),
        "b0": RNG.standard_normal(6) * uneven * bias,
        "b1": RNG.standard_normal(6) * bias,
        "b2": RNG.standard_normal(8) * bias,
        "b3": RNG.standard_normal(4),
        "zero": np.float32(0),
        "six": np.float32(6),
        "slope": np.full((1, 1, 1), 0.3),
    }
    pad = f"pads = [{pads}, {pads}, {pads}, {pads}]"
    text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[1,3,10,10] x) => (float[1,4] y) {{
        c0 = Conv<{pad}>(x, w0, b0)
        r0 = {activation.format("c0")}
        c1 = Conv<group = 6, {pad}>(r0, w1, b1)
        r1 = {activation.format("c1")}
        c2 = Conv(r1, w2, b2)
        r2 = Relu(c2)
        m = GlobalAveragePool(r2)
        f = Flatten(m)
        y = Gemm(f, w3, b3)
    }}"""
    return with_weights(text, weights)


def with_weights(text: str, weights: dict[str, Any]) -> ir.Model:
    proto = onnx.parser.parse_model(text)
    arrays = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in arrays.items())
    model = infer_shapes(ir.from_proto(proto))
    name_nodes(model.graph)
    return model


def samples(count: int, seed: int, offset: float = 0.0) -> list[tuple[int, dict[str, NDArray[np.float32]]]]:
    rng = np.random.default_rng(seed)
    return [(1, {"x": (rng.standard_normal((1, 3, 10, 10)) + offset).astype(np.float32)}) for _ in range(count)]


def equalised(model: ir.Model, feeds: Any, **config: Any) -> Equalised:
    links, _ = find_links(model.graph)
    seen = gather_channels(open_infer(with_channels(model, {link.tensor: 1 for link in links})), feeds)
    return equalise(model.graph, links, seen, **config)


def difference(one: ir.Model, other: ir.Model, feeds: Any) -> float:
    before, after = open_infer(one), open_infer(other)
    pairs = [(before(feed)["y"], after(feed)["y"]) for _, feed in feeds]
    return float(max(np.abs(a - b).max() for a, b in pairs) / max(np.abs(a).max() for a, _ in pairs))


def unevenness(model: ir.Model) -> float:
    """Largest over smallest channel range of a link's first weights, the worst link."""
    worst = 1.0
    for link in find_links(model.graph)[0]:
        weights = numbers(link.first.inputs[1])
        assert weights is not None
        rows = np.abs(output_rows(link.first, weights)).reshape(len(output_rows(link.first, weights)), -1).max(axis=1)
        worst = max(worst, float(rows.max() / rows.min()))
    return worst


@pytest.mark.parametrize("activation", ["Relu({})", "LeakyRelu<alpha = 0.2>({})", "PRelu({}, slope)"])
def test_a_network_of_homogeneous_activations_stays_what_it_is(activation: str) -> None:
    model = separable(activation)
    original = model.clone()
    notes = equalised(model, samples(4, 1), absorb=False)
    assert len(notes.factors) == 3
    assert difference(original, model, samples(20, 2)) < 1e-5
    assert max(notes.factors.values()) > 20
    assert unevenness(model) < 0.2 * unevenness(original)


def test_both_sides_of_every_link_end_with_one_range() -> None:
    model = separable("Relu({})")
    equalised(model, samples(2, 1), absorb=False)
    for link in find_links(model.graph)[0]:
        first, second = numbers(link.first.inputs[1]), numbers(link.second.inputs[1])
        assert first is not None
        assert second is not None
        rows = output_rows(link.first, first)
        one = np.abs(rows).reshape(len(rows), -1).max(axis=1)
        other = np.abs(input_rows(link.second, second, len(rows))).max(axis=(1, 3)).reshape(-1)
        np.testing.assert_allclose(one, other, rtol=0.01)


def test_dead_channels_are_left_alone() -> None:
    model = separable("Relu({})")
    value = next(n for n in model.graph if n.op_type == "Conv").inputs[1]
    weights = numbers(value).copy()  # type: ignore[union-attr]
    weights[2] = 0
    value.const_value = ir.tensor(weights)  # type: ignore[union-attr]
    original = model.clone()
    equalised(model, samples(2, 1), absorb=False)
    assert all(np.isfinite(v.const_value.numpy()).all() for v in model.graph.initializers.values() if v.const_value)
    assert difference(original, model, samples(5, 2)) < 1e-5


def test_a_clip_that_is_never_reached_becomes_relu() -> None:
    model = separable("Clip({}, zero, six)", bias=0.0)
    original = model.clone()
    quiet = [(n, {"x": feed["x"] * 1e-3}) for n, feed in samples(4, 1)]
    notes = equalised(model, quiet)
    assert [n.op_type for n in model.graph if n.op_type in ("Clip", "Relu")] == ["Relu"] * 3
    assert all(text.startswith("Relu") for text in notes.clips.values())
    assert difference(original, model, quiet) < 1e-5


def test_a_clip_that_is_reached_limits_the_scaling() -> None:
    model = separable("Clip({}, zero, six)")
    original = model.clone()
    feeds = samples(6, 1)
    notes = equalised(model, feeds)
    assert sum(n.op_type == "Clip" for n in model.graph) >= 1
    assert any(text.startswith("kept") for text in notes.clips.values())
    assert max(notes.factors.values()) > 1.5
    assert difference(original, model, feeds) < 1e-5


def test_every_channel_may_get_a_limit_of_its_own() -> None:
    """Exact whatever the data, not only on the samples looked at."""
    model = separable("Clip({}, zero, six)")
    original = model.clone()
    equalised(model, samples(6, 1), clip="bounds", absorb=False)
    infer_shapes(model)
    assert sum(n.op_type == "Min" for n in model.graph) == 2
    assert difference(original, model, samples(20, 3, offset=1.0)) < 1e-5
    assert unevenness(model) < 0.2 * unevenness(original)


def test_the_limit_may_be_dropped_which_changes_the_function() -> None:
    model = separable("Clip({}, zero, six)")
    original = model.clone()
    equalised(model, samples(6, 1), clip="relu")
    assert all(n.op_type != "Clip" for n in model.graph)
    assert difference(original, model, samples(6, 1)) > 1e-3
    with pytest.raises(ConfigError, match="keep, bounds, relu"):
        equalised(separable("Relu({})"), samples(1, 1), clip="cut")


def test_what_every_sample_exceeds_moves_behind_the_activation() -> None:
    model = separable("Relu({})", pads=0)
    bias = next(n for n in model.graph if n.op_type == "Conv").inputs[2]
    bias.const_value = ir.tensor(np.full(6, 500, np.float32))  # type: ignore[union-attr]
    original = model.clone()
    feeds = samples(6, 1)
    notes = equalised(model, feeds)
    assert notes.absorbed
    assert difference(original, model, feeds) < 1e-5
    _, feed = feeds[0]
    peaks = [
        float(gather_channels(open_infer(with_channels(each, {"r0": 1})), [(1, feed)])["r0"].low.max())
        for each in (original, model)
    ]
    assert peaks[1] < 0.2 * peaks[0]


def test_padding_forbids_absorption() -> None:
    """A border of zeros is no constant of the channel."""
    model = separable("Relu({})", pads=1)
    bias = next(n for n in model.graph if n.op_type == "Conv").inputs[2]
    bias.const_value = ir.tensor(np.full(6, 500, np.float32))  # type: ignore[union-attr]
    notes = equalised(model, samples(3, 1))
    first = next(n for n in model.graph if n.op_type == "Conv")
    assert first.name not in notes.absorbed


@pytest.mark.parametrize(
    ("activation", "reason"),
    [
        ("HardSwish({})", "HardSwish follows"),
        ("Clip({}, six, six)", "does not start at 0"),
        ("Add({0}, {0})", "several"),
    ],
)
def test_what_does_not_scale_is_left_alone_with_a_reason(activation: str, reason: str) -> None:
    links, left = find_links(separable(activation).graph)
    assert len(links) == 1
    assert len(left) == 2
    assert all(reason in text for text in left.values())


def test_silu_and_shared_weights_are_left_alone() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[1,3,4,4] x) => (float[1,3,4,4] y) {
        c = Conv(x, w)
        s = Sigmoid(c)
        m = Mul(c, s)
        d = Conv(m, v)
        r = Relu(d)
        e = Conv(r, v)
        y = Relu(e)
    }"""
    links, left = find_links(with_weights(text, {"w": RNG.random((3, 3, 1, 1)), "v": RNG.random((3, 3, 1, 1))}).graph)
    assert not links
    reasons = sorted(left.values())
    assert any("Sigmoid follows" in reason for reason in reasons)
    assert any("other readers" in reason for reason in reasons)


def test_an_unfolded_batch_norm_names_the_fix() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[1,3,4,4] x) => (float[1,3,4,4] y) {
        c = Conv(x, w)
        n = BatchNormalization(c, one, one, one, one)
        y = Conv(n, v)
    }"""
    weights = {"w": RNG.random((3, 3, 1, 1)), "v": RNG.random((3, 3, 1, 1)), "one": np.ones(3)}
    assert "clean-up" in next(iter(find_links(with_weights(text, weights).graph)[1].values()))
