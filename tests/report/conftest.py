"""A study built in code, with the outcomes and samples that its gallery shows."""

from __future__ import annotations

import io
import json
import math
import wave
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.core.budget import Budget
from edgewright.core.data import PairedDifference, QualityFigure, Sample
from edgewright.core.decision import Classification, Decision, Detections, decision_to_json
from edgewright.core.digest import Digest, digest_json
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing
from edgewright.core.recipe import FAILED, REFUSED, Candidate, Recipe, StepSpec, Study
from edgewright.core.step import StepRecord
from edgewright.core.target import NodePlacement, OperatorTime
from edgewright.core.tensors import TensorSpec
from edgewright.search.explain import annotate

DEVICE = Device(
    "local", "x86_64", "AMD EPYC 9B45", 2, ("avx2", "avx512f", "avx512_vnni", "avx512_bf16"), 8_000_000_000, "Linux 6.1"
)
KEYWORDS = ("silence", "unknown", "yes", "no", "up", "down")
ANIMALS = ("cat", "dog", "person")


def quality(metric: str, value: float, base: float, split: str, changed: float, per_class: dict[str, float]) -> Quality:
    """One metric with an interval of plausible width, paired with a baseline."""
    count = 450 if split == "tune" else 1000
    half = 1.96 * math.sqrt(max(value * (1 - value), 1e-4) / count)
    figure = QualityFigure(metric, value, max(0.0, value - half), min(1.0, value + half), count, split)
    narrow = half / 3
    paired = PairedDifference(metric, value - base, value - base - narrow, value - base + narrow, count, split)
    extra = QualityFigure("top-5", min(1.0, value + 0.06), value + 0.04, min(1.0, value + 0.08), count, split)
    return Quality((figure, extra), (paired,), per_class, changed)


def timing(speed: float, size: int, base_ms: float, threads: int = 1, energy: float | None = None) -> Timing:
    """A timing whose interval is two per cent wide on each side."""
    p50 = base_ms / speed

    def summary(middle: float) -> Summary:
        return Summary(middle, middle * 1.05, middle * 1.1, middle * 1.3, middle * 1.02, 600)

    return Timing(
        latency_ms=summary(p50),
        reference_ms=summary(base_ms),
        speedup=Ratio(speed, speed * 0.98, speed * 1.02),
        throughput=1000 / p50,
        load_ms=41.0,
        size_bytes=size,
        peak_memory_bytes=71_000_000 + 4 * size,
        energy_mj=energy,
        energy_note="" if energy else "RAPL is not readable here",
        conditions=Conditions(threads, 1, None, None, 0.42, 30, 20),
    )


def operators(scale: float, quantized: bool, seed: int) -> tuple[OperatorTime, ...]:
    rng = np.random.default_rng(seed)
    names = ["QLinearConv"] * 18 + ["QuantizeLinear", "DequantizeLinear"] if quantized else ["Conv"] * 18
    names += ["MaxPool"] * 3 + ["Sigmoid"] * 9 + ["Mul"] * 9 + ["Concat"] * 4 + ["Resize"] * 2
    return tuple(
        OperatorTime(f"/backbone/stage{i}/{op.lower()}", op, float(scale * rng.gamma(2, 60 if "Conv" in op else 15)))
        for i, op in enumerate(names)
    )


def placement(quantized: bool, unplanned: int) -> tuple[NodePlacement, ...]:
    found = operators(1.0, quantized, 1)
    total = sum(o.microseconds for o in found)
    nodes = []
    for i, operator in enumerate(found):
        planned = i >= unplanned
        integer = quantized and "Conv" in operator.op and planned
        note = "" if planned else "left in float by the runtime: no integer kernel"
        precision = "int8" if integer else "float32"
        share = operator.microseconds / total
        nodes.append(NodePlacement(operator.node, operator.op, "CPU", precision, (), planned, share, note))
    return tuple(nodes)


def lineage(*steps: str) -> tuple[StepRecord, ...]:
    def record(name: str) -> StepRecord:
        key = digest_json(name)
        config = {"ranges": "minmax", "opset": 21} if "quantize" in name else {}
        return StepRecord(name, 1, config, key, {"model": key}, key, {"onnx": "1.23.0"}, 1.73, 310_000_000)

    return tuple(record(s) for s in steps)


