"""Fine-tuning: labels are learnt from files, by models of any kind, and what cannot work is said before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.tensors import TensorSpec
from edgewright.data import data_spec, save_spec
from edgewright.errors import ConfigError, DataError, SourceError, StepFailed
from edgewright.graph.load import load, save, tensor_specs
from edgewright.passes._infer import open_infer
from edgewright.passes.fine_tune import FineTune
from edgewright.passes.static_int8 import StaticInt8
from edgewright.testing.passes import SCHEME, statistics_of
from edgewright.training.record import read_history
from edgewright.training.settings import Fit

Nodes = Sequence[onnx.NodeProto]
QUICK = Fit(validation=0.25)


@dataclass(slots=True)
class Told:
    scratch: Path
    seed: int = 0
    notes: list[str] = field(default_factory=list)

    def progress(self, fraction: float, note: str = "") -> None:
        self.notes.append(note)


def hub(folder: Path, nodes: Nodes, weights: Mapping[str, Any], kinds: Mapping[str, tuple[int, list[Any]]]) -> Path:
    """Saves a model whose inputs and outputs are all of `kinds`."""
    made = {name for node in nodes for name in node.output}
    values = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    inputs = [value for value in values if value.name not in made]
    graph = helper.make_graph(list(nodes), "small", inputs, [v for v in values if v.name in made], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    save(ir.from_proto(model), folder)
    return folder


def linear(folder: Path, classes: int = 3, *, end: str = "", loss_shape: tuple[int, ...] = ()) -> Path:
    """One matrix product on four numbers, and `end` behind it."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["logits" if end else "y"], name="product")]
    nodes += [helper.make_node(end, ["logits"], ["y"])] if end else []
    weights = {"w": np.random.default_rng(1).normal(size=(4, classes)).astype(np.float32) * 0.1}
    return hub(folder, nodes, weights, {"x": (1, ["batch", 4]), "y": (1, ["batch", classes])})


def data(folder: Path, model: Path, labels: Any, *, split: str = "train", **arrays: Any) -> Path:
    """Writes samples with labels; four numbers around the centre of a class where no arrays are given."""
    if not arrays:
        rng = np.random.default_rng(0)
        arrays = {"x": (np.eye(4)[np.asarray(labels) % 4] * 3 + rng.normal(size=(len(labels), 4))).astype(np.float32)}
    np.savez(folder / "samples.npz", y=labels, **arrays)
    names = list(arrays) if len(arrays) > 1 else next(iter(arrays))
    table = {"reader": "npz", "path": "samples.npz", "value": names, "label": "y" if len(labels) else ""}
    save_spec(data_spec(folder, {split: table}, inputs=tensor_specs(load(model))[0]), folder / "data.json")
    return folder / "data.json"


def tuned(step: FineTune, model: Path, samples: Path, folder: Path) -> Path:
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir()
    scratch.mkdir()
    step.run({"model": model, "data": samples}, out, Told(scratch))
    return out


def share_right(model: Path, feeds: Mapping[str, Any], labels: Any) -> float:
    (values,) = open_infer(load(model))(feeds).values()
    return float((values.argmax(1) == labels).mean())


CLASSES = np.arange(96) % 3


@pytest.mark.sample(3)
@pytest.mark.parametrize("end", ["", "Softmax", "LogSoftmax"])
def test_labels_are_learnt(tmp_path: Path, end: str) -> None:
    model = linear(tmp_path / "model", end=end)
    samples = data(tmp_path, model, CLASSES)
    x = np.load(tmp_path / "samples.npz")["x"]
    out = tuned(FineTune(epochs=5, batch=8, learning_rate=0.1, smoothing=0.1, fit=QUICK), model, samples, tmp_path)
    assert share_right(model, {"x": x}, CLASSES) < 0.7
    assert share_right(out, {"x": x}, CLASSES) > 0.9
    history = read_history(out)
    assert history is not None
    assert (history.title, history.held_out, history.samples) == ("top-1", 24, 72)
    assert history.start is not None
    assert history.epochs[history.best].score > max(history.start, 0.85)  # type: ignore[operator]
    onnx.checker.check_model(str(out / "model.onnx"), full_check=True)


