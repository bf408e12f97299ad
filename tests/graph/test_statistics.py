"""Calibration statistics against a direct computation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgewright.errors import ConfigError, Corrupt, DataError
from edgewright.graph.opset import raise_opset
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import (
    Batch,
    Gatherer,
    Statistics,
    TensorStatistics,
    activations,
    gather,
    merge,
    probe,
    read_statistics,
    with_activations,
    write_statistics,
)
from edgewright.graph.statistics.probes import ENOUGH, stride
from edgewright.passes._infer import open_infer
from edgewright.testing._pass_models import CASES

CONVOLUTIONS = infer_shapes(raise_opset(ir.from_proto(CASES[0].build()), 17))
PERCEPTRON = infer_shapes(ir.from_proto(CASES[1].build()))


def small(batch: int | str = "n", side: int | str = 6) -> ir.Model:
    """y = Relu(Conv(x)) of three channels, of which the last is dead; z = x - x is constant."""
    weights = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    weights[2] = 0
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
        helper.make_node("Sub", ["x", "x"], ["z"]),
    ]
    shape = [batch, 3, side, side]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", "y", "z")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [numpy_helper.from_array(weights, "w")])
    return infer_shapes(
        ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    )


def photos(count: int, side: int = 6) -> list[np.ndarray]:
    return list(np.random.default_rng(0).standard_normal((count, 3, side, side)).astype(np.float32))


def batched(samples: Sequence[np.ndarray], size: int, first: int = 0, step: int = 1) -> list[Batch]:
    indices = list(range(first, len(samples), step))
    parts = [indices[i : i + size] for i in range(0, len(indices), size)]
    return [(part, {"x": np.stack([samples[i] for i in part])}) for part in parts]


def require_same(a: Statistics, b: Statistics) -> None:
    """Everything equal, bit for bit, but for means, which may differ by rounding."""
    assert (a.samples, a.bins, a.notes, a.skipped) == (b.samples, b.bins, b.notes, b.skipped)
    assert a.tensors.keys() == b.tensors.keys()
    for name, one in a.tensors.items():
        other = b.tensors[name]
        assert (one.low, one.high, one.exponent) == (other.low, other.high, other.exponent), name
        assert (one.lowest, one.highest) == (other.lowest, other.highest), name
        np.testing.assert_array_equal(one.counts, other.counts, name)
        np.testing.assert_array_equal(one.odd, other.odd, name)
        if one.channels is not None and other.channels is not None:
            np.testing.assert_array_equal(one.channels.low, other.channels.low)
            np.testing.assert_allclose(one.channels.mean, other.channels.mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [False, True])
def test_statistics_equal_those_of_all_values_at_once(channels: bool) -> None:
    feeds = CASES[0].feeds(5)
    everything = open_infer(with_activations(CONVOLUTIONS))
    found = gather(open_infer, CONVOLUTIONS, [([i], feed) for i, feed in enumerate(feeds)], channels=channels)
    assert set(found.tensors) == {v.name for v in activations(CONVOLUTIONS.graph)}
    assert found.samples == 5
    for name, seen in found.tensors.items():
        values = np.concatenate([{**feed, **everything(feed)}[name] for feed in feeds])
        assert (seen.low, seen.high) == (float(values.min()), float(values.max()))
        assert seen.counts.sum() == values.size
        assert seen.odd.sum() == values.size * 2 // 5
        edges = seen.edges
        np.testing.assert_array_equal(seen.counts, np.histogram(values.astype(np.float64), edges)[0])
        assert (seen.channels is not None) == (channels and values.ndim > 1)
        if seen.channels is not None:
            assert seen.channels.axis == 1
            flat = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
            np.testing.assert_array_equal(seen.channels.low, flat.min(axis=1))
            np.testing.assert_array_equal(seen.channels.high, flat.max(axis=1))
            np.testing.assert_allclose(seen.channels.mean, flat.mean(axis=1), atol=1e-6)


def test_channels_of_matrix_products_are_last() -> None:
    found = gather(open_infer, PERCEPTRON, [([i], f) for i, f in enumerate(CASES[1].feeds())], channels=True)
    assert {name: seen.channels.axis for name, seen in found.tensors.items() if seen.channels} == dict.fromkeys(
        ("x", "h0", "h1", "h2", "h3", "y"), 1
    )


@pytest.mark.parametrize("size", [2, 3, 7, 10])
def test_batches_of_any_size_give_the_same(size: int) -> None:
    samples = photos(10)
    whole = gather(open_infer, small(), batched(samples, 1), channels=True)
    require_same(whole, gather(open_infer, small(), batched(samples, size), channels=True))
    require_same(whole, gather(open_infer, small(), batched(samples, size), channels=True, workers=3))


def test_a_last_batch_smaller_than_the_graph_s_counts_once() -> None:
    samples = photos(10)
    whole = gather(open_infer, small(), batched(samples, 1), channels=True)
    require_same(whole, gather(open_infer, small(batch=4), batched(samples, 4), channels=True))
    with pytest.raises(DataError, match="the graph takes 4"):
        gather(open_infer, small(batch=4), batched(samples, 5))


def test_samples_of_different_shapes() -> None:
    model = small(side="side")
    feeds = [([i], {"x": photos(1, side)[0][None]}) for i, side in enumerate((5, 9, 12))]
    found = gather(open_infer, model, feeds)
    assert found.tensors["x"].counts.sum() == 3 * (25 + 81 + 144)


@pytest.mark.parametrize("shards", [2, 3])
def test_merged_shards_equal_the_whole(shards: int) -> None:
    samples = photos(9)
    samples[4] *= 100
    parts = [gather(open_infer, small(), batched(samples, 1, i, shards), channels=True) for i in range(shards)]
    whole = gather(open_infer, small(), batched(samples, 1), channels=True)
    require_same(whole, merge(parts))
    require_same(whole, merge(parts[::-1]))


def test_shards_that_do_not_fit_are_refused() -> None:
    part = gather(open_infer, small(), batched(photos(2), 1))
    with pytest.raises(ConfigError, match="no statistics"):
        merge([])
    with pytest.raises(ConfigError, match="bins"):
        merge([part, gather(open_infer, small(), batched(photos(2), 1), bins=64)])
    with pytest.raises(ConfigError, match="different models"):
        merge([part, gather(open_infer, PERCEPTRON, [([0], CASES[1].feeds(1)[0])])])


def test_a_gathering_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    samples, model = photos(6), small()
    probes = probe(model, channels=True)
    infer = open_infer(probes.model)
    first = Gatherer(probes, infer)
    for indices, feed in batched(samples[:4], 1):
        first.add(indices, feed)
    write_statistics(first.partial(), tmp_path)
    second = Gatherer(probes, infer, start=read_statistics(tmp_path))
    for indices, feed in batched(samples, 1)[4:]:
        second.add(indices, feed)
    require_same(gather(open_infer, model, batched(samples, 1), channels=True), second.finish())


def test_outlier_dead_channel_and_constant_are_noted() -> None:
    samples = photos(8)
    samples[5][0, 2, 2] = 300.0
    found = gather(open_infer, small(), batched(samples, 3), channels=True)
    assert found.notes["x"].startswith("sample 5 reaches 300, no other beyond")
    assert "1 of 3 channels never change: 2" in found.notes["y"]
    assert found.notes["z"] == "zero throughout"
    assert set(gather(open_infer, small(), batched(photos(8), 3)).notes) == {"z"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("batch", "size"), [("n", 1), ("n", 4), (4, 4)])
def test_a_sample_that_is_not_finite_is_left_out_and_noted(bad: float, batch: int | str, size: int) -> None:
    samples = photos(12)
    good = gather(open_infer, small(), batched([s for i, s in enumerate(samples) if i != 5], 1))
    samples[5][1, 3, 3] = bad
    found = gather(open_infer, small(batch=batch), batched(samples, size))
    assert found.skipped == {5: "x"}
    assert "sample 5" in found.notes[""]
    for name, seen in found.tensors.items():
        np.testing.assert_array_equal(seen.counts, good.tensors[name].counts)


def test_no_samples_no_data_and_overflow_are_refused() -> None:
    with pytest.raises(DataError, match="empty"):
        gather(open_infer, small(), [])
    with pytest.raises(DataError, match='input "x" of the model has no calibration data'):
        gather(open_infer, small(), [([0], {"pixels": photos(1)[0][None]})])
    with pytest.raises(DataError, match="not finite on 2 of 4"):
        gather(open_infer, small(), batched([*photos(2), *(p * np.nan for p in photos(2))], 1))


@given(st.lists(st.integers(1, 700), min_size=1, max_size=4))
def test_strides_divide_no_axis_and_leave_enough(shape: list[int]) -> None:
    step, size = stride(shape), int(np.prod(shape, dtype=np.int64))
    assert step == 1 or (size // step >= ENOUGH and all(axis % step for axis in shape))
    assert step > 1 or not [p for p in (2, 3, 5) if size // p >= ENOUGH and all(a % p for a in shape)]


def test_thinned_values_are_spread_over_all_rows_columns_and_channels() -> None:
    shape = (32, 112, 112)
    taken = np.zeros(int(np.prod(shape)), bool)
    taken[:: stride(shape)] = True
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        share = taken.reshape(shape).mean(axis=others) * stride(shape)
        assert 0.8 < share.min() <= share.max() < 1.2, f"axis {axis}"


def test_thinned_histograms_say_the_same() -> None:
    """A smooth picture through a convolution; every k-th value against all of them."""
    rng = np.random.default_rng(1)
    samples = [np.cumsum(rng.standard_normal((3, 200, 200)), axis=2).astype(np.float32) for _ in range(4)]
    model = small(side=200)
    found = gather(open_infer, model, batched(samples, 1))
    everything = open_infer(with_activations(model))
    for name in ("x", "y"):
        seen = found.tensors[name]
        values = np.concatenate([np.ravel({"x": s[None], **everything({"x": s[None]})}[name]) for s in samples])
        assert seen.counts.sum() < 0.3 * values.size
        assert (seen.low, seen.high) == (values.min(), values.max())
        for percent in (90.0, 99.0, 99.9):
            low, high = np.percentile(values, [(100 - percent) / 2, (100 + percent) / 2])
            assert seen.percentile(percent) == pytest.approx((low, high), abs=0.02 * (seen.high - seen.low))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 1000), min_size=4, max_size=64).filter(any), st.floats(51, 100))
def test_percentile_ranges_shrink_within_the_extremes(counts: list[int], percent: float) -> None:
    seen = TensorStatistics(-1.0, 3.0, np.asarray(counts))
    low, high = seen.percentile(percent)
    assert -1.0 <= low <= high <= 3.0 + 1e-9
    edges, below = seen.edges, np.concatenate([[0], np.cumsum(counts)])
    inside = np.interp(high, edges, below) - np.interp(low, edges, below)
    assert inside == pytest.approx(sum(counts) * percent / 100, abs=1e-6 * sum(counts))


def test_percentile_of_a_known_distribution() -> None:
    seen = TensorStatistics(0.0, 100.0, np.ones(100, np.int64))
    assert seen.percentile(90) == pytest.approx((5.0, 95.0))
    assert seen.percentile(100) == (0.0, 100.0)
    with pytest.raises(ValueError, match="no histogram"):
        TensorStatistics(0.0, 1.0).percentile(99)


def test_stored_statistics_are_read_back_and_damage_is_said(tmp_path: Path) -> None:
    found = gather(open_infer, small(), batched(photos(3), 1), channels=True)
    write_statistics(found, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    require_same(found, read_statistics(tmp_path))
    write_statistics(read_statistics(tmp_path), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    np.savez(tmp_path / "statistics.npz", counts=np.zeros(3), odd=[], low=[], high=[], mean=[])
    with pytest.raises(Corrupt, match="counts"):
        read_statistics(tmp_path)
    (tmp_path / "statistics.npz").unlink()
    with pytest.raises(Corrupt):
        read_statistics(tmp_path)


def test_a_model_of_a_newer_opset_is_probed() -> None:
    proto = ir.to_proto(small())
    newer = infer_shapes(ir.from_proto(onnx.version_converter.convert_version(proto, 18)))
    require_same(gather(open_infer, small(), batched(photos(2), 1)), gather(open_infer, newer, batched(photos(2), 1)))
