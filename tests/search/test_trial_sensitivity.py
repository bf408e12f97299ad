"""Which step measures the sensitivity of a recipe."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgewright.core.codec import encode_json
from edgewright.core.recipe import Recipe, StepSpec, TargetSpec
from edgewright.core.sensitivity import SENSITIVITY_FILE, GroupSensitivity, Sensitivity
from edgewright.engine import registry
from edgewright.graph.schemes import find
from edgewright.search.repair import Chain
from edgewright.search.trial import Trials


def test_it_measures_the_quantisation_of_the_recipe_and_not_its_repairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Sensitivity("onnxruntime-u8s7", 3, (GroupSensitivity(("a",), ("t",), 0.1, 10.0, 0.2),))
    (tmp_path / SENSITIVITY_FILE).write_bytes(encode_json(expected))
    asked: list[Recipe] = []

    def apply(self: Trials, recipe: Recipe, target: TargetSpec) -> Any:
        asked.append(recipe)
        return SimpleNamespace(path=tmp_path, digest="sha256:0")

    monkeypatch.setattr(Trials, "apply", apply)
    config = {"ranges": "percentile", "keep_float": ["@last"], "percent": 99.9}
    chain = Chain(
        find("onnxruntime-u8s7"), config, before=(StepSpec("equalise"),), after=(StepSpec("bias-correction"),)
    )
    trials = Trials.__new__(Trials)
    trials.sensitivities = {}
    assert trials.sensitivity(chain.recipe(), TargetSpec("a", StepSpec("null"))) == expected
    assert trials.sensitivities == {"onnxruntime-u8s7": "sha256:0"}
    assert [spec.name for spec in asked[0].passes] == ["clean-up", "equalise", "sensitivity"]
    made = registry.make("passes", asked[0].passes[-1])
    assert (made.ranges, made.percent, made.keep_float) == ("percentile", 99.9, ("@last",))  # type: ignore[attr-defined]
    assert made.scheme == find("onnxruntime-u8s7")  # type: ignore[attr-defined]
