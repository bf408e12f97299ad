"""Every pass found, held to the conformance suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.engine import registry
from edgewright.testing.passes import NOT_MODEL_TO_MODEL, Check, checks


@pytest.mark.sample(7)
@pytest.mark.parametrize("check", checks(), ids=str)
def test_pass_conforms(check: Check, tmp_path: Path) -> None:
    check.run(tmp_path)


def test_the_suite_covers_every_pass() -> None:
    covered = {check.name for check in checks()} | set(NOT_MODEL_TO_MODEL)
    assert covered == set(registry.names("passes"))
    assert {"clean-up", "fp16", "bf16", "dynamic-int8", "static-int8"} <= covered
