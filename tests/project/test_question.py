"""The identity of a model file: with the files it names, and no others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.errors import SourceError
from edgewright.project.question import _digest_with_external_data as identity
from edgewright.store.files import digest_file


def model(name: str = "w") -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", name], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(np.eye(64, dtype=np.float32), name)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A model whose weights lie in a file with a name of its own."""
    onnx.save(model(), tmp_path / "m.onnx", save_as_external_data=True, location="parts/weights", size_threshold=0)
    return tmp_path / "m.onnx"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()


def test_the_named_file_counts_whatever_it_is_called(outside: Path) -> None:
    before, weights = identity(outside), outside.parent / "parts" / "weights"
    content = bytearray(weights.read_bytes())
    content[5] ^= 1
    weights.write_bytes(content)
    assert identity(outside) != before


def test_files_that_are_not_named_do_not_count(outside: Path) -> None:
    before = identity(outside)
    for name in ("m.onnx.data", "m.data", "m.onnx.bak", "m.extra.data"):
        (outside.parent / name).write_text("something else")
    assert identity(outside) == before


def test_a_named_file_that_is_missing_is_told(outside: Path) -> None:
    (outside.parent / "parts" / "weights").unlink()
    with pytest.raises(SourceError, match="missing"):
        identity(outside)


@pytest.mark.parametrize("content", [b"", b"no model", b"no model \n\x08location either"])
def test_what_is_no_model_has_the_identity_of_its_bytes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert identity(path) == digest_file(path)


def test_a_tensor_called_location_is_no_file(tmp_path: Path) -> None:
    onnx.save(model("location"), tmp_path / "m.onnx")
    assert identity(tmp_path / "m.onnx") == digest_file(tmp_path / "m.onnx")


def test_an_ordinary_model_is_not_parsed(tmp_path: Path) -> None:
    onnx.save(model("weight_location"), tmp_path / "m.onnx")
    code = f"""
import sys
from pathlib import Path
from edgewright.project.question import _digest_with_external_data as identity
print(identity(Path({str(tmp_path / "m.onnx")!r})))
assert "onnx" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == digest_file(tmp_path / "m.onnx"), done.stderr
