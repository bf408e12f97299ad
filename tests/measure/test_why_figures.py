"""Figures and conventions of the diagnosis, on arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.measure.why import conventions, figures
from edgewright.measure.why.thresholds import THRESHOLDS

RNG = np.random.default_rng(0)
PICTURES = RNG.normal(size=(6, 3, 8, 8)).astype(np.float32) * np.array([1, 2, 3], np.float32)[None, :, None, None]
TABLES = ({"op": "normalise", "scale": 1 / 255}, {"op": "layout", "order": "chw"})


def test_columns_count_alike_however_large_they_are() -> None:
    boxes, scores = RNG.uniform(0, 640, (50, 4)), RNG.uniform(0, 1, (50, 2))
    wanted = np.c_[boxes, scores]
    wiped = np.c_[boxes, scores * 0]
    assert figures.ratio_db(wanted, wiped) > 40
    assert figures.columns_db(wanted, wiped) < 3


def test_what_is_not_finite_is_lost() -> None:
    wanted = np.ones((2, 3))
    assert figures.columns_db(wanted, wanted * np.nan) == figures.LOST_DB
    assert figures.ratio_db(wanted, np.full((2, 3), np.inf)) == figures.LOST_DB


@given(st.integers(1, 40), st.floats(0.01, 10), st.integers(-5, 5))
def test_rounded_stays_within_half_a_step(count: int, scale: float, zero: int) -> None:
    values = np.linspace(-1, 1, count) * scale * 50
    left = figures.rounded(values, np.asarray([scale]), np.asarray([zero]), -128, 127)
    assert np.all(np.abs(left - values) <= scale / 2 * 1.0001)


def _causes(found: np.ndarray) -> list[str]:
    return [c.cause for c in conventions.compared_inputs(PICTURES, found, TABLES, THRESHOLDS)]


@pytest.mark.parametrize(
    ("cause", "found"),
    [
        ("channel order", PICTURES[:, ::-1]),
        ("channel order", PICTURES[:, ::-1] * 255),
        ("input scale", PICTURES * 255),
        ("input scale", PICTURES / 2),
        ("mean and std", (PICTURES - 0.5) / 0.3),
        ("mean and std", PICTURES + np.array([1, 2, 3], np.float32)[None, :, None, None]),
        ("layout", PICTURES.transpose(0, 1, 3, 2)),
        ("layout", PICTURES.transpose(0, 2, 3, 1).reshape(PICTURES.shape)),
        ("layout", PICTURES.transpose(0, 2, 3, 1)),
    ],
)
def test_two_preparations_of_the_same_samples(cause: str, found: np.ndarray) -> None:
    assert _causes(found)[0] == cause


def test_equal_preparations_are_no_reason() -> None:
    assert _causes(PICTURES * np.float32(1.00001)) == []


def test_classes_in_another_order_are_found_by_their_outputs() -> None:
    wanted = RNG.normal(size=(80, 5))
    order = [2, 0, 1, 4, 3]
    names = ("a", "b", "c", "d", "e")
    noisy = wanted[:, order] + RNG.normal(size=(80, 5)) * 0.1
    found = conventions.label_order(wanted, noisy, names, names, THRESHOLDS)
    assert found is not None
    assert found.labels == tuple(names[i] for i in order)
    assert conventions.label_order(wanted, wanted, names, names, THRESHOLDS) is None


def test_names_in_another_order_are_found_without_outputs() -> None:
    wanted = RNG.normal(size=(80, 3))
    found = conventions.label_order(wanted, wanted, ("a", "b", "c"), ("b", "a", "c"), THRESHOLDS)
    assert found is not None
    assert found.labels == ("a", "b", "c")
    assert conventions.label_order(wanted, wanted, ("a", "b", "c"), ("x", "y", "z"), THRESHOLDS) is None


def test_the_convention_of_a_converted_model_is_found_by_trying() -> None:
    wanted = RNG.normal(size=(40, 4))

    def outputs(tables: tuple) -> np.ndarray:
        scaled = any(t.get("op") == "scale" and t.get("by") == 255.0 for t in tables)
        return wanted if scaled else RNG.normal(size=(40, 4))

    found = conventions.tried_inputs(outputs, wanted, TABLES, THRESHOLDS)
    assert [c.cause for c in found] == ["input scale"]
    assert found[0].preprocess[-1] == {"op": "scale", "by": 255.0}
