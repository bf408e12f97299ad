"""Source `tflite` on quantised files built in code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert.interpreter")
pytest.importorskip("onnxruntime")

from ai_edge_litert import schema_py_generated as schema

from edgewright.core.codec import decode_stored
from edgewright.core.target import Plan
from edgewright.engine import registry
from edgewright.errors import SourceError, StepFailed
from edgewright.graph.load import load
from edgewright.measure.layers.opening import Scratch
from edgewright.project.config import ModelConfig, Project, ProjectFile
from edgewright.project.question import _source
from edgewright.sources import _litert
from edgewright.sources.tflite import TfliteSource

RNG = np.random.default_rng(41)
Run = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture
def content(build_tflite: Any, tensor: Any) -> bytes:
    """Two fully connected layers on int8, softmax last."""
    grids = [(0.05, 4), (0.1, -128), (0.15, 9), (1 / 256, -128)]
    sizes = [12, 8, 5, 5]
    tensors = [tensor((1, n), None, "int8", (s,), (z,)) for n, (s, z) in zip(sizes, grids, strict=True)]
    operators: list[Any] = []
    for layer in (0, 1):
        count, width = sizes[layer + 1], sizes[layer]
        weights = RNG.integers(-127, 128, (count, width))
        tensors += [
            tensor((count, width), weights, "int8", (0.01,), (0,)),
            tensor((count,), RNG.integers(-900, 900, count), "int32", (grids[layer][0] * 0.01,), (0,)),
        ]
        operators.append(("FULLY_CONNECTED", [layer, len(tensors) - 2, len(tensors) - 1], [layer + 1], None))
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    operators.append(("SOFTMAX", [2], [3], softmax))
    made: bytes = build_tflite(tensors, operators, [0], [3])
    return made


@pytest.fixture
def run(content: bytes, tmp_path: Path) -> Run:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)

    def go(**fields: Any) -> tuple[Path, dict[str, Any]]:
        out = tmp_path / "out"
        out.mkdir()
        TfliteSource(**fields).run({"model": path}, out, Scratch(tmp_path))
        return out, json.loads((out / "import.json").read_text(encoding="utf-8"))

    return go


def test_floats_outside_integers_inside_and_a_plan(run: Run) -> None:
    out, record = run()
    assert [(spec["name"], spec["dtype"]) for spec in (*record["inputs"], *record["outputs"])] == [
        ("t0", "float32"),
        ("t3", "float32"),
    ]
    assert record["compared_with"] == "the source file in LiteRT, on random inputs, seed 0"
    assert record["snr_db"] is None or record["snr_db"] > 40
    plan = decode_stored(Plan, (out / "plan.json").read_bytes())
    assert [t.tensor for t in plan.tensors if t.dtype == "int8"] == ["t0", "t1", "t2", "t3", "t4", "t6"]
    given = plan.hints["edgewright.io"]["inputs"]["t0"]
    assert (given["dtype"], given["zero_point"]) == ("int8", 4)
    assert given["scale"] == pytest.approx(0.05)


def test_random_samples_fill_the_range_of_the_integers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    opened = _litert.interpreter_evaluator

    def watched(*args: Any, **named: Any) -> Any:
        evaluate = opened(*args, **named)
        return lambda feed: seen.append(feed["t0"]) or evaluate(feed)

    monkeypatch.setattr(_litert, "interpreter_evaluator", watched)
    run()
    values = np.concatenate(seen)
    assert values.min() < -6
    assert values.max() > 5.5


def test_integers_at_both_ends_on_request(run: Run) -> None:
    out, record = run(integer_io=True)
    assert [spec["dtype"] for spec in (*record["inputs"], *record["outputs"])] == ["int8", "int8"]
    ops = [node.op_type for node in load(out).graph]
    assert (ops[0], ops[-1]) == ("DequantizeLinear", "QuantizeLinear")


def test_the_part_before_a_tensor(run: Run) -> None:
    out, record = run(outputs=("t2",))
    assert [spec["name"] for spec in record["outputs"]] == ["t2"]
    assert "Softmax" not in [node.op_type for node in load(out).graph]


def test_an_import_that_computes_something_else_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights changed behind the reader's back."""
    rewritten = _litert.interpreter_evaluator

    def other(content: bytes, outputs: list[str], **named: Any) -> Any:
        def change(model: Any, schema: Any) -> None:
            buffer = model.buffers[model.subgraphs[0].tensors[4].buffer]
            buffer.data = np.roll(buffer.data, 5)

        return rewritten(_litert._rewritten(content, change), outputs, **named)

    monkeypatch.setattr(_litert, "interpreter_evaluator", other)
    with pytest.raises(StepFailed, match="at least 20 dB expected"):
        run()


def test_the_project_file_reaches_the_source(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(content)
    model = ModelConfig("m.tflite", outputs=("t2",), integer_io=True)
    spec, _ = _source(Project(tmp_path, ProjectFile(1, "p", model, ()), ()))
    made = registry.make("sources", spec)
    assert isinstance(made, TfliteSource)
    assert (made.outputs, made.integer_io) == (("t2",), True)
    plain, _ = _source(Project(tmp_path, ProjectFile(1, "p", ModelConfig("m.tflite"), ()), ()))
    assert plain.config == {}


def test_an_unknown_output_is_told(run: Run) -> None:
    with pytest.raises(SourceError, match='output "tt"'):
        run(outputs=("tt",))