def test_numbers_are_learnt(tmp_path: Path) -> None:
    model = linear(tmp_path / "model", 1)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    samples = data(tmp_path, model, x @ np.array([1.0, -2.0, 0.5, 0.0]), x=x)
    out = tuned(
        FineTune(epochs=10, batch=4, learning_rate=0.2, loss="mse", fit=Fit(validation=0.25, weight_decay=0.0)),
        model,
        samples,
        tmp_path,
    )
    np.testing.assert_allclose(
        load(out).graph.initializers["w"].const_value.numpy().ravel(),
        [1, -2, 0.5, 0],
        atol=0.05,  # type: ignore[union-attr]
    )
    assert read_history(out).title == "-loss"  # type: ignore[union-attr]


def test_several_answers_at_once_are_learnt(tmp_path: Path) -> None:
    model = linear(tmp_path / "model", 2, end="Sigmoid")
    x = np.random.default_rng(0).normal(size=(96, 4)).astype(np.float32)
    labels = np.stack([x[:, 0] > 0, x[:, 1] > 0], 1).astype(np.float32)
    samples = data(tmp_path, model, labels, x=x)
    out = tuned(FineTune(epochs=6, batch=8, learning_rate=0.2, loss="bce", fit=QUICK), model, samples, tmp_path)
    (values,) = open_infer(load(out))({"x": x}).values()
    assert ((values > 0.5) == labels).mean() > 0.9


