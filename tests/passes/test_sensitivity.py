"""The step `sensitivity`: it finds the guilty layer, runs less than whole graphs and goes on after a kill."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir
import pytest

from edgewright.core.codec import decode_stored
from edgewright.core.sensitivity import SENSITIVITY_FILE, Sensitivity
from edgewright.errors import ConfigError
from edgewright.graph.load import MODEL_FILE
from edgewright.passes import sensitivity
from edgewright.passes.sensitivity import SensitivityStep
from edgewright.passes.static_int8 import StaticInt8
from edgewright.testing._gated_models import CONVOLUTIONS, gated_network, images
from edgewright.testing.passes import data_of, statistics_of


@dataclass
class Context:
    scratch: Path
    seed: int = 0
    killed_after: int = 1000
    notes: list[str] = field(default_factory=list)

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 < fraction <= 1
        self.notes.append(note)
        if len(self.notes) >= self.killed_after:
            raise KeyboardInterrupt


def prepared(folder: Path, spread: float = 1.0) -> dict[str, Path]:
    model = folder / "float"
    model.mkdir()
    ir.save(ir.from_proto(gated_network(spread)), model / MODEL_FILE)
    feeds = [{"x": image} for image in images(4)]
    statistics = folder / "statistics"
    statistics.mkdir()
    return {
        "model": model,
        "statistics": statistics_of(model, feeds, statistics),
        "data": data_of(model, feeds, folder / "data"),
    }


def measured(folder: Path, inputs: dict[str, Path], context: Context | None = None) -> Sensitivity:
    out = folder / "out"
    for each in (out, folder / "scratch"):
        each.mkdir(exist_ok=True)
    SensitivityStep("onnxruntime-u8s7").run(inputs, out, context or Context(folder / "scratch"))
    return decode_stored(Sensitivity, (out / SENSITIVITY_FILE).read_bytes())


def test_the_group_that_one_scale_does_not_fit_costs_most(tmp_path: Path) -> None:
    found = measured(tmp_path, prepared(tmp_path, spread=1e3))
    assert [group.name for group in found.groups] == list(CONVOLUTIONS)
    assert max(found.groups, key=lambda group: group.loss).name == "depth_node"
    assert found.samples == 4
    assert found.share < 0.7
    assert all(0 < group.share <= 1 and group.mse > 0 for group in found.groups)
    later = [group.share for group in found.groups]
    assert later == sorted(later, reverse=True)


def test_killed_it_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = prepared(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, inputs, Context(tmp_path / "scratch", killed_after=4))
    with (tmp_path / "scratch" / "groups.jsonl").open("a") as file:
        file.write('{"operators": ["right_node"], "tens')
    judged = []
    real = sensitivity._judged
    monkeypatch.setattr(sensitivity, "_judged", lambda *given: judged.append(given[0].operators) or real(*given))
    resumed = measured(tmp_path, inputs)
    assert judged == [("right_node",), ("head_node",)]
    (tmp_path / "again").mkdir()
    assert resumed == measured(tmp_path / "again", inputs)


def test_little_memory_changes_nothing_but_the_number_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = prepared(tmp_path)
    plenty = measured(tmp_path, inputs)
    monkeypatch.setattr(sensitivity, "MEMORY_BYTES", 1)
    (tmp_path / "little").mkdir()
    assert measured(tmp_path / "little", inputs) == plenty


def test_a_quantised_model_is_refused(tmp_path: Path) -> None:
    inputs = prepared(tmp_path)
    quantised = tmp_path / "quantised"
    quantised.mkdir()
    StaticInt8("onnxruntime-u8s7").run(inputs, quantised, Context(tmp_path))
    with pytest.raises(ConfigError, match="already"):
        measured(tmp_path, {**inputs, "model": quantised})
