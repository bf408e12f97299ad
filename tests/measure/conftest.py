"""Artifacts for the real runtimes and data in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import edgewright.data
from edgewright.core.codec import encode_json
from edgewright.core.data import Prepared, Sample
from edgewright.core.decision import Classification, Decision
from edgewright.core.target import Artifact
from edgewright.core.tensors import TensorSpec

ArtifactMaker = Callable[..., Path]


@dataclass
class Progress:
    """A step context that remembers what it was told."""

    scratch: Path
    seed: int = 0
    notes: list[tuple[float, str]] = field(default_factory=list)

    def progress(self, fraction: float, note: str = "") -> None:
        self.notes.append((fraction, note))


@dataclass
class MemoryData:
    """What `open_data` gives, from a list of samples."""

    samples: Sequence[Sample]
    root: Path
    labels: tuple[str, ...] = ()
    resets: int = 0

    def dataset(self, split: str) -> Sequence[Sample]:
        return self.samples

    def has_labels(self, split: str) -> bool:
        return all(sample.label is not None for sample in self.samples)

    @property
    def postprocess(self) -> MemoryData:
        return self

    def reset(self) -> None:
        self.resets += 1

    def __call__(self, outputs: Mapping[str, NDArray[Any]], prepared: Prepared) -> Decision:
        scores = next(iter(outputs.values()))
        order = np.argsort(-scores, kind="stable")
        return Classification(tuple(order.tolist()), tuple(scores[order].tolist()))

    def batches(
        self, split: str, size: int, limit: int | None = None
    ) -> Iterator[tuple[list[Sample], list[Prepared], dict[str, NDArray[Any]]]]:
        chosen = self.samples[:limit]
        for start in range(0, len(chosen), size):
            part = list(chosen[start : start + size])
            prepared = [Prepared({"x": sample.value}, {}) for sample in part]
            yield part, prepared, {"x": np.stack([sample.value for sample in part])}


@pytest.fixture(autouse=True)
def own_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "run"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "run"))


@pytest.fixture
def context(tmp_path: Path) -> Progress:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Progress(scratch)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def give_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., MemoryData]:
    """Makes `open_data` give these samples."""

    def give(
        values: Sequence[NDArray[Any]], labels: Sequence[Any] | None = None, names: tuple[str, ...] = ()
    ) -> MemoryData:
        chosen = labels if labels is not None else [None] * len(values)
        samples = [Sample(f"s{i}", v, y) for i, (v, y) in enumerate(zip(values, chosen, strict=True))]
        data = MemoryData(samples, tmp_path, names)
        monkeypatch.setattr(edgewright.data, "open_data", lambda path: data, raising=False)
        return data

    return give


@pytest.fixture
def linear(tmp_path: Path) -> ArtifactMaker:
    """Makes an artifact of ONNX Runtime: x [batch, n] -> y [batch, m] through `weight` [n, m], `layers` times."""

    def make(name: str, weight: NDArray[Any], *, batch: int | str = "batch", layers: int = 1) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        names = ["x", *[f"h{i}" for i in range(layers - 1)], "y"]
        nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)]
        n, m = weight.shape
        graph = helper.make_graph(
            nodes,
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, n])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, m])],
            [numpy_helper.from_array(weight.astype(np.float32), "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, folder / "model.onnx")
        inputs = (TensorSpec("x", "float32", (batch, n)),)
        outputs = (TensorSpec("y", "float32", (batch, m)),)
        artifact = Artifact(
            "onnxruntime", "onnxruntime", "1.31.1", ">=1.20", ("model.onnx",), inputs, outputs, "float32"
        )
        (folder / "artifact.json").write_bytes(encode_json(artifact))
        return folder

    return make
