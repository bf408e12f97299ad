"""Recipes as one reads them."""

from __future__ import annotations

from edgewright.core.recipe import Recipe, StepSpec


def test_a_recipe_shows_schemes_by_name_and_long_lists_by_length() -> None:
    config = {"scheme": {"name": "generic-u8s8", "bias": "int32"}, "ranges": "mse", "keep_float": list("abcdef")}
    passes = (StepSpec("clean-up"), StepSpec("static-int8", config), StepSpec("x", {"on": True, "off": False}))
    expected = "static-int8(scheme=generic-u8s8, ranges=mse, keep_float=[a, b, c, d, and 2 more])"
    assert str(Recipe("t", passes)) == f"clean-up > {expected} > x(on)"
    assert str(Recipe("t", ())) == "as imported"