def test_masks_are_learnt(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")]
    weights = {"w": np.zeros((2, 1, 1, 1), np.float32), "b": np.zeros(2, np.float32)}
    kinds: Any = {"x": (1, [1, 1, 4, 4]), "y": (1, [1, 2, 4, 4])}
    model = hub(tmp_path / "model", nodes, weights, kinds)
    x = np.random.default_rng(0).normal(size=(32, 1, 4, 4)).astype(np.float32)
    masks = (x[:, 0] > 0).astype(np.uint8)
    masks[:, 0, 0] = 255
    out = tuned(
        FineTune(epochs=4, batch=4, learning_rate=0.3, fit=QUICK), model, data(tmp_path, model, masks, x=x), tmp_path
    )
    assert share_right(out, {"x": x[:1]}, masks[:1]) > 0.85
    assert load(out).graph.inputs[0].shape == [1, 1, 4, 4]


def test_token_ids_and_a_second_input(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["words", "wide"], ["kept"]),
        helper.make_node("ReduceMean", ["kept"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["y"]),
    ]
    weights = {
        "table": rng.normal(size=(10, 6)).astype(np.float32),
        "w": rng.normal(size=(6, 2)).astype(np.float32) * 0.1,
        "last": np.array([2]),
    }
    kinds: Any = {"ids": (TensorProto.INT64, [1, 5]), "mask": (1, [1, 5]), "y": (1, [1, 2])}
    model = hub(tmp_path / "model", nodes, weights, kinds)
    ids = rng.integers(0, 10, (80, 5))
    samples = data(tmp_path, model, ids[:, 0] % 2, ids=ids, mask=np.eye(5, dtype=np.float32)[[0] * 80])
    fit = Fit(validation=0.25, augment=({"op": "mask-tokens", "share": 0.05},))
    out = tuned(FineTune(epochs=6, batch=8, learning_rate=0.1, fit=fit), model, samples, tmp_path)
    history = read_history(out)
    assert history is not None
    assert history.epochs[history.best].score > 0.9  # type: ignore[operator]
    before, after = (load(m).graph.initializers["table"].const_value.numpy() for m in (model, out))  # type: ignore[union-attr]
    assert not np.array_equal(before, after)


OWN = """
import numpy as np
import torch

def samples():
    rng = np.random.default_rng(0)
    for index in range(40):
        x = rng.normal(size=4).astype(np.float32)
        yield x, {"boxes": [[float(x[0]), 0.0, float(x[1]), 1.0]], "classes": [0]}

def left_edge(outputs, labels, geometry):
    assert set(outputs) == {"y"} and len(labels) == len(geometry) == len(outputs["y"])
    wanted = torch.tensor([[label["boxes"][0][0], label["boxes"][0][2]] for label in labels])
    return (outputs["y"] - wanted).abs().mean()

def stuck(outputs, labels, geometry):
    return torch.tensor(1.0)

def wrong(outputs, labels, geometry):
    return outputs["boxes"].mean()
"""


def boxes(folder: Path, model: Path) -> Path:
    (folder / "mine.py").write_text(OWN)
    split = {"reader": "function", "function": "mine:samples"}
    save_spec(data_spec(folder, {"train": split}, inputs=tensor_specs(load(model))[0]), folder / "data.json")
    return folder / "data.json"


def test_a_loss_of_ones_own_sees_labels_as_they_are(tmp_path: Path) -> None:
    model = linear(tmp_path / "model", 2)
    step = FineTune(epochs=12, batch=4, learning_rate=0.1, loss="mine:left_edge", fit=QUICK)
    out = tuned(step, model, boxes(tmp_path, model), tmp_path)
    weights = load(out).graph.initializers["w"].const_value
    assert weights is not None
    np.testing.assert_allclose(weights.numpy(), np.eye(4)[:, :2], atol=0.15)


@pytest.mark.parametrize(
    ("loss", "kind", "message"),
    [
        ("mine:stuck", StepFailed, "loss mine:stuck returned a tensor \\[\\] without gradients"),
        ("mine:wrong", StepFailed, "loss mine:wrong raised KeyError: 'boxes'"),
        ("mine:absent", ConfigError, "the module mine has no function 'absent'"),
        ("focal", ConfigError, 'unknown loss "focal"'),
        ("mse", DataError, 'loss "mse" takes a number or an array of one shape as label, got dict'),
    ],
)
def test_a_loss_that_cannot_work(tmp_path: Path, loss: str, kind: type[Exception], message: str) -> None:
    model = linear(tmp_path / "model", 2)
    with pytest.raises(kind, match=message) as error:
        tuned(FineTune(epochs=1, loss=loss, fit=Fit(validation=0)), model, boxes(tmp_path, model), tmp_path)
    assert error.value.hint  # type: ignore[attr-defined]


def test_no_labels(tmp_path: Path) -> None:
    model = linear(tmp_path / "model")
    x = np.zeros((8, 4), np.float32)
    with pytest.raises(DataError, match=r"the samples of \[data.calibration\] have no labels") as error:
        tuned(FineTune(), model, data(tmp_path, model, [], split="calibration", x=x), tmp_path)
    assert "distill" in error.value.hint


def test_labels_out_of_range(tmp_path: Path) -> None:
    model = linear(tmp_path / "model")
    with pytest.raises(DataError, match=r"a label is 3, and the model tells 3 classes apart \(0..2\)"):
        tuned(FineTune(), model, data(tmp_path, model, np.arange(8) % 4), tmp_path)


def test_labels_of_another_shape(tmp_path: Path) -> None:
    model = linear(tmp_path / "model")
    with pytest.raises(DataError, match=r"the output is \[3\] per sample, a label \[2\] of torch.float32"):
        tuned(
            FineTune(loss="bce"),
            model,
            data(tmp_path, model, np.zeros((8, 2), np.float32), x=np.zeros((8, 4), np.float32)),
            tmp_path,
        )


def test_an_output_that_is_not_there(tmp_path: Path) -> None:
    model = linear(tmp_path / "model")
    with pytest.raises(ConfigError, match='the model has no output "scores"') as error:
        tuned(FineTune(output="scores"), model, data(tmp_path, model, CLASSES), tmp_path)
    assert "one of y" in error.value.hint


def test_a_quantised_model_is_not_fine_tuned(tmp_path: Path) -> None:
    model = linear(tmp_path / "model")
    feeds = [{"x": x[None]} for x in np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)]
    (tmp_path / "statistics").mkdir()
    statistics = statistics_of(model, feeds, tmp_path / "statistics")
    (tmp_path / "quantised").mkdir()
    from edgewright.core.codec import decode
    from edgewright.core.target import Scheme

    step = StaticInt8(decode(Scheme, SCHEME, "here"))
    step.run({"model": model, "statistics": statistics}, tmp_path / "quantised", Told(tmp_path))
    with pytest.raises(ConfigError, match="the model holds integers") as error:
        tuned(FineTune(), tmp_path / "quantised", data(tmp_path, model, CLASSES), tmp_path)
    assert "`qat`" in error.value.hint


