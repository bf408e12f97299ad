"""PyTorch's files: what opening one may load."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import pytest

from edgewright.errors import Corrupt
from edgewright.runtimes import load_artifact, open_runner
from edgewright.testing import targets

torch = pytest.importorskip("torch")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (Path("/nonexistent/would-have-run"),)


def changed(file: Path, entry: str, content: bytes) -> None:
    """Replaces, or adds, one entry of an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            if name != entry:
                new.writestr(name, old.read(name))
        new.writestr(entry, content)
    file.write_bytes(buffer.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("archive/data/sample_inputs/model.pt", "more than tensors"),
        ("archive/data/constants/custom_obj_0", "may run any code"),
    ],
)
def test_an_exported_file_with_a_pickle_that_runs_code_is_refused(tmp_path: Path, entry: str, reason: str) -> None:
    proto = next(case for case in targets.CASES if case.name == "perceptron").build()
    path = targets.compiled("torch-export", proto, tmp_path)
    with open_runner(path) as runner:
        runner.run(targets.feed_for(proto))
    file = path / load_artifact(path).files[0]
    changed(file, entry, pickle.dumps(Bomb()))
    with pytest.raises(Corrupt, match=reason), open_runner(path):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("target", ["torchscript", "torch-export"])
def test_a_file_tells_nothing_of_the_machine_that_made_it(target: str, tmp_path: Path) -> None:
    proto = next(case for case in targets.CASES if case.name == "perceptron").build()
    path = targets.compiled(target, proto, tmp_path)
    with zipfile.ZipFile(path / load_artifact(path).files[0]) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert b"site-packages" not in content, name
            assert b"edgewright/graph" not in content, name
