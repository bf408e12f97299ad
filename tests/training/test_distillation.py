"""A student learns from a teacher: pairs found in both, answers kept, weights written back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

from edgewright.core.training import History
from edgewright.data import save_spec
from edgewright.data.spec import data_spec
from edgewright.errors import ConfigError, DataError
from edgewright.graph import bridge
from edgewright.graph.shapes import infer_shapes
from edgewright.training.distillation import teacher as answers
from edgewright.training.distillation.distil import distil, splits_of
from edgewright.training.distillation.points import points_of
from edgewright.training.distillation.settings import Comparison
from edgewright.training.examples import Examples
from edgewright.training.settings import Fit, Regime

Array = NDArray[np.float32]
CLASSES = ("one", "two", "three")


@dataclass(slots=True)
class _Context:
    scratch: Path
    seed: int = 0

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1


def _network(width: int, seed: int, *, batch: int | str = "n", softmax: bool = True) -> ir.Model:
    """Two convolutions over 8x8 images, the second of half the size; three classes."""
    rng = np.random.default_rng(seed)
    weights = {
        "stem.w": rng.normal(size=(width, 1, 3, 3)) / 3,
        "stem.b": rng.normal(size=width) / 10,
        "body.w": rng.normal(size=(width, width, 3, 3)) / np.sqrt(9 * width),
        "body.b": rng.normal(size=width) / 10,
        "head.w": rng.normal(size=(len(CLASSES), width)) * 3,
        "head.b": rng.normal(size=len(CLASSES)) / 10,
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["c1"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "body.w", "body.b"], ["c2"], "body", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "head.w", "head.b"], ["logits" if softmax else "y"], "head", transB=1),
        *([helper.make_node("Softmax", ["logits"], ["y"], "soft", axis=1)] if softmax else []),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, len(CLASSES)])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def _examples(count: int, labels: bool = False) -> Examples:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 1, 8, 8, generator=generator)
    classes = torch.arange(count) % 3 if labels else torch.full((count,), -1)
    raw = classes.tolist() if labels else [None] * count
    return Examples((images,), classes, raw, [{}] * count, Path(), CLASSES)


def _decisions(model: ir.Model, images: torch.Tensor) -> NDArray[np.int64]:
    return np.asarray(bridge.run(bridge.to_torch(model), {"x": images.numpy()})["y"].argmax(1))


REGIME = Regime(4, 16, 0.03, Fit(validation=0.0))


def _distil(
    student: ir.Model, teacher: ir.Model, folder: Path, epochs: int = 8, comparison: Comparison | None = None
) -> History:
    regime = Regime(epochs, 16, 0.01, Fit(validation=0.0))
    folder.mkdir(exist_ok=True)
    return distil(student, teacher, _examples(96), comparison or Comparison(), regime, _Context(folder))


INSIDE = (Comparison(), Comparison(features=("auto",)), Comparison(attention=("auto",)))


@pytest.mark.slow
@pytest.mark.parametrize("inside", INSIDE, ids=["outputs", "features", "attention"])
def test_a_narrow_student_comes_to_decide_as_its_teacher(inside: Comparison, tmp_path: Path) -> None:
    teacher, student = _network(8, 0), _network(4, 1)
    images = _examples(96).inputs[0]
    wanted = _decisions(teacher, images)
    before = float((_decisions(student, images) == wanted).mean())
    history = _distil(student, teacher, tmp_path, comparison=inside)
    after = float((_decisions(student, images) == wanted).mean())
    assert history.epochs[-1].loss < 0.7 * history.epochs[0].loss
    assert after > max(before + 0.1, 0.6)


def test_a_student_learns_with_a_batch_norm_that_it_does_not_keep(tmp_path: Path) -> None:
    student = _network(4, 1)
    before = [node.op_type for node in student.graph]
    history = distil(student, _network(6, 0), _examples(96), Comparison(), REGIME, _Context(tmp_path), "normalised")
    assert history.epochs[-1].loss < 0.9 * history.epochs[0].loss
    assert [node.op_type for node in student.graph] == before
    assert sorted(student.graph.initializers) == sorted(_network(4, 1).graph.initializers)


def test_the_interface_of_a_student_for_single_samples_stays(tmp_path: Path) -> None:
    teacher, student = _network(6, 0, batch=1), _network(4, 1, batch=1)
    _distil(student, teacher, tmp_path, epochs=1)
    assert student.graph.inputs[0].shape == ir.Shape([1, 1, 8, 8])


def test_a_student_that_gives_logits_learns_from_a_teacher_that_gives_probabilities(tmp_path: Path) -> None:
    teacher, student = _network(6, 0), _network(4, 1, softmax=False)
    history = _distil(student, teacher, tmp_path)
    assert history.epochs[-1].loss < 0.7 * history.epochs[0].loss


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        student = _network(4, 1)
        _distil(student, _network(6, 0), tmp_path / name, epochs=2)
        made.append(ir.to_proto(student).SerializeToString())
    assert made[0] == made[1]


@pytest.mark.slow
def test_answers_that_were_kept_are_those_given_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for name, memory, disk in (("memory", 1 << 30, 1 << 34), ("files", 0, 1 << 34), ("live", 0, 0)):
        monkeypatch.setattr(answers, "IN_MEMORY", memory)
        monkeypatch.setattr(answers, "ON_DISK", disk)
        losses.append([e.loss for e in _distil(_network(4, 1), _network(6, 0), tmp_path / name, epochs=2).epochs])
    assert (tmp_path / "files" / "teacher" / "teacher-0.npy").is_file()
    assert losses[0] == losses[1]
    assert losses[0] == pytest.approx(losses[2], rel=1e-4)


def test_labels_need_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels are to count"):
        _distil(_network(4, 1), _network(6, 0), tmp_path, comparison=Comparison(labels=1.0))


def test_labels_and_a_teacher_together_are_scored_by_labels(tmp_path: Path) -> None:
    regime = Regime(1, 16, 0.01, Fit(validation=0.25))
    examples = _examples(96, labels=True)
    context = _Context(tmp_path)
    history = distil(_network(4, 1), _network(6, 0), examples, Comparison(labels=0.5), regime, context)
    assert history.title == "top-1"
    assert history.held_out == 24


def test_a_start_that_knows_the_labels_by_heart_is_not_kept(tmp_path: Path) -> None:
    student, images = _network(4, 1), _examples(96).inputs[0]
    known = torch.from_numpy(_decisions(student, images))
    examples = Examples((images,), known, known.tolist(), [{}] * 96, Path(), CLASSES)
    regime = Regime(1, 16, 1.0, Fit(validation=0.5))
    history = distil(student, _network(6, 0), examples, Comparison(labels=0.5), regime, _Context(tmp_path))
    assert history.start == 1.0
    assert history.epochs[0].score is not None
    assert history.epochs[0].score < 1.0
    assert history.best == 0


def test_feature_maps_are_paired_by_size() -> None:
    student, teacher = infer_shapes(_network(4, 0)), infer_shapes(_network(8, 1))
    points = points_of(student, teacher, Comparison(features=("auto",)))
    assert [(p.student, p.teacher, p.channels) for p in points] == [("r2", "r2", (4, 8)), ("r1", "r1", (4, 8))]
    named = points_of(student, teacher, Comparison(features=("c1 -> r1",), attention=("c2",)))
    assert [(p.student, p.teacher, p.kind) for p in named] == [("c1", "r1", "features"), ("c2", "c2", "map")]


def test_what_lies_before_the_first_weights_is_not_compared() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
net (float[n,64] x) => (float[n,2,4,4] y)
<int64[4] sides = {-1, 1, 8, 8}, float[2,1,1,1] w1 = {1, 2}, float[2,2,1,1] w2 = {1, 2, 3, 4}>
{ picture = Reshape(x, sides) half = Mul(picture, picture)
  c = Conv<strides = [2, 2]>(half, w1) r = Relu(c) y = Conv(r, w2) }"""
    model = infer_shapes(ir.from_proto(parser.parse_model(text)))
    assert [point.student for point in points_of(model, model, Comparison(features=("auto",)))] == ["r"]