def test_an_operator_that_cannot_be_trained_is_named_first(tmp_path: Path) -> None:
    """Before a sample is read: the data file does not even hold any."""
    node = helper.make_node("StringNormalizer", ["x"], ["y"], name="to lower")
    graph = helper.make_graph(
        [node],
        "text",
        [helper.make_tensor_value_info("x", TensorProto.STRING, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["n"])],
    )
    save(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])), tmp_path / "model")
    with pytest.raises(SourceError, match="node 'to lower'"):
        tuned(FineTune(), tmp_path / "model", tmp_path / "absent.json", tmp_path)


@pytest.mark.parametrize("field", [{"epochs": 0}, {"batch": 0}, {"learning_rate": 0.0}])
def test_settings_that_cannot_be_meant(field: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(field))):
        FineTune(**field)


NETWORKS = '''
import torch
from torch import nn

class Text(nn.Module):
    """Embedding, a transformer layer, a GRU, a linear head."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.memory = nn.GRU(16, 12, batch_first=True)
        self.head = nn.Linear(12, 2)

    def forward(self, ids):
        states, _ = self.memory(self.layer(self.words(ids)))
        return self.head(states[:, -1])

def text():
    torch.manual_seed(0)
    return Text()
'''


@pytest.mark.slow
def test_pytorch_code_gets_the_same_pass(tmp_path: Path) -> None:
    """A transformer and a GRU written in PyTorch: imported from code, fine-tuned, run by ONNX Runtime."""
    from edgewright.sources.torch import TorchSource

    (tmp_path / "text_network.py").write_text(NETWORKS)
    ids = TensorSpec("ids", "int64", ("batch", 6))
    tokens = np.random.default_rng(0).integers(0, 20, (160, 6))
    labels = tokens[:, 2] % 2
    np.savez(tmp_path / "samples.npz", y=labels, ids=tokens)
    table = {"reader": "npz", "path": "samples.npz", "value": "ids"}
    save_spec(data_spec(tmp_path, {"train": table}, inputs=(ids,)), tmp_path / "data.json")
    model = tmp_path / "model"
    model.mkdir()
    source = TorchSource("text_network:text", (ids,), ("scores",), samples=2)
    source.run({"code": tmp_path, "data": tmp_path / "data.json"}, model, Told(tmp_path))
    step = FineTune(epochs=25, batch=16, learning_rate=5e-3, fit=Fit(validation=0.1, clip_norm=1.0))
    out = tuned(step, model, tmp_path / "data.json", tmp_path)
    assert share_right(out, {"ids": tokens}, labels) > 0.95 > share_right(model, {"ids": tokens}, labels)
    before, after = (
        {name: v.const_value.numpy() for name, v in load(m).graph.initializers.items()}  # type: ignore[union-attr]
        for m in (model, out)
    )
    assert before.keys() == after.keys()
    trained = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {
        "words.weight",
        "head.weight",
        "head.bias",
        "layer.norm1.weight",
        "layer.self_attn.out_proj.bias",
    } <= trained
