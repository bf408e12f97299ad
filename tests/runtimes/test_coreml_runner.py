"""The Core ML runner and the script for macOS, at the seam: a stand-in for coremltools that answers like a Mac's."""

from __future__ import annotations

import json
import runpy
import sys
import types
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, Corrupt, DataError, StepFailed, ToolchainMissing
from edgewright.runtimes import open_runner
from edgewright.runtimes.coreml import BORDER_KEY, picture

BORDER = {
    "inputs": [
        {"name": "tokens", "dtype": "int32", "shape": [1, 3]},
        {"name": "x_0", "dtype": "float32", "shape": [1, 2]},
    ],
    "outputs": [{"name": "y", "dtype": "int32", "shape": [1, 3]}],
}
ARTIFACT = Artifact(
    target="coreml",
    runtime="coreml",
    runtime_version="9.0",
    runtime_range=">=9.0",
    files=("model.mlpackage/Manifest.json", "model.mlpackage/Data/model.mlmodel"),
    inputs=(TensorSpec("tokens", "int64", ("batch", 3)), TensorSpec("x.0", "float32", ("batch", 2))),
    outputs=(TensorSpec("y", "int64", ("batch", 3)),),
    precision="float32",
    session={"compute_units": "CPU_AND_NE", BORDER_KEY: json.dumps(BORDER)},
)


def _write(folder: Path, artifact: Artifact = ARTIFACT) -> Path:
    (folder / "model.mlpackage/Data").mkdir(parents=True, exist_ok=True)
    manifest = {"itemInfoEntries": {"1": {"path": "model.mlmodel"}}, "rootModelIdentifier": "1"}
    (folder / artifact.files[0]).write_text(json.dumps(manifest))
    (folder / "model.mlpackage/Data/model.mlmodel").write_bytes(b"spec")
    (folder / "artifact.json").write_bytes(encode_json(artifact))
    return folder


class _Model:
    """Counts in tokens + x[0], as int32; remembers how it was opened and fed."""

    opened: Mapping[str, Any] = {}
    fed: Mapping[str, Any] = {}

    def __init__(self, path: str, compute_units: str) -> None:
        type(self).opened = {"path": path, "units": compute_units}
        if not Path(path, "Manifest.json").is_file():
            raise RuntimeError("no package")

    def predict(self, feed: Mapping[str, Any]) -> Mapping[str, Any]:
        type(self).fed = feed
        if feed["x_0"][0, 0] < 0:
            raise RuntimeError("compute unit lost")
        return {"y": (feed["tokens"] + feed["x_0"][:, :1]).astype(np.int32)}


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    units = types.SimpleNamespace(ALL="all", CPU_ONLY="cpu", CPU_AND_GPU="gpu", CPU_AND_NE="ne")
    fake: Any = types.ModuleType("coremltools")
    fake.ComputeUnit, fake.models = units, types.SimpleNamespace(MLModel=_Model)
    monkeypatch.setitem(sys.modules, "coremltools", fake)
    monkeypatch.setattr("platform.system", lambda: "Darwin")


def _feed(batch: int = 1, first: float = 1.0) -> dict[str, Any]:
    tokens = np.arange(3 * batch, dtype=np.int64).reshape(batch, 3)
    return {"tokens": tokens, "x.0": np.full((batch, 2), first, np.float32)}


@pytest.mark.usefixtures("mac")
def test_declared_tensors_outside_the_packages_inside(tmp_path: Path) -> None:
    with open_runner(_write(tmp_path)) as runner:
        found = runner.run(_feed())
    assert found["y"].dtype == np.int64
    np.testing.assert_array_equal(found["y"], [[1, 2, 3]])
    assert {name: array.dtype.name for name, array in _Model.fed.items()} == {"tokens": "int32", "x_0": "float32"}
    assert _Model.opened == {"path": str(tmp_path / "model.mlpackage"), "units": "ne"}


@pytest.mark.usefixtures("mac")
def test_a_larger_batch_runs_in_blocks(tmp_path: Path) -> None:
    with open_runner(_write(tmp_path), RunOptions(session={"compute_units": "CPU_ONLY"})) as runner:
        np.testing.assert_array_equal(runner.run(_feed(4))["y"], _feed(4)["tokens"] + 1)
        with pytest.raises(DataError, match="surplus"):
            runner.run({**_feed(), "surplus": np.zeros(1)})
        with pytest.raises(StepFailed, match="compute unit lost"):
            runner.run(_feed(first=-1.0))
    assert _Model.opened["units"] == "cpu"


