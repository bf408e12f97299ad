"""NNCF: post-training quantisation on ONNX (run by ONNX Runtime) and on OpenVINO, default and at its best settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import Bench

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.measurement import Quality
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Artifact
from edgewright.graph.load import MODEL_FILE

TOOL = "NNCF"
DROP = 0.01
"""Loss that accuracy control may leave, absolute."""


def add(bench: Bench, transformer: bool, accuracy_control: bool) -> None:
    """Adds defaults, full bias correction, and accuracy control, each on both formats.

    Args:
        bench: Gets the points.
        transformer: Tell NNCF that the model is one, which turns SmoothQuant on.
        accuracy_control: Also `quantize_with_accuracy_control`, judged by the project's metric on `tune`.
    """
    import nncf

    kind = {"model_type": nncf.ModelType.TRANSFORMER} if transformer else {}
    variants: dict[str, dict[str, Any]] = {
        "default": {},
        "best": {**kind, "preset": nncf.QuantizationPreset.MIXED, "fast_bias_correction": False},
    }
    for name, options in variants.items():
        bench.attempt(TOOL, f"on ONNX, {name}", "onnxruntime", lambda o=options: _on_onnx(bench, o))
        bench.attempt(TOOL, f"on OpenVINO, {name}", "openvino", lambda o=options: _on_openvino(bench, o))
    if accuracy_control:
        bench.attempt(TOOL, "on OpenVINO, accuracy control", "openvino", lambda: _controlled(bench, kind))


def _dataset(bench: Bench) -> tuple[Any, int]:
    import nncf

    feeds = list(bench.feeds())
    return nncf.Dataset(feeds), len(feeds)


def _on_onnx(bench: Bench, options: dict[str, Any]) -> Path:
    import nncf
    import onnx

    dataset, count = _dataset(bench)
    hub = bench.folder("nncf-onnx")
    onnx.save(
        nncf.quantize(onnx.load(bench.model / MODEL_FILE), dataset, subset_size=count, **options), hub / MODEL_FILE
    )
    return bench.step("targets", StepSpec("onnxruntime"), model=hub)


def _on_openvino(bench: Bench, options: dict[str, Any]) -> Path:
    import nncf

    dataset, count = _dataset(bench)
    return _saved(bench, nncf.quantize(_read(bench), dataset, subset_size=count, **options))


def _controlled(bench: Bench, options: dict[str, Any]) -> Path:
    import nncf

    runs: list[float] = []

    def validate(model: Any, items: Iterable[Any]) -> tuple[float, None]:
        config = {"split": "tune", "metrics": list(bench.metrics), "limit": None}
        artifact = _saved(bench, getattr(model, "model", model))
        out = bench.step("measure", StepSpec("evaluate", config), artifact=artifact, data=bench.data)
        runs.append(decode_stored(Quality, (out / "quality.json").read_bytes()).figures[0].value)
        return runs[-1], None

    dataset, count = _dataset(bench)
    validation = nncf.Dataset(list(bench.feeds("tune")))
    made = nncf.quantize_with_accuracy_control(
        _read(bench), dataset, validation, validate, max_drop=DROP, subset_size=count, **options
    )
    print(f"  NNCF accuracy control: {len(runs)} evaluations: {', '.join(f'{value:.3f}' for value in runs)}")
    return _saved(bench, made)


def _read(bench: Bench) -> Any:
    from edgewright.runtimes._require import require_openvino

    return require_openvino().Core().read_model(bench.model / MODEL_FILE)


def _saved(bench: Bench, model: Any) -> Path:
    """Writes an OpenVINO model as an artifact folder that our runner opens."""
    from edgewright.runtimes._require import require_openvino

    out = bench.folder("nncf-openvino")
    require_openvino().save_model(model, out / "model.xml", compress_to_fp16=False)
    float_point = next(p for p in bench.points if p.runtime == "openvino")
    template = decode_stored(Artifact, (float_point.artifact / "artifact.json").read_bytes())
    (out / "artifact.json").write_bytes(encode_json(template))
    return out
