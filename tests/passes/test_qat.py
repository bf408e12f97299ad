"""The pass `qat`: what four bits lost comes back, zeros stay, and every runtime computes what was trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Plan, Scheme
from edgewright.core.training import History
from edgewright.data import DataSpec
from edgewright.engine import registry
from edgewright.errors import ConfigError, DataError
from edgewright.graph.load import load, save
from edgewright.graph.quantisers import all_quantisers
from edgewright.graph.schemes import find
from edgewright.graph.shapes import bind_axes
from edgewright.passes._infer import open_infer
from edgewright.passes.calibrate import Calibrate
from edgewright.passes.qat import Qat
from edgewright.passes.static_int8 import StaticInt8
from edgewright.runtimes import open_runner
from edgewright.testing._target_models import Builder
from edgewright.testing._target_tools import QuietContext
from edgewright.training.settings import Fit

SAMPLES = 192
EVERY = Fit(validation=0.0)
"""Keeps what the last epoch made: at eight bits the start is often the best."""
STEP = Qat(epochs=8, batch=16, learning_rate=2e-3, step_rate=2.0, fit=Fit(validation=0.125))


def network() -> ir.Model:
    """Stem with a 2:4 pattern, a residual unit with a depthwise convolution, a head: [n, 3, 8, 8] to [n, 4]."""
    b = Builder()
    same = {"pads": [1, 1, 1, 1]}
    b.add("Conv", ["x", b.weights("w0", 8, 3, 3, 3), b.weights("b0", 8)], "c0", **same)
    b.add("Relu", ["c0"], "r0")
    b.add("Conv", ["r0", b.weights("w1", 8, 1, 3, 3), b.weights("b1", 8)], "c1", group=8, **same)
    b.add("Relu", ["c1"], "r1")
    b.add("Conv", ["r1", b.weights("w2", 8, 8, 1, 1), b.weights("b2", 8)], "c2")
    b.add("Add", ["c2", "r0"], "sum")
    b.add("Relu", ["sum"], "r2")
    b.add("GlobalAveragePool", ["r2"], "pool")
    b.add("Flatten", ["pool"], "flat")
    b.add("Gemm", ["flat", b.weights("w3", 4, 8), b.weights("b3", 4)], "y", transB=1)
    shapes = ("x", TensorProto.FLOAT, ("n", 3, 8, 8)), ("y", TensorProto.FLOAT, ("n", 4))
    model = ir.from_proto(b.model([shapes[0]], [shapes[1]], {}))
    value = model.graph.initializers["w2"]
    assert value.const_value is not None
    sparse = value.const_value.numpy().copy()
    sparse[:, [0, 1, 4, 7]] = 0
    value.const_value = ir.tensor(sparse, name="w2")
    return model


def pictures(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0.2, 1.0, (count, 3, 4, 4)).repeat(2, axis=2).repeat(2, axis=3)
    return np.asarray(coarse + 0.2 * rng.normal(size=coarse.shape), np.float32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors only lose by threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float model, its samples with labels, and statistics."""
    folder = tmp_path_factory.mktemp("qat")
    (folder / "float").mkdir()
    save(network(), folder / "float")
    x = pictures(SAMPLES, seed=1)
    answers = open_infer(network())({"x": x})["y"].argmax(1)
    np.savez(folder / "samples.npz", x=x, y=answers)
    np.savez(folder / "unlabelled.npz", x=x)
    table = {"reader": "npz", "path": "samples.npz"}
    plain = {"reader": "npz", "path": "unlabelled.npz", "label": ""}
    spec = DataSpec(root=str(folder), splits={"calibration": plain, "train": table, "unlabelled": plain})
    (folder / "data.json").write_bytes(encode_json(spec))
    (folder / "statistics").mkdir()
    given = {"model": folder / "float", "data": folder / "data.json"}
    Calibrate(limit=64).run(given, folder / "statistics", QuietContext(folder))
    return folder


def quantised(root: Path, scheme: Scheme, folder: Path) -> Path:
    folder.mkdir(parents=True)
    StaticInt8(scheme).run({"model": root / "float", "statistics": root / "statistics"}, folder, QuietContext(folder))
    return folder


def apply(root: Path, model: Path, out: Path, step: Qat) -> Path:
    out.mkdir(parents=True)
    (out / "scratch").mkdir()
    given = {"model": model, "float": root / "float", "teacher": root / "float", "data": root / "data.json"}
    step.run(given, out, QuietContext(out / "scratch"))
    return out


def outputs(folder: Path, x: np.ndarray, *, fuse: bool = False) -> np.ndarray:
    return open_infer(load(folder), fuse=fuse)({"x": x})["y"]


def error(root: Path, candidate: Path) -> float:
    """Squared error on samples that nothing was learnt from, relative to the float output."""
    x = pictures(300, seed=2)
    exact = outputs(root / "float", x)
    return float(((outputs(candidate, x) - exact) ** 2).mean() / exact.var())


FOUR = replace(find("onnxruntime-u8s8"), name="four-bit", weight_bits=4)


