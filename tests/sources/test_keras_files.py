"""Keras files are looked through before Keras sees them: what can be told without HDF5."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgewright.errors import Corrupt, SourceError
from edgewright.sources import _keras_files as keras_files

DENSE = {
    "module": "keras.layers",
    "class_name": "Dense",
    "config": {"name": "dense", "activation": {"module": "builtins", "class_name": "function", "config": "relu"}},
    "registered_name": None,
}
MODEL = {"module": "keras", "class_name": "Sequential", "config": {"layers": [DENSE]}, "registered_name": "Sequential"}


def archive(path: Path, **members: Any) -> Path:
    """A `.keras` archive; members given as keywords replace the usual ones, None leaves one out."""
    usual = {"config.json": MODEL, "metadata.json": {"keras_version": "3.15.1"}, "model.weights.h5": b"\x89HDF"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in {**usual, **members}.items():
            if content is not None:
                file.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
    return path


def layer(**changed: Any) -> dict[str, Any]:
    return {**MODEL, "config": {"layers": [DENSE, {**DENSE, "config": {"name": "mine"}, **changed}]}}


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x08\x07onnx", b"\x89HDX\r\n"])
def test_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"neither a \.keras archive nor an HDF5 file"):
        keras_files.examine(path)


def test_a_pointer_is_told_from_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SourceError) as caught:
        keras_files.examine(path)
    assert "git lfs pull" in caught.value.hint


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such model file"):
        keras_files.examine(tmp_path / "model.keras")


@pytest.mark.parametrize("name", ["../evil.py", "/etc/cron.d/evil", "assets/../../evil", "..\\evil.py", "C:evil"])
def test_members_outside_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "model.keras", **{name: b"x"})
    with pytest.raises(SourceError, match="lies outside the archive"):
        keras_files.examine(path)


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_an_archive_without_a_model_is_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "model.keras", **{name: None})
    with pytest.raises(SourceError, match=f"an archive without {name}"):
        keras_files.examine(path)


def test_what_unpacks_to_more_than_any_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_files, "_MAX_BYTES", 1 << 20)
    path = archive(tmp_path / "model.keras", **{"assets/zeros": bytes(2 << 20)})
    assert path.stat().st_size < 1 << 14, "small as a file"
    with pytest.raises(SourceError, match="unpacks to"):
        keras_files.examine(path)
    monkeypatch.setattr(keras_files, "_MAX_TEXT_BYTES", 100)
    with pytest.raises(SourceError, match="unpacks to"):
        keras_files.examine(archive(tmp_path / "model.keras"))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_cut_archive_is_corrupt(tmp_path: Path, share: float) -> None:
    path = archive(tmp_path / "model.keras")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(Corrupt, match=r"not a complete \.keras archive"):
        keras_files.examine(path)


@pytest.mark.parametrize("config", [b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_configuration_is_corrupt(tmp_path: Path, config: bytes) -> None:
    path = archive(tmp_path / "model.keras", **{"config.json": config})
    with pytest.raises(Corrupt, match=r"not a complete \.keras archive"):
        keras_files.examine(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_name": "Lambda"}, 'layer "mine" is a Lambda'),
        ({"class_name": "TFSMLayer"}, 'layer "mine" is a TFSMLayer'),
        ({"class_name": "TorchModuleWrapper"}, 'layer "mine" is a TorchModuleWrapper'),
        ({"module": "os", "class_name": "system"}, '"os.system", not one of Keras'),
        ({"module": "builtins", "class_name": "eval"}, '"builtins.eval", not one of Keras'),
        ({"module": "kerassing.evil"}, '"kerassing.evil.Dense", not one of Keras'),
        ({"registered_name": "mine>Dense"}, '"mine>Dense", not one of Keras'),
        ({"module": "nets", "registered_name": "Custom>Dense"}, '"Custom>Dense", not one of Keras'),
        ({"config": {"name": "mine", "vocabulary": "/etc/passwd"}}, "reads the file '/etc/passwd'"),
        (
            {"class_name": "TFOpLambda", "config": {"name": "mine", "function": "io.write_file"}},
            "calls tf.io.write_file",
        ),
        ({"class_name": "TFOpLambda", "config": {"name": "mine", "function": "py_function"}}, "calls tf.py_function"),
        ({"class_name": "ClassMethod", "config": {"name": "mine", "cls_symbol": "io"}}, "which no model needs"),
    ],
)
def test_what_is_not_plain_keras_is_refused_by_name(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError) as caught:
        keras_files.check_config(Path("model.keras"), layer(**changed))
    assert message in caught.value.message
    assert "model.export(FOLDER)" in caught.value.hint


def test_deep_inside_another_object_too() -> None:
    inner = {"module": "keras.layers", "class_name": "Bidirectional", "config": {"layer": layer(class_name="Lambda")}}
    with pytest.raises(SourceError, match="is a Lambda"):
        keras_files.check_config(Path("model.keras"), {"config": {"layers": [[{"x": [inner]}]]}})


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"registered_name": "keras>Dense"},
        {"module": None, "registered_name": None},
        {"module": "tf_keras.src.layers"},
        {"class_name": "TFOpLambda", "config": {"name": "tf.nn.relu", "function": "nn.relu"}},
        {"class_name": "TFOpLambda", "config": {"name": "add", "function": "__operators__.add"}},
        {"class_name": "TFOpLambda", "config": {"name": "reshape", "function": "reshape"}},
        {"class_name": "StringLookup", "config": {"name": "lookup", "vocabulary": ["a", "b"]}},
    ],
)
def test_plain_keras_is_taken(changed: dict[str, Any]) -> None:
    keras_files.check_config(Path("model.keras"), layer(**changed))


def test_how_it_was_trained_does_not_matter() -> None:
    loss = {"module": "losses", "class_name": "MyLoss", "config": {}, "registered_name": "Custom>MyLoss"}
    keras_files.check_config(Path("model.keras"), {**MODEL, "compile_config": {"loss": loss}})
