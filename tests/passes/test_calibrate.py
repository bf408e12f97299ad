"""The pass `calibrate`: samples, batches, shards, and what a killed run leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.data import data_spec, save_spec
from edgewright.errors import ConfigError, DataError
from edgewright.graph.statistics import merge, read_statistics, write_statistics
from edgewright.passes import calibrate
from edgewright.passes.calibrate import Calibrate

SAMPLES = 11
KILLED = """
import sys, time
from pathlib import Path
from edgewright.passes import calibrate

class Context:
    seed, scratch = 0, Path(sys.argv[3])
    def progress(self, fraction, note=""):
        if note.startswith("7 of"):
            print("seventh", flush=True)
            time.sleep(600)

calibrate.CHECKPOINT_SECONDS = 0.0
inputs = {"model": Path(sys.argv[1]), "data": Path(sys.argv[2])}
calibrate.Calibrate(channels=True).run(inputs, Path(sys.argv[4]), Context())
"""


@dataclass
class Context:
    scratch: Path
    seed: int = 0
    notes: list[str] = field(default_factory=list)

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1
        self.notes.append(note)


def model_of(folder: Path, batch: int | str = "n", second: bool = False) -> Path:
    """y = Relu(x W); with `second`, y = Relu(x W) + mask."""
    weights = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["r"])]
    nodes.append(helper.make_node("Add", ["r", "mask"], ["y"]) if second else helper.make_node("Neg", ["r"], ["y"]))
    names = ["x", "mask", "y"] if second else ["x", "y"]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, 6 if n == "x" else 4]) for n in names]
    graph = helper.make_graph(nodes, "g", values[:-1], values[-1:], [numpy_helper.from_array(weights, "w")])
    path = folder / f"model-{batch}-{second}" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path.parent


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.savez(tmp_path / "rows.npz", x=np.random.default_rng(1).standard_normal((SAMPLES, 6)).astype(np.float32))
    table = {"reader": "npz", "path": "rows.npz", "label": "", "calibration": {}}
    save_spec(data_spec(tmp_path, table), tmp_path / "data.json")
    return tmp_path / "data.json"


def calibrated(step: Calibrate, model: Path, data: Path, folder: Path, name: str) -> tuple[Path, Context]:
    out, scratch = folder / name, folder / f"{name}-scratch"
    out.mkdir()
    scratch.mkdir(exist_ok=True)
    context = Context(scratch)
    step.run({"model": model, "data": data}, out, context)
    return out, context


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(("batch", "size"), [("n", 4), ("n", 50), (4, 1), (2, 1)])
def test_every_sample_counts_once_whatever_the_batch(data: Path, tmp_path: Path, batch: int | str, size: int) -> None:
    whole, _ = calibrated(Calibrate(), model_of(tmp_path), data, tmp_path, "whole")
    other, context = calibrated(Calibrate(batch=size), model_of(tmp_path, batch), data, tmp_path, "other")
    assert files(whole) == files(other)
    assert read_statistics(other).samples == SAMPLES
    assert context.notes[-1] == f"{SAMPLES} of {SAMPLES} samples"


def test_shards_merge_to_the_whole(data: Path, tmp_path: Path) -> None:
    model = model_of(tmp_path)
    whole, _ = calibrated(Calibrate(limit=10), model, data, tmp_path, "whole")
    parts = [calibrated(Calibrate(limit=10, shard=i, shards=3), model, data, tmp_path, f"{i}")[0] for i in range(3)]
    assert [read_statistics(part).samples for part in parts] == [4, 3, 3]
    write_statistics(merge([read_statistics(part) for part in parts]), tmp_path / "merged")
    assert files(tmp_path / "merged") == files(whole)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_with_the_same_result(data: Path, tmp_path: Path) -> None:
    model = model_of(tmp_path)
    whole, _ = calibrated(Calibrate(channels=True), model, data, tmp_path, "whole")
    scratch = tmp_path / "again-scratch"
    scratch.mkdir()
    (tmp_path / "killed").mkdir()
    arguments = [str(p) for p in (model, data, scratch, tmp_path / "killed")]
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"seventh\n"
        process.send_signal(signal.SIGKILL)
    again, context = calibrated(Calibrate(channels=True), model, data, tmp_path, "again")
    assert context.notes[0] == f"8 of {SAMPLES} samples"
    assert files(again) == files(whole)


def test_a_damaged_checkpoint_is_not_used(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "CHECKPOINT_SECONDS", 0.0)
    model = model_of(tmp_path)
    first, _ = calibrated(Calibrate(), model, data, tmp_path, "first")
    (tmp_path / "first-scratch" / "checkpoint" / "statistics.npz").write_bytes(b"PK")
    (tmp_path / "first-scratch").rename(tmp_path / "second-scratch")
    second, context = calibrated(Calibrate(), model, data, tmp_path, "second")
    assert context.notes[0] == f"1 of {SAMPLES} samples"
    assert files(second) == files(first)


def test_an_input_without_data_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises((DataError, ConfigError), match="mask"):
        calibrated(Calibrate(), model_of(tmp_path, second=True), data, tmp_path, "out")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Calibrate(shard=2, shards=2), "expected 0 to 1"),
        (Calibrate(shards=0), "1 shard or more"),
        (Calibrate(batch=0), "batch 0"),
        (Calibrate(bins=1), "bins 1"),
    ],
)
def test_fields_out_of_range_are_refused(step: Calibrate, said: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        calibrated(step, model_of(tmp_path), data, tmp_path, "out")


def test_a_shard_or_split_without_samples_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        calibrated(Calibrate(shard=20, shards=21), model_of(tmp_path), data, tmp_path, "out")
