"""A `.pt2` file as a source: free axes stay free, what would run code is refused."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest

from edgewright.core.recipe import StepSpec
from edgewright.engine import registry
from edgewright.errors import Corrupt, SourceError
from edgewright.graph.load import load, tensor_specs
from edgewright.testing.targets import QuietContext

torch = pytest.importorskip("torch")


def imported(file: Path, out: Path) -> Path:
    out.mkdir()
    registry.make("sources", StepSpec("torch-export")).run({"model": file}, out, QuietContext(out.parent))
    return out


@pytest.mark.slow
def test_an_exported_program_is_imported_and_compared(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module, (torch.ones(2, 6),), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
        )
        torch.export.save(program, tmp_path / "model.pt2")
    out = imported(tmp_path / "model.pt2", tmp_path / "out")
    inputs, outputs = tensor_specs(load(out))
    assert isinstance(inputs[0].shape[0], str)
    assert inputs[0].shape[1:] == (6,)
    assert outputs[0].shape[1:] == (2,)
    record = json.loads((out / "import.json").read_text())
    assert record["snr_db"] is None or record["snr_db"] > 100
    content = (tmp_path / "model.pt2").read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            evil = "/sample_inputs/" in name
            new.writestr(name, pickle.dumps(print) if evil else old.read(name))
    (tmp_path / "evil.pt2").write_bytes(buffer.getvalue())
    with pytest.raises(Corrupt, match="more than tensors"):
        imported(tmp_path / "evil.pt2", tmp_path / "evil")


def test_a_file_that_is_no_archive_is_corrupt_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"no archive")
    with pytest.raises(Corrupt, match=r"model\.pt2"):
        imported(tmp_path / "model.pt2", tmp_path / "out")
    with pytest.raises(SourceError, match=r"gone\.pt2"):
        imported(tmp_path / "gone.pt2", tmp_path / "gone")
