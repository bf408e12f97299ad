"""What is not installed is said with one line that installs all of it."""

from __future__ import annotations

import pytest

from edgewright.engine import toolchain
from edgewright.errors import ToolchainMissing

HERE = {"numpy", "onnxruntime"}
EXTRAS = {"build": ("onnx", "jinja2"), "onnxruntime": ("onnxruntime",), "torch": ("torch",)}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with ONNX Runtime alone."""
    monkeypatch.setattr(toolchain, "version", lambda name: "1" if name in HERE else None)
    monkeypatch.setattr(toolchain, "distributions_of", EXTRAS.__getitem__)


@pytest.mark.usefixtures("bare")
def test_one_line_installs_all_that_is_missing() -> None:
    with pytest.raises(ToolchainMissing) as caught:
        toolchain.need("the work", "build", "onnxruntime", "torch", "build")
    assert caught.value.message == "the work needs onnx, jinja2, torch, not installed here"
    assert caught.value.hint == 'pip install "edgewright[build,torch]"'
    assert caught.value.exit_code == 3


@pytest.mark.usefixtures("bare")
def test_what_is_installed_is_enough() -> None:
    toolchain.need("the work", "onnxruntime")


@pytest.mark.parametrize("extra", ["build", "onnxruntime", "openvino", "torch", "tflite", "image", "audio", "text"])
def test_metadata_knows_every_extra(extra: str) -> None:
    assert toolchain.distributions_of(extra)


def test_what_another_system_needs_is_not_missing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy; extra == 'toy'", "no-such-thing; sys_platform == 'nowhere' and extra == 'toy'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    distributions_of = toolchain.distributions_of.__wrapped__
    assert distributions_of("toy") == ("numpy",)
    assert distributions_of("other") == ()
