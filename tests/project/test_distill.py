"""A student beside its teacher, from the command line's side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.tensors import TensorSpec
from edgewright.data import open_spec
from edgewright.errors import ConfigError, DataError, UsageError
from edgewright.project.distill import Job, distill
from edgewright.project.unlabelled import unlabelled_data
from edgewright.store.cache import Cache

IMAGE = (TensorSpec("x", "float32", ("n", 3, 8, 6)),)
CLASSES = (TensorSpec("y", "float32", ("n", 4)),)


def perceptron(path: Path, hidden: int) -> Path:
    """Sixteen numbers to four classes."""
    rng = np.random.default_rng(hidden)
    weights = {"a": rng.normal(size=(16, hidden)) / 4, "b": rng.normal(size=(hidden, 4))}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "b"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def arrays(path: Path, count: int, **named: Any) -> Path:
    samples = named or {"x": np.random.default_rng(0).normal(size=(count, 16)).astype(np.float32)}
    np.savez(path, **samples)
    return path


@pytest.mark.slow
def test_a_student_comes_near_its_teacher_without_labels(tmp_path: Path) -> None:
    teacher, own = perceptron(tmp_path / "teacher.onnx", 64), perceptron(tmp_path / "own.onnx", 16)
    data = arrays(tmp_path / "samples.npz", 1500)
    training = {"epochs": 15, "batch": 32, "learning_rate": 0.02}
    job = Job({"network": str(own)}, tmp_path / "out", training, teacher, None, data, seconds=0.5)
    cache = Cache(tmp_path / "cache")
    made = distill(job, cache=cache)
    first, second = made.sides
    assert first.parameters == 64 * 20
    assert second.parameters == second.macs == 16 * 20
    assert first.quality.metric == "agreement"
    assert first.quality.value == 1.0
    assert second.quality.value > 0.65, "an untrained one agrees by chance"
    assert second.quality.samples == 300
    assert second.difference is not None
    assert second.speedup is not None
    assert [step.partition("(")[0] for step in second.recipe] == ["student", "distill", "clean-up"]
    assert (tmp_path / "out" / "distilled.json").is_file()
    again = distill(job, cache=cache)
    assert again.workers == 0, "nothing had changed"
    assert again.sides == made.sides


def test_what_is_wrong_is_said_before_anything_runs(tmp_path: Path) -> None:
    job = Job({"network": "resnet8-0.5"}, tmp_path / "out", data=tmp_path / "x.npz", teacher=tmp_path / "none.onnx")
    wrong: list[tuple[Job, type[Exception], str]] = [
        (replace(job, data=None), UsageError, "samples come from"),
        (replace(job, teacher=None), UsageError, "no teacher"),
        (replace(job, student={"network": "resnt8-0.5"}), ConfigError, "no student"),
        (replace(job, training={"epochs": 0}), ConfigError, "epochs"),
        (replace(job, training={"epoch": 1}), ConfigError, "unknown key"),
        (job, UsageError, "no teacher .*none.onnx"),
    ]
    for each, kind, said in wrong:
        with pytest.raises(kind, match=said):
            distill(each, cache=Cache(tmp_path / "cache"))
    assert not (tmp_path / "out").exists()


def test_some_samples_judge_and_the_others_train(tmp_path: Path) -> None:
    spec = unlabelled_data(arrays(tmp_path / "a.npz", 60), (TensorSpec("x", "float32", ("n", 16)),), CLASSES)
    opened = open_spec(spec)
    ids = {name: {sample.id for sample in opened.dataset(name)} for name in opened.splits}
    assert {name: len(found) for name, found in ids.items()} == {"calibration": 48, "test": 12, "unlabelled": 48}
    assert not ids["test"] & ids["unlabelled"]
    assert not opened.has_labels("unlabelled")


def test_images_are_prepared_for_the_teacher(tmp_path: Path) -> None:
    import cv2

    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(12):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((10, 20, 3), (255, 0, index * 20), np.uint8))
    with pytest.raises(UsageError, match="normalised") as error:
        unlabelled_data(folder, IMAGE, CLASSES)
    assert "--scale" in error.value.hint
    opened = open_spec(unlabelled_data(folder, IMAGE, CLASSES, {"scale": 1 / 255}))
    prepared = opened.prepare(next(iter(opened.dataset("unlabelled")))).tensors["x"]
    assert prepared.shape == (3, 8, 6)
    assert prepared[2].min() == pytest.approx(1.0)


def test_data_that_cannot_be_used(tmp_path: Path) -> None:
    flat = (TensorSpec("x", "float32", ("n", 16)),)
    with pytest.raises(UsageError, match="expected a folder"):
        unlabelled_data(tmp_path / "none", flat, CLASSES)
    with pytest.raises(DataError, match="5 samples"):
        unlabelled_data(arrays(tmp_path / "few.npz", 5), flat, CLASSES)
    many = arrays(tmp_path / "many.npz", 0, a=np.zeros((20, 16)), b=np.zeros((20, 16)))
    with pytest.raises(UsageError, match="holds a, b"):
        unlabelled_data(many, flat, CLASSES)
    with pytest.raises(UsageError, match="a folder of images, the teacher takes"):
        unlabelled_data(tmp_path, flat, CLASSES, {"scale": 1.0})
