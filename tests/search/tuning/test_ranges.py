"""Ranges in TOML."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.errors import ConfigError
from edgewright.search.tuning.ranges import Choices, Span, filled, has_ranges, parameters

RECIPE = {
    "title": "smaller",
    "passes": [
        {"name": "prune", "latency": {"low": 0.3, "high": 0.7}},
        {"name": "distill", "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}, "fit": {"warmup": 0.1}},
        {"name": "distill", "epochs": {"choices": [1, 2, 4]}, "fit": {"batch_norm": {"choices": ["train", "frozen"]}}},
    ],
}


def test_parameters_are_called_after_pass_and_field() -> None:
    found = parameters(RECIPE, "recipe")
    names = ["prune.latency", "distill-1.learning_rate", "distill-2.epochs", "distill-2.fit.batch_norm"]
    assert [each.name for each in found] == names
    assert [each.range for each in found[:3]] == [Span(0.3, 0.7), Span(1e-5, 1e-2, True), Choices((1, 2, 4))]
    assert parameters({"epochs": {"low": 1, "high": 4}}, "[training]")[0].name == "epochs"


def test_a_range_of_integers_gives_integers() -> None:
    assert Span(1, 4).whole
    assert not Span(1, 4.0).whole
    assert not Span(1, 4, step=0.5).whole


@given(st.integers(-5, 5), st.integers(1, 9), st.text(max_size=3))
def test_a_table_without_ranges_stays_as_it_is(low: int, width: int, key: str) -> None:
    plain = {"passes": [{"name": "prune", f"_{key}": low, "fit": {"clip": width}}], "list": [low, None]}
    assert not has_ranges(plain)
    assert filled(plain, {}) == plain
    plain["passes"][0]["fit"] = {"clip": {"low": low, "high": low + width}}  # type: ignore[index]
    assert has_ranges(plain)
    (found,) = parameters(plain, "recipe")
    assert filled(plain, {found.path: width})["passes"][0]["fit"] == {"clip": width}


def test_filling_leaves_no_range_and_touches_nothing_else() -> None:
    found = parameters(RECIPE, "recipe")
    made = filled(RECIPE, {each.path: each.example for each in found})
    assert not has_ranges(made)
    assert made["passes"][0] == {"name": "prune", "latency": 0.3}
    assert made["passes"][1]["fit"] == {"warmup": 0.1}
    assert made["passes"][2] == {"name": "distill", "epochs": 1, "fit": {"batch_norm": "train"}}
    assert RECIPE["passes"][0]["latency"] == {"low": 0.3, "high": 0.7}  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"low": 0.3}, "high = None"),
        ({"low": 2, "high": 1}, "low below high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "above 0"),
        ({"low": 0.1, "high": 1.0, "log": True, "step": 0.1}, "no step"),
        ({"low": 0.1, "high": 1.0, "steps": 0.1}, "did you mean"),
        ({"low": 0.1, "high": 1.0, "step": -1}, "above 0"),
        ({"low": 0.1, "high": 1.0, "log": "yes"}, "true or false"),
        ({"low": "0.1", "high": 1.0}, "a number"),
        ({"low": True, "high": 2}, "a number"),
        ({"low": 0.1, "high": float("inf")}, "a number"),
        ({"choices": []}, "at least one"),
        ({"choices": [[1], [2]]}, "numbers, strings"),
        ({"choices": [1, 2], "log": True}, "at least one"),
    ],
)
def test_what_cannot_be_meant_is_said_with_its_place(value: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=r"recipe: prune\.latency") as caught:
        parameters({"passes": [{"name": "prune", "latency": value}]}, "recipe")
    assert said in f"{caught.value.message} {caught.value.hint}"
