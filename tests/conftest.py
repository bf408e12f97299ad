"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run one per core; threads of PyTorch would only wait for others


@pytest.fixture(scope="session")
def bench() -> Path:
    """The folder of benchmark data; without it the test is skipped here and fails where CI is set."""
    named = os.environ.get("EDGEWRIGHT_BENCH", "")
    folder = Path(named)
    if named and (folder / "README.md").is_file():
        return folder
    reason = f"benchmark data not found: EDGEWRIGHT_BENCH={named!r}"
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(reason + " (on CI the data must be there)")
    pytest.skip(reason)
