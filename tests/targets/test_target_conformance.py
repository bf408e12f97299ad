"""Runs the public conformance suite over every target that is found; nobody lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.testing import targets


@pytest.mark.sample(7)
@pytest.mark.parametrize("check", [c for name in targets.discovered() for c in targets.checks(name)], ids=str)
def test_conformance(check: targets.Check, tmp_path: Path) -> None:
    check.run(tmp_path)


def test_the_built_in_targets_are_found() -> None:
    assert {"coreml", "litert", "null", "onnxruntime", "openvino"} <= set(targets.discovered())
