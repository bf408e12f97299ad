"""Calibration statistics against a direct computation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.errors import DataError
from edgewright.graph.opset import raise_opset
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import (
    STRIDE,
    TensorStatistics,
    activations,
    gather_histograms,
    gather_ranges,
    histogram,
    with_activations,
    with_ranges,
)
from edgewright.passes._infer import open_infer
from edgewright.testing._pass_models import CASES


def test_ranges_and_histograms_equal_those_of_all_values_at_once() -> None:
    case = CASES[0]
    model = infer_shapes(raise_opset(ir.from_proto(case.build()), 17))
    batches = [(1, feed) for feed in case.feeds(5)]
    ranges = gather_ranges(open_infer(with_ranges(model)), batches)
    everything = open_infer(with_activations(model))
    found = gather_histograms(everything, batches, ranges, 64)
    assert set(found.tensors) == {v.name for v in activations(model.graph)}
    assert found.samples == 5
    for name, seen in found.tensors.items():
        values = np.concatenate([np.ravel({**feed, **everything(feed)}[name]) for _, feed in batches])
        assert (seen.low, seen.high) == (float(values.min()), float(values.max()))
        assert sum(seen.counts) == values.size


def test_large_tensors_are_sampled_evenly() -> None:
    values = np.linspace(0, 1, STRIDE * 16 * 8 * 4, dtype=np.float32)
    counts = histogram(values, TensorStatistics(0.0, 1.0), 8)
    assert counts.sum() == -(-values.size // STRIDE)
    assert counts.max() - counts.min() <= 1


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=64).filter(any), st.floats(51, 100))
def test_percentile_ranges_shrink_within_the_extremes(counts: list[int], percent: float) -> None:
    seen = TensorStatistics(-1.0, 3.0, tuple(counts))
    low, high = seen.percentile(percent)
    assert -1.0 <= low < high <= 3.0 + 1e-9
    width = 4.0 / len(counts)
    first, last = round((low + 1.0) / width), round((high + 1.0) / width)
    assert sum(counts[first:last]) >= sum(counts) * percent / 100 - 1e-6


def test_percentile_of_a_known_distribution() -> None:
    seen = TensorStatistics(0.0, 100.0, (1,) * 100)
    assert seen.percentile(90) == pytest.approx((5.0, 95.0), abs=1.0)
    with pytest.raises(ValueError, match="no histogram"):
        TensorStatistics(0.0, 1.0).percentile(99)


def test_no_samples_and_overflow_are_refused(tmp_path: Path) -> None:
    case = CASES[1]
    model = infer_shapes(ir.from_proto(case.build()))
    infer = open_infer(with_ranges(model))
    with pytest.raises(DataError, match="empty"):
        gather_ranges(infer, [])
    with pytest.raises(DataError, match="finite"):
        gather_ranges(infer, [(1, {"x": np.full(case.shape, np.inf, np.float32)})])
