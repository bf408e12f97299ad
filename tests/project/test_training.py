"""A project that trains: pruned, recovered, quantised, each stage judged; stopped in the middle and gone on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

from edgewright.core.recipe import BROKE, DOMINATED, MET, StepSpec
from edgewright.engine.execute import Executor, Input
from edgewright.errors import ConfigError
from edgewright.project.apply import Job, apply_passes
from edgewright.project.config import load_project
from edgewright.project.optimize import optimize
from edgewright.project.question import ask
from edgewright.runtimes._machine import local_device
from edgewright.store.cache import Cache
from edgewright.store.files import digest_path

pytest.importorskip("torch")

TOML = """
schema = 1
name = "digits"
labels = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
[model]
source = "model.onnx"
[data]
reader = "npz"
path = "digits.npz"
value = "x"
label = "y"
[data.train]
rows = "120:900"
[data.calibration]
rows = "0:120"
[data.tune]
rows = "900:1200"
[data.test]
rows = "1200:1500"
[[postprocess]]
op = "softmax"
[[postprocess]]
op = "top-k"
k = 3
[quality]
metrics = ["top-1"]
[budget]
quality_drop = 0.1
size_bytes = 70000
[search]
timing_seconds = 0.3
stop = "exhausted"
ladder = ["prune+qat"]
[training]
epochs = 8
learning_rate = 0.004
rounds = 1
latency = 0.7
importance = "magnitude"
[[targets]]
name = "onnxruntime"
"""


def convolution(images: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """3x3 with a border of zeros, and ReLU; [n, c, h, w]."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.maximum(np.einsum("nchwij,fcij->nfhw", windows, weight, optimize=True), 0)


