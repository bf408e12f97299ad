"""Small real bundles, built in code: a classifier of four numbers and a detector of bright squares.

The tests of `device` and `cli` take their fixtures from here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.bundle.decide import decider
from edgewright.bundle.raw import read_raw, write_raw
from edgewright.core.budget import Budget
from edgewright.core.bundle import GoldenPair, PipelineSpec
from edgewright.core.codec import encode_json
from edgewright.core.data import PairedDifference, QualityFigure
from edgewright.core.decision import decision_to_json
from edgewright.core.digest import Digest, digest_bytes
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing
from edgewright.core.recipe import Candidate, Recipe, StepSpec, Study
from edgewright.core.step import StepRecord
from edgewright.core.target import Artifact, RunOptions
from edgewright.core.tensors import TensorSpec

CLASSIFY: dict[str, Any] = {
    "preprocess": [{"op": "cast", "dtype": "float32"}],
    "postprocess": [{"op": "softmax"}],
}
DETECT: dict[str, Any] = {
    "preprocess": [
        {"op": "decode"},
        {"op": "letterbox", "size": [64, 64], "pad": 0},
        {"op": "layout", "order": "chw"},
        {"op": "cast", "dtype": "float32"},
    ],
    "postprocess": [{"op": "yolo", "style": "yolox", "strides": [8], "score": 0.05}],
}
RANGE = ">=1.20,<2"
DEVICE = Device("local", "x86_64", "Some | Processor", 2, ("avx2",), 8 << 30, "Linux 6")
Specs = tuple[TensorSpec, TensorSpec]


@dataclass(frozen=True)
class Tiny:
    """A recorded study and the folders of its evidence."""

    study: Study
    folders: Mapping[Digest, Path]

    def files(self, digest: Digest) -> Path:
        return self.folders[digest]

    def pack(self, out: Path) -> Path:
        from edgewright.bundle import pack

        return pack(self.study, "onnxruntime", self.files, out)


def _save(nodes: list[Any], shapes: tuple[list[Any], list[Any]], constants: Mapping[str, Any], path: Path) -> Specs:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return TensorSpec("x", "float32", tuple(shapes[0])), TensorSpec("y", "float32", tuple(shapes[1]))


def _classifier(path: Path) -> Specs:
    from onnx import helper

    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _save([node], (["batch", 4], ["batch", 3]), {"w": weights}, path)


def _detector(path: Path) -> Specs:
    """One 8 x 8 cell of the picture is one box; its mean red value / 255 is the objectness."""
    from onnx import helper

    nodes = [
        helper.make_node("AveragePool", ["x"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Slice", ["pooled", "zero", "one", "one"], ["red"]),
        helper.make_node("Reshape", ["red", "shape"], ["flat"]),
        helper.make_node("Div", ["flat", "white"], ["objectness"]),
        helper.make_node("Concat", ["left", "objectness", "certain"], ["y"], axis=2),
    ]
    constants = {
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "shape": np.array([1, 64, 1], np.int64),
        "white": np.array(255, np.float32),
        "left": np.tile(np.array([0.5, 0.5, 0.0, 0.0], np.float32), (1, 64, 1)),
        "certain": np.ones((1, 64, 1), np.float32),
    }
    return _save(nodes, ([1, 3, 64, 64], [1, 64, 6]), constants, path)


def _golden(folder: Path, artifact: Path, spec: Mapping[str, Any], values: list[Any], labels: tuple[str, ...]) -> None:
    from edgewright.runtimes import open_runner

    (folder / "inputs").mkdir(parents=True)
    (folder / "resources").mkdir()
    (folder / "resources" / "notes.json").write_text("{}\n")
    resources = {"notes.json": "resources/notes.json"}
    pipeline = PipelineSpec(tuple(spec["preprocess"]), tuple(spec["postprocess"]), labels, resources)
    with open_runner(artifact, RunOptions()) as runner:
        decide = decider(pipeline, folder, runner)
        names = [write_raw(value, folder / "inputs", f"{i:04d}") for i, value in enumerate(values)]
        decisions = [decision_to_json(decide(read_raw(folder / "inputs" / name))) for name in names]
    pairs = [GoldenPair(f"inputs/{name}", d, 1e-3) for name, d in zip(names, decisions, strict=True)]
    (folder / "golden.json").write_bytes(encode_json(pairs))
    (folder / "pipeline.json").write_bytes(encode_json(pipeline))


def _measurement(artifact: Digest) -> Measurement:
    figure = QualityFigure("top-1", 0.9, 0.87, 0.93, 450, "tune")
    tune = Quality((figure,), (PairedDifference("top-1", -0.002, -0.01, 0.006, 450, "tune"),), {"yes": 0.9}, 0.01)
    test = replace(tune, figures=(replace(figure, split="test"),))
    summary = Summary(0.09, 0.10, 0.11, 0.13, 0.095, 400)
    conditions = Conditions(1, 1, None, None, 0.5, 6, 20)
    timing = Timing(summary, summary, Ratio(1.0, 0.98, 1.02), 11000.0, 12.0, 2048, 60 << 20, None, "absent", conditions)
    return Measurement(artifact, DEVICE, tune, test, timing)


def _study(specs: Specs, labels: tuple[str, ...]) -> Study:
    artifact, golden = digest_bytes(b"artifact"), digest_bytes(b"golden")
    record = StepRecord("clean-up", 1, {}, digest_bytes(b"key"), {}, digest_bytes(b"out"), {"onnx": "1.20.0"}, 1.5)
    winner = Candidate(
        "onnxruntime/clean-up",
        "onnxruntime",
        Recipe("float32", (StepSpec("clean-up"),)),
        1,
        1,
        artifact=artifact,
        precision="float32",
        measurement=_measurement(artifact),
        why="It is the only one.",
        lineage=(record,),
        evidence={"artifact": artifact, "golden": golden},
    )
    return Study(
        1,
        "tiny model",
        DEVICE,
        (specs[0],),
        (specs[1],),
        Budget(quality_drop=0.01),
        "latency",
        winner,
        (winner,),
        {"onnxruntime": winner.id},
        {"onnxruntime": True},
        tools={"edgewright": "0.1.0", "onnx": "1.20.0"},
        labels=labels,
        warnings=("The calibration set has 20 samples.",),
    )


def _tiny(
    folder: Path, build: Callable[[Path], Specs], spec: Mapping[str, Any], values: list[Any], labels: tuple[str, ...]
) -> Tiny:
    from importlib.metadata import version

    artifact = folder / "artifact"
    artifact.mkdir(parents=True)
    specs = build(artifact / "model.onnx")
    proven = version("onnxruntime")
    described = Artifact("onnxruntime", "onnxruntime", proven, RANGE, ("model.onnx",), specs[:1], specs[1:], "float32")
    (artifact / "artifact.json").write_bytes(encode_json(described))
    _golden(folder / "golden", artifact, spec, values, labels)
    study = _study(specs, labels)
    evidence = study.best("onnxruntime").evidence
    return Tiny(study, {evidence["artifact"]: artifact, evidence["golden"]: folder / "golden"})


def bright_square(x: int, y: int = 32) -> Any:
    """Returns a black picture, 128 x 96, with one white square of 16 x 16 at (x, y): one cell after letterboxing."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[y : y + 16, x : x + 16] = 255
    return image


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    values = list(np.random.default_rng(1).normal(size=(4, 4)))
    return _tiny(tmp_path_factory.mktemp("classifier"), _classifier, CLASSIFY, values, ("no", "yes", "maybe"))


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    values = [bright_square(0), bright_square(64)]
    return _tiny(tmp_path_factory.mktemp("detector"), _detector, DETECT, values, ("square",))


@pytest.fixture(scope="session")
def classifier_bundle(classifier: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier.pack(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="session")
def detector_bundle(detector: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detector.pack(tmp_path_factory.mktemp("packed"))
