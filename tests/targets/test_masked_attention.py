"""Masks of attention do not swallow the scores, whichever runtime, scheme and rule for ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgewright.core.codec import decode_stored, encode
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Plan
from edgewright.engine import registry
from edgewright.graph.load import load
from edgewright.passes._infer import open_infer
from edgewright.runtimes import open_runner
from edgewright.runtimes._machine import local_device
from edgewright.testing._attention_models import MASKS, feeds, masked_attention
from edgewright.testing.passes import statistics_of
from edgewright.testing.targets import QuietContext, make

SCHEMES = [(target, s) for target in ("onnxruntime", "openvino") for s in make(target).schemes(local_device())]
SAFE = [(target, s) for target, s in SCHEMES if not s.caution]


@pytest.mark.sample(9)
@pytest.mark.parametrize("ranges", ["minmax", "percentile"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("target", "scheme"), SAFE, ids=lambda v: getattr(v, "name", v))
def test_masked_scores_survive_eight_bits(target: str, scheme: object, mask: str, ranges: str, tmp_path: Path) -> None:
    source, quantised, artifact = (tmp_path / name for name in ("source", "quantised", "artifact"))
    for folder in (source, quantised, artifact):
        folder.mkdir()
    onnx.save(masked_attention(mask), source / "model.onnx")
    inputs = {"model": source, "statistics": statistics_of(source, feeds(32), tmp_path / "statistics")}
    context = QuietContext(tmp_path / "scratch")
    registry.make("passes", StepSpec("static-int8", {"scheme": encode(scheme), "ranges": ranges})).run(
        inputs, quantised, context
    )
    make(target).run({"model": quantised}, artifact, context)
    original = open_infer(load(source))
    fresh = feeds(64)[32:]
    expected = np.concatenate([original(feed)["y"] for feed in fresh])
    with open_runner(artifact) as runner:
        got = np.concatenate([runner.run(feed)["y"].copy() for feed in fresh])
    noise = np.square(got - expected).sum() / np.square(expected - expected.mean(0)).sum()
    assert noise < 0.02, f"{10 * np.log10(1 / noise):.1f} dB"
    plan = decode_stored(Plan, (quantised / "plan.json").read_bytes())
    assert any("8 bits" in reason for reason in plan.kept_float.values())