@pytest.mark.slow
def test_four_bits_without_labels_come_much_nearer_to_float(root: Path, tmp_path: Path) -> None:
    before = quantised(root, FOUR, tmp_path / "ptq")
    after = apply(root, before, tmp_path / "qat", replace(STEP, split="unlabelled", loss="mse"))
    assert error(root, after) < 0.5 * error(root, before)
    history = decode_stored(History, (after / "training.json").read_bytes())
    assert (history.title, history.samples, history.held_out) == ("-loss", 168, 24)
    plan = decode_stored(Plan, (after / "plan.json").read_bytes())
    assert all(t.reason.startswith("learned") for t in plan.tensors if t.dtype != "int32")
    assert plan.scheme == "four-bit"


def test_labels_alone_teach_too(root: Path, tmp_path: Path) -> None:
    before = quantised(root, FOUR, tmp_path / "ptq")
    step = replace(STEP, labels=1.0, logits=0.0, split="train", epochs=2, limit=48)
    after = apply(root, before, tmp_path / "qat", step)
    history = decode_stored(History, (after / "training.json").read_bytes())
    assert history.title == "top-1"
    assert history.epochs[-1].loss < history.epochs[0].loss
    with pytest.raises(DataError, match="labels"):
        apply(root, before, tmp_path / "none", replace(step, split="unlabelled"))


def test_zeros_stay_zero(root: Path, tmp_path: Path) -> None:
    """A pattern of zeros in the float weights is there in the integers afterwards; the others moved."""
    before = quantised(root, find("onnxruntime-u8s7"), tmp_path / "ptq")
    after = apply(root, before, tmp_path / "qat", replace(STEP, epochs=2, learning_rate=2e-2, limit=64, fit=EVERY))
    old, new = (stored(folder, "w2") for folder in (before, after))
    pattern = load(root / "float").graph.initializers["w2"].const_value.numpy() == 0  # type: ignore[union-attr]
    assert pattern.mean() == 0.5
    assert not new[pattern].any()
    assert (new[~pattern] != old[~pattern]).mean() > 0.3


def test_a_model_of_fixed_batch_trains_on_many_and_stays_as_it_was(root: Path, tmp_path: Path) -> None:
    single = tmp_path / "single"
    single.mkdir()
    save(bind_axes(network(), {"n": 1}), single)
    (tmp_path / "ptq").mkdir()
    given = {"model": single, "statistics": root / "statistics"}
    StaticInt8(find("onnxruntime-u8s8")).run(given, tmp_path / "ptq", QuietContext(tmp_path))
    step = replace(STEP, epochs=1, limit=32, learning_rate=2e-2, fit=EVERY)
    after = apply(root, tmp_path / "ptq", tmp_path / "qat", step)
    shape = load(after).graph.inputs[0].shape
    assert shape is not None
    assert shape[0] == 1
    assert (stored(after, "w0") != stored(tmp_path / "ptq", "w0")).any()
    plans = [decode_stored(Plan, (folder / "plan.json").read_bytes()) for folder in (tmp_path / "ptq", after)]
    assert plans[0].hints["saturation"] != plans[1].hints["saturation"]


def stored(folder: Path, tensor: str) -> np.ndarray:
    found = {q.tensor: q.integers() for q in all_quantisers(load(folder).graph)}[tensor]
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "scheme"),
    [
        ("onnxruntime", "onnxruntime-u8s7"),
        ("openvino", "openvino-u8s7"),
        ("litert", "litert-s8s8"),
        pytest.param("executorch", "executorch-s8s8", marks=pytest.mark.prove),
    ],
)
def test_runtimes_take_the_result_and_compute_what_was_trained(
    root: Path, tmp_path: Path, target: str, scheme: str
) -> None:
    before = quantised(root, find(scheme), tmp_path / "ptq")
    step = replace(STEP, epochs=1, learning_rate=2e-2, limit=64, fit=EVERY)
    after = apply(root, before, tmp_path / "qat", step)
    (tmp_path / "artifact").mkdir()
    made = registry.make("targets", StepSpec(target))
    made.run({"model": after}, tmp_path / "artifact", QuietContext(tmp_path / "scratch"))
    x = pictures(64, seed=5)
    exact = outputs(after, x)
    with open_runner(tmp_path / "artifact") as runner:
        found = np.concatenate([runner.run({"x": x[i : i + 1]})["y"] for i in range(len(x))])
    plan = decode_stored(Plan, (after / "plan.json").read_bytes())
    lsb = next((t.scale[0] for t in plan.tensors if t.tensor == "y"), float(np.abs(exact).max()) / 127)
    assert np.mean(np.abs(found - exact) <= 1.001 * lsb) >= 0.999
    assert not np.allclose(exact, outputs(before, x), atol=lsb)


def test_a_float_model_is_refused_with_what_to_do(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no quantisers to train") as refused:
        apply(root, root / "float", tmp_path / "qat", STEP)
    assert "static-int8" in refused.value.hint


def test_fields_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ConfigError, match="step_rate"):
        Qat(step_rate=-1.0)
    with pytest.raises(ConfigError, match="nothing is compared"):
        Qat(logits=0.0, labels=0.0)
