"""A convolution that a plan keeps in float really computes in float, also between quantisers."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from edgewright.core.codec import encode_json
from edgewright.core.target import Plan
from edgewright.graph.schemes import find
from edgewright.runtimes import load_artifact
from edgewright.runtimes.onnxruntime import DISABLED
from edgewright.testing._target_models import Builder
from edgewright.testing.targets import QuietContext, make


def middle_in_float() -> onnx.ModelProto:
    """Three convolutions between quantisers; the middle one has float weights."""
    build = Builder()
    value = build.quantizer("x", 0.05, 128)
    for name, quantised in (("a", True), ("b", False), ("c", True)):
        weights = build.quantized_weights(f"w{name}", 8, 8, 3, 3) if quantised else build.weights("wb", 8, 8, 3, 3)
        value = build.quantizer(build.add("Conv", [value, weights], name, pads=[1, 1, 1, 1]), 0.1, 128)
    shape = (1, 8, 12, 12)
    return build.model([("x", TensorProto.FLOAT, shape)], [(value, TensorProto.FLOAT, shape)], {})


@pytest.mark.parametrize(("scheme", "precision"), [("onnxruntime-u8s7", "float32"), ("elsewhere", "int8")])
def test_onnxruntime_keeps_it_only_when_told_to(scheme: str, precision: str, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "artifact"
    model.mkdir()
    out.mkdir()
    onnx.save(middle_in_float(), model / "model.onnx")
    (model / "plan.json").write_bytes(encode_json(Plan(scheme, kept_float={"b_node": "too sensitive"})))
    make("onnxruntime").run({"model": model}, out, QuietContext(tmp_path / "scratch"))
    found = {n.precision for n in load_artifact(out).placement if "b_node" in n.source and "Conv" in n.op}
    assert found == {precision}


def test_every_scheme_of_onnxruntime_says_so() -> None:
    for name in ("onnxruntime-u8s8", "onnxruntime-s8s8", "onnxruntime-u8s7", "onnxruntime-u8u8"):
        assert find(name).session[DISABLED] == "WeightBiasQuantization"
