"""The small bundles of `tests/bundle`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_FILE = Path(__file__).parents[1] / "bundle" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("tiny_bundles_for_cli", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
tiny = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = tiny
_SPEC.loader.exec_module(tiny)

classifier, classifier_bundle = tiny.classifier, tiny.classifier_bundle
detector, detector_bundle = tiny.detector, tiny.detector_bundle


@pytest.fixture
def bright_square() -> Callable[..., Any]:
    return tiny.bright_square  # type: ignore[no-any-return]