@pytest.mark.parametrize("named", ["c9", "r1 -> r2", "r1 -> logits"])
def test_pairs_that_do_not_fit_are_refused(named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        points_of(infer_shapes(_network(4, 0)), infer_shapes(_network(8, 1)), Comparison(features=(named,)))
    assert caught.value.hint


def _encoder(layers: int) -> ir.Model:
    """Attention probabilities and residual sums of `layers` layers over 5 tokens of 4 features."""
    nodes = []
    current = "x"
    for i in range(layers):
        nodes += [
            helper.make_node("Unsqueeze", [current, "one"], [f"u{i}"]),
            helper.make_node("MatMul", [f"u{i}", "turn"], [f"k{i}"]),
            helper.make_node("Softmax", [f"k{i}"], [f"attention{i}"], axis=-1),
            helper.make_node("MatMul", [f"attention{i}", f"u{i}"], [f"v{i}"]),
            helper.make_node("Squeeze", [f"v{i}", "one"], [f"s{i}"]),
            helper.make_node("Add", [f"s{i}", current], [f"block{i}"]),
        ]
        current = f"block{i}"
    nodes.append(helper.make_node("MatMul", [current, "last"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5, 2])],
        [
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.ones((4, 5), np.float32), "turn"),
            numpy_helper.from_array(np.ones((4, 2), np.float32), "last"),
        ],
    )
    return infer_shapes(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))


def test_layers_of_a_transformer_are_paired_evenly() -> None:
    comparison = Comparison(features=("auto",), attention=("auto",))
    points = points_of(_encoder(2), _encoder(4), comparison)
    assert [(p.student, p.teacher, p.kind) for p in points] == [
        ("block0", "block1", "features"),
        ("block1", "block3", "features"),
        ("attention0", "attention1", "probabilities"),
        ("attention1", "attention3", "probabilities"),
    ]


def _data(folder: Path, *splits: str) -> Path:
    np.savez(folder / "x.npz", x=np.zeros((4, 1, 8, 8), np.float32))
    table = {"reader": "npz", "path": "x.npz", "label": ""}
    save_spec(data_spec(folder, dict.fromkeys(splits, table)), folder / "data.json")
    return folder / "data.json"


def test_what_is_learnt_from(tmp_path: Path) -> None:
    data = _data(tmp_path, "calibration", "tune", "test")
    assert splits_of(data, "") == ("calibration",)
    both = _data(tmp_path, "calibration", "tune", "test", "train", "unlabelled")
    assert splits_of(both, "") == ("train", "unlabelled")
    assert splits_of(both, "unlabelled + calibration") == ("unlabelled", "calibration")
    for wrong in ("test", "train+tune", "nothing"):
        with pytest.raises(ConfigError) as caught:
            splits_of(both, wrong)
        assert caught.value.hint
