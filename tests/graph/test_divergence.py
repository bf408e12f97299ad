"""Sums over samples equal the figures over all samples at once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.parity import EXACT_DB
from edgewright.graph.divergence import Divergence, probabilities
from edgewright.testing._target_models import perceptron


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 10.0))
def test_sums_do_not_depend_on_how_samples_come(seed: int, noise: float) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.standard_normal((6, 5)).astype(np.float32)
    other = truth + (noise * generator.standard_normal(truth.shape)).astype(np.float32)
    once, rows = Divergence(frozenset()), Divergence(frozenset())
    once.add({"y": truth}, {"y": other})
    for index in range(len(truth)):
        rows.add({"y": truth[index : index + 1]}, {"y": other[index : index + 1]})
    assert rows.mse() == pytest.approx(np.mean((truth.astype(np.float64) - other) ** 2))
    assert rows.mse() == pytest.approx(once.mse())
    assert rows.loss() == pytest.approx(10 ** (-rows.sqnr_db() / 10))
    assert rows.divergence() is None


def test_outputs_that_do_not_change_count_as_equal() -> None:
    sums = Divergence(frozenset())
    truth = {"y": np.ones((1, 4), np.float32), "z": np.ones((1, 4), np.float32), "i": np.zeros(3, np.int64)}
    sums.add(truth, {"y": np.full((1, 4), 1.5, np.float32)})
    assert sums.loss() == pytest.approx(0.125)
    equal = Divergence(frozenset())
    equal.add(truth, {})
    assert (equal.loss(), equal.sqnr_db()) == (0.0, EXACT_DB)


def test_probabilities_are_judged_by_divergence_in_nats() -> None:
    assert probabilities(ir.from_proto(perceptron()).graph) == {"y"}
    sums = Divergence(frozenset({"y"}))
    sums.add({"y": np.array([[0.5, 0.5], [1.0, 0.0]])}, {"y": np.array([[0.25, 0.75], [1.0, 0.0]])})
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert sums.divergence() == pytest.approx(expected / 2)
    assert sums.loss() == pytest.approx(expected / 2)
