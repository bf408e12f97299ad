"""The step on real data files, runtimes and pipelines; its output packs into a bundle that verifies."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from edgewright.bundle.raw import read_raw
from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact
from edgewright.core.tensors import TensorSpec
from edgewright.data import data_spec
from edgewright.errors import DataError
from edgewright.measure.golden import Golden, spread


class Silent:
    seed = 0
    scratch = Path()

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 < fraction <= 1


def artifact_of(folder: Path, nodes: Sequence[Any], taken: TensorSpec, given: TensorSpec, constants: Any) -> Path:
    import onnx
    from onnx import helper, numpy_helper

    def value(spec: TensorSpec) -> Any:
        return helper.make_tensor_value_info(
            spec.name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), list(spec.shape)
        )

    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(list(nodes), "g", [value(taken)], [value(given)], initializers)
    folder.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    artifact = Artifact("onnxruntime", "onnxruntime", "1", "", ("model.onnx",), (taken,), (given,), "float32")
    (folder / "artifact.json").write_bytes(encode_json(artifact))
    return folder


def write_data(path: Path, root: Path, data: Any, pre: Any, post: Any, labels: Sequence[str] = ()) -> Path:
    path.write_bytes(encode_json(data_spec(root, data, pre, post, labels)))
    return path


@pytest.fixture
def classifier(tmp_path: Path) -> dict[str, Path]:
    from onnx import helper

    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.normal(size=(100, 4)), y=np.repeat(np.arange(4), 25) % 3)
    data = {"reader": "npz", "path": "d.npz", "test": {"rows": "20:100"}}
    artifact = artifact_of(
        tmp_path / "artifact",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        TensorSpec("x", "float32", ("batch", 4)),
        TensorSpec("y", "float32", ("batch", 3)),
        {"w": rng.normal(size=(4, 3)).astype(np.float32)},
    )
    pre, post = [{"op": "cast", "dtype": "float32"}], [{"op": "smooth", "window": 3}, {"op": "softmax"}]
    return {
        "artifact": artifact,
        "data": write_data(tmp_path / "data.json", tmp_path, data, pre, post, ["a", "b", "c"]),
    }


def run(step: Golden, inputs: dict[str, Path], out: Path) -> list[Any]:
    out.mkdir()
    step.run(inputs, out, Silent())
    return json.loads((out / "golden.json").read_text())  # type: ignore[no-any-return]


def test_samples_are_spread_over_the_split_and_independent(classifier: dict[str, Path], tmp_path: Path) -> None:
    pairs = run(Golden(count=8), classifier, tmp_path / "out")
    rows = np.load(tmp_path / "d.npz")["x"][20:]
    assert [pair["input"] for pair in pairs] == [f"inputs/{i:04d}.npy" for i in range(8)]
    for number, pair in enumerate(pairs):
        assert np.array_equal(read_raw(tmp_path / "out" / pair["input"]), rows[number * 10])
        assert pair["tolerance"] == 1e-3
        assert pair["decision"]["kind"] == "classification"
    # Smoothing starts afresh: the last pair alone decides the same.
    alone = run(Golden(count=1), classifier, tmp_path / "alone")
    assert alone[0]["decision"] == pairs[0]["decision"]
    pipeline = json.loads((tmp_path / "out" / "pipeline.json").read_text())
    assert pipeline["labels"] == ["a", "b", "c"]
    assert pipeline["resources"] == {}


def test_the_same_inputs_give_the_same_bytes(classifier: dict[str, Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(Golden(), classifier, tmp_path / name)
    for file in (tmp_path / "one").rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()


def test_tolerance_follows_the_precision_unless_given(classifier: dict[str, Path], tmp_path: Path) -> None:
    from edgewright.runtimes import load_artifact

    described = load_artifact(classifier["artifact"])
    (classifier["artifact"] / "artifact.json").write_bytes(encode_json(replace(described, precision="int8")))
    assert run(Golden(count=1), classifier, tmp_path / "a")[0]["tolerance"] == 5e-2
    assert run(Golden(count=1, tolerance=0.5), classifier, tmp_path / "b")[0]["tolerance"] == 0.5


def test_the_files_of_operations_travel_along(tmp_path: Path) -> None:
    from onnx import helper

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "good": 1, "bad": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    (tmp_path / "words").mkdir()
    tokenizer.save(str(tmp_path / "words" / "tokenizer.json"))
    (tmp_path / "t.txt").write_text("good good\nbad good\nneither\n")
    nodes = [helper.make_node("Cast", ["ids"], ["f"], to=1), helper.make_node("MatMul", ["f", "w"], ["y"])]
    artifact = artifact_of(
        tmp_path / "artifact",
        nodes,
        TensorSpec("ids", "int64", ("batch", 4)),
        TensorSpec("y", "float32", ("batch", 2)),
        {"w": np.ones((4, 2), np.float32)},
    )
    pre = [{"op": "tokenise", "file": "words/tokenizer.json", "length": 4, "ids": "ids", "mask": ""}]
    data = {"reader": "text", "path": "t.txt", "label": "", "test": {}}
    out = tmp_path / "out"
    described = write_data(tmp_path / "data.json", tmp_path, data, pre, [{"op": "raw"}])
    pairs = run(Golden(), {"artifact": artifact, "data": described}, out)
    assert [pair["input"] for pair in pairs] == [f"inputs/{i:04d}.txt" for i in range(3)]
    pipeline = json.loads((out / "pipeline.json").read_text())
    assert pipeline["preprocess"][0]["file"] == "resources/tokenizer.json"
    assert pipeline["resources"] == {"tokenizer.json": "resources/tokenizer.json"}
    assert (out / "resources" / "tokenizer.json").is_file()
    shutil.rmtree(tmp_path / "words")
    with pytest.raises(DataError, match=r"words/tokenizer\.json"):
        run(Golden(), {"artifact": artifact, "data": described}, tmp_path / "again")


@pytest.mark.parametrize(
    ("length", "count", "positions"),
    [(0, 8, []), (3, 8, [0, 1, 2]), (8, 8, list(range(8))), (100, 4, [0, 25, 50, 75]), (10, 3, [0, 3, 6])],
)
def test_positions(length: int, count: int, positions: list[int]) -> None:
    assert spread(length, count) == positions