@dataclass
class MemoryEvidence:
    """Outcomes in folders, samples in memory."""

    rate: int | None = None
    folders: dict[tuple[str, str], Path] = field(default_factory=dict)
    samples: dict[str, Sample] = field(default_factory=dict)

    def made(self, record: StepRecord) -> Path | None:
        return None

    def file(self, candidate: Candidate, name: str) -> Path | None:
        return self.folders.get((candidate.id, name))

    def sample(self, split: str, id: str) -> Sample | None:
        return self.samples.get(id)

    def outcomes(self, folder: Path, candidate: Candidate, split: str, found: dict[str, tuple[Any, Decision]]) -> None:
        place = folder / f"{candidate.target}-{len(self.folders)}"
        place.mkdir(parents=True)
        records = [
            {"id": id, "label": label, "decision": decision_to_json(decision), "contributions": {}}
            for id, (label, decision) in found.items()
        ]
        (place / "outcomes.json").write_text(json.dumps(records))
        self.folders[candidate.id, f"{split}-outcomes"] = place


def candidate(
    target: str, title: str, speed: float, value: float, changed: float, size: int, base: float, **more: Any
) -> Candidate:
    """A measured candidate; `test` is half a point kinder than `tune`."""
    metric, base_ms = more.pop("metric", "top-1"), more.pop("base_ms", 1.31)
    names = more.pop("classes", KEYWORDS)
    per_class = {name: min(1.0, value + 0.01 * (i - 2)) for i, name in enumerate(names)}
    passes = more.pop("passes", (StepSpec("cleanup"), StepSpec(title.lower().replace(" ", "-"))))
    quantized = "INT8" in title
    precision = "int8" if quantized else "bfloat16" if "BF16" in title else "float32"
    artifact = Digest(digest_json([target, title]))
    found = Measurement(
        artifact,
        DEVICE,
        quality(metric, value, base, "tune", changed, per_class),
        quality(metric, min(1.0, value + 0.005), base + 0.004, "test", changed, per_class),
        timing(speed, size, base_ms),
    )
    values = {
        "id": f"{target}/{title}",
        "target": target,
        "recipe": Recipe(title, passes),
        "threads": 1,
        "batch": 1,
        "artifact": artifact,
        "precision": precision,
        "measurement": found,
        "operators": operators(1 / speed, quantized, 3),
        "placement": placement(quantized, 2 if title == "INT8 percentile" else 0),
        "lineage": lineage("import", "cleanup", "quantize-static", f"compile-{target}"),
    }
    return Candidate(**(values | more))


def as_reference(found: Candidate) -> Candidate:
    """The same without differences to itself."""
    measured = found.measurement
    assert measured is not None
    assert measured.test is not None
    plain = replace(
        measured,
        tune=replace(measured.tune, difference=(), changed_share=0.0),
        test=replace(measured.test, difference=(), changed_share=0.0),
    )
    return replace(found, measurement=plain)


def keyword_study() -> Study:
    """Keyword spotting: two targets, every verdict."""
    base = 0.918
    reference = as_reference(candidate("onnxruntime", "FP32", 1.0, base, 0.0, 110_000, base, passes=()))
    tried = (
        candidate("onnxruntime", "FP32 clean", 1.08, base, 0.0, 98_000, base),
        candidate("onnxruntime", "FP16", 0.81, base, 0.001, 55_000, base),
        candidate("onnxruntime", "INT8 minmax", 1.83, 0.899, 0.041, 39_000, base),
        candidate("onnxruntime", "INT8 percentile", 1.79, 0.9155, 0.013, 39_500, base),
        candidate("onnxruntime", "INT8 percentile 99.99", 1.81, 0.914, 0.016, 39_500, base),
        candidate("onnxruntime", "INT8 dynamic", 1.0, base, 0, 1, base, measurement=None, verdict=FAILED, error="boom"),
        candidate("openvino", "FP32 clean", 1.31, base, 0.0, 120_000, base),
        candidate("openvino", "BF16", 1.47, 0.9178, 0.002, 120_000, base),
        candidate("openvino", "INT8 minmax", 1.21, 0.9166, 0.008, 61_000, base),
        candidate(
            "null",
            "FP32",
            1,
            base,
            0,
            1,
            base,
            measurement=None,
            verdict=REFUSED,
            error="operator Mfcc is not supported",
        ),
    )
    return _study("keyword-spotting", reference, tried, KEYWORDS, "top-1")


def detection_study() -> Study:
    """Detection: plain INT8 is broken, BF16 wins."""
    base, more = 0.612, {"metric": "mAP50", "base_ms": 21.4, "classes": ANIMALS}
    reference = as_reference(candidate("onnxruntime", "FP32", 1.0, base, 0.0, 3_700_000, base, passes=(), **more))
    tried = (
        candidate("onnxruntime", "FP32 clean", 1.04, base, 0.0, 3_650_000, base, **more),
        candidate("onnxruntime", "INT8 minmax", 0.45, 0.329, 0.61, 1_200_000, base, **more),
        candidate("openvino", "FP32 clean", 0.98, base, 0.0, 3_800_000, base, **more),
        candidate("openvino", "BF16", 1.52, 0.611, 0.06, 3_800_000, base, **more),
    )
    return _study("yolox-nano-pets", reference, tried, ANIMALS, "mAP50")


