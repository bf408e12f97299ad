"""What running a source needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewright.core.step import Step


class Silent:
    """A context that reports to nobody."""

    def __init__(self, scratch: Path) -> None:
        self.seed = 0
        self.scratch = scratch
        self.fractions: list[float] = []

    def progress(self, fraction: float, note: str = "") -> None:
        self.fractions.append(fraction)


@pytest.fixture
def run_source(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Runs a source step and returns its folder and its import record."""

    def run(step: Step, **inputs: Path) -> tuple[Path, dict[str, Any]]:
        out = tmp_path / "out"
        out.mkdir()
        context = Silent(tmp_path)
        step.run(inputs, out, context)
        assert context.fractions == sorted(context.fractions)
        assert {"model.onnx", "import.json"} <= {path.name for path in out.iterdir()}
        return out, json.loads((out / "import.json").read_text())

    return run
