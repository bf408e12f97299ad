"""The versions of ONNX Runtime that an artifact asks for follow from what its file holds."""

from __future__ import annotations

import pytest

from edgewright.targets._ort_range import runtime_range


@pytest.mark.parametrize(
    ("version", "opsets", "ir_version", "expected"),
    [
        ("1.31.1", {"": 17}, 8, ">=1.20,<2"),
        ("1.31.1", {"": 21}, 10, ">=1.20,<2"),
        ("1.31.1", {"ai.onnx": 22}, 10, ">=1.22,<2"),
        ("1.31.1", {"": 17}, 11, ">=1.23,<2"),
        ("1.31.1", {"": 26}, 10, ">=1.31,<2"),
        ("1.31.1", {"": 17, "com.microsoft": 1}, 8, ">=1.31,<2"),
        ("1.21.0", {"": 22}, 10, ">=1.21,<2"),
        ("1.19.2", {"": 17}, 8, ">=1.19,<2"),
    ],
)
def test_range(version: str, opsets: dict[str, int], ir_version: int, expected: str) -> None:
    assert runtime_range(version, opsets, ir_version) == expected
