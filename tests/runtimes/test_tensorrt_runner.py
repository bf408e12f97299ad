"""The TensorRT runtime at its two seams: NVIDIA's Python API and the CUDA driver. Neither is here: both are faked."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt, DataError, StepFailed, ToolchainMissing
from edgewright.runtimes import _cuda, open_runner
from edgewright.runtimes import _tensorrt_build as building
from edgewright.runtimes import tensorrt as runtime
from edgewright.store.files import digest_file


def _fakes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_fake_tensorrt", Path(__file__).with_name("_fake_tensorrt.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fakes = _fakes()
X = np.arange(6, dtype=np.float32).reshape(2, 3)


class Machine:
    """A GPU that is not there, and one artifact for it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.folder = patch, folder / "artifact"
        self.folder.mkdir()
        (self.folder / "model.onnx").write_bytes(b"a model")
        patch.setenv("EDGEWRIGHT_CACHE", str(folder / "cache"))
        self.write()
        self.becomes()
        fakes.CALLS.clear()

    def write(self, **fields: Any) -> None:
        digests = {"model.onnx": digest_file(self.folder / "model.onnx")}
        (self.folder / "engine.json").write_bytes(fakes.recipe(digests=digests, **fields))
        specs = tuple((TensorSpec(name, "float32", ("batch", 3)),) for name in "xy")
        files = ("model.onnx", "engine.json")
        artifact = Artifact("tensorrt", "tensorrt", "", ">=10.0", files, *specs, "float32")
        (self.folder / "artifact.json").write_bytes(encode_json(artifact))

    def becomes(self, driver: int = 12060, version: str = "10.3.0", **fields: Any) -> Any:
        """Another driver, or another TensorRT, is installed."""
        self.driver = fakes.Driver(driver)
        found = fakes.module(self.driver, version, **fields)
        self.patch.setattr(_cuda, "_open", lambda: self.driver)
        self.patch.setattr(building, "import_tensorrt", lambda: found)
        return found

    def run(self, x: Any = X, times: int = 1, **session: str) -> Any:
        with open_runner(self.folder, RunOptions(session=session)) as runner:
            for _ in range(times):
                found = runner.run({"x": x})
        return found["y"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def engines() -> list[Path]:
    from edgewright.store.cache import Cache

    return sorted((Cache.default().root / "engines").glob("*.engine"))


def test_the_engine_is_built_once_and_again_when_something_that_it_depends_on_changes(machine: Machine) -> None:
    for _ in range(3):
        np.testing.assert_array_equal(machine.run(), 2 * X)
    assert fakes.CALLS["build"] == 1
    for change in ({"driver": 12080}, {"version": "10.4.0"}):
        machine.becomes(**change)
        machine.run()
        machine.run()
    assert fakes.CALLS["build"] == 3
    (machine.folder / "model.onnx").write_bytes(b"another model")
    machine.write()
    machine.run()
    assert fakes.CALLS["build"] == 4
    machine.becomes()
    assert machine.run() is not None
    assert fakes.CALLS["timings known"] >= 1, "kernel timings of an earlier build were not used"


@pytest.mark.parametrize("how", ["cut", "changed", "marker lost", "not taken by TensorRT"])
def test_a_damaged_engine_is_built_anew(machine: Machine, how: str) -> None:
    machine.run()
    (file,) = engines()
    marker = file.with_suffix(".json")
    if how == "cut":
        file.write_bytes(b"ENG")
    elif how == "changed":
        file.write_bytes(b"ENGINE!")
    elif how == "marker lost":
        marker.unlink()
    else:
        file.write_bytes(b"of another kind")
        stored = json.loads(marker.read_bytes())
        marker.write_text(json.dumps({**stored, "digest": digest_file(file)}))
    np.testing.assert_array_equal(machine.run(), 2 * X)
    assert fakes.CALLS["build"] == 2
    machine.run()
    assert fakes.CALLS["build"] == 2


def test_nothing_half_written_is_ever_opened(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine loses power between engine and marker: the engine is there, and is not trusted."""
    whole = building.write

    def dies(path: Path, content: bytes) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        whole(path, content)

    monkeypatch.setattr(building, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        machine.run()
    assert engines()
    monkeypatch.setattr(building, "write", whole)
    machine.run()
    assert fakes.CALLS["build"] == 2


def test_old_engines_of_an_artifact_make_room(machine: Machine) -> None:
    for driver in range(12000, 12007):
        machine.becomes(driver)
        machine.run()
    assert len(engines()) == 4


def test_the_graph_is_captured_once_per_shape(machine: Machine) -> None:
    with open_runner(machine.folder) as runner:
        for _ in range(5):
            np.testing.assert_array_equal(runner.run({"x": X})["y"], 2 * X)
            np.testing.assert_array_equal(runner.run({"x": X + 1})["y"], 2 * X + 2)
        assert fakes.CALLS["cuStreamBeginCapture_v2"] == 1
        assert fakes.CALLS["execute_async_v3"] == 2, "one plain run, one captured"
        assert fakes.CALLS["cuGraphLaunch"] == 9
        for _ in range(3):
            np.testing.assert_array_equal(runner.run({"x": X[:1]})["y"], 2 * X[:1])
        assert fakes.CALLS["cuStreamBeginCapture_v2"] == 2
        np.testing.assert_array_equal(runner.run({"x": X})["y"], 2 * X)
    assert not machine.driver.memory, "memory was not given back"


def test_without_graphs_kernels_are_launched_one_by_one(machine: Machine) -> None:
    np.testing.assert_array_equal(machine.run(times=3, cuda_graphs="0"), 2 * X)
    assert (fakes.CALLS["cuGraphLaunch"], fakes.CALLS["execute_async_v3"]) == (0, 3)


def test_what_cannot_be_captured_runs_without_a_graph(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(driver: Any, stream: Any, graph: Any) -> int:
        driver.recording = None
        return 901

    monkeypatch.setattr(fakes.Driver, "do_cuStreamEndCapture", fails)
    np.testing.assert_array_equal(machine.run(times=4), 2 * X)
    assert fakes.CALLS["cuStreamBeginCapture_v2"] == 1


def test_other_batches_run_in_blocks(machine: Machine) -> None:
    many = np.arange(15, dtype=np.float32).reshape(5, 3)
    np.testing.assert_array_equal(machine.run(many), 2 * many)
    machine.write(profile={"x": [[2, 3], [2, 3], [2, 3]]})
    machine.becomes(batches=(2,))
    np.testing.assert_array_equal(machine.run(many), 2 * many)
    np.testing.assert_array_equal(machine.run(many[:1]), 2 * many[:1])


def test_answers_are_owned_and_inputs_checked(machine: Machine) -> None:
    with open_runner(machine.folder) as runner:
        first = runner.run({"x": X})["y"]
        runner.run({"x": X + 5})
        np.testing.assert_array_equal(first, 2 * X)
        with pytest.raises(DataError, match="float64"):
            runner.run({"x": X.astype(np.float64)})
        with pytest.raises(DataError, match=r"\[2, 4\]"):
            runner.run({"x": np.zeros((2, 4), np.float32)})


def test_what_tensorrt_refuses_is_named(machine: Machine) -> None:
    (machine.folder / "model.onnx").write_bytes(b"damaged")
    machine.write()
    with pytest.raises(StepFailed, match=r'node "conv" \(Conv\): not here') as error:
        machine.run()
    assert "gpu" in error.value.hint


def test_what_was_not_compiled_is_corrupt(machine: Machine) -> None:
    (machine.folder / "model.onnx").write_bytes(b"smuggled")
    with pytest.raises(Corrupt, match=r"model\.onnx is not the file that was compiled"):
        machine.run()
    (machine.folder / "engine.json").write_text("{}")
    with pytest.raises(Corrupt, match="schema"):
        machine.run()


def test_a_failing_gpu_is_told_in_its_own_words(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes.Driver, "do_cuMemAlloc", lambda driver, at, size: 719)
    with pytest.raises(StepFailed, match="cuMemAlloc: unspecified launch failure"):
        machine.run()


def test_a_typed_model_needs_a_tensorrt_that_takes_types(machine: Machine) -> None:
    old = machine.becomes(version="8.5.2")
    old.NetworkDefinitionCreationFlag.__dict__.pop("STRONGLY_TYPED")
    with pytest.raises(StepFailed, match=r"8\.5\.2 does not take: export it for this GPU"):
        machine.run()
    machine.write(typing="flags", flags=["fp16"])
    machine.becomes(version="11.0.0")
    with pytest.raises(StepFailed, match=r"11\.0\.0 has no flag FP16"):
        machine.run()


def test_absence_is_told_before_anything_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runtime, "_SIGNS", (str(tmp_path / "version"),))
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    assert runtime.absent() == "no NVIDIA GPU here"
    (tmp_path / "version").touch()
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path))
    if not runtime._importable():
        assert runtime.absent() == "TensorRT is not installed here"
    monkeypatch.setattr(runtime, "_importable", lambda: True)
    assert runtime.absent() == ""
    assert "tensorrt" not in sys.modules


def test_without_a_driver_or_a_gpu_opening_says_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes.Driver, "do_cuInit", lambda driver, flags: 100, raising=False)
    with pytest.raises(ToolchainMissing, match="no NVIDIA GPU answers"):
        machine.run()
    monkeypatch.undo()
    monkeypatch.setattr(_cuda, "LIBRARY", "libcuda-that-is-not-here.so.1")
    with pytest.raises(ToolchainMissing, match="no NVIDIA driver"):
        _cuda._open()
