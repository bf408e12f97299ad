"""Source `tflite` on the real keyword spotter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert.interpreter")

from edgewright.core.codec import decode_stored
from edgewright.core.target import Plan
from edgewright.errors import Corrupt
from edgewright.graph.load import load
from edgewright.sources._verify import onnxruntime_evaluator
from edgewright.sources.tflite import TfliteSource

Run = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.mark.bench
def test_keyword_spotting_keeps_its_accuracy(bench: Path, run_source: Run) -> None:
    out, record = run_source(TfliteSource(), model=bench / "kws" / "kws01_ref_model_float32.tflite")
    assert "dequantised weights in LiteRT" in record["compared_with"]
    assert record["snr_db"] > 110
    assert record["largest_difference"] < 1e-6
    ops = [node.op_type for node in load(out).graph]
    assert ops.count("Transpose") == 1
    clips = np.load(bench / "kws" / "kws01_mfcc_int8.npz")
    features, labels = _features(clips)
    (scores,) = onnxruntime_evaluator(out / "model.onnx")({"input_1": features}).values()
    assert float(np.mean(scores.argmax(1) == labels)) == pytest.approx(0.901, abs=0.0005)


def _features(clips: Any) -> tuple[Any, Any]:
    arrays = {name: clips[name] for name in clips.files}
    features = next(value for value in arrays.values() if value.ndim > 1)
    labels = next(value for value in arrays.values() if value.ndim == 1 and value.dtype.kind in "iu")
    return ((features.astype(np.float32) - 83) * 0.5847029089927673).reshape(-1, 49, 10, 1), labels


@pytest.mark.bench
def test_a_quantised_keyword_spotter_is_equal_bit_by_bit(bench: Path, run_source: Run) -> None:
    out, record = run_source(TfliteSource(), model=bench / "kws" / "kws01_ref_model_int8.tflite")
    assert record["largest_difference"] == 0
    assert any("takes and gives integers: input_1 int8, Identity int8" in note for note in record["notes"])
    plan = decode_stored(Plan, (out / "plan.json").read_bytes())
    by_name = {tensor.tensor: tensor for tensor in plan.tensors}
    assert (by_name["input_1"].scale, by_name["input_1"].zero_point) == ((0.5847029089927673,), (83,))
    clips = np.load(bench / "kws" / "kws01_mfcc_int8.npz")
    features, labels = _features(clips)
    (scores,) = onnxruntime_evaluator(out / "model.onnx", literal=True)({"input_1": features}).values()
    assert float(np.mean(scores.argmax(1) == labels)) == pytest.approx(0.902, abs=0.0005)


@pytest.mark.bench
@pytest.mark.slow
def test_the_broken_detector_is_imported_as_broken_as_it_is(bench: Path, run_source: Run) -> None:
    """Its output holds 0 to 1 in 256 steps, where boxes are hundreds of pixels wide."""
    source = TfliteSource(samples=2)
    out, record = run_source(source, model=bench / "yolox_nano" / "yolox_nano_only_int8_quantize.tflite")
    assert record["snr_db"] is None or record["snr_db"] > 60
    plan = decode_stored(Plan, (out / "plan.json").read_bytes())
    assert plan.tensors[-1].scale == (1 / 256,)
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)
    (found,) = onnxruntime_evaluator(out / "model.onnx", literal=True)({"serving_default_images:0": image}).values()
    assert found.max() == 255 / 256
    assert [node.op_type for node in load(out).graph].count("Transpose") == 1


def test_a_truncated_file_is_corrupt(tmp_path: Path, run_source: Run) -> None:
    (tmp_path / "cut.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3\x00\x00")
    with pytest.raises(Corrupt, match=r"cut\.tflite"):
        run_source(TfliteSource(), model=tmp_path / "cut.tflite")
