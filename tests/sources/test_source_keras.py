"""Sources `keras` and `saved-model` in the real TensorFlow toolchain, which is installed here from its lock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.core.recipe import StepSpec
from edgewright.engine import environments
from edgewright.engine.environments import install
from edgewright.engine.execute import Executor, Input
from edgewright.errors import Corrupt, EdgewrightError, SourceError
from edgewright.graph.load import load
from edgewright.runtimes._machine import local_device
from edgewright.sources._verify import onnxruntime_evaluator
from edgewright.store.cache import Cache
from edgewright.store.files import digest_path

MAKER = Path(__file__).with_name("_keras_models.py")
GROUP = pytest.mark.xdist_group("tensorflow")


@dataclass(frozen=True)
class Workshop:
    """The toolchain, and models made in it."""

    folder: Path
    executor: Executor
    make: Callable[..., None]

    def run(self, model: str, **fields: Any) -> tuple[Path, dict[str, Any]]:
        path = self.folder / model
        spec = StepSpec("saved-model" if path.is_dir() else "keras", fields)
        found = self.executor.run("sources", spec, {"model": Input(path, digest_path(path))})
        return found.path, json.loads((found.path / "import.json").read_text())

    def check(self, model: str, **fields: Any) -> tuple[Path, dict[str, Any]]:
        """Imports, and compares what ONNX Runtime computes here with what TensorFlow wrote there."""
        folder, record = self.run(model, **fields)
        stored = np.load(self.folder / f"{model.split('.', maxsplit=1)[0]}.npz")
        given = {name[3:]: stored[name] for name in stored.files if name.startswith("in.")}
        expected = {name[4:]: stored[name] for name in stored.files if name.startswith("out.")}
        assert [spec["name"] for spec in record["inputs"]] == list(given)
        assert [spec["name"] for spec in record["outputs"]] == list(expected)
        found = onnxruntime_evaluator(folder / "model.onnx")(given)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-6)
        assert record["snr_db"] is None or record["snr_db"] > 100
        assert record["compared_samples"] == 16
        return folder, record


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    root = tmp_path_factory.mktemp("tensorflow")
    before = os.environ.get("EDGEWRIGHT_CACHE")
    if environments.find("tensorflow") is None:
        os.environ["EDGEWRIGHT_CACHE"] = str(root / "cache")
        install.install("tensorflow", lambda fraction, note: None)
    environment = environments.require("tensorflow", "the test")

    def make(*names: str) -> None:
        command = [str(environment.interpreter), str(MAKER), str(root), *names]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr[-3000:]

    yield Workshop(root, Executor(Cache(root / "results"), root, local_device()), make)
    shutil.rmtree(root / "cache", ignore_errors=True)
    if before is None:
        os.environ.pop("EDGEWRIGHT_CACHE", None)
    else:
        os.environ["EDGEWRIGHT_CACHE"] = before


def ops(folder: Path) -> list[str]:
    return [node.op_type for node in load(folder).graph]


@GROUP
@pytest.mark.slow
def test_keras_and_saved_model_compute_the_same_in_onnx(workshop: Workshop) -> None:
    workshop.make("cnn", "lstm", "signatures")
    folder, record = workshop.check("cnn.keras")
    assert record["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 28, 28, 1]}]
    assert record["outputs"][0]["shape"] == ["batch", 10]
    assert record["compared_with"] == "the model in Keras 3, on random inputs, seed 0"
    assert (record["kind"], record["opset"]) == ("keras", 18)
    tools = workshop.executor.run(
        "sources",
        StepSpec("keras"),
        {"model": Input(workshop.folder / "cnn.keras", digest_path(workshop.folder / "cnn.keras"))},
    ).record.tools
    assert tools["tensorflow-cpu"] == environments.read("tensorflow").pins["tensorflow-cpu"]
    folder, _ = workshop.check("lstm.keras")
    assert ops(folder).count("LSTM") == 2
    assert "Loop" not in ops(folder)
    workshop.check("signatures", signature="cube")
    with pytest.raises(SourceError, match="several signatures, none of them serving_default") as caught:
        workshop.run("signatures")
    assert "there are: cube, double" in caught.value.hint


REFUSED = {
    "lambda.keras": 'layer "sly" is a Lambda, which runs code',
    "lambda.h5": 'layer "sly" is a Lambda, which runs code',
    "custom.keras": 'layer "twice" is a custom object, "mine>Twice"',
    "custom.h5": 'a custom object, "mine>Twice"',
    "function.keras": 'a custom object, "lambda_free"',
    "function.h5": 'a custom object, "lambda_free"',
    "alone.weights.h5": "holds weights without the model",
    "link.h5": "stolen is a link elsewhere",
    "external.h5": "stolen lies in another file",
    "reads": "reaches outside the model: ReadFile",
    "nothing": "has no signatures",
}


@GROUP
@pytest.mark.prove
def test_what_runs_code_or_reaches_out_is_refused_by_name(workshop: Workshop) -> None:
    workshop.make("bad")
    for model, message in REFUSED.items():
        with pytest.raises(SourceError) as caught:
            workshop.run(model)
        assert message in caught.value.message, model
        assert caught.value.hint


@GROUP
@pytest.mark.prove
def test_damage_is_told(workshop: Workshop) -> None:
    workshop.make("cnn", "cnn_h5", "exported")
    for name in ("cnn.keras", "cnn_h5.h5"):
        whole = (workshop.folder / name).read_bytes()
        for cut in (100, len(whole) // 2, len(whole) - 1):
            (workshop.folder / f"cut_{name}").write_bytes(whole[:cut])
            with pytest.raises((Corrupt, SourceError)) as caught:
                workshop.run(f"cut_{name}")
            assert caught.value.hint
    for file in ("saved_model.pb", "variables/variables.data-00000-of-00001"):
        shutil.copytree(workshop.folder / "exported", workshop.folder / "cut", dirs_exist_ok=True)
        path = workshop.folder / "cut" / file
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(EdgewrightError) as damaged:
            workshop.run("cut")
        assert isinstance(damaged.value, (Corrupt, SourceError))


@GROUP
@pytest.mark.prove
def test_every_kind_of_model_computes_the_same_in_onnx(workshop: Workshop) -> None:
    names = [
        "cnn_h5",
        "cnn_keras2",
        "cnn_keras2_h5",
        "mobilenet",
        "gru",
        "several",
        "attention",
        "fixed",
        "operators",
        "exported",
    ]
    workshop.make(*names)
    for name in ("cnn_h5.h5", "cnn_keras2.keras", "cnn_keras2_h5.h5", "gru.keras", "several.keras", "attention.keras"):
        workshop.check(name)
    assert "Loop" not in ops(workshop.run("gru.keras")[0])
    workshop.check("operators.h5")
    workshop.check("exported")
    folder, record = workshop.check("fixed.keras")
    assert record["inputs"][0]["shape"] == [2, 16, 16, 3]
    folder, _ = workshop.check("mobilenet.keras")
    assert ops(folder).count("Conv") == 52
    assert not {"Mul", "BatchNormalization"} & set(ops(folder)), "batch norm is in the weights"
