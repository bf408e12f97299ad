"""A student in its teacher's place: the same tensors, fresh weights, batch norm apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError
from edgewright.graph.load import load, tensor_specs
from edgewright.passes.student import StudentPass


@dataclass
class Context:
    scratch: Path
    seed: int = 0

    def progress(self, fraction: float, note: str = "") -> None:
        assert 0 <= fraction <= 1, note


def classifier(folder: Path, name: str = "image", batch: int | str = "n", classes: int = 4, width: int = 6) -> Path:
    """Channels-last images of 16 x 12 to probabilities; the head ends in a Softmax."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(width, 3, 3, 3)), "v": rng.normal(size=(width, classes))}
    nodes = [
        helper.make_node("Transpose", [name], ["t"], name="turn", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "v"], ["logits"], name="head"),
        helper.make_node("Softmax", ["logits"], ["classes"], name="end"),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 16, 12, 3])],
        [helper.make_tensor_value_info("classes", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(values.astype(np.float32), key) for key, values in weights.items()],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return folder


def made(teacher: Path, out: Path, own: Path | None = None, seed: int = 0, **fields: Any) -> Path:
    out.mkdir(parents=True)
    inputs = {"model": teacher, **({"student": own} if own else {})}
    StudentPass(**fields).run(inputs, out, Context(out, seed))
    return out


@pytest.mark.slow
def test_bears_its_teachers_tensors_and_its_seed(tmp_path: Path) -> None:
    teacher = classifier(tmp_path / "teacher", batch=1)
    one = made(teacher, tmp_path / "one", network="resnet8-0.25")
    assert tensor_specs(load(one)) == (
        (TensorSpec("image", "float32", (1, 16, 12, 3)),),
        (TensorSpec("classes", "float32", (1, 4)),),
    )
    content = (one / "model.onnx").read_bytes()
    assert content == (made(teacher, tmp_path / "same", network="resnet8-0.25") / "model.onnx").read_bytes()
    assert b"site-packages" not in content, "no folder of this machine is written down"
    operators = [node.op_type for node in load(one).graph]
    assert operators.count("BatchNormalization") == operators.count("Conv") == 9
    session = onnxruntime.InferenceSession(content)
    (found,) = session.run(None, {"image": np.random.default_rng(0).random((1, 16, 12, 3), dtype=np.float32)})
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-5)


def test_takes_the_network_of_the_user(tmp_path: Path) -> None:
    teacher = classifier(tmp_path / "teacher")
    own = classifier(tmp_path / "own", name="classes_in", width=2)
    student = load(made(teacher, tmp_path / "out", own, network="own.onnx"))
    assert [spec.name for spec in tensor_specs(student)[0]] == ["image"]
    assert student.graph.initializers["w"].const_value.shape.numpy() == (2, 3, 3, 3)  # type: ignore[union-attr]


def test_refuses_a_network_of_other_tensors(tmp_path: Path) -> None:
    teacher, own = classifier(tmp_path / "teacher"), classifier(tmp_path / "own", classes=5)
    with pytest.raises(ConfigError, match=r"gives classes: float32\[n, 5\], its teacher gives"):
        made(teacher, tmp_path / "out", own, network="own.onnx")
    fixed = classifier(tmp_path / "fixed", batch=1)
    with pytest.raises(ConfigError, match="takes"):
        made(teacher, tmp_path / "out2", fixed, network="own.onnx")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"network": "tiny-transformer-0.5"}, "takes tokens"),
        ({"network": "mobilnet-0.5"}, "no student"),
        ({"network": "layers"}, "no layer is kept"),
        ({"network": "resnet8", "keep": (0,)}, "keep names layers"),
        ({"network": "every-second-layer"}, "no hidden state|layers with attention"),
    ],
)
def test_says_what_is_wrong(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    teacher = classifier(tmp_path / "teacher")
    with pytest.raises(ConfigError, match=said) as error:
        made(teacher, tmp_path / "out", **fields)
    assert error.value.hint
