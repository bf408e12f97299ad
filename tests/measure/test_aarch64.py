"""An aarch64 device under emulation decides as this machine does: numbers, not times."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.recipe import StepSpec
from edgewright.core.target import RunOptions
from edgewright.device.timing.timed import Question
from edgewright.measure.devices import connect
from edgewright.measure.devices.connection import Connection
from edgewright.project.apply import Job, apply_passes
from edgewright.project.config import load_project
from edgewright.runtimes import load_artifact, open_runner
from edgewright.store.cache import Cache

pytestmark = pytest.mark.xdist_group("aarch64")

_SPEC = importlib.util.spec_from_file_location("emulation", Path(__file__).parents[1] / "_emulation.py")
assert _SPEC is not None
assert _SPEC.loader is not None
emulation = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(emulation)

CALIBRATION = 50
TOML = """schema = 1
name = "aarch64"
[model]
source = "model.onnx"
[data]
reader = "npz"
path = "data.npz"
[data.calibration]
rows = "0:{rows}"
[[preprocess]]
op = "cast"
dtype = "float32"
[[targets]]
name = "onnxruntime"
[[targets]]
name = "litert"
"""


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """An emulated Cortex-A76, reached as any device is; Python, and every process it starts, run emulated."""
    work = tmp_path_factory.mktemp("device")
    python = emulation.arm_python(emulation.prepared(), "cortex-a76", work / "a76")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
        patch.setenv("TMPDIR", str(work))
        with connect(f"local?python={python}&root={work / 'root'}&name=a76") as connection:
            yield connection


def compiled(folder: Path, model: Path, samples: NDArray[Any], scheme: str, target: str) -> Path:
    """Quantises and compiles a model by the steps that `edgewright apply` runs."""
    shutil.copyfile(model, folder / "model.onnx")
    np.savez(folder / "data.npz", x=samples[:CALIBRATION], y=np.zeros(CALIBRATION, np.int64))
    (folder / "edgewright.toml").write_text(TOML.format(rows=CALIBRATION))
    passes = (StepSpec("clean-up"), StepSpec("static-int8", {"scheme": scheme}))
    project = load_project(folder / "edgewright.toml")
    job = Job(folder / "model.onnx", passes, folder / "out", project, StepSpec(target))
    made = apply_passes(job, cache=Cache(folder / "cache"))
    assert made.artifact is not None
    assert load_artifact(made.artifact).precision == "int8"
    return made.artifact


def outputs(runner: Any, samples: NDArray[Any]) -> NDArray[Any]:
    """Runs every sample alone, as a device does."""
    rows = [next(iter(runner.run({runner.inputs[0].name: sample[None]}).values())) for sample in samples]
    return np.concatenate(rows).reshape(len(samples), -1)


def assert_same_decisions(device: Connection, artifact: Path, samples: NDArray[Any]) -> None:
    with open_runner(artifact) as here, device.open_runner(artifact, RunOptions()) as there:
        mine, theirs = outputs(here, samples), outputs(there, samples)
    assert (mine.argmax(1) == theirs.argmax(1)).all()
    # One step of the integers that the scores are made of is all that rounding may differ in.
    assert np.abs(mine - theirs).max() <= 0.02 * max(1.0, float(np.abs(mine).max()))
    assert len(set(mine.argmax(1))) > 5, "one class for everything would prove nothing"


@pytest.mark.slow
def test_the_device_is_an_emulated_arm(device: Connection) -> None:
    described = device.describe()
    assert (described.name, described.machine) == ("a76", "aarch64")
    assert "asimddp" in described.isa
    versions = device.versions(list(emulation.RUNTIMES))
    assert versions == {name: emulation.version(name) for name in emulation.RUNTIMES}


@pytest.mark.slow
@pytest.mark.bench
def test_keyword_spotting_decides_the_same(device: Connection, bench: Path, tmp_path: Path) -> None:
    samples = clips(bench)
    model = bench / "kws" / "kws01_ref_model_float32.onnx"
    artifact = compiled(tmp_path, model, samples, "onnxruntime-u8s7", "onnxruntime")
    assert_same_decisions(device, artifact, samples[100:300])


@pytest.mark.slow
def test_digits_decide_the_same(device: Connection, tmp_path: Path) -> None:
    model, samples = digits(tmp_path)
    artifact = compiled(tmp_path, model, samples, "litert-s8s8", "litert")
    assert_same_decisions(device, artifact, samples[-200:])


@pytest.mark.prove
@pytest.mark.bench
@pytest.mark.parametrize(
    ("scheme", "target"),
    [("onnxruntime-s8s8", "onnxruntime"), ("onnxruntime-u8s8", "onnxruntime"), ("litert-s8s8", "litert")],
)
def test_all_clips_decide_the_same_and_are_timed_there(
    device: Connection, bench: Path, tmp_path: Path, scheme: str, target: str
) -> None:
    samples = clips(bench)
    artifact = compiled(tmp_path, bench / "kws" / "kws01_ref_model_float32.onnx", samples, scheme, target)
    assert_same_decisions(device, artifact, samples)
    inputs = tmp_path / "0.npz"
    np.savez(inputs, **{load_artifact(artifact).inputs[0].name: samples[:1]})
    timing = device.time(artifact, None, [inputs], Question(max_seconds=1.0))
    assert timing.latency_ms.count > 0
    assert timing.size_bytes == sum((artifact / name).stat().st_size for name in load_artifact(artifact).files)


def clips(bench: Path) -> NDArray[Any]:
    """Returns the features of all clips of the benchmark."""
    with np.load(bench / "kws" / "kws01_mfcc_int8.npz") as arrays:
        features: NDArray[Any] = (arrays["x"].astype(np.float32) - 83) * np.float32(0.5847029089927673)
    return features


def digits(folder: Path) -> tuple[Path, NDArray[Any]]:
    """Writes a network for 8x8 digits, random filters with a fitted layer behind them, and returns it with the samples.

    The last 297 samples are unseen.
    """
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    data = load_digits()
    x = data.data.astype(np.float32).reshape(-1, 1, 8, 8) / 16
    filters = np.random.default_rng(5).normal(0, 0.5, (8, 1, 3, 3)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], (3, 3), axis=(1, 2))
    features = np.maximum(np.einsum("nhwij,fij->nfhw", windows, filters[:, 0]), 0).reshape(len(x), -1)
    fitted = LogisticRegression(max_iter=200).fit(features[:1500], data.target[:1500])
    nodes = [
        helper.make_node("Conv", ["x", "filters"], ["c"], "conv", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "weights", "bias"], ["y"], "scores", transB=1),
    ]
    values = {"filters": filters, "weights": fitted.coef_, "bias": fitted.intercept_}
    constants = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in values.items()]
    described = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 1, 8, 8]), ("y", [1, 10]))
    ]
    graph = helper.make_graph(nodes, "digits", described[:1], described[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = folder / "digits.onnx"
    onnx.save(model, path)
    return path, x
