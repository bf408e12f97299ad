"""Runs the public conformance suite over every target that is found; nobody lists them."""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from edgewright.testing import targets

SECONDS_TO_IMPORT = ("coreml", "executorch", "torch-export", "torchscript")
"""Targets whose compilers take seconds to import: none of their checks is a quick one."""


def cases() -> list[ParameterSet]:
    marks = {name: [pytest.mark.slow] if name in SECONDS_TO_IMPORT else [] for name in targets.discovered()}
    return [pytest.param(c, id=str(c), marks=marks[name]) for name in marks for c in targets.checks(name)]


@pytest.mark.sample(13)
@pytest.mark.parametrize("check", cases())
def test_conformance(check: targets.Check, tmp_path: Path) -> None:
    check.run(tmp_path)


def test_the_built_in_targets_are_found() -> None:
    assert {"coreml", "executorch", "litert", "null", "onnxruntime", "openvino", "torch-export", "torchscript"} <= set(
        targets.discovered()
    )