def _study(project: str, reference: Candidate, tried: tuple[Candidate, ...], labels: tuple[str, ...], _: str) -> Study:
    return annotate(
        Study(
            schema=1,
            project=project,
            device=DEVICE,
            inputs=(TensorSpec("input", "float32", ("batch", 1, 49, 10)),),
            outputs=(TensorSpec("scores", "float32", ("batch", len(labels))),),
            budget=Budget(quality_drop=0.01, worst_class_drop=0.05),
            objective="latency",
            reference=reference,
            candidates=tried,
            warnings=("the calibration split has 32 samples; 100 or more are advised",),
            tools={"onnx": "1.23.0", "onnxruntime": "1.31.1", "openvino": "2026.4.1"},
            labels=labels,
            source={"kind": "onnx", "path": "model.onnx", "largest_difference": 3.1e-7},
        )
    )


def spoken(seed: int) -> np.ndarray:
    """One second of a chirp with an envelope, int16 at 16 kHz."""
    rng = np.random.default_rng(seed)
    t = np.arange(16000) / 16000
    envelope = np.exp(-(((t - 0.5) / 0.15) ** 2))
    tone = np.sin(2 * np.pi * (300 + 900 * rng.random() * t) * t) + 0.2 * rng.standard_normal(t.size)
    return (12000 * envelope * tone).astype(np.int16)


def photo(seed: int) -> bytes:
    """A drawn picture with two animals, as JPEG bytes."""
    import cv2

    rng = np.random.default_rng(seed)
    image = np.full((300, 400, 3), (225, 235, 240), np.uint8)
    image[180:] = (120, 170, 110)
    for x, colour in ((110, (60, 90, 150)), (290, (40, 40, 60))):
        cv2.ellipse(image, (x, 190), (60, 40), 0, 0, 360, colour, -1)
        cv2.circle(image, (x + 55, 150), 26, colour, -1)
    image = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", image)[1].tobytes())


def wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def keyword_evidence(study: Study, folder: Path) -> MemoryEvidence:
    """1000 test clips, of which 13 flip on the ONNX Runtime winner and 3 on the OpenVINO one."""
    evidence = MemoryEvidence()
    rng = np.random.default_rng(0)
    labels = [int(rng.integers(0, len(KEYWORDS))) for _ in range(300)]
    before = {f"clip-{i}": (y, Classification((y,), (0.91,))) for i, y in enumerate(labels)}
    evidence.outcomes(folder, study.reference, "test", before)
    for target, flips in (("onnxruntime", 13), ("openvino", 3)):
        after = dict(before)
        for i in range(flips):
            y = labels[i]
            after[f"clip-{i}"] = (y, Classification(((y + 1) % len(KEYWORDS),), (0.52,)))
        evidence.outcomes(folder, study.best(target), "test", after)
    values: list[Any] = [spoken(i) if i % 2 else wav(spoken(i)) for i in range(13)]
    evidence.samples = {f"clip-{i}": Sample(f"clip-{i}", value, labels[i]) for i, value in enumerate(values)}
    return evidence


def detection_evidence(study: Study, folder: Path) -> MemoryEvidence:
    """Photos of which four lose or gain an animal."""
    evidence = MemoryEvidence()
    cat, dog = (50.0, 120.0, 195.0, 232.0), (230.0, 120.0, 375.0, 232.0)
    label = {"boxes": [cat, dog], "classes": [0, 1]}
    both = Detections((cat, dog), (0.88, 0.71), (0, 1))
    before = {f"photo-{i}.jpg": (label, both) for i in range(60)}
    evidence.outcomes(folder, study.reference, "test", before)
    for target in study.winners:
        after = dict(before)
        after["photo-0.jpg"] = (label, Detections((cat,), (0.86,), (0,)))
        after["photo-1.jpg"] = (label, Detections((cat, dog, (5.0, 5.0, 90.0, 80.0)), (0.8, 0.7, 0.33), (0, 1, 2)))
        after["photo-2.jpg"] = (label, Detections((cat, dog), (0.8, 0.7), (0, 0)))
        evidence.outcomes(folder, study.best(target), "test", after)
    evidence.samples = {f"photo-{i}.jpg": Sample(f"photo-{i}.jpg", photo(i), label) for i in range(3)}
    return evidence


@pytest.fixture
def keywords() -> Study:
    return keyword_study()


@pytest.fixture
def pets() -> Study:
    return detection_study()


@pytest.fixture
def keywords_evidence(keywords: Study, tmp_path: Path) -> MemoryEvidence:
    return keyword_evidence(keywords, tmp_path / "outcomes")


@pytest.fixture
def pets_evidence(pets: Study, tmp_path: Path) -> MemoryEvidence:
    return detection_evidence(pets, tmp_path / "outcomes")
