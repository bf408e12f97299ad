"""Why a candidate's accuracy dropped, asked about a project."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.core.data import Sample
from edgewright.core.parity import Diagnosis
from edgewright.core.tensors import TensorSpec
from edgewright.core.variant import adds_in_32_bits
from edgewright.errors import DataError, EdgewrightError, UsageError
from edgewright.project.config import Project, load_project

Tables = tuple[Mapping[str, Any], ...]
SAMPLES = 64
FOREIGN_SAMPLES = 8
FEWEST = 4
ACTIVATION_BYTES = 400 << 20
"""All activations of the samples are held at once, up to this size."""


def why(reference: str, candidate: str, project: str, deployed: str = "", *, samples: int = SAMPLES) -> Diagnosis:
    """Explains what the candidate lost against the reference.

    Args:
        reference: An `.onnx` or `.tflite` file, or a model folder.
        candidate: The same, or an artifact folder.
        project: Project file: samples, preprocessing, class names.
        deployed: Project file that the candidate runs with, where that is another one.
        samples: Samples of the `tune` split, and of the calibration split, to look at.

    Raises:
        UsageError: A path is wrong.
        EdgewrightError: A model cannot be run, or the samples do not fit it.
    """
    for path in (reference, candidate):
        if not Path(path).exists():
            raise UsageError(f"no model {path}", hint="give a file or a folder")
    from edgewright.measure.why.diagnose import diagnose
    from edgewright.measure.why.gather import Question, gather

    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        source = _as_onnx(Path(reference), Path(folder))
        home = load_project(Path(project))
        away = load_project(Path(deployed)) if deployed else None
        inputs = _inputs(source)
        samples = min(samples, _affordable(source))
        tune = _samples(home, "tune", samples, inputs)
        calibration = _samples(home, "calibration", samples, inputs)
        tables = tuple(home.file.preprocess)
        prepare = _preparing(home, tune, inputs)
        paths = {"reference": reference, "candidate": candidate, "project": project, "deployed": deployed}
        if Path(candidate).suffix.lower() == ".tflite":
            return _foreign(source, Path(candidate), prepare(tables), paths, Path(folder))
        question = Question(
            source,
            Path(candidate),
            paths,
            prepare,
            tables,
            tuple(away.file.preprocess) if away is not None else None,
            _preparing(home, calibration, inputs)(tables) if calibration else None,
            home.labels,
            away.labels if away is not None else (),
            _safe_8_bits(),
        )
        return diagnose(gather(question, Path(folder)))


def _foreign(
    reference: Path, candidate: Path, feed: Mapping[str, Any] | None, paths: Mapping[str, str], folder: Path
) -> Diagnosis:
    """Explains a candidate of another format by its inner tensors; a few samples are enough for that."""
    from edgewright.measure.why.diagnose import diagnose
    from edgewright.measure.why.foreign import gather_foreign

    few = {name: array[:FOREIGN_SAMPLES] for name, array in (feed or {}).items()}
    evidence, parity = gather_foreign(reference, candidate, few, paths, _safe_8_bits(), folder)
    return replace(diagnose(evidence), parity=parity)


def _as_onnx(path: Path, folder: Path) -> Path:
    """Imports a reference that is no ONNX model."""
    if path.suffix.lower() != ".tflite":
        return path
    from edgewright.core.recipe import StepSpec
    from edgewright.engine import registry
    from edgewright.measure.layers.opening import Scratch

    out = folder / "imported"
    out.mkdir()
    registry.make("sources", StepSpec("tflite")).run({"model": path}, out, Scratch(folder))
    return out


def _inputs(model: Path) -> tuple[TensorSpec, ...]:
    from edgewright.graph.load import load, tensor_specs

    folder = model / "model.onnx" if model.is_dir() and (model / "model.onnx").is_file() else model
    return tensor_specs(load(folder))[0]


def _affordable(model: Path) -> int:
    """Returns how many samples' activations fit into `ACTIVATION_BYTES`."""
    from edgewright.graph.load import load
    from edgewright.graph.shapes import infer_shapes

    graph = infer_shapes(load(model)).graph
    shapes = [value.shape for node in graph for value in node.outputs if value.shape is not None]
    elements = sum(math.prod(axis if isinstance(axis, int) else 1 for axis in shape) for shape in shapes)
    return max(FEWEST, ACTIVATION_BYTES // max(4 * elements, 1))


def _samples(project: Project, split: str, count: int, inputs: Sequence[TensorSpec]) -> list[Sample]:
    from edgewright.data import data_spec
    from edgewright.data.opened import open_spec

    file = project.file
    if split not in file.data:
        return []
    spec = data_spec(project.root, file.data, file.preprocess, file.postprocess, project.labels, inputs)
    found: list[Sample] = []
    for sample in open_spec(spec).dataset(split).spread(count):
        found.append(sample)
        if len(found) == count:
            break
    return found


def _preparing(
    project: Project, samples: Sequence[Sample], inputs: Sequence[TensorSpec]
) -> Callable[[Tables], dict[str, Any] | None]:
    """Returns what prepares the same raw samples with other tables; None where the result fits no input."""
    from edgewright.pipeline import Preprocess

    def prepare(tables: Tables) -> dict[str, Any] | None:
        if not samples:
            raise DataError("the tune split is empty", hint="name samples for it")
        given = tables == tuple(project.file.preprocess)
        operations = Preprocess.from_spec(tables, project.root, inputs)
        try:
            rows = [operations(sample.value).tensors for sample in samples]
        except EdgewrightError:
            if given:
                raise
            return None
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    return prepare


def _safe_8_bits() -> bool:
    from edgewright.runtimes._machine import local_device

    return adds_in_32_bits(local_device())