def write_network(folder: Path) -> Path:
    """Two random convolutions and a linear layer fitted by least squares; returns the project file."""
    digits = load_digits()
    images = (digits.images[:, None] / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int64)
    np.savez(folder / "digits.npz", x=images, y=labels)
    rng = np.random.default_rng(0)
    first = rng.normal(size=(32, 1, 3, 3)).astype(np.float32) / 3
    second = rng.normal(size=(48, 32, 3, 3)).astype(np.float32) / 17
    seen = slice(120, 900)
    features = convolution(convolution(images[seen], first), second).mean((2, 3))
    wide = convolution(convolution(images[seen], first), second).reshape(780, 48, 4, 2, 4, 2).mean((3, 5))
    design = np.c_[wide.reshape(780, -1), np.ones(780)]
    wanted = np.eye(10)[labels[seen]] * 8.0
    fitted = np.linalg.solve(design.T @ design + np.eye(design.shape[1]), design.T @ wanted).astype(np.float32)
    assert features.shape == (780, 48)
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["c1"], "conv1", **pads),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "second"], ["c2"], "conv2", **pads),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("AveragePool", ["r2"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "weight", "bias"], ["logits"], "linear"),
    ]
    constants = {"first": first, "second": second, "weight": fitted[:-1], "bias": fitted[-1]}
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    (folder / "edgewright.toml").write_text(TOML)
    return folder / "edgewright.toml"


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    folder.mkdir()
    return write_network(folder)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The project file alone: what is wrong with it is found before anything is read."""
    (tmp_path / "edgewright.toml").write_text(TOML)
    return tmp_path / "edgewright.toml"


@pytest.mark.slow
def test_passes_that_train_run_without_a_search_taught_by_the_model_given(trained: Path, tmp_path: Path) -> None:
    passes = (
        StepSpec("prune", {"size": 0.6, "importance": "magnitude"}),
        StepSpec("distill", {"epochs": 1, "batch": 128, "labels": 0.5}),
        StepSpec("clean-up"),
    )
    model = trained.parent / "model.onnx"
    job = Job(model, passes, tmp_path / "made", load_project(trained), keep_steps=True)
    made = apply_passes(job, cache=Cache(tmp_path / "cache"))
    assert made.steps == ("import", "prune", "distill", "clean-up")
    assert made.model.stat().st_size < 0.7 * model.stat().st_size
    distilled = tmp_path / "made" / "steps" / "2-distill"
    assert (distilled / "training.json").is_file()
    assert not (made.model.parent / "training.json").exists()


@pytest.mark.prove
def test_a_project_is_pruned_recovers_and_is_quantised_with_every_stage_judged(trained: Path, tmp_path: Path) -> None:
    outcome = optimize(load_project(trained), cache=Cache(tmp_path / "cache"))
    tried = [c for c in outcome.study.candidates if c.recipe.title.startswith("size to 0.")]
    assert [[spec.name for spec in c.recipe.passes][:3] for c in tried[:2]] == [["prune", "distill", "clean-up"]] * 2
    assert [c.precision for c in tried[:2]] == ["float32", "int8"]
    for candidate in tried:
        assert candidate.verdict in (MET, BROKE, DOMINATED), candidate.error
        assert candidate.measurement is not None
        assert candidate.notes == ("trained on 780 samples of train, from labels and the original model",)
    lineages = [[record.key for record in c.lineage if record.step in ("prune", "distill")] for c in tried]
    assert lineages[0] == lineages[1]  # trained once
    assert outcome.workers > 0
    assert optimize(load_project(trained), cache=Cache(tmp_path / "cache")).workers == 0


@pytest.mark.slow
def test_training_that_is_interrupted_goes_on_at_the_epoch_it_was_in(trained: Path, tmp_path: Path) -> None:
    project = load_project(trained)
    model = Input(trained.parent / "model.onnx", digest_path(trained.parent / "model.onnx"))
    data = ask(project, tmp_path / "work").data
    notes: list[str] = []

    def executor(watch: Callable[[str], None]) -> Executor:
        cache = Cache(tmp_path / "cache")
        return Executor(cache, project.root, local_device(), progress=lambda _, note: watch(note))

    def interrupt(note: str) -> None:
        if note.startswith("epoch 3 "):
            raise KeyboardInterrupt

    imported = executor(notes.append).run("sources", StepSpec("onnx"), {"model": model, "data": data(())})
    from edgewright.search.imported import Imported
    from edgewright.search.trial import read

    given = {"model": imported.as_input(), "data": data(read(imported, "import.json", Imported).inputs)}
    spec = StepSpec("fine-tune", {"epochs": 5, "batch": 128})
    with pytest.raises(KeyboardInterrupt):
        executor(interrupt).run("passes", spec, given)
    notes.clear()
    made = executor(notes.append).run("passes", spec, given)
    epochs = [note for note in notes if note.startswith("epoch ")]
    assert not any(note.startswith(("epoch 1 ", "epoch 2 ")) for note in epochs)
    assert any(note.startswith("epoch 5 ") and "loss" in note for note in epochs)
    assert made.record.step == "fine-tune"


def test_a_range_without_a_value_is_refused_where_nothing_is_tuned(written: Path, tmp_path: Path) -> None:
    written.write_text(TOML.replace("latency = 0.7", "latency = {low = 0.5, high = 0.9}"))
    with pytest.raises(ConfigError, match=r"\[training\]: a range has no value yet") as caught:
        ask(load_project(written), tmp_path / "work")
    assert "edgewright tune" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs = 8", "epoches = 2", 'did you mean "epochs"'),
        ("epochs = 8", "epochs = 0", "1 or larger"),
        ("latency = 0.7", "latency = 1.5", "a share"),
        ("latency = 0.7", "latency = {low = 0.5}", "two numbers"),
        ("latency = 0.7", "sparsity = 1.5", "a share"),
        ("latency = 0.7", "labels = -1.0", "0 for none"),
        ("latency = 0.7", "time_limit = 0.0", "above 0"),
        ("latency = 0.7", "qat_learning_rate = {low = 0.0, high = 1.0, log = true}", "above 0"),
    ],
)
def test_what_is_wrong_with_the_table_is_said(written: Path, old: str, new: str, said: str) -> None:
    written.write_text(TOML.replace(old, new))
    with pytest.raises(ConfigError, match="training") as caught:
        load_project(written)
    assert said in f"{caught.value.message} {caught.value.hint}"
