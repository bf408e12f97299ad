"""Every pass found, held to the conformance suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from edgewright.engine import registry
from edgewright.testing.passes import NOT_MODEL_TO_MODEL, Check, checks

SECONDS_TO_EXPORT = ("student",)
"""Passes whose every check exports a network from PyTorch: none of them is a quick one."""


def cases() -> list[ParameterSet]:
    return [
        pytest.param(check, id=str(check), marks=[pytest.mark.slow] if check.name in SECONDS_TO_EXPORT else [])
        for check in checks()
    ]


@pytest.mark.sample(13)
@pytest.mark.parametrize("check", cases())
def test_pass_conforms(check: Check, tmp_path: Path) -> None:
    check.run(tmp_path)


def test_the_suite_covers_every_pass() -> None:
    covered = {check.name for check in checks()} | set(NOT_MODEL_TO_MODEL)
    assert covered == set(registry.names("passes"))
    assert {"clean-up", "fp16", "bf16", "dynamic-int8", "static-int8"} <= covered