@pytest.mark.usefixtures("mac")
@pytest.mark.parametrize("session", [{"compute_units": "NPU"}, {"threads": "2"}])
def test_unknown_entries_of_the_session_are_refused(tmp_path: Path, session: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="CPU_AND_NE"), open_runner(_write(tmp_path), RunOptions(session=session)):
        pass


def test_elsewhere_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mac: None) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    with pytest.raises(ToolchainMissing, match="macOS only, this is Linux") as raised, open_runner(_write(tmp_path)):
        pass
    assert "prove_on_mac.py" in raised.value.hint


@pytest.mark.parametrize(
    ("manifest", "word"),
    [
        ("{", "manifest"),
        ('{"itemInfoEntries": {"1": {"path": "../../x"}}}', "leaves the package"),
        ('{"itemInfoEntries": {"1": {"path": "weights"}}}', "weights, which is missing"),
        ('{"itemInfoEntries": []}', "manifest"),
    ],
)
def test_a_damaged_package_is_corrupt_everywhere(tmp_path: Path, manifest: str, word: str) -> None:
    folder = _write(tmp_path)
    (folder / ARTIFACT.files[0]).write_text(manifest)
    with pytest.raises(Corrupt, match=word), open_runner(folder):
        pass


@pytest.mark.parametrize("border", ["{}", "no", '{"inputs": [{"name": "x"}], "outputs": []}'])
def test_a_damaged_border_is_corrupt(tmp_path: Path, border: str) -> None:
    folder = _write(tmp_path, replace(ARTIFACT, session={BORDER_KEY: border}))
    with pytest.raises(Corrupt, match=BORDER_KEY), open_runner(folder):
        pass


def test_a_tensor_becomes_the_picture_core_ml_takes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3)).astype(np.uint8)
    planes = np.moveaxis(pixels, -1, 0)[::-1].astype(np.float32)[None]
    np.testing.assert_array_equal(picture(planes * 0.5 - 3, "bgr", (0.5,) * 3, (-3.0,) * 3), pixels)
    gray = picture(planes[:, :1], "gray", (1.0,), (0.0,))
    assert gray.shape == (2, 3)


# --- prove_on_mac.py --------------------------------------------------------------------------------------------------


def _script(folder: Path, errors: Mapping[str, float | None], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs the script beside golden.npz with a coremltools whose units answer with such errors; None does not open."""
    source = Path(__file__).parents[2] / "src/edgewright/targets/_coreml/_prove_on_mac.py"
    script = folder / "prove_on_mac.py"
    script.write_text(source.read_text())
    rng = np.random.default_rng(1)
    arrays = {}
    for number in range(3):
        x = rng.standard_normal((1, 10)).astype(np.float32)
        arrays.update({f"{number}/in/x": x, f"{number}/out/y": x * 2})
    np.savez(folder / "golden.npz", **arrays)  # type: ignore[arg-type]

    def opened(path: str, compute_units: str) -> Any:
        error = errors[compute_units]
        if error is None:
            raise RuntimeError("no such unit")
        assert path == str(folder / "model.mlpackage")
        return types.SimpleNamespace(predict=lambda feed: {"y": feed["x"] * 2 + error * np.flip(feed["x"])})

    fake: Any = types.ModuleType("coremltools")
    fake.ComputeUnit = types.SimpleNamespace(**{unit: unit for unit in UNITS})
    fake.models = types.SimpleNamespace(MLModel=opened)
    monkeypatch.setitem(sys.modules, "coremltools", fake)
    monkeypatch.setattr(sys, "argv", ["prove_on_mac.py", "--runs", "2", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    return int(str(ended.value.code))


UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")


@pytest.mark.parametrize(
    ("errors", "arguments", "code", "words"),
    [
        (dict.fromkeys(UNITS, 1e-4), (), 0, ("dB, 100.0% agree over 3: ok", "latency: median")),
        ({**dict.fromkeys(UNITS, 0.0), "ALL": 5.0}, (), 1, ("inf dB", "FAILED")),
        ({**dict.fromkeys(UNITS, 0.0), "ALL": None}, (), 0, ("no such unit",)),
        (dict.fromkeys(UNITS, None), (), 2, ("cannot be run",)),
        (dict.fromkeys(UNITS, 0.05), ("--tolerance-db", "90", "--units", "CPU_ONLY"), 1, ("FAILED",)),
    ],
)
def test_the_script_for_macos_judges(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    errors: Mapping[str, float | None],
    arguments: tuple[str, ...],
    code: int,
    words: tuple[str, ...],
) -> None:
    found = _script(tmp_path, errors, monkeypatch, *arguments)
    said = "".join(capsys.readouterr())
    assert found == code, said
    assert all(word in said for word in words), said
